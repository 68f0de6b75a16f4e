//! Query strings of the HTTP binding (TS-0009 clause 6.2.2.2).

use crate::binding::{BindingError, MAX_OPTION_BYTES, MAX_OPTIONS, bad};

/// The filter criterion that has media types (contentType).
const MEDIA_TYPES: &str = "cty";

/// Characters that are escaped in a written query string: all but the unreserved ones. A `+` in a
/// value is escaped too, because a bare one separates the elements of a list.
pub(super) const QUERY: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parameters that are carried in header fields or in the path. A CSE could prefer the value in the
/// query string to the checked one. `op` and `pc` are also attributes of `<request>`, `fr` and `to`
/// of `<authorizationDecision>`, so filters cannot name these.
const NOT_IN_QUERY: [&str; 6] = ["fr", "to", "op", "rqi", "rvi", "pc"];

/// Attributes that are filter conditions in other requests (TS-0009 clause 6.2.2.2). In a POST, a
/// CSE could use them as the creator, the name or the type of the new resource.
const NOT_IN_QUERY_OF_POST: [&str; 3] = ["ty", "cr", "aei"];

/// Parses a query string into names and values, each a list with the separator `+` (TS-0009 clause
/// 6.2.2.2).
///
/// The string is split before it is decoded, so an escaped `+` belongs to an element. A list has at
/// least one element, which may be empty.
///
/// # Errors
/// Returns an error if the query string is too long, is not UTF-8, or has a parameter that belongs
/// in a header field.
pub fn read_query(text: &str) -> Result<Vec<(String, Vec<String>)>, BindingError> {
    if text.len() > MAX_OPTION_BYTES {
        return Err(bad(format!("the query string is longer than {MAX_OPTION_BYTES} bytes")));
    }
    let decode = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
        decoded.map(String::from).map_err(|_| bad("the query string is not UTF-8"))
    };
    // XML text, such as a SPARQL query, has line breaks and tabs. `write_request` escapes them.
    let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let mut pairs = Vec::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        let value: Vec<String> = value.split('+').map(decode).collect::<Result<_, _>>()?;
        if name.contains(char::is_control) || !value.iter().all(|v| v.chars().all(is_text)) {
            return Err(bad("the query string has a control character"));
        }
        if NOT_IN_QUERY.iter().any(|n| n.eq_ignore_ascii_case(&name)) {
            return Err(bad(format!(
                "the query string has {name}, which belongs in a header field or the path"
            )));
        }
        let value = if name == MEDIA_TYPES { whole_media_types(value) } else { value };
        pairs.push((name, value));
    }
    if pairs.len() > MAX_OPTIONS {
        return Err(bad(format!("the query string has over {MAX_OPTIONS} parameters")));
    }
    Ok(pairs)
}

/// Parses the query string of a POST.
///
/// A POST has its resource type in the Content-Type and its creator in the content. It has no filter
/// criteria, in which the same names would be conditions.
///
/// # Errors
/// Returns an error as [`read_query`] does, and if the query string has the type, the creator or the
/// name of a resource.
pub(super) fn read_of_post(text: &str) -> Result<Vec<(String, Vec<String>)>, BindingError> {
    let options = read_query(text)?;
    let elsewhere = |name: &str| NOT_IN_QUERY_OF_POST.iter().any(|n| n.eq_ignore_ascii_case(name));
    match options.iter().find(|(name, _)| elsewhere(name)) {
        Some((name, _)) => Err(bad(format!(
            "the query string of a POST has {name}, which belongs in the Content-Type or the content"
        ))),
        None => Ok(options),
    }
}

/// Rejoins media types that were split as lists, because many clients do not escape the `+`, as in
/// `image/svg+xml`. A part without a slash continues the one before it.
fn whole_media_types(parts: Vec<String>) -> Vec<String> {
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
