//! Response Status Codes (TS-0004 clause 6.6.3) and their HTTP status codes (TS-0009 clause 6.3.2).

macro_rules! rsc {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $http:literal;)*) => {
        /// A Response Status Code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Rsc {
            $($(#[$doc])* $name,)*
            /// A code from another CSE that this crate has no name for.
            Other(u16),
        }

        impl Rsc {
            /// All named codes, in ascending order.
            pub const ALL: &'static [Rsc] = &[$(Rsc::$name,)*];

            /// Returns the number on the wire.
            #[must_use]
            pub fn code(self) -> u16 {
                match self { $(Rsc::$name => $code,)* Rsc::Other(code) => code }
            }

            /// Returns the name in the specification.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Rsc::$name => $text,)* Rsc::Other(_) => "OTHER" }
            }

            /// Returns the HTTP status code of the response.
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
    /// The request was accepted, and will be answered later.
    Accepted = 1000, "ACCEPTED", 202;
    /// The request was accepted. The originator fetches the result.
    AcceptedSync = 1001, "ACCEPTED_FOR_NONBLOCKINGREQUESTSYNCH", 202;
    /// The request was accepted. The result will be sent to the originator.
    AcceptedAsync = 1002, "ACCEPTED_FOR_NONBLOCKINGREQUESTASYNCH", 202;
    /// The request succeeded.
    Ok = 2000, "OK", 200;
    /// The resource was created.
    Created = 2001, "CREATED", 201;
    /// The resource was deleted.
    Deleted = 2002, "DELETED", 200;
    /// The resource was updated.
    Updated = 2004, "UPDATED", 200;
    /// The request is malformed.
    BadRequest = 4000, "BAD_REQUEST", 400;
    /// The receiver does not support the requested release version.
    ReleaseVersionNotSupported = 4001, "RELEASE_VERSION_NOT_SUPPORTED", 501;
    /// The resource does not exist.
    NotFound = 4004, "NOT_FOUND", 404;
    /// The target does not allow the operation.
    OperationNotAllowed = 4005, "OPERATION_NOT_ALLOWED", 405;
    /// The request expired.
    RequestTimeout = 4008, "REQUEST_TIMEOUT", 504;
    /// The media type of the content is not supported.
    UnsupportedMediaType = 4015, "UNSUPPORTED_MEDIA_TYPE", 415;
    /// The originator of a subscription has no privilege for the subscribed-to resource.
    SubscriptionCreatorHasNoPrivilege = 4101, "SUBSCRIPTION_CREATOR_HAS_NO_PRIVILEGE", 403;
    /// The content of the representation is not acceptable.
    ContentsUnacceptable = 4102, "CONTENTS_UNACCEPTABLE", 400;
    /// The originator has no privilege.
    OriginatorHasNoPrivilege = 4103, "ORIGINATOR_HAS_NO_PRIVILEGE", 403;
    /// A request with the same group request identifier was processed before.
    GroupRequestIdentifierExists = 4104, "GROUP_REQUEST_IDENTIFIER_EXISTS", 409;
    /// A resource with this name exists already.
    Conflict = 4105, "CONFLICT", 409;
    /// From does not match the entity of the association.
    OriginatorNotAuthenticated = 4106, "ORIGINATOR_NOT_AUTHENTICATED", 403;
    /// The From is a CSE-ID outside an association, or a registration has an invalid credential.
    SecurityAssociationRequired = 4107, "SECURITY_ASSOCIATION_REQUIRED", 403;
    /// The parent does not accept children of this type.
    InvalidChildResourceType = 4108, "INVALID_CHILD_RESOURCE_TYPE", 403;
    /// The group of a fanned-out request has no members.
    NoMembers = 4109, "NO_MEMBERS", 403;
    /// The type of a member differs from the type of the group.
    GroupMemberTypeInconsistent = 4110, "GROUP_MEMBER_TYPE_INCONSISTENT", 400;
    /// The receiver does not support a protocol or an algorithm of an ESPrim object.
    EsprimUnsupportedOption = 4111, "ESPRIM_UNSUPPORTED_OPTION", 403;
    /// The originator of an ESPrim object is not the one that it names.
    EsprimImpersonationError = 4116, "ESPRIM_IMPERSONATION_ERROR", 403;
    /// The originator is registered already.
    OriginatorHasAlreadyRegistered = 4117, "ORIGINATOR_HAS_ALREADY_REGISTERED", 403;
    /// The resource has a subscription already that blocks updates.
    BlockingSubscriptionAlreadyExists = 4124, "BLOCKING_SUBSCRIPTION_ALREADY_EXISTS", 409;
    /// The definition of the resource, named by its `cnd`, is unknown.
    SpecializationSchemaNotFound = 4125, "SPECIALIZATION_SCHEMA_NOT_FOUND", 501;
    /// The rules of the service subscription do not allow the registration.
    AppRuleValidationFailed = 4126, "APP_RULE_VALIDATION_FAILED", 403;
    /// The receiver must not execute the request.
    OperationDeniedByRemoteEntity = 4127, "OPERATION_DENIED_BY_REMOTE_ENTITY", 403;
    /// There is no service subscription. TS-0009 has no row for this code; it maps to 403 like its
    /// neighbors.
    ServiceSubscriptionNotEstablished = 4128, "SERVICE_SUBSCRIPTION_NOT_ESTABLISHED", 403;
    /// The receiver failed.
    InternalServerError = 5000, "INTERNAL_SERVER_ERROR", 500;
    /// The receiver does not implement the request.
    NotImplemented = 5001, "NOT_IMPLEMENTED", 501;
    /// The target CSE is not reachable.
    TargetNotReachable = 5103, "TARGET_NOT_REACHABLE", 404;
    /// The receiver has no privilege for the target.
    ReceiverHasNoPrivileges = 5105, "RECEIVER_HAS_NO_PRIVILEGES", 403;
    /// The resource exists already.
    AlreadyExists = 5106, "ALREADY_EXISTS", 409;
    /// An entity on the path to the target is not reachable.
    RemoteEntityNotReachable = 5107, "REMOTE_ENTITY_NOT_REACHABLE", 404;
    /// The target does not accept subscriptions.
    TargetNotSubscribable = 5203, "TARGET_NOT_SUBSCRIBABLE", 403;
    /// The verification request to the target of a subscription could not be sent.
    SubscriptionVerificationInitiationFailed = 5204,
        "SUBSCRIPTION_VERIFICATION_INITIATION_FAILED", 500;
    /// The host of a subscription must not notify the target.
    SubscriptionHostHasNoPrivilege = 5205, "SUBSCRIPTION_HOST_HAS_NO_PRIVILEGE", 403;
    /// Results that are fetched later are not supported.
    NonBlockingSynchRequestNotSupported = 5206, "NON_BLOCKING_SYNCH_REQUEST_NOT_SUPPORTED", 501;
    /// No supported response format is acceptable to the originator.
    NotAcceptable = 5207, "NOT_ACCEPTABLE", 406;
    /// A non-blocking request is executed already.
    UnableToRecallRequest = 5220, "UNABLE_TO_RECALL_REQUEST", 409;
    /// The group would exceed its maximum number of members.
    MaxNumberOfMemberExceeded = 6010, "MAX_NUMBER_OF_MEMBER_EXCEEDED", 400;
}

/// Returns the HTTP status code of a code that has no name in this crate: its row of TS-0009 table
/// 6.3.2-1, or else the class of the code (TS-0004 clause 6.6.2).
fn http_status(code: u16) -> u16 {
    match code {
        4112..=4115 | 5208 | 5214 | 5215 | 5218 | 5222 => 403,
        4118 | 4119 | 4121 | 6003 | 6005 => 404,
        5219 | 6028 | 6029 => 409,
        6022..=6024 => 400,
        6030 | 6031 => 504,
        1000..=1999 => 202,
        2000..=2999 => 200,
        4000..=4999 => 400,
        _ => 500,
    }
}

impl Rsc {
    /// Returns the code with this number.
    #[must_use]
    pub fn from_code(code: u16) -> Self {
        Self::ALL.iter().copied().find(|r| r.code() == code).unwrap_or(Self::Other(code))
    }

    /// Returns whether the request succeeded or was accepted.
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
    fn http_status_follows_ts_0009_clause_6_3_2() {
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
