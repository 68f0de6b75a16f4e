//! Rules that all bindings share when they decode a primitive.

use crate::primitive::{Content, Operation};
use crate::resource::ResourceType;
use crate::rsc::Rsc;

/// Maximum length of a parameter's value, in bytes.
pub const MAX_VALUE: usize = 1024;

/// Maximum length of the Tokens of a request, in bytes. A signed token with its rules is longer than
/// other parameters.
pub const MAX_TOKENS: usize = 8 << 10;

/// Maximum number of options of a request: parameters that HTTP has in its query string.
pub const MAX_OPTIONS: usize = 32;
/// Maximum length of the options of a request, in bytes.
pub const MAX_OPTION_BYTES: usize = 2048;

/// Parameters that HTTP and CoAP carry outside of the query. A CSE could prefer the value in the query
/// to the checked one. `op` and `pc` are also attributes of `<request>`, `fr` and `to` of
/// `<authorizationDecision>`, so filters cannot name these.
const NOT_IN_QUERY: [&str; 6] = ["fr", "to", "op", "rqi", "rvi", "pc"];

/// Attributes that are filter conditions in other requests (TS-0009 clause 6.2.2.2). In a create, a
/// CSE could use them as the creator, the name or the type of the new resource.
const NOT_IN_QUERY_OF_CREATE: [&str; 3] = ["ty", "cr", "aei"];

/// The filter criterion that has media types (contentType).
const MEDIA_TYPES: &str = "cty";

/// The error for a message that is not a primitive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BindingError {
    /// Response Status Code of the refusal.
    pub rsc: Rsc,
    /// Request Identifier, if it could be read.
    pub request_id: Option<String>,
    /// Reason.
    pub why: String,
    /// Whether the message is a response, which must not be answered.
    pub is_response: bool,
}

impl BindingError {
    /// The error for a request.
    #[must_use]
    pub fn new(rsc: Rsc, request_id: Option<String>, why: impl Into<String>) -> Self {
        Self { rsc, request_id, why: why.into(), is_response: false }
    }
}

/// Returns the error for a bad request.
pub(crate) fn bad(why: impl Into<String>) -> BindingError {
    BindingError::new(Rsc::BadRequest, None, why)
}

/// Returns the error for an unsupported media type.
pub(crate) fn unsupported(why: impl Into<String>) -> BindingError {
    BindingError { rsc: Rsc::UnsupportedMediaType, ..bad(why) }
}

/// Whether every binding can carry a value: visible ASCII, spaces and tabs, as in a header field.
pub(crate) fn is_portable(value: &str) -> bool {
    value.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~'))
}

/// Returns whether a name in a query is that of a parameter with another place in the message.
pub(crate) fn is_not_in_query(name: &str) -> bool {
    NOT_IN_QUERY.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Returns whether a name in the query of a create or a notification is that of an attribute of the
/// new resource. These requests have no filter criteria, in which the same names would be
/// conditions.
pub(crate) fn is_not_in_query_of_create(name: &str) -> bool {
    NOT_IN_QUERY_OF_CREATE.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Returns whether an option has no control characters other than those of XML text. A SPARQL query
/// has line breaks and tabs, and HTTP escapes them.
pub(crate) fn is_option_text(name: &str, value: &[String]) -> bool {
    let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    !name.contains(char::is_control) && value.iter().all(|v| v.chars().all(is_text))
}

/// Returns the elements of an option that was split at each `+`. Media types are rejoined, because
/// many clients do not escape the `+`, as in `image/svg+xml`. A part without a slash continues the
/// one before it.
pub(crate) fn option_elements(name: &str, parts: Vec<String>) -> Vec<String> {
    if name != MEDIA_TYPES {
        return parts;
    }
    let mut whole: Vec<String> = Vec::new();
    for part in parts {
        match whole.last_mut() {
            Some(before) if !part.contains('/') => {
                before.push('+');
                before.push_str(&part);
            }
            _ => whole.push(part),
        }
    }
    whole
}

/// Checks that the content belongs to the operation and to the resource type.
///
/// # Errors
/// Returns an error if it does not.
pub(crate) fn check_content(
    operation: Operation,
    resource_type: Option<u16>,
    content: Option<&Content>,
) -> Result<(), BindingError> {
    // Policy decides by the resource type, and the CSE creates the content. The two must agree.
    let differs = |kind: ResourceType, content: &Content| {
        content.is_of(kind) != (resource_type == Some(kind.number()))
    };
    if let Some(content) = content
        && operation == Operation::Create
        && [ResourceType::Ae, ResourceType::AeAnnc].into_iter().any(|kind| differs(kind, content))
    {
        return Err(bad("the content is not of the resource type in ty"));
    }
    let is_notified = content.is_some_and(Content::is_notified);
    if operation == Operation::Notify && content.is_some() && !is_notified {
        return Err(bad("the content of a notification is m2m:sgn, m2m:agn, m2m:seci or m2m:rsp"));
    }
    if operation != Operation::Notify && is_notified {
        return Err(bad(
            "m2m:sgn, m2m:agn, m2m:seci and m2m:rsp are contents of notifications, not \
             resources",
        ));
    }
    match (operation, content.is_some()) {
        (Operation::Create | Operation::Update | Operation::Notify, false) => {
            Err(bad(format!("a {} needs content", operation.name())))
        }
        (Operation::Retrieve | Operation::Delete, true) => {
            Err(bad(format!("a {} has no content", operation.name())))
        }
        _ => Ok(()),
    }
}
