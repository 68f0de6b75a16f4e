//! The kinds of attribute values (TS-0004 clause 6.3), with bounds specific to this CSE.

use std::ops::RangeInclusive;

use saegis_onem2m::app_rule::may_be_an_app_id;
use saegis_onem2m::id::{AppId, MAX_LEN, OriginatorId};
use saegis_onem2m::target::Target;
use serde_json::Value;

use crate::identifiers::{self, check_name};
use crate::record::parse_timestamp;

/// Maximum length of an entry in a list of texts, and maximum number of entries.
const MAX_ENTRY: usize = 256;
const MAX_ENTRIES: usize = 64;

/// Maximum length of an address, in bytes.
pub(crate) const MAX_ADDRESS: usize = 512;

/// Maximum nesting of objects and lists in the content of an instance. Notifications and responses
/// add levels, and must still be readable (`serde_json` reads 128 levels).
const MAX_CONTENT_DEPTH: usize = 64;

/// Serializations of primitives (m2m:serializations of TS-0004 table 6.3.3-1), and their media
/// types in earlier releases.
const SERIALIZATIONS: [&str; 6] =
    ["xml", "json", "cbor", "application/xml", "application/json", "application/cbor"];

/// Returns whether a value is a list of an allowed size with valid texts.
fn list(value: &Value, sizes: RangeInclusive<usize>, is_right: impl Fn(&str) -> bool) -> bool {
    let right = |v: &Value| v.as_str().is_some_and(&is_right);
    value.as_array().is_some_and(|list| sizes.contains(&list.len()) && list.iter().all(right))
}

fn is_entry(text: &str) -> bool {
    (1..=MAX_ENTRY).contains(&text.len())
}

fn is_visible(text: &str) -> bool {
    (1..=MAX_ENTRY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Returns whether a text is an xs:token of an allowed length.
fn is_token(text: &str) -> bool {
    (1..=MAX_ENTRY).contains(&text.len())
        && !text.contains(char::is_control)
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text.contains("  ")
}

/// Returns the media type in an m2m:contentInfo, `type/subtype:encoding[:security]` (TS-0004 table
/// 6.3.3-1).
pub(crate) fn media_type(content_info: &str) -> Option<&str> {
    let (before, last) = content_info.rsplit_once(':')?;
    // The security is optional, and a media type does not end with a colon and a digit.
    let (media_type, encoding) = match before.rsplit_once(':') {
        Some((media_type, encoding)) if matches!(last, "0" | "1" | "2" | "3" | "4" | "5") => {
            (media_type, encoding)
        }
        _ => (before, last),
    };
    let (essence, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
    let (kind, subtype) = essence.trim_end().split_once('/')?;
    // RFC 6838 clause 4.2.
    let is_name = |name: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b);
        !name.is_empty() && name.bytes().all(allowed)
    };
    let fits = matches!(encoding, "0" | "1" | "2")
        && is_name(kind)
        && is_name(subtype)
        && !parameters.contains(char::is_control);
    fits.then_some(media_type)
}

/// Returns whether a value is nested no deeper than `levels`.
fn is_nested_within(value: &Value, levels: usize) -> bool {
    let below = |v: &Value| levels > 0 && is_nested_within(v, levels - 1);
    match value {
        Value::Array(list) => list.iter().all(below),
        Value::Object(members) => members.values().all(below),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// The kind of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A resource name.
    Name,
    /// An m2m:timestamp.
    Time,
    /// A text with this maximum length in bytes.
    Text(usize),
    /// A non-empty list of texts.
    Texts,
    /// A non-empty list of labels, which are tokens.
    Labels,
    /// A non-empty list of points of access: URIs without spaces.
    PointsOfAccess,
    /// A non-empty list of serializations.
    Serializations,
    /// A media type with an encoding (m2m:contentInfo).
    ContentInfo,
    /// A list of the addresses of a group's members, which may be empty.
    Members,
    /// An App-ID. The registration checks whether its first letter is allowed in the release.
    AppId,
    /// A Boolean.
    Boolean,
    /// A non-negative integer.
    Count,
    /// The content of an instance (xs:anyType): any value. Its size is checked when it is stored.
    Any,
    /// An object. Its users check its members.
    Object,
    /// A non-empty list of addresses with this maximum number. Its users check the addresses.
    Addresses(usize),
    /// An address, or a list of addresses with this maximum number: xs:anyURI in TS-0004, and a list in
    /// TS-0001.
    OneOrMoreAddresses(usize),
    /// The creator: the originator requests it with null, and must not give any other value.
    Creator,
    /// The address of a resource.
    Link,
    /// A non-empty list of resource addresses with this maximum number.
    Links(usize),
    /// A list of resource addresses with this maximum number, which may be empty.
    LinksOrNone(usize),
    /// A set of access control rules, which is checked separately.
    Rules,
    /// An AE-ID or a CSE-ID.
    Entity,
    /// A CSE-ID, with its slash.
    CseId,
    /// 1 to 3: IN, MN or ASN.
    CseType,
    /// The identifier of a node: a non-empty text.
    NodeId,
    /// A list of patterns of Credential-IDs or Role-IDs.
    Patterns,
    /// A list of patterns of App-IDs.
    AppIds,
    /// A list of patterns of AE-ID-Stems.
    Stems,
    /// Maintained by the CSE only.
    ReadOnly,
    /// A switch of an unsupported feature, for which only false is allowed.
    FalseOnly,
    /// Specified, but not supported.
    Unsupported,
}

impl Kind {
    /// Checks a value other than null.
    ///
    /// # Errors
    /// Returns a description of valid values.
    pub(crate) fn check(self, value: &Value) -> Result<(), String> {
        let fits = match self {
            Self::Name => {
                let text = value.as_str().ok_or("must be a text")?;
                return check_name(text).map_err(|e| e.to_string());
            }
            Self::AppId => {
                let text = value.as_str().ok_or("must be a text")?;
                return AppId::parse(text).map(|_| ()).map_err(|e| e.to_string());
            }
            Self::Entity => {
                return identifiers::check_id(value.as_str().ok_or("must be a text")?);
            }
            Self::Link => value.as_str().is_some_and(|t| Target::from_address(t).is_ok()),
            Self::Links(max) => list(value, 1..=max, |t| Target::from_address(t).is_ok()),
            Self::LinksOrNone(max) => list(value, 0..=max, |t| Target::from_address(t).is_ok()),
            Self::CseId => value.as_str().is_some_and(|t| {
                let form = OriginatorId::parse(t);
                matches!(
                    form,
                    Ok(OriginatorId::SpRelative(_) | OriginatorId::Absolute { stem: None, .. })
                )
            }),
            Self::CseType => value.as_u64().is_some_and(|n| (1..=3).contains(&n)),
            Self::NodeId => value.as_str().is_some_and(|t| !t.is_empty() && t.len() <= MAX_LEN),
            Self::Patterns => list(value, 1..=MAX_ENTRIES, is_visible),
            Self::PointsOfAccess => {
                list(value, 1..=MAX_ENTRIES, |t| is_visible(t) && t.contains(':'))
            }
            Self::AppIds => list(value, 1..=MAX_ENTRIES, |t| is_visible(t) && may_be_an_app_id(t)),
            Self::Stems => list(value, 1..=MAX_ENTRIES, |t| {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~*".contains(&b);
                t.starts_with(['*', 'C', 'S']) && t.bytes().all(allowed)
            }),
            Self::Time => value.as_str().is_some_and(|t| parse_timestamp(t).is_some()),
            Self::Text(max) => value.as_str().is_some_and(|t| t.len() <= max),
            Self::Texts => list(value, 1..=MAX_ENTRIES, is_entry),
            Self::Members => list(value, 0..=MAX_ENTRIES, is_entry),
            Self::Labels => list(value, 1..=MAX_ENTRIES, is_token),
            Self::Serializations => list(value, 1..=MAX_ENTRIES, |t| SERIALIZATIONS.contains(&t)),
            Self::ContentInfo => {
                value.as_str().is_some_and(|t| t.len() <= MAX_ENTRY && media_type(t).is_some())
            }
            Self::Boolean => value.is_boolean(),
            Self::Count => value.is_u64(),
            Self::Any => is_nested_within(value, MAX_CONTENT_DEPTH),
            Self::Object => value.is_object(),
            Self::Addresses(max) => list(value, 1..=max, |t| t.len() <= MAX_ADDRESS),
            Self::OneOrMoreAddresses(max) => {
                let is_address = |t: &str| !t.is_empty() && t.len() <= MAX_ADDRESS;
                value.as_str().is_some_and(is_address) || list(value, 1..=max, is_address)
            }
            Self::FalseOnly => value == &Value::Bool(false),
            Self::Creator | Self::Rules | Self::ReadOnly | Self::Unsupported => false,
        };
        if fits { Ok(()) } else { Err(self.wanted()) }
    }

    fn wanted(self) -> String {
        match self {
            Self::Name | Self::AppId => "must be a text".into(),
            Self::Time => "must be a time such as 20261124T093000".into(),
            Self::Text(max) => format!("must be a text of at most {max} bytes"),
            Self::Texts => {
                format!("must be a list of 1 to {MAX_ENTRIES} texts of 1 to {MAX_ENTRY} bytes each")
            }
            Self::PointsOfAccess => format!(
                "must be a list of 1 to {MAX_ENTRIES} URIs of at most {MAX_ENTRY} bytes, without spaces"
            ),
            Self::Members => format!(
                "must be a list of at most {MAX_ENTRIES} texts of 1 to {MAX_ENTRY} bytes each"
            ),
            Self::Labels => format!(
                "must be a list of 1 to {MAX_ENTRIES} labels: tokens of 1 to {MAX_ENTRY} bytes \
                 without control characters, leading, trailing or double spaces"
            ),
            Self::Serializations => {
                format!("must be a list of 1 to {MAX_ENTRIES} serializations: xml, json or cbor")
            }
            Self::ContentInfo => "must be a media type with an encoding from 0 to 2, such as \
                                  text/plain:0 or application/json:1"
                .into(),
            Self::Boolean | Self::FalseOnly => "must be true or false".into(),
            Self::Count => "must be a non-negative integer".into(),
            Self::Any => format!("must not be nested deeper than {MAX_CONTENT_DEPTH} levels"),
            Self::Object => "must be an object".into(),
            Self::Addresses(max) => format!(
                "must be a list of 1 to {max} addresses of at most {MAX_ADDRESS} bytes each"
            ),
            Self::OneOrMoreAddresses(max) => format!(
                "must be an address, or a list of 1 to {max} addresses, of at most {MAX_ADDRESS} bytes"
            ),
            Self::Link => "must be the address of a resource".into(),
            Self::Links(max) => format!("must be a list of 1 to {max} addresses of resources"),
            Self::LinksOrNone(max) => {
                format!("must be a list of at most {max} addresses of resources")
            }
            Self::Entity => "must be an AE-ID or a CSE-ID".into(),
            Self::CseId => "must be a CSE-ID with its slash, such as /mn-cse-123456".into(),
            Self::CseType => "must be 1 (IN), 2 (MN) or 3 (ASN)".into(),
            Self::NodeId => format!("must be a text of 1 to {MAX_LEN} bytes"),
            Self::Patterns => {
                format!(
                    "must be a list of 1 to {MAX_ENTRIES} identifiers, in which * is a wildcard"
                )
            }
            Self::AppIds => format!(
                "must be a list of 1 to {MAX_ENTRIES} App-IDs, each starting with *, R or N"
            ),
            Self::Stems => format!(
                "must be a list of 1 to {MAX_ENTRIES} AE-ID-Stems, each starting with *, C or S"
            ),
            Self::Creator => "must be null: the CSE assigns the creator".into(),
            Self::Rules | Self::ReadOnly | Self::Unsupported => "must not be given".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(
            json!(1),
            |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({"a": inner}) },
        )
    }

    #[test]
    fn content_may_be_any_value_except_null() {
        for good in [
            json!({}),
            json!({"t": 21.5, "on": true}),
            json!([]),
            json!([1, {"a": null}]),
            json!("on"),
            json!(-1),
            json!(false),
        ] {
            assert_eq!(Kind::Any.check(&good), Ok(()), "{good}");
        }
    }

    #[test]
    fn content_info_is_media_type_with_encoding() {
        for (good, of) in [
            ("text/plain:0", "text/plain"),
            ("application/json:1", "application/json"),
            ("application/xml:1:5", "application/xml"),
            ("application/vnd.onem2m-ntfy+xml:2:0", "application/vnd.onem2m-ntfy+xml"),
            ("application/x-alljoyn;version=1.0:0", "application/x-alljoyn;version=1.0"),
            ("text/plain; charset=utf-8:0", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(media_type(good), Some(of), "{good}");
        }
        for bad in [
            "",
            ":",
            "text",
            "text:0",
            "text/plain",
            "text/plain:",
            "text/plain:3",
            "text/plain:00",
            "text/plain:0:6",
            "text/plain:0:",
            "text/plain:x",
            "text/plain:3:0",
            "/plain:0",
            "text/:0",
            "te xt/plain:0",
            "text/plain/x:0",
            "text/plain:0:0:0",
        ] {
            assert_eq!(media_type(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_have_the_type_of_their_attribute() {
        for (kind, good, bad) in [
            (Kind::Name, json!("light"), json!(1)),
            (Kind::Name, json!("light"), json!("la")),
            (Kind::Time, json!("20261124T093000"), json!("2026-11-24")),
            (Kind::Time, json!("20261124T093000"), json!(20261124)),
            (Kind::Text(3), json!("abc"), json!("abcd")),
            (Kind::Text(3), json!(""), json!(["a"])),
            (Kind::Texts, json!(["a", "b"]), json!("a")),
            (Kind::Texts, json!(["a"]), json!([])),
            (Kind::Members, json!([]), json!(["a", 1])),
            (Kind::Texts, json!(["a"]), json!([""])),
            (Kind::Texts, json!(["a"]), json!(vec!["a"; MAX_ENTRIES + 1])),
            (Kind::Texts, json!(["a"]), json!(["a".repeat(MAX_ENTRY + 1)])),
            (Kind::AppId, json!("Nlight"), json!("light")),
            (Kind::AppId, json!("rlight"), json!(true)),
            (Kind::Boolean, json!(false), json!("false")),
            (Kind::Count, json!(0), json!(-1)),
            (Kind::Count, json!(5), json!(5.0)),
            (Kind::Count, json!(5), json!("5")),
            (Kind::Object, json!({"net": [1]}), json!([1])),
            (Kind::OneOrMoreAddresses(2), json!("a"), json!("")),
            (Kind::OneOrMoreAddresses(2), json!(["a", "b"]), json!(["a", "b", "c"])),
            (Kind::OneOrMoreAddresses(2), json!(["a"]), json!({"a": "b"})),
            (Kind::Addresses(2), json!(["a", "b"]), json!(["a", "b", "c"])),
            (Kind::Addresses(2), json!(["a"]), json!([])),
            (Kind::Addresses(2), json!(["a"]), json!("a")),
            (Kind::Addresses(2), json!(["a"]), json!(["a".repeat(MAX_ADDRESS + 1)])),
            (Kind::Any, nested(MAX_CONTENT_DEPTH), nested(MAX_CONTENT_DEPTH + 1)),
            (Kind::FalseOnly, json!(false), json!(true)),
            (Kind::FalseOnly, json!(false), json!("false")),
            (Kind::Links(1), json!(["cse/a"]), json!([])),
            (Kind::LinksOrNone(1), json!([]), json!(["cse/a", "cse/b"])),
            (Kind::Labels, json!(["a b", "room:1", "é"]), json!([])),
            (Kind::Labels, json!(["a"]), json!([" a"])),
            (Kind::Labels, json!(["a"]), json!(["a "])),
            (Kind::Labels, json!(["a"]), json!(["a  b"])),
            (Kind::Labels, json!(["a"]), json!(["a\tb"])),
            (Kind::Labels, json!(["a"]), json!(["a\nb"])),
            (Kind::Labels, json!(["a"]), json!(["a\u{0}b"])),
            (Kind::Serializations, json!(["json", "application/cbor"]), json!(["yaml"])),
            (Kind::Serializations, json!(["xml"]), json!([])),
            (Kind::PointsOfAccess, json!(["mqtt://a.b:1"]), json!([])),
            (Kind::PointsOfAccess, json!(["http://a.b/"]), json!(["http://a b/"])),
            (Kind::PointsOfAccess, json!(["http://a.b/"]), json!(["a.b"])),
            (Kind::ContentInfo, json!("text/plain:0"), json!("text/plain")),
            (Kind::Patterns, json!(["*"]), json!([])),
            (Kind::AppIds, json!(["*"]), json!([])),
            (Kind::Stems, json!(["*"]), json!([])),
        ] {
            assert_eq!(kind.check(&good), Ok(()), "{kind:?} {good}");
            assert!(kind.check(&bad).is_err(), "{kind:?} {bad}");
        }
        for kind in [Kind::Creator, Kind::ReadOnly, Kind::Unsupported] {
            assert!(kind.check(&json!("Clight-AE1")).is_err(), "{kind:?}");
        }
    }
}
