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

/// The type of a parameter's value in a serialized primitive (TS-0004 clauses 6.3.3, 6.3.5 and 8.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// A string.
    Text,
    /// A non-negative integer.
    Number,
    /// A Boolean.
    Boolean,
    /// A timestamp, or a duration in milliseconds, which may be an integer.
    Time,
    /// A list of strings.
    Texts,
    /// A list of non-negative integers.
    Numbers,
    /// A list of attributes with their values: objects of `nm` and `val`.
    Attributes,
}

/// The parameters of a request that a serialized primitive has besides its operation, addresses and
/// content, and that HTTP has header fields for. The Response Type (`rt`) is an object of its own.
pub const REQUEST_PARAMETERS: [Parameter; 9] = [
    Parameter::OriginatingTimestamp,
    Parameter::ResultExpiration,
    Parameter::RequestExpiration,
    Parameter::ExecutionTime,
    Parameter::EventCategory,
    Parameter::GroupRequestId,
    Parameter::VendorInformation,
    Parameter::AuthorizationSignatures,
    Parameter::SignatureRequest,
];

/// The parameters of a response besides its status, addresses and content.
pub const RESPONSE_PARAMETERS: [Parameter; 6] = [
    Parameter::OriginatingTimestamp,
    Parameter::ResultExpiration,
    Parameter::EventCategory,
    Parameter::ContentStatus,
    Parameter::ContentOffset,
    Parameter::VendorInformation,
];

/// The parameters of a request that HTTP and CoAP write into the query string, without the Response
/// Type and the Filter Criteria.
pub const OPTIONS: [(&str, ValueType); 11] = [
    ("rcn", ValueType::Number),
    ("rp", ValueType::Time),
    ("da", ValueType::Boolean),
    ("drt", ValueType::Number),
    ("rids", ValueType::Texts),
    ("tids", ValueType::Texts),
    ("ltids", ValueType::Texts),
    ("tqi", ValueType::Boolean),
    ("asi", ValueType::Boolean),
    ("auri", ValueType::Boolean),
    ("sqi", ValueType::Boolean),
];

/// The members of the Filter Criteria (`fc`, TS-0004 clause 6.3.5.8).
pub const FILTER_CRITERIA: [(&str, ValueType); 25] = [
    ("crb", ValueType::Text),
    ("cra", ValueType::Text),
    ("ms", ValueType::Text),
    ("us", ValueType::Text),
    ("sts", ValueType::Number),
    ("stb", ValueType::Number),
    ("exb", ValueType::Text),
    ("exa", ValueType::Text),
    ("lbl", ValueType::Texts),
    ("clbl", ValueType::Texts),
    ("palb", ValueType::Texts),
    ("lbq", ValueType::Text),
    ("ty", ValueType::Numbers),
    ("chty", ValueType::Numbers),
    ("pty", ValueType::Numbers),
    ("sza", ValueType::Number),
    ("szb", ValueType::Number),
    ("cty", ValueType::Texts),
    ("atr", ValueType::Attributes),
    ("fu", ValueType::Number),
    ("lim", ValueType::Number),
    ("fo", ValueType::Number),
    ("lvl", ValueType::Number),
    ("ofst", ValueType::Number),
    ("arp", ValueType::Text),
];

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

    /// Returns the type of the value in a serialized primitive.
    #[must_use]
    pub fn value_type(self) -> ValueType {
        match self {
            Self::EventCategory | Self::ContentStatus | Self::ContentOffset => ValueType::Number,
            Self::RequestExpiration | Self::ResultExpiration | Self::ExecutionTime => {
                ValueType::Time
            }
            Self::ResponseTargets | Self::Tokens => ValueType::Texts,
            Self::OriginatingTimestamp
            | Self::GroupRequestId
            | Self::VendorInformation
            | Self::AuthorizationSignatures
            | Self::SignatureRequest
            | Self::AssignedTokenIds => ValueType::Text,
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
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Parameter, String)>);

impl Parameters {
    /// Returns the value of a parameter, if present.
    #[must_use]
    pub fn get(&self, parameter: Parameter) -> Option<&str> {
        self.0.iter().find(|(p, _)| *p == parameter).map(|(_, value)| value.as_str())
    }

    /// Removes a parameter, and returns its value.
    pub fn take(&mut self, parameter: Parameter) -> Option<String> {
        let at = self.0.iter().position(|(p, _)| *p == parameter)?;
        Some(self.0.swap_remove(at).1)
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

impl fmt::Debug for Parameters {
    /// Omits tokens, which serve as credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visible = |(parameter, value)| match parameter {
            Parameter::Tokens => (parameter, "…"),
            _ => (parameter, value),
        };
        f.debug_map().entries(self.iter().map(visible)).finish()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_token() {
        let all = [(Parameter::EventCategory, "4"), (Parameter::Tokens, "a.b.secret")];
        let parameters = Parameters::from_iter(all);
        let shown = format!("{parameters:?}");
        assert!(shown.contains("\"4\"") && !shown.contains("secret"), "{shown}");
        assert_eq!(parameters.get(Parameter::Tokens), Some("a.b.secret"));
    }
}
