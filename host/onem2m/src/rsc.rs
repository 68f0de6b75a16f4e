//! Response Status Codes (TS-0004 clause 6.6.3) and the HTTP status each is mapped to
//! (TS-0009 clause 6.3.2).

macro_rules! rsc {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $http:literal;)*) => {
        /// A Response Status Code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Rsc {
            $($(#[$doc])* $name,)*
            /// A code that another CSE gave and that this project has no name for.
            Other(u16),
        }

        impl Rsc {
            /// All codes this project knows, in ascending order.
            pub const ALL: &'static [Rsc] = &[$(Rsc::$name,)*];

            /// The number on the wire.
            #[must_use]
            pub fn code(self) -> u16 {
                match self { $(Rsc::$name => $code,)* Rsc::Other(code) => code }
            }

            /// The name the specification gives it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Rsc::$name => $text,)* Rsc::Other(_) => "OTHER" }
            }

            /// The HTTP status it travels with.
            #[must_use]
            pub fn http_status(self) -> u16 {
                match self {
                    $(Rsc::$name => $http,)*
                    Rsc::Other(code) => http_status(code),
                }
            }
        }
    };
}

rsc! {
    /// Accepted, to be answered later.
    Accepted = 1000, "ACCEPTED", 202;
    /// Accepted; the result is to be fetched.
    AcceptedSync = 1001, "ACCEPTED_FOR_NONBLOCKINGREQUESTSYNCH", 202;
    /// Accepted; the result will be sent.
    AcceptedAsync = 1002, "ACCEPTED_FOR_NONBLOCKINGREQUESTASYNCH", 202;
    /// Done.
    Ok = 2000, "OK", 200;
    /// Created.
    Created = 2001, "CREATED", 201;
    /// Deleted.
    Deleted = 2002, "DELETED", 200;
    /// Updated.
    Updated = 2004, "UPDATED", 200;
    /// The request is malformed.
    BadRequest = 4000, "BAD_REQUEST", 400;
    /// The receiver does not support the release version asked for.
    ReleaseVersionNotSupported = 4001, "RELEASE_VERSION_NOT_SUPPORTED", 501;
    /// No such resource.
    NotFound = 4004, "NOT_FOUND", 404;
    /// The operation is not allowed there.
    OperationNotAllowed = 4005, "OPERATION_NOT_ALLOWED", 405;
    /// It took too long.
    RequestTimeout = 4008, "REQUEST_TIMEOUT", 504;
    /// The content is of a type that is not supported.
    UnsupportedMediaType = 4015, "UNSUPPORTED_MEDIA_TYPE", 415;
    /// The originator of a subscription has no privilege on what it subscribes to.
    SubscriptionCreatorHasNoPrivilege = 4101, "SUBSCRIPTION_CREATOR_HAS_NO_PRIVILEGE", 403;
    /// The content of the representation does not fit.
    ContentsUnacceptable = 4102, "CONTENTS_UNACCEPTABLE", 400;
    /// The originator has no privilege.
    OriginatorHasNoPrivilege = 4103, "ORIGINATOR_HAS_NO_PRIVILEGE", 403;
    /// A request with the identifier of the group has been seen already.
    GroupRequestIdentifierExists = 4104, "GROUP_REQUEST_IDENTIFIER_EXISTS", 409;
    /// Something of that name is there already.
    Conflict = 4105, "CONFLICT", 409;
    /// From names another than the association's entity.
    OriginatorNotAuthenticated = 4106, "ORIGINATOR_NOT_AUTHENTICATED", 403;
    /// A CSE-ID as From outside an association, or a bad credential at a registration.
    SecurityAssociationRequired = 4107, "SECURITY_ASSOCIATION_REQUIRED", 403;
    /// The parent does not take children of that type.
    InvalidChildResourceType = 4108, "INVALID_CHILD_RESOURCE_TYPE", 403;
    /// A request to the members of a group that has none.
    NoMembers = 4109, "NO_MEMBERS", 403;
    /// A member is of another type than the group's.
    GroupMemberTypeInconsistent = 4110, "GROUP_MEMBER_TYPE_INCONSISTENT", 400;
    /// The originator of an ESPrim object is not who it says.
    EsprimImpersonationError = 4116, "ESPRIM_IMPERSONATION_ERROR", 403;
    /// The originator is registered already.
    OriginatorHasAlreadyRegistered = 4117, "ORIGINATOR_HAS_ALREADY_REGISTERED", 403;
    /// No rule of the service subscription allows this registration.
    AppRuleValidationFailed = 4126, "APP_RULE_VALIDATION_FAILED", 403;
    /// The request may not be carried out by the receiver.
    OperationDeniedByRemoteEntity = 4127, "OPERATION_DENIED_BY_REMOTE_ENTITY", 403;
    /// There is no service subscription. TS-0009 has no row for it; 403 like its neighbors.
    ServiceSubscriptionNotEstablished = 4128, "SERVICE_SUBSCRIPTION_NOT_ESTABLISHED", 403;
    /// The receiver failed.
    InternalServerError = 5000, "INTERNAL_SERVER_ERROR", 500;
    /// The receiver does not do this.
    NotImplemented = 5001, "NOT_IMPLEMENTED", 501;
    /// The CSE that the request is for can't be reached.
    TargetNotReachable = 5103, "TARGET_NOT_REACHABLE", 404;
    /// The receiver has no privilege at the target.
    ReceiverHasNoPrivileges = 5105, "RECEIVER_HAS_NO_PRIVILEGES", 403;
    /// It is there already.
    AlreadyExists = 5106, "ALREADY_EXISTS", 409;
    /// An entity on the way can't be reached.
    RemoteEntityNotReachable = 5107, "REMOTE_ENTITY_NOT_REACHABLE", 404;
    /// The target takes no subscriptions.
    TargetNotSubscribable = 5203, "TARGET_NOT_SUBSCRIBABLE", 403;
    /// Whether the target of a subscription wants to be notified could not be asked.
    SubscriptionVerificationInitiationFailed = 5204,
        "SUBSCRIPTION_VERIFICATION_INITIATION_FAILED", 500;
    /// The host of a subscription may not notify there.
    SubscriptionHostHasNoPrivilege = 5205, "SUBSCRIPTION_HOST_HAS_NO_PRIVILEGE", 403;
    /// An answer that is fetched later is not supported.
    NonBlockingSynchRequestNotSupported = 5206, "NON_BLOCKING_SYNCH_REQUEST_NOT_SUPPORTED", 501;
    /// No answer can be given in a form that the originator takes.
    NotAcceptable = 5207, "NOT_ACCEPTABLE", 406;
    /// A group would have more members than it may.
    MaxNumberOfMemberExceeded = 6010, "MAX_NUMBER_OF_MEMBER_EXCEEDED", 400;
}

/// The HTTP status of a code that has no name here: by the rows of TS-0009 table 6.3.2-1, and where
/// it has none, by the class of the code (TS-0004 clause 6.6.2).
fn http_status(code: u16) -> u16 {
    match code {
        4111..=4115 | 5208 | 5214 | 5215 | 5218 | 5222 => 403,
        4118 | 4119 | 4121 | 6003 | 6005 => 404,
        4124 | 5219 | 5220 | 6028 | 6029 => 409,
        4125 => 501,
        6022..=6024 => 400,
        6030 | 6031 => 504,
        1000..=1999 => 202,
        2000..=2999 => 200,
        4000..=4999 => 400,
        _ => 500,
    }
}

impl Rsc {
    /// The code with that number.
    #[must_use]
    pub fn from_code(code: u16) -> Self {
        Self::ALL.iter().copied().find(|r| r.code() == code).unwrap_or(Self::Other(code))
    }

    /// Whether the request did what it asked for.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.code() < 4000
    }
}

impl std::fmt::Display for Rsc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_ts_0009_clause_6_3_2() {
        let http = |code| Rsc::from_code(code).http_status();
        for code in [4101, 4103, 4106, 4107, 4108, 4116, 4117, 4126, 4127, 4128, 5105, 5203, 5205] {
            assert_eq!(http(code), 403, "{code}");
        }
        for (code, status) in [
            (1000, 202),
            (1001, 202),
            (1002, 202),
            (2000, 200),
            (2001, 201),
            (2002, 200),
            (2004, 200),
            (4000, 400),
            (4102, 400),
            (4109, 403),
            (4112, 403),
            (4118, 404),
            (4120, 400),
            (4124, 409),
            (4125, 501),
            (5206, 501),
            (5209, 500),
            (5222, 403),
            (6005, 404),
            (6020, 500),
            (6023, 400),
            (6031, 504),
            (4110, 400),
            (5204, 500),
            (6010, 400),
            (4004, 404),
            (5103, 404),
            (5107, 404),
            (4005, 405),
            (5207, 406),
            (4104, 409),
            (4105, 409),
            (5106, 409),
            (4015, 415),
            (5000, 500),
            (4001, 501),
            (5001, 501),
            (4008, 504),
        ] {
            assert_eq!(http(code), status, "{code}");
        }
        assert_eq!(Rsc::from_code(4106).name(), "ORIGINATOR_NOT_AUTHENTICATED");
        assert_eq!((Rsc::from_code(4999), http(4999), http(2999)), (Rsc::Other(4999), 400, 200));
    }

    #[test]
    fn codes_ascend_so_none_is_listed_twice() {
        assert!(Rsc::ALL.windows(2).all(|w| w[0].code() < w[1].code()));
    }
}
