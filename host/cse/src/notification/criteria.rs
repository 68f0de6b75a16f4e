//! The events that a subscription reports, and the content of its notifications
//! (m2m:eventNotificationCriteria and m2m:notificationContentType of TS-0004 clauses 6.3.5.8 and
//! 6.3.4.2.19).

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::error::Refusal;
use crate::record::Attributes;
use crate::resource::children::may_have;
use crate::resource::schema::{AttributeError, NOTIFICATION_CONTENT};

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
}

impl Event {
    const ALL: [Self; 4] = [Self::Update, Self::Delete, Self::CreateOfChild, Self::DeleteOfChild];

    /// Returns the number on the wire.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Update => 1,
            Self::Delete => 2,
            Self::CreateOfChild => 3,
            Self::DeleteOfChild => 4,
        }
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        match value.as_u64() {
            Some(number @ 1..=4) => {
                let found = Self::ALL.into_iter().find(|e| e.number() == number);
                found.ok_or_else(|| wrong("net must be a list of numbers from 1 to 4"))
            }
            Some(5..=8) => Err(Refusal::NotImplemented("of net, only 1 to 4 are supported")),
            _ => Err(wrong("net must be a list of numbers from 1 to 4")),
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
}

/// The criteria of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Criteria {
    events: Vec<Event>,
    /// Types of children that are reported; `None` for all.
    child_types: Option<Vec<u64>>,
    /// Attributes whose update is reported; `None` for all.
    attributes: Option<Vec<String>>,
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

impl ContentType {
    /// Returns the number on the wire.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::All => 1,
            Self::Modified => 2,
            Self::ResourceId => 3,
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
        let detail = match attributes.get(NOTIFICATION_CONTENT).map(Value::as_u64) {
            None | Some(Some(1)) => ContentType::All,
            Some(Some(2)) => ContentType::Modified,
            Some(Some(3)) => ContentType::ResourceId,
            Some(Some(4 | 5)) => {
                return Err(Refusal::NotImplemented("of nct, only 1 to 3 are supported"));
            }
            Some(_) => {
                return Err(AttributeError::value(NOTIFICATION_CONTENT, "must be 1, 2 or 3").into());
            }
        };
        let mut read =
            Self { events: vec![Event::Update], child_types: None, attributes: None, detail };
        for (name, value) in attributes.get("enc").and_then(Value::as_object).into_iter().flatten()
        {
            match name.as_str() {
                "net" => {
                    let why = "net must be a list of numbers from 1 to 4";
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
                "crb" | "cra" | "ms" | "us" | "sts" | "stb" | "exb" | "exa" | "sza" | "szb"
                | "om" | "md" => {
                    return Err(Refusal::NotImplemented(
                        "of enc, only net, chty and atr are supported",
                    ));
                }
                _ => return Err(wrong("has an unknown criterion")),
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
        let of_children = [Event::CreateOfChild, Event::DeleteOfChild];
        if self.child_types.is_some() && !self.events.iter().any(|e| of_children.contains(e)) {
            return Err(wrong("can have chty only with 3 or 4 in net"));
        }
        if self.attributes.is_some() && !self.events.contains(&Event::Update) {
            return Err(wrong("can have atr only with 1 in net"));
        }
        if self.detail == ContentType::Modified && self.events.iter().any(|e| *e != Event::Update) {
            return Err(
                AttributeError::value(NOTIFICATION_CONTENT, "can be 2 only with net 1").into()
            );
        }
        Ok(())
    }

    /// Returns whether the subscription reports an event. `about` is the type of the child, or of
    /// the resource itself; `modified` are the attributes that an update changed.
    pub(crate) fn wants(&self, event: Event, about: ResourceType, modified: &Attributes) -> bool {
        let number = u64::from(about.number());
        self.events.contains(&event)
            && match event {
                Event::Update => self
                    .attributes
                    .as_ref()
                    .is_none_or(|wanted| wanted.iter().any(|w| modified.contains_key(w))),
                Event::Delete => true,
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
            json!({"nct": 0}),
            json!({"nct": 6}),
            json!({"enc": {"net": [1, 3]}, "nct": 2}),
        ] {
            assert_eq!(read(bad.clone()).unwrap_err().rsc(), Rsc::BadRequest, "{bad}");
        }
        for unknown in [
            json!({"enc": {"net": [1, 5]}}),
            json!({"enc": {"net": [7]}}),
            json!({"enc": {"crb": "20261124T093000"}}),
            json!({"enc": {"om": []}}),
            json!({"nct": 4}),
            json!({"nct": 5}),
        ] {
            assert_eq!(read(unknown.clone()).unwrap_err().rsc(), Rsc::NotImplemented, "{unknown}");
        }
    }
}
