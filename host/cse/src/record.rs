//! Stored resources, and the times in them.
//!
//! The originator's values are in the attributes, by their short names. Values that the CSE
//! maintains have separate fields, so a request cannot overwrite them.

pub(crate) mod names;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::resource::ResourceType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::record::names::{Creator, Names, Reference, Registrant};

/// Seconds since 1970-01-01 UTC, the resolution of m2m:timestamp.
pub(crate) type Seconds = u64;

/// Milliseconds since 1970-01-01 UTC, the resolution of the data of a `<timeSeries>`.
pub(crate) type Milliseconds = u64;

/// The attributes of a representation, by their short names.
pub(crate) type Attributes = Map<String, Value>;

/// Attribute of a `<timeSeries>`: whether missing data are detected.
pub(crate) const DETECT_MISSING: &str = "mdd";

/// A stored resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Resource type.
    #[serde(with = "type_number")]
    pub(crate) ty: ResourceType,
    /// Resource-ID, unique in the CSE.
    pub(crate) ri: String,
    /// Root name of the representation, if it is not that of the type: of a `<flexContainer>` and
    /// its instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<String>,
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
    /// Registrant of an `<AE>` or a `<remoteCSE>`, and for a `<CSEBaseAnnc>` that of its CSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) registrant: Option<Registrant>,
    /// Originator that created a resource without an owner. An import compares it; nobody has rights
    /// by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) creator: Option<Creator>,
    /// Meaning of the names in the attributes.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub(crate) names: Names,
    /// Creation time.
    pub(crate) created: Seconds,
    /// Time of the last modification.
    pub(crate) modified: Seconds,
    /// Own expiration time; an ancestor may expire earlier.
    pub(crate) expires: Option<Seconds>,
    /// State tag of a container, a flexContainer or an instance.
    pub(crate) state: Option<u64>,
    /// Number and size of the instances of a container, or of a flexContainer with instances. The
    /// stored name keeps existing stores readable.
    #[serde(rename = "stock")]
    pub(crate) instances: Option<InstanceTotals>,
    /// Size of the content of an instance or a flexContainer, in bytes.
    pub(crate) size: Option<u64>,
    /// State of a subscription's notification policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
    /// Notifications that a group aggregates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) aggregation: Option<Aggregation>,
    /// Time at which the data of a `<timeSeriesInstance>` were generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generated: Option<Milliseconds>,
    /// Monitoring of a `<timeSeries>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) series: Option<Series>,
    /// Missing data that a subscription to a `<timeSeries>` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<MissingWindow>,
    /// Statistics of a subscription for each target, if they are enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) statistics: Option<Vec<TargetStatistics>>,
    /// Announcement of the resource to the registrar CSE, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) announcement: Option<AnnouncementState>,
    /// Whether a resource below has its own access rule, and may be open to an originator to whom
    /// this one is closed.
    #[serde(default)]
    pub(crate) opens: bool,
    /// Attributes of the originator, and values that were assigned permanently at the creation.
    pub(crate) attributes: Attributes,
}

impl Record {
    /// Returns a resource without attributes, parent and owner, whose name is its resource-ID.
    pub(crate) fn new(ty: ResourceType, ri: impl Into<String>, now: Seconds) -> Self {
        let ri = ri.into();
        Self {
            ty,
            name: ri.clone(),
            ri,
            root: None,
            parent: None,
            sequence: 0,
            depth: 0,
            owner: None,
            named_by: None,
            registrant: None,
            creator: None,
            names: Names::default(),
            created: now,
            modified: now,
            expires: None,
            state: None,
            instances: None,
            size: None,
            waiting: None,
            aggregation: None,
            generated: None,
            series: None,
            missing: None,
            statistics: None,
            announcement: None,
            opens: false,
            attributes: Attributes::new(),
        }
    }

    /// Returns the root name of the representation.
    pub(crate) fn root(&self) -> &str {
        self.root.as_deref().unwrap_or_else(|| self.ty.root())
    }

    /// Returns whether this is a `<timeSeries>` whose missing data are detected.
    pub(crate) fn is_monitored(&self) -> bool {
        self.ty == ResourceType::TimeSeries
            && self.attributes.get(DETECT_MISSING) == Some(&Value::Bool(true))
    }

    /// Returns the addresses in an attribute.
    pub(crate) fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        texts(&self.attributes, attribute)
    }
}

/// Returns the texts in an attribute, which has one or a list of them.
pub(crate) fn texts<'a>(
    attributes: &'a Attributes,
    name: &str,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let value = attributes.get(name);
    let one = value.filter(|value| value.is_string());
    let many = value.and_then(Value::as_array).into_iter().flatten();
    many.chain(one).map(|text| text.as_str().unwrap_or_default())
}

/// The number and size of instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceTotals {
    /// Number of instances.
    pub(crate) count: u64,
    /// Size of their content, in bytes.
    pub(crate) bytes: u64,
}

/// The events of a subscription that wait to be sent, and the state of its rate limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Number of the first waiting event.
    pub(crate) first: u64,
    /// Number of the next event.
    pub(crate) next: u64,
    /// Size of the waiting events, in bytes.
    pub(crate) bytes: u64,
    /// Time of the first waiting event.
    pub(crate) since: Seconds,
    /// Start of the window of the rate limit.
    pub(crate) window: Seconds,
    /// Number of events that were sent in this window.
    pub(crate) sent: u64,
    /// Time at which the events are due, as in the index.
    pub(crate) due: Option<Seconds>,
}

impl Waiting {
    /// Returns the number of waiting events.
    pub(crate) fn count(&self) -> u64 {
        self.next.saturating_sub(self.first)
    }
}

/// The notifications that a group aggregates for subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Aggregation {
    /// Number of the next stored notification.
    pub(crate) next: u64,
    /// Aggregations that have begun, oldest first.
    pub(crate) windows: Vec<AggregationWindow>,
    /// Time at which the first of them is due, as in the index.
    pub(crate) due: Option<Seconds>,
}

/// The notifications that a group sends to one target together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AggregationWindow {
    /// Target, as in `nfu`.
    pub(crate) target: String,
    /// AE that the target denoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ae: Option<Reference>,
    /// Originator that named it.
    pub(crate) subscriber: String,
    /// Time of the first notification.
    pub(crate) since: Seconds,
    /// Stored notifications, oldest first.
    pub(crate) notifications: Vec<AggregatedNotification>,
}

/// A notification that a group aggregates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AggregatedNotification {
    /// Number in the store.
    pub(crate) number: u64,
    /// Resource-ID of its subscription.
    pub(crate) subscription: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Event Category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<u16>,
}

/// The statistics of a target of a subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetStatistics {
    /// Target, as in `nu`.
    pub(crate) target: String,
    /// Number of notifications that were sent.
    pub(crate) requests: u64,
    /// Number of responses.
    pub(crate) responses: u64,
    /// Number of events.
    pub(crate) events: u64,
}

/// A notification that is stored until its target has received it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredNotification {
    /// Target, as in `nu`.
    pub(crate) target: String,
    /// Content in JSON.
    pub(crate) content: String,
    /// Event Category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<u16>,
    /// Time of the event.
    pub(crate) created: Seconds,
    /// Owner of the subscription, for which the notification counts; empty without one. Earlier
    /// versions have not stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
}

impl StoredNotification {
    /// Creates the stored form of a notification.
    pub(crate) fn new(
        target: &str,
        content: &[u8],
        category: Option<u16>,
        created: Seconds,
    ) -> Self {
        let content = String::from_utf8_lossy(content).into_owned();
        Self { target: target.into(), content, category, created, owner: None }
    }
}

/// The state of the announcement of a resource to the registrar CSE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnnouncementState {
    /// The registrar CSE.
    pub(crate) cse: String,
    /// Address of the announcing resource there; `None` before it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// Whether its creation was requested, so that it may exist without a known address.
    #[serde(default)]
    pub(crate) attempted: bool,
    /// Names of the attributes that were sent last.
    #[serde(default)]
    pub(crate) sent: BTreeSet<String>,
    /// Policies that were sent last.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) policies: Value,
    /// Number of the last change of the resource or of its announcement.
    pub(crate) version: u64,
    /// Time of the next synchronization, as in the index.
    pub(crate) due: Option<Seconds>,
}

/// The monitoring of a `<timeSeries>` (TS-0001 clause 10.2.4.29).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Series {
    /// Generation time of the first instance; `None` before it.
    pub(crate) first: Option<Milliseconds>,
    /// Number of intervals from the first instance to the next expected one.
    pub(crate) next: u64,
    /// Expected generation times of missing data, oldest first.
    pub(crate) missing: Vec<Milliseconds>,
    /// Time of the next detection, as in the index.
    pub(crate) due: Option<Seconds>,
}

/// The window in which a subscription counts missing data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MissingWindow {
    /// End of the window.
    pub(crate) until: Milliseconds,
    /// Number of missing data in the window.
    pub(crate) count: u64,
    /// Expected generation times of those that were not reported yet.
    pub(crate) unreported: Vec<Milliseconds>,
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

/// Formats a time in milliseconds as m2m:timestamp.
pub(crate) fn timestamp_of_milliseconds(at: Milliseconds) -> String {
    match at % 1000 {
        0 => timestamp(at / 1000),
        rest => format!("{},{rest:03}", timestamp(at / 1000)),
    }
}

/// Parses an m2m:timestamp in milliseconds.
pub(crate) fn parse_milliseconds(text: &str) -> Option<Milliseconds> {
    let since = saegis_onem2m::timestamp::parse(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
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
