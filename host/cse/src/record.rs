//! Stored resources, and the times in them.
//!
//! The originator's values are in the attributes, by their short names. Values that the CSE
//! maintains have separate fields, so a request cannot overwrite them.

pub(crate) mod names;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::resource::ResourceType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::record::names::{Names, Registrant};

/// Seconds since 1970-01-01 UTC, the resolution of m2m:timestamp.
pub(crate) type Seconds = u64;

/// The attributes of a representation, by their short names.
pub(crate) type Attributes = Map<String, Value>;

/// A stored resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Resource type.
    #[serde(with = "type_number")]
    pub(crate) ty: ResourceType,
    /// Resource-ID, unique in the CSE.
    pub(crate) ri: String,
    /// Name, unique below the parent.
    pub(crate) name: String,
    /// Resource-ID of the parent; `None` for the `<CSEBase>`.
    pub(crate) parent: Option<String>,
    /// Position among the parent's children of the same type, in order of creation.
    pub(crate) sequence: u64,
    /// Depth below the `<CSEBase>`.
    pub(crate) depth: u16,
    /// Owner of the subtree: the AE-ID-Stem of an AE, or the CSE-ID with its slash of a CSE; `None`
    /// for the `<CSEBase>`.
    pub(crate) owner: Option<String>,
    /// Originator that created a subscription, or last changed its targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) named_by: Option<String>,
    /// Registrant of an `<AE>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) registrant: Option<Registrant>,
    /// Meaning of the names in the attributes.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub(crate) names: Names,
    /// Creation time.
    pub(crate) created: Seconds,
    /// Time of the last modification.
    pub(crate) modified: Seconds,
    /// Own expiration time; an ancestor may expire earlier.
    pub(crate) expires: Option<Seconds>,
    /// State tag of a container or an instance.
    pub(crate) state: Option<u64>,
    /// Number and size of a container's instances. The stored name keeps existing stores readable.
    #[serde(rename = "stock")]
    pub(crate) instances: Option<InstanceTotals>,
    /// Size of an instance's content, in bytes.
    pub(crate) size: Option<u64>,
    /// Whether a resource below has its own access rule, and may be open to an originator to whom
    /// this one is closed.
    #[serde(default)]
    pub(crate) opens: bool,
    /// Attributes of the originator, and values that were assigned permanently at the creation.
    pub(crate) attributes: Attributes,
}

impl Record {
    /// Returns the addresses in an attribute.
    pub(crate) fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        let value = self.attributes.get(attribute);
        let one = value.filter(|value| value.is_string());
        let many = value.and_then(Value::as_array).into_iter().flatten();
        many.chain(one).map(|text| text.as_str().unwrap_or_default())
    }
}

/// The number and size of instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceTotals {
    /// Number of instances.
    pub(crate) count: u64,
    /// Size of their content, in bytes.
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

/// Returns whether a resource with this expiration time exists.
pub(crate) fn alive(expires: Option<Seconds>, now: Seconds) -> bool {
    expires.is_none_or(|at| at > now)
}

/// Returns the earlier of two expiration times.
pub(crate) fn earlier(one: Option<Seconds>, other: Option<Seconds>) -> Option<Seconds> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Converts a time to whole seconds. A time before 1970 counts as 1970.
pub(crate) fn seconds(time: SystemTime) -> Seconds {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Formats a time as m2m:timestamp.
pub(crate) fn timestamp(at: Seconds) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(UNIX_EPOCH);
    saegis_onem2m::timestamp::format(time)
}

/// Parses an m2m:timestamp.
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
        // No time causes a panic.
        let _ = timestamp(u64::MAX);
    }
}
