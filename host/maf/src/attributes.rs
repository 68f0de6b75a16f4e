//! Attributes in the content of requests and responses: parsed strictly, within bounds, and
//! written.
//!
//! Error messages never repeat an invalid text, because it could be a misplaced key.

use std::collections::HashMap;

use bytes::Bytes;
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::{AbsoluteId, IdError, KpsaId, check_fqdn};
use saegis_onem2m::timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::names;
use crate::record::{Seconds, seconds, time};

/// Maximum size of a content, in bytes.
pub const MAX_CONTENT: usize = 16 << 10;
/// Maximum number of labels.
pub const MAX_LABELS: usize = 16;
/// Maximum length of a label, in bytes.
pub const MAX_LABEL: usize = 128;
/// Maximum number of targets of a key.
pub const MAX_TARGETS: usize = 16;
/// Maximum length of a RelativeKeyID or mafClientRegID, in bytes.
pub const MAX_RELATIVE_ID: usize = 64;

/// The reason why a content is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// There is no content.
    #[error("there is no content")]
    None,
    /// The content is longer than [`MAX_CONTENT`].
    #[error("the content is longer than {MAX_CONTENT} bytes")]
    TooLong,
    /// The content is not a JSON object with one resource of the expected root.
    #[error("the content must be one resource, a JSON object named {0}")]
    Root(&'static str),
    /// The resource does not have this attribute.
    #[error("the content has an attribute that is not allowed in {0}")]
    Unknown(&'static str),
    /// A mandatory attribute is missing.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// The value of an attribute is invalid.
    #[error("the attribute {0} {1}")]
    Wrong(&'static str, ValueError),
}

/// The reason why a value is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The value has another JSON type.
    #[error("is not a {0}")]
    Type(&'static str),
    /// The value is not a timestamp.
    #[error(transparent)]
    Time(#[from] timestamp::TimestampError),
    /// The value is not an identifier of its kind.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The list has too many elements.
    #[error("has more than {0} elements")]
    TooMany(usize),
    /// An element of the list is empty, too long, or has a control character.
    #[error("has an element that is empty, has over {0} bytes, or has a control character")]
    Element(usize),
    /// The list has a duplicate.
    #[error("has a duplicate")]
    Twice,
    /// The value is not a RelativeKeyID or mafClientRegID.
    #[error("is not an identifier of 1 to {MAX_RELATIVE_ID} letters, digits, '.', '_' and '-'")]
    RelativeId,
    /// The value is not a key.
    #[error("is not a key of 1 to 64 bytes in hexadecimal digits")]
    Key,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct RootElement<'c>(#[serde(borrow)] HashMap<String, HashMap<String, &'c RawValue>>);

/// The attributes of a representation, by their short names, as unparsed JSON.
pub(crate) struct Attributes<'c>(HashMap<String, &'c RawValue>);

impl<'c> Attributes<'c> {
    /// Parses a content with one resource of the given root, whose attributes are all `known`. The
    /// content was parsed as a representation before, so no name occurs twice.
    pub(crate) fn read(
        content: &'c [u8],
        root: &'static str,
        known: &[&'static str],
    ) -> Result<Self, AttributeError> {
        if content.len() > MAX_CONTENT {
            return Err(AttributeError::TooLong);
        }
        let outer: RootElement<'c> =
            serde_json::from_slice(content).map_err(|_| AttributeError::Root(root))?;
        let mut resources = outer.0.into_iter();
        let attributes = match (resources.next(), resources.next()) {
            (Some((name, attributes)), None) if name == root => attributes,
            _ => return Err(AttributeError::Root(root)),
        };
        if attributes.keys().any(|name| !known.contains(&name.as_str())) {
            return Err(AttributeError::Unknown(root));
        }
        Ok(Self(attributes))
    }

    fn raw(&self, name: &'static str) -> Option<&'c str> {
        self.0.get(name).map(|value| value.get())
    }

    pub(crate) fn has(&self, name: &'static str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns whether an attribute is `null`, which requests its removal.
    pub(crate) fn is_null(&self, name: &'static str) -> bool {
        self.raw(name) == Some("null")
    }

    fn value<T: DeserializeOwned>(
        &self,
        name: &'static str,
        kind: &'static str,
    ) -> Result<Option<T>, AttributeError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let wrong = |_| AttributeError::Wrong(name, ValueError::Type(kind));
        serde_json::from_str(raw).map(Some).map_err(wrong)
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, AttributeError> {
        self.value(name, "text")
    }

    fn checked<T, E: Into<ValueError>>(
        &self,
        name: &'static str,
        check: impl FnOnce(String) -> Result<T, E>,
    ) -> Result<Option<T>, AttributeError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        check(text).map(Some).map_err(|why| AttributeError::Wrong(name, why.into()))
    }

    pub(crate) fn expiration(&self) -> Result<Option<Seconds>, AttributeError> {
        self.checked(names::EXPIRATION_TIME, |text| timestamp::parse(&text).map(seconds))
    }

    pub(crate) fn admin(&self) -> Result<Option<String>, AttributeError> {
        self.checked(names::ADMIN_FQDN, |text| check_fqdn(&text).map(|()| text))
    }

    pub(crate) fn absolute(
        &self,
        name: &'static str,
    ) -> Result<Option<AbsoluteId>, AttributeError> {
        self.checked(name, |text| AbsoluteId::parse(&text))
    }

    /// Returns a RelativeKeyID or mafClientRegID.
    pub(crate) fn relative_id(&self, name: &'static str) -> Result<Option<String>, AttributeError> {
        self.checked(name, |text| check_relative_id(&text).map(|()| text))
    }

    /// Returns a KmID.
    pub(crate) fn key_id(&self, name: &'static str) -> Result<Option<KpsaId>, AttributeError> {
        self.checked(name, |text| KpsaId::parse(&text))
    }

    pub(crate) fn suid(&self) -> Result<Option<u8>, AttributeError> {
        self.value(names::SUID, "number of an SUID")
    }

    /// Returns the labels; an empty list if the attribute is absent.
    pub(crate) fn labels(&self) -> Result<Vec<String>, AttributeError> {
        let wrong = |why| AttributeError::Wrong(names::LABELS, why);
        let labels: Vec<String> = self.value(names::LABELS, "list of texts")?.unwrap_or_default();
        check_labels(&labels).map_err(wrong)?;
        Ok(labels)
    }

    /// Returns the targets; an empty list if the attribute is absent.
    pub(crate) fn targets(&self) -> Result<Vec<AbsoluteId>, AttributeError> {
        let wrong = |why| AttributeError::Wrong(names::TARGET_IDS, why);
        let texts: Vec<String> =
            self.value(names::TARGET_IDS, "list of texts")?.unwrap_or_default();
        if texts.len() > MAX_TARGETS {
            return Err(wrong(ValueError::TooMany(MAX_TARGETS)));
        }
        let mut targets = Vec::with_capacity(texts.len());
        for text in texts {
            let target = AbsoluteId::parse(&text).map_err(|e| wrong(e.into()))?;
            if targets.contains(&target) {
                return Err(wrong(ValueError::Twice));
            }
            targets.push(target);
        }
        Ok(targets)
    }

    /// Returns the key, decoded directly from the content, so that no other copy of it is made.
    pub(crate) fn key(&self) -> Result<Option<PresharedKey>, AttributeError> {
        let wrong = || AttributeError::Wrong(names::KEY_VALUE, ValueError::Key);
        let Some(raw) = self.raw(names::KEY_VALUE) else { return Ok(None) };
        let digits = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let digits = digits.ok_or_else(wrong)?;
        let mut bytes = Zeroizing::new([0; PresharedKey::MAX_LEN]);
        let buffer = bytes.get_mut(..digits.len() / 2).ok_or_else(wrong)?;
        hex::decode_to_slice(digits, buffer).map_err(|_| wrong())?;
        PresharedKey::new(buffer).map(Some).map_err(|_| wrong())
    }
}

/// Returns the value of a mandatory attribute.
pub(crate) fn required<T>(name: &'static str, value: Option<T>) -> Result<T, AttributeError> {
    value.ok_or(AttributeError::Missing(name))
}

pub(crate) fn check_labels(labels: &[String]) -> Result<(), ValueError> {
    if labels.len() > MAX_LABELS {
        return Err(ValueError::TooMany(MAX_LABELS));
    }
    let good = |l: &String| !l.is_empty() && l.len() <= MAX_LABEL && !l.contains(char::is_control);
    if labels.iter().all(good) { Ok(()) } else { Err(ValueError::Element(MAX_LABEL)) }
}

/// Checks the alphabet of sec:relKeyID (TS-0003 clause 12.2) and the length.
pub(crate) fn check_relative_id(text: &str) -> Result<(), ValueError> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = (1..=MAX_RELATIVE_ID).contains(&text.len()) && text.bytes().all(known);
    if good { Ok(()) } else { Err(ValueError::RelativeId) }
}

/// Serializes the attributes of a resource, and its key if given. A text with a key is overwritten
/// when its last reference is dropped.
pub(crate) fn write(
    root: &'static str,
    attributes: Map<String, Value>,
    key: Option<&PresharedKey>,
) -> Bytes {
    let rest = Value::Object(attributes).to_string();
    let Some(key) = key else { return format!("{{\"{root}\":{rest}}}").into() };
    let key = key.expose();
    let front = format!("{{\"{root}\":{{\"{}\":\"", names::KEY_VALUE);
    // The capacity suffices for everything, so that growing leaves no part of a key behind.
    let capacity = front.len() + 2 * key.len() + rest.len() + 4;
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    text.extend_from_slice(front.as_bytes());
    let at = text.len();
    text.resize(at + 2 * key.len(), b'0');
    if let Some(digits) = text.get_mut(at..) {
        // The buffer has two digits for each byte.
        let _ = hex::encode_to_slice(key, digits);
    }
    text.push(b'"');
    match rest.get(1..) {
        // The object is empty, `{}`.
        None | Some("" | "}") => text.push(b'}'),
        Some(rest) => {
            text.push(b',');
            text.extend_from_slice(rest.as_bytes());
        }
    }
    text.push(b'}');
    Bytes::from_owner(text)
}

/// Adds an attribute.
pub(crate) fn put(attributes: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    attributes.insert(name.into(), value.into());
}

/// Adds the expirationTime.
pub(crate) fn put_time(attributes: &mut Map<String, Value>, expires: Seconds) {
    put(attributes, names::EXPIRATION_TIME, timestamp::format(time(expires)));
}

/// Adds the targets. They are always there (clause 8.8.2.7), even if there are none yet.
pub(crate) fn put_targets(attributes: &mut Map<String, Value>, targets: &[String]) {
    put(attributes, names::TARGET_IDS, targets);
}

/// Adds the labels, if any.
pub(crate) fn put_labels(attributes: &mut Map<String, Value>, labels: &[String]) {
    if !labels.is_empty() {
        put(attributes, names::LABELS, labels);
    }
}

#[cfg(test)]
#[path = "attributes_tests.rs"]
mod tests;
