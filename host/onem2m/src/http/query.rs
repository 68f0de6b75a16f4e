//! Query strings of the HTTP binding (TS-0009 clause 6.2.2.2).

use crate::binding::{
    BindingError, MAX_OPTION_BYTES, MAX_OPTIONS, bad, is_not_in_query, is_not_in_query_of_create,
    is_option_text, option_elements,
};

/// Short name of the Tokens of a request.
const TOKENS: &str = "tkns";

/// Characters that are escaped in a written query string: all but the unreserved ones. A `+` in a
/// value is escaped too, because a bare one separates the elements of a list.
pub(super) const QUERY: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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
    let mut pairs = Vec::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        let value: Vec<String> = value.split('+').map(decode).collect::<Result<_, _>>()?;
        if !is_option_text(&name, &value) {
            return Err(bad("the query string has a control character"));
        }
        // Tokens are verified in Authorization only.
        if is_not_in_query(&name) || name.eq_ignore_ascii_case(TOKENS) {
            return Err(bad(format!(
                "the query string has {name}, which belongs in a header field or the path"
            )));
        }
        let value = option_elements(&name, value);
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
    match options.iter().find(|(name, _)| is_not_in_query_of_create(name)) {
        Some((name, _)) => Err(bad(format!(
            "the query string of a POST has {name}, which belongs in the Content-Type or the content"
        ))),
        None => Ok(options),
    }
}
