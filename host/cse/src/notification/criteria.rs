//! The events that a subscription reports, and the content of its notifications
//! (m2m:eventNotificationCriteria and m2m:notificationContentType of TS-0004 clauses 6.3.5.8 and
//! 6.3.4.2.19).

use saegis_onem2m::id::OriginatorId;
use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::error::Refusal;
use crate::notification::policy;
use crate::record::{Attributes, Record, Seconds, parse_timestamp};
use crate::request::filter_criteria::Condition;
use crate::resource::children::may_have;
use crate::resource::schema::{AttributeError, NOTIFICATION_CONTENT};
use crate::settings::Settings;

/// Maximum number of entries in a list of the criteria.
const MAX_LIST: usize = 32;

/// An event (m2m:notificationEventType).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// 1: the resource was updated.
    Update,
    /// 2: the resource was deleted.
    Delete,
    /// 3: a direct child was created.
    CreateOfChild,
    /// 4: a direct child was deleted.
    DeleteOfChild,
    /// 5: the instances of a `<container>` without any were requested.
    RetrieveOfEmpty,
    /// 7: an update of the resource waits for the response to its notification.
    BlockingUpdate,
    /// 8: data of a `<timeSeries>` are missing.
    MissingData,
}

impl Event {
    const ALL: [Self; 7] = [
        Self::Update,
        Self::Delete,
        Self::CreateOfChild,
        Self::DeleteOfChild,
        Self::RetrieveOfEmpty,
        Self::BlockingUpdate,
        Self::MissingData,
    ];

    /// Returns the number on the wire.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Update => 1,
            Self::Delete => 2,
            Self::CreateOfChild => 3,
            Self::DeleteOfChild => 4,
            Self::RetrieveOfEmpty => 5,
            Self::BlockingUpdate => 7,
            Self::MissingData => 8,
        }
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        match value.as_u64() {
            // This CSE receives no triggers.
            Some(6) => Err(Refusal::NotImplemented("of net, 6 is not supported")),
            number => {
                let found = Self::ALL.into_iter().find(|e| Some(e.number()) == number);
                found.ok_or_else(|| wrong("net must be a list of numbers from 1 to 8"))
            }
        }
    }
}

/// The content of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    /// 1: all attributes.
    All,
    /// 2: the modified attributes.
    Modified,
    /// 3: the resource-ID.
    ResourceId,
    /// 5: the missing data of a `<timeSeries>`.
    TimeSeries,
}

/// An operation, as a bit of m2m:accessControlOperations.
pub(crate) type OperationBit = u64;

/// All operations.
const ALL_OPERATIONS: OperationBit = 0b11_1111;

/// Attempts to access a resource that are reported (m2m:operationMonitor).
#[derive(Debug, PartialEq, Eq)]
struct Monitor {
    operations: OperationBit,
    /// Originator; `None` for any.
    originator: Option<String>,
}

/// The criteria of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Criteria {
    events: Vec<Event>,
    /// Attempts that are reported.
    monitors: Vec<Monitor>,
    /// Types of children that are reported; `None` for all.
    child_types: Option<Vec<u64>>,
    /// Attributes whose update is reported; `None` for all.
    attributes: Option<Vec<String>>,
    /// Minimum number of missing data that are reported, and the window in which they are counted.
    pub(crate) missing: Option<(u64, Seconds)>,
    /// Conditions on the resource, or on its child.
    conditions: Vec<Condition>,
    /// Whether one of the conditions suffices.
    any: bool,
    /// Content of a notification.
    pub(crate) detail: ContentType,
}

fn wrong(why: &str) -> Refusal {
    AttributeError::value("enc", why).into()
}

fn list<T>(
    value: &Value,
    why: &str,
    entry: impl Fn(&Value) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    match value.as_array() {
        Some(all) if (1..=MAX_LIST).contains(&all.len()) => all.iter().map(entry).collect(),
        _ => Err(wrong(why)),
    }
}

fn monitor(value: &Value) -> Result<Monitor, Refusal> {
    let why = "om must be a list of objects with ops or or";
    let members = value.as_object().filter(|members| !members.is_empty());
    let mut read = Monitor { operations: ALL_OPERATIONS, originator: None };
    for (name, value) in members.ok_or_else(|| wrong(why))? {
        match (name.as_str(), value) {
            ("ops", operations) => {
                let operations =
                    operations.as_u64().filter(|ops| (1..=ALL_OPERATIONS).contains(ops));
                read.operations =
                    operations.ok_or_else(|| wrong("has an ops that is not 1 to 63"))?;
            }
            ("or", Value::String(originator)) => {
                OriginatorId::parse(originator).map_err(|_| wrong(why))?;
                read.originator = Some(originator.clone());
            }
            _ => return Err(wrong(why)),
        }
    }
    Ok(read)
}

/// Parses a condition with this name.
fn condition(name: &str, value: &Value) -> Result<Condition, Refusal> {
    use Condition as C;
    let time = || {
        let at = value.as_str().and_then(parse_timestamp);
        at.ok_or_else(|| wrong("has a time that is not like 20261124T093000"))
    };
    let number =
        || value.as_u64().ok_or_else(|| wrong("has a number that is not a non-negative integer"));
    Ok(match name {
        "crb" => C::CreatedBefore(time()?),
        "cra" => C::CreatedAfter(time()?),
        "ms" => C::ModifiedSince(time()?),
        "us" => C::UnmodifiedSince(time()?),
        "exb" => C::ExpiresBefore(time()?),
        "exa" => C::ExpiresAfter(time()?),
        "sts" => C::StateSmaller(number()?),
        "stb" => C::StateBigger(number()?),
        "sza" => C::SizeAbove(number()?),
        "szb" => C::SizeBelow(number()?),
        _ => return Err(wrong("has an unknown criterion")),
    })
}

impl ContentType {
    fn read(attributes: &Attributes) -> Result<Self, Refusal> {
        Ok(match attributes.get(NOTIFICATION_CONTENT).map(Value::as_u64) {
            None | Some(Some(1)) => Self::All,
            Some(Some(2)) => Self::Modified,
            Some(Some(3)) => Self::ResourceId,
            Some(Some(5)) => Self::TimeSeries,
            Some(Some(4)) => {
                return Err(Refusal::NotImplemented("of nct, 4 is not supported"));
            }
            Some(_) => {
                return Err(
                    AttributeError::value(NOTIFICATION_CONTENT, "must be 1, 2, 3 or 5").into()
                );
            }
        })
    }

    /// Returns the number on the wire.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::All => 1,
            Self::Modified => 2,
            Self::ResourceId => 3,
            Self::TimeSeries => 5,
        }
    }
}

impl Criteria {
    /// Parses the criteria in the attributes of a subscription. Without criteria, it reports
    /// updates.
    ///
    /// # Errors
    /// Returns an error if they are invalid or not supported.
    pub(crate) fn read(attributes: &Attributes) -> Result<Self, Refusal> {
        let detail = ContentType::read(attributes)?;
        let mut read = Self {
            events: vec![Event::Update],
            monitors: Vec::new(),
            child_types: None,
            attributes: None,
            missing: None,
            conditions: Vec::new(),
            any: false,
            detail,
        };
        for (name, value) in attributes.get("enc").and_then(Value::as_object).into_iter().flatten()
        {
            match name.as_str() {
                "net" => {
                    let why = "net must be a list of numbers from 1 to 8";
                    read.events = list(value, why, Event::read)?;
                }
                "chty" => {
                    let why = "chty must be a list of resource types";
                    let number = |v: &Value| v.as_u64().ok_or_else(|| wrong(why));
                    read.child_types = Some(list(value, why, number)?);
                }
                "atr" => {
                    let why = "atr must be a list of attribute names";
                    let text = |v: &Value| v.as_str().map(Into::into).ok_or_else(|| wrong(why));
                    read.attributes = Some(list(value, why, text)?);
                }
                "fo" => {
                    read.any = match value.as_u64() {
                        Some(1) => false,
                        Some(2) => true,
                        _ => return Err(wrong("fo must be 1 or 2")),
                    };
                }
                "md" => read.missing = Some(policy::missing_data(value)?),
                "om" => {
                    let why = "om must be a list of objects with ops or or";
                    read.monitors = list(value, why, monitor)?;
                }
                _ => read.conditions.push(condition(name, value)?),
            }
        }
        let criteria = attributes.get("enc").and_then(Value::as_object);
        if !read.monitors.is_empty() {
            if criteria.is_some_and(|criteria| criteria.contains_key("net")) {
                return Err(wrong("cannot have both net and om"));
            }
            read.events.clear();
        }
        if !attributes.contains_key(NOTIFICATION_CONTENT) {
            match *read.events {
                [Event::MissingData] => read.detail = ContentType::TimeSeries,
                [Event::BlockingUpdate] => read.detail = ContentType::Modified,
                _ => {}
            }
        }
        read.check_compatible()?;
        Ok(read)
    }

    /// Checks that a resource of the subscribed-to type can have the reported types of children
    /// (TS-0004 clause 7.4.8.2.1).
    ///
    /// # Errors
    /// Returns an error if it cannot.
    pub(crate) fn check_children(&self, of: ResourceType) -> Result<(), Refusal> {
        if self.missing.is_some() && of != ResourceType::TimeSeries {
            return Err(wrong("can have md only at a timeSeries"));
        }
        if self.events.contains(&Event::RetrieveOfEmpty) && of != ResourceType::Container {
            return Err(wrong("can have 5 in net only at a container"));
        }
        // The CSE updates a <request>, and waits for nobody.
        if self.blocks() && of == ResourceType::Request {
            return Err(wrong("cannot have 7 in net at a request"));
        }
        match self.child_types.iter().flatten().find(|child| !may_have(of, **child)) {
            None => Ok(()),
            Some(child) => Err(wrong(&format!(
                "has the type {child} in chty, and a {} has no such child",
                of.root()
            ))),
        }
    }

    /// Checks that the parts are compatible (TS-0004 clause 7.4.8.2.1).
    fn check_compatible(&self) -> Result<(), Refusal> {
        let of_series = self.events.contains(&Event::MissingData);
        if of_series && (self.events.len() > 1 || self.missing.is_none()) {
            return Err(wrong("must have md, and no other net, with 8 in net"));
        }
        if of_series != (self.detail == ContentType::TimeSeries) {
            return Err(
                AttributeError::value(NOTIFICATION_CONTENT, "can be 5 only with net 8").into()
            );
        }
        let of_children = [Event::CreateOfChild, Event::DeleteOfChild];
        if self.child_types.is_some() && !self.events.iter().any(|e| of_children.contains(e)) {
            return Err(wrong("can have chty only with 3 or 4 in net"));
        }
        let of_updates = |event: &Event| matches!(event, Event::Update | Event::BlockingUpdate);
        if self.attributes.is_some() && !self.events.iter().any(of_updates) {
            return Err(wrong("can have atr only with 1 or 7 in net"));
        }
        if self.detail == ContentType::Modified
            && (self.events.is_empty() || !self.events.iter().all(of_updates))
        {
            return Err(AttributeError::value(
                NOTIFICATION_CONTENT,
                "can be 2 only with net 1 or 7",
            )
            .into());
        }
        if !self.events.contains(&Event::BlockingUpdate) {
            return Ok(());
        }
        if self.events.len() > 1
            || self.any
            || !self.conditions.is_empty()
            || self.missing.is_some()
        {
            return Err(wrong("can have only atr with 7 in net"));
        }
        match self.detail {
            ContentType::Modified => Ok(()),
            _ => Err(AttributeError::value(NOTIFICATION_CONTENT, "must be 2 with net 7").into()),
        }
    }

    /// Returns whether the resource of an event, the child if it is about one, meets the conditions.
    pub(crate) fn matches(&self, about: &Record, expires: Option<Seconds>) -> bool {
        let mut holds = self.conditions.iter().map(|condition| condition.holds(about, expires));
        if self.any && !self.conditions.is_empty() { holds.any(|h| h) } else { holds.all(|h| h) }
    }

    /// Returns whether updates wait for the response to their notification.
    pub(crate) fn blocks(&self) -> bool {
        self.events == [Event::BlockingUpdate]
    }

    /// Returns whether the subscription reports attempts of an originator, in its canonical form, to
    /// perform an operation.
    pub(crate) fn monitors(
        &self,
        settings: &Settings,
        operation: OperationBit,
        originator: &str,
    ) -> bool {
        let is_of = |monitor: &Monitor| {
            let wanted = monitor.originator.as_deref();
            wanted.is_none_or(|wanted| settings.originator_id(wanted) == originator)
        };
        let reports = |monitor: &Monitor| monitor.operations & operation != 0 && is_of(monitor);
        self.monitors.iter().any(reports)
    }

    /// Returns whether the subscription reports an event. `about` is the type of the child, or of
    /// the resource itself; `modified` are the attributes that an update changed.
    pub(crate) fn wants(&self, event: Event, about: ResourceType, modified: &Attributes) -> bool {
        let number = u64::from(about.number());
        self.events.contains(&event)
            && match event {
                Event::Update | Event::BlockingUpdate => self
                    .attributes
                    .as_ref()
                    .is_none_or(|wanted| wanted.iter().any(|w| modified.contains_key(w))),
                Event::Delete | Event::MissingData | Event::RetrieveOfEmpty => true,
                Event::CreateOfChild | Event::DeleteOfChild => {
                    self.child_types.as_ref().is_none_or(|types| types.contains(&number))
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResourceType::{Container, ContentInstance};
    use saegis_onem2m::rsc::Rsc;
    use serde_json::json;

    fn read(value: Value) -> Result<Criteria, Refusal> {
        Criteria::read(value.as_object().unwrap())
    }

    #[test]
    fn criteria_say_what_is_wanted() {
        let none = Attributes::new();
        let labels = json!({"lbl": ["a"]}).as_object().unwrap().clone();
        let default = read(json!({})).unwrap();
        assert_eq!(default.detail, ContentType::All);
        assert!(default.wants(Event::Update, Container, &none));
        assert!(!default.wants(Event::Delete, Container, &none));

        let children = read(json!({"enc": {"net": [3, 2], "chty": [4]}, "nct": 3})).unwrap();
        assert_eq!(children.detail, ContentType::ResourceId);
        assert!(children.wants(Event::CreateOfChild, ContentInstance, &none));
        assert!(!children.wants(Event::CreateOfChild, Container, &none));
        assert!(!children.wants(Event::DeleteOfChild, ContentInstance, &none));
        assert!(children.wants(Event::Delete, Container, &none));

        let labeled = read(json!({"enc": {"net": [1], "atr": ["lbl", "mni"]}, "nct": 2})).unwrap();
        assert!(labeled.wants(Event::Update, Container, &labels));
        assert!(!labeled.wants(Event::Update, Container, &none));
    }

    #[test]
    fn attempts_are_selected_by_operation_and_originator() {
        let settings = crate::testing::settings();
        let monitored = |om: Value| {
            let criteria = read(json!({"enc": { "om": om }})).unwrap();
            assert!(!criteria.wants(Event::Update, Container, &Attributes::new()));
            [(2, "Clight-AE1"), (2, "Clight-AE2"), (4, "Clight-AE1")].map(|(operation, from)| {
                criteria.monitors(&settings, operation, &settings.originator_id(from))
            })
        };
        assert_eq!(monitored(json!([{"ops": 2}])), [true, true, false]);
        assert_eq!(monitored(json!([{"or": "Clight-AE1"}])), [true, false, true]);
        let full = json!([{"ops": 6, "or": "/mn-cse-123456/Clight-AE1"}]);
        assert_eq!(monitored(full), [true, false, true]);
        assert_eq!(monitored(json!([{"ops": 4}, {"or": "Clight-AE2"}])), [false, true, true]);
    }

    #[test]
    fn invalid_criteria_are_refused() {
        for bad in [
            json!({"enc": {"net": []}}),
            json!({"enc": {"net": [0]}}),
            json!({"enc": {"net": [9]}}),
            json!({"enc": {"net": ["1"]}}),
            json!({"enc": {"net": 1}}),
            json!({"enc": {"net": vec![1; MAX_LIST + 1]}}),
            json!({"enc": {"net": [3], "chty": []}}),
            json!({"enc": {"net": [3], "chty": ["4"]}}),
            json!({"enc": {"net": [1], "chty": [4]}}),
            json!({"enc": {"chty": [4]}}),
            json!({"enc": {"net": [3], "atr": ["lbl"]}}),
            json!({"enc": {"atr": [1]}}),
            json!({"enc": {"what": 1}}),
            json!({"enc": {"crb": "today"}}),
            json!({"enc": {"sza": "1"}}),
            json!({"enc": {"fo": 3}}),
            json!({"nct": 0}),
            json!({"nct": 5}),
            json!({"enc": {"net": [8]}}),
            json!({"enc": {"net": [1, 8], "md": {"num": 1, "dur": "PT1S"}}}),
            json!({"enc": {"net": [8], "md": {"num": 0, "dur": "PT1S"}}}),
            json!({"enc": {"net": [8], "md": {"num": 1, "dur": "PT1S"}}, "nct": 1}),
            json!({"nct": 6}),
            json!({"enc": {"net": [1, 3]}, "nct": 2}),
            json!({"enc": {"om": []}}),
            json!({"enc": {"om": [{}]}}),
            json!({"enc": {"om": {"ops": 1}}}),
            json!({"enc": {"om": [{"ops": 0}]}}),
            json!({"enc": {"om": [{"ops": 64}]}}),
            json!({"enc": {"om": [{"or": 1}]}}),
            json!({"enc": {"om": [{"or": "not an ID"}]}}),
            json!({"enc": {"om": [{"ops": 1, "more": 1}]}}),
            json!({"enc": {"om": [{"ops": 1}], "net": [1]}}),
            json!({"enc": {"om": [{"ops": 1}]}, "nct": 2}),
            json!({"enc": {"om": [{"ops": 1}]}, "nct": 5}),
            json!({"enc": {"om": [{"ops": 1}], "atr": ["lbl"]}}),
            json!({"enc": {"net": [7, 1]}}),
            json!({"enc": {"net": [7]}, "nct": 1}),
            json!({"enc": {"net": [7], "sza": 1}}),
            json!({"enc": {"net": [7], "fo": 2}}),
            json!({"enc": {"net": [7], "chty": [4]}}),
            json!({"enc": {"net": [5]}, "nct": 2}),
        ] {
            assert_eq!(read(bad.clone()).unwrap_err().rsc(), Rsc::BadRequest, "{bad}");
        }
        for unknown in
            [json!({"enc": {"net": [1, 6]}}), json!({"nct": 4}), json!({"enc": {"net": [6]}})]
        {
            assert_eq!(read(unknown.clone()).unwrap_err().rsc(), Rsc::NotImplemented, "{unknown}");
        }
    }
}
