//! A resource as it is stored, and the times in it.
//!
//! What an originator gave stands in the attributes, by their short names. What the CSE keeps by
//! itself has fields of its own, so no attribute that is sent can overwrite it.

pub(crate) mod names;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::resource::ResourceType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::record::names::{Names, Registrant};

/// Seconds since 1970-01-01 UTC: m2m:timestamp is written to the second.
pub(crate) type Seconds = u64;

/// The attributes of a representation by their short names.
pub(crate) type Attributes = Map<String, Value>;

/// A resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its type.
    #[serde(with = "type_number")]
    pub(crate) ty: ResourceType,
    /// Its resource-ID, unique in the CSE.
    pub(crate) ri: String,
    /// Its name, unique below its parent.
    pub(crate) name: String,
    /// Its parent's resource-ID; the `<CSEBase>` has none.
    pub(crate) parent: Option<String>,
    /// Its place among its parent's children of the same type, ascending in order of creation.
    pub(crate) sequence: u64,
    /// How far below the `<CSEBase>` it is.
    pub(crate) depth: u16,
    /// The AE-ID-Stem of the AE, or the CSE-ID with its slash of the CSE, whose subtree it is in;
    /// the `<CSEBase>` is nobody's.
    pub(crate) owner: Option<String>,
    /// Whose word the targets of a subscription are: who created it, or last changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) named_by: Option<String>,
    /// Who registered it, where it is an `<AE>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) registrant: Option<Registrant>,
    /// What the names in its attributes stand for.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub(crate) names: Names,
    /// When it was created.
    pub(crate) created: Seconds,
    /// When it was last modified.
    pub(crate) modified: Seconds,
    /// When it expires by itself; an ancestor may expire before.
    pub(crate) expires: Option<Seconds>,
    /// The state tag of a container or an instance.
    pub(crate) state: Option<u64>,
    /// What a container holds.
    pub(crate) stock: Option<Stock>,
    /// The size of an instance's content, in bytes.
    pub(crate) size: Option<u64>,
    /// Whether something below it does not simply follow it, and may be open to somebody to whom it
    /// is not.
    #[serde(default)]
    pub(crate) opens: bool,
    /// What its originator gave, and what was assigned for good when it was created.
    pub(crate) attributes: Attributes,
}

impl Record {
    /// The addresses in an attribute.
    pub(crate) fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        let value = self.attributes.get(attribute);
        let one = value.filter(|value| value.is_string());
        let many = value.and_then(Value::as_array).into_iter().flatten();
        many.chain(one).map(|text| text.as_str().unwrap_or_default())
    }
}

/// What a container holds directly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stock {
    /// How many instances.
    pub(crate) count: u64,
    /// How many bytes of content.
    pub(crate) bytes: u64,
}

mod type_number {
    use saegis_onem2m::resource::ResourceType;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(ty: &ResourceType, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(ty.number())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(of: D) -> Result<ResourceType, D::Error> {
        let number = u16::deserialize(of)?;
        ResourceType::from_number(number)
            .ok_or_else(|| D::Error::custom(format_args!("unknown resource type {number}")))
    }
}

/// Whether something that expires then is still there.
pub(crate) fn alive(expires: Option<Seconds>, now: Seconds) -> bool {
    expires.is_none_or(|at| at > now)
}

/// The earlier of two expiration times.
pub(crate) fn earlier(one: Option<Seconds>, other: Option<Seconds>) -> Option<Seconds> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A time in whole seconds; one before 1970 counts as 1970.
pub(crate) fn seconds(time: SystemTime) -> Seconds {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The m2m:timestamp of a time.
pub(crate) fn timestamp(at: Seconds) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(UNIX_EPOCH);
    saegis_onem2m::timestamp::format(time)
}

/// The time of an m2m:timestamp.
pub(crate) fn parse_timestamp(text: &str) -> Option<Seconds> {
    saegis_onem2m::timestamp::parse(text).ok().map(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_expired_at_its_expiry() {
        assert!(alive(None, 5));
        assert!(alive(Some(6), 5));
        assert!(!alive(Some(5), 5));
        assert_eq!(earlier(None, None), None);
        assert_eq!(earlier(Some(3), None), Some(3));
        assert_eq!(earlier(Some(3), Some(2)), Some(2));
    }

    #[test]
    fn times_are_written_to_the_second() {
        assert_eq!(timestamp(1_795_512_600), "20261124T093000");
        assert_eq!(parse_timestamp("20261124T093000,9"), Some(1_795_512_600));
        assert_eq!(parse_timestamp("tomorrow"), None);
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(1)), 0);
        // No time makes it panic.
        let _ = timestamp(u64::MAX);
    }
}
