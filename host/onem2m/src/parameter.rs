//! Optional parameters of primitives, by the short names of TS-0004 clause 8.2.2.
//!
//! Each binding carries a parameter in its own way: as a header field in HTTP, an option in CoAP, a
//! member of the serialized primitive in MQTT and WebSocket. The code above the bindings does not
//! depend on this.

use std::fmt;

/// A parameter of a request or response primitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parameter {
    /// Originating Timestamp.
    OriginatingTimestamp,
    /// Request Expiration Timestamp.
    RequestExpiration,
    /// Result Expiration Timestamp.
    ResultExpiration,
    /// Operation Execution Time.
    ExecutionTime,
    /// Notification targets of the Response Type, joined with `&`.
    ResponseTargets,
    /// Event Category.
    EventCategory,
    /// Group Request Identifier.
    GroupRequestId,
    /// Vendor Information.
    VendorInformation,
    /// Authorization Signatures.
    AuthorizationSignatures,
    /// Authorization Signature Request Information.
    SignatureRequest,
    /// Tokens.
    Tokens,
    /// Content Status.
    ContentStatus,
    /// Content Offset.
    ContentOffset,
    /// Assigned Token Identifiers.
    AssignedTokenIds,
}

impl Parameter {
    /// Returns the short name.
    #[must_use]
    pub fn short_name(self) -> &'static str {
        match self {
            Self::OriginatingTimestamp => "ot",
            Self::RequestExpiration => "rqet",
            Self::ResultExpiration => "rset",
            Self::ExecutionTime => "oet",
            Self::ResponseTargets => "rt.nu",
            Self::EventCategory => "ec",
            Self::GroupRequestId => "gid",
            Self::VendorInformation => "vsi",
            Self::AuthorizationSignatures => "aus",
            Self::SignatureRequest => "asri",
            Self::Tokens => "tkns",
            Self::ContentStatus => "cnst",
            Self::ContentOffset => "cnot",
            Self::AssignedTokenIds => "ati",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::OriginatingTimestamp => "Originating Timestamp",
            Self::RequestExpiration => "Request Expiration Timestamp",
            Self::ResultExpiration => "Result Expiration Timestamp",
            Self::ExecutionTime => "Operation Execution Time",
            Self::ResponseTargets => "notification targets of Response Type",
            Self::EventCategory => "Event Category",
            Self::GroupRequestId => "Group Request Identifier",
            Self::VendorInformation => "Vendor Information",
            Self::AuthorizationSignatures => "Authorization Signatures",
            Self::SignatureRequest => "Authorization Signature Request Information",
            Self::Tokens => "Tokens",
            Self::ContentStatus => "Content Status",
            Self::ContentOffset => "Content Offset",
            Self::AssignedTokenIds => "Assigned Token Identifiers",
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.short_name())
    }
}

/// The parameters of a primitive, each at most once, with their values as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Parameter, String)>);

impl Parameters {
    /// Returns the value of a parameter, if present.
    #[must_use]
    pub fn get(&self, parameter: Parameter) -> Option<&str> {
        self.0.iter().find(|(p, _)| *p == parameter).map(|(_, value)| value.as_str())
    }

    /// Sets a parameter and replaces a former value.
    pub fn set(&mut self, parameter: Parameter, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(p, _)| *p == parameter) {
            Some((_, former)) => *former = value,
            None => self.0.push((parameter, value)),
        }
    }

    /// Returns the parameters in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (Parameter, &str)> {
        self.0.iter().map(|(parameter, value)| (*parameter, value.as_str()))
    }

    /// Returns whether there are no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V: Into<String>> FromIterator<(Parameter, V)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (Parameter, V)>>(all: I) -> Self {
        let mut parameters = Self::default();
        for (parameter, value) in all {
            parameters.set(parameter, value);
        }
        parameters
    }
}
