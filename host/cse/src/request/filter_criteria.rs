//! The conditions of a discovery (m2m:filterCriteria of TS-0004 clause 6.3.5).
//!
//! One of the conditions with the same name must hold. All names must hold, or one of them if the
//! filter operation requests that (TS-0001 clause 8.1.2).

use std::collections::BTreeMap;

use saegis_onem2m::wildcard::fits;
use serde_json::Value;

use crate::record::{Record, Seconds};
use crate::resource::representation;
use crate::resource::values::media_type;
use crate::settings::Settings;

/// A condition with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `crb`: created before.
    CreatedBefore(Seconds),
    /// `cra`: created at this time or later.
    CreatedAfter(Seconds),
    /// `ms`: modified at this time or later.
    ModifiedSince(Seconds),
    /// `us`: not modified since.
    UnmodifiedSince(Seconds),
    /// `exb`: expires before.
    ExpiresBefore(Seconds),
    /// `exa`: expires at this time or later.
    ExpiresAfter(Seconds),
    /// `sts`: the state tag is smaller.
    StateSmaller(u64),
    /// `stb`: the state tag is equal or greater.
    StateBigger(u64),
    /// `sza`: the content has at least this many bytes.
    SizeAbove(u64),
    /// `szb`: the content has fewer bytes.
    SizeBelow(u64),
}

impl Condition {
    /// Returns whether it holds for a resource with this expiration time.
    pub(crate) fn holds(self, record: &Record, expires: Option<Seconds>) -> bool {
        match self {
            Self::CreatedBefore(at) => record.created < at,
            Self::CreatedAfter(at) => record.created >= at,
            Self::ModifiedSince(at) => record.modified >= at,
            Self::UnmodifiedSince(at) => record.modified < at,
            Self::ExpiresBefore(at) => expires.is_some_and(|e| e < at),
            Self::ExpiresAfter(at) => expires.is_some_and(|e| e >= at),
            Self::StateSmaller(n) => record.state.is_some_and(|s| s < n),
            Self::StateBigger(n) => record.state.is_some_and(|s| s >= n),
            Self::SizeAbove(n) => record.size.is_some_and(|s| s >= n),
            Self::SizeBelow(n) => record.size.is_some_and(|s| s < n),
        }
    }
}

/// A required value of an attribute (`atr`), in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttributeMatch {
    /// Short name of the attribute.
    pub(crate) name: String,
    /// Value as it is written; a text has no quotation marks.
    pub(crate) value: String,
}

impl AttributeMatch {
    /// Parses `name,value`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once(',')?;
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
        named.then(|| Self { name: name.into(), value: value.into() })
    }

    /// Returns whether a value matches. Of a list, one entry suffices.
    fn is(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => fits(&self.value, text),
            Value::Number(number) => fits(&self.value, &number.to_string()),
            Value::Bool(truth) => fits(&self.value, &truth.to_string()),
            Value::Array(list) => list.iter().filter(|v| !v.is_array()).any(|v| self.is(v)),
            Value::Null | Value::Object(_) => false,
        }
    }
}

/// The conditions of a filter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `fo=2`: one name suffices.
    pub(crate) any: bool,
    /// `ty`: one of these resource types.
    pub(crate) types: Vec<u16>,
    /// `lbl`: one of these labels.
    pub(crate) labels: Vec<String>,
    /// `cty`: one of these media types, with or without its encoding.
    pub(crate) content_types: Vec<String>,
    /// `atr`: attributes, each of which counts as a separate name.
    pub(crate) attributes: Vec<AttributeMatch>,
    /// Other conditions.
    pub(crate) conditions: Vec<Condition>,
}

impl Filter {
    /// Returns whether there are no conditions.
    pub(crate) fn is_empty(&self) -> bool {
        self.types.is_empty()
            && self.labels.is_empty()
            && self.content_types.is_empty()
            && self.attributes.is_empty()
            && self.conditions.is_empty()
    }

    /// Returns the creation times that the filter limits: the first one, and that after the last one.
    pub(crate) fn creation(&self) -> Option<(Seconds, Seconds)> {
        let (mut after, mut before) = (0, Seconds::MAX);
        for condition in &self.conditions {
            match condition {
                Condition::CreatedAfter(at) => after = after.max(*at),
                Condition::CreatedBefore(at) => before = before.min(*at),
                _ => {}
            }
        }
        ((after, before) != (0, Seconds::MAX)).then_some((after, before))
    }

    /// Returns the number of values with which a resource is compared.
    pub(crate) fn values(&self) -> usize {
        self.types.len()
            + self.labels.len()
            + self.content_types.len()
            + self.attributes.len()
            + self.conditions.len()
    }

    /// Returns whether a resource with this expiration time matches.
    pub(crate) fn matches(
        &self,
        settings: &Settings,
        record: &Record,
        expires: Option<Seconds>,
    ) -> bool {
        let types = || self.types.contains(&record.ty.number());
        let labeled = || {
            let labels = record.attributes.get("lbl").and_then(Value::as_array);
            labels.is_some_and(|own| {
                own.iter().filter_map(Value::as_str).any(|l| self.labels.iter().any(|w| w == l))
            })
        };
        let typed = || {
            let content_type = record.attributes.get("cnf").and_then(Value::as_str);
            content_type.is_some_and(|own| {
                let fits =
                    |wanted: &String| wanted == own || Some(wanted.as_str()) == media_type(own);
                self.content_types.iter().any(fits)
            })
        };
        let mut names = Vec::new();
        if !self.types.is_empty() {
            names.push(types());
        }
        if !self.labels.is_empty() {
            names.push(labeled());
        }
        if !self.content_types.is_empty() {
            names.push(typed());
        }
        names.extend(self.conditions.iter().map(|c| c.holds(record, expires)));
        if !self.attributes.is_empty() && names.iter().all(|holds| *holds != self.any) {
            let all = representation::of_resource(settings, record, expires);
            let is = |wanted: &AttributeMatch| {
                all.get(&wanted.name).is_some_and(|value| wanted.is(value))
            };
            // Each value is compared once, even if its name is repeated.
            let mut by_name = BTreeMap::new();
            for wanted in &self.attributes {
                *by_name.entry(wanted.name.as_str()).or_insert(false) |= is(wanted);
            }
            names.extend(by_name.into_values());
        }
        if self.any && !names.is_empty() { names.contains(&true) } else { !names.contains(&false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saegis_onem2m::resource::ResourceType;
    use serde_json::json;

    fn record() -> Record {
        let attributes = json!({"lbl": ["room:1", "light"], "cnf": "text/plain:0"});
        Record {
            state: Some(7),
            size: Some(10),
            attributes: attributes.as_object().unwrap().clone(),
            ..Record::new(ResourceType::ContentInstance, "cin-1", 100)
        }
    }

    #[test]
    fn condition_holds_up_to_its_limit() {
        use Condition as C;
        for (holds, fails) in [
            (C::CreatedBefore(101), C::CreatedBefore(100)),
            (C::CreatedAfter(100), C::CreatedAfter(101)),
            (C::ModifiedSince(100), C::ModifiedSince(101)),
            (C::UnmodifiedSince(101), C::UnmodifiedSince(100)),
            (C::ExpiresBefore(201), C::ExpiresBefore(200)),
            (C::ExpiresAfter(200), C::ExpiresAfter(201)),
            (C::StateSmaller(8), C::StateSmaller(7)),
            (C::StateBigger(7), C::StateBigger(8)),
            (C::SizeAbove(10), C::SizeAbove(11)),
            (C::SizeBelow(11), C::SizeBelow(10)),
        ] {
            assert!(holds.holds(&record(), Some(200)), "{holds:?}");
            assert!(!fails.holds(&record(), Some(200)), "{fails:?}");
        }
        let bare = Record { state: None, size: None, ..record() };
        for absent in [C::ExpiresAfter(0), C::ExpiresBefore(9), C::StateBigger(0), C::SizeBelow(9)]
        {
            assert!(!absent.holds(&bare, None), "{absent:?}");
        }
    }

    #[test]
    fn values_are_alternatives_and_conditions_are_joined() {
        let settings = crate::testing::settings();
        let filter = |types: &[u16], labels: &[&str], content: &[&str]| Filter {
            any: false,
            attributes: vec![],
            types: types.to_vec(),
            labels: labels.iter().map(|l| (*l).into()).collect(),
            content_types: content.iter().map(|c| (*c).into()).collect(),
            conditions: vec![],
        };
        assert!(Filter::default().is_empty());
        for good in [
            filter(&[], &[], &[]),
            filter(&[3, 4], &[], &[]),
            filter(&[4], &["other", "light"], &["text/plain:0"]),
            filter(&[4], &["light"], &["text/html", "text/plain"]),
        ] {
            assert!(good.matches(&settings, &record(), None), "{good:?}");
        }
        for bad in [
            filter(&[3], &[], &[]),
            filter(&[], &["lig"], &[]),
            filter(&[4], &["other"], &[]),
            filter(&[4], &["light"], &["text/html"]),
            filter(&[4], &["light"], &["text/plain:1"]),
        ] {
            assert!(!bad.matches(&settings, &record(), None), "{bad:?}");
        }
    }
    #[test]
    fn attributes_are_compared_as_they_are_written() {
        let settings = crate::testing::settings();
        let matches = |any, wanted: &[&str]| {
            let attributes = wanted.iter().map(|w| AttributeMatch::parse(w).unwrap()).collect();
            Filter { any, attributes, ..Filter::default() }.matches(&settings, &record(), None)
        };
        for good in
            ["rn,cin-1", "rn,cin*", "st,7", "lbl,light", "lbl,room:*", "ty,4", "cnf,*", "cs,10"]
        {
            assert!(matches(false, &[good]), "{good}");
        }
        for bad in ["rn,cin", "st,70", "lbl,*x", "con,*", "cr,", "nonsense,*"] {
            assert!(!matches(false, &[bad]), "{bad}");
        }
        // One value of a name, and all names or one of them.
        assert!(matches(false, &["st,8", "st,7", "ty,4"]));
        assert!(!matches(false, &["st,7", "ty,3"]));
        assert!(matches(true, &["st,8", "ty,4"]));
        assert!(!matches(true, &["st,8", "ty,3"]));
        for none in ["rn", "", ",x", "a b,x"] {
            assert_eq!(AttributeMatch::parse(none), None, "{none}");
        }
        assert_eq!(AttributeMatch::parse("rn,a,b").unwrap().value, "a,b");
    }

    #[test]
    fn or_operation_needs_one_condition() {
        let settings = crate::testing::settings();
        let filter = |any| Filter {
            any,
            types: vec![3],
            labels: vec!["light".into()],
            conditions: vec![Condition::SizeAbove(11)],
            ..Filter::default()
        };
        assert!(filter(true).matches(&settings, &record(), None));
        assert!(!filter(false).matches(&settings, &record(), None));
        let none = Filter { labels: vec![], ..filter(true) };
        assert!(!none.matches(&settings, &record(), None));
        // Without a condition, every resource matches.
        assert!(Filter { any: true, ..Filter::default() }.matches(&settings, &record(), None));
    }

    #[test]
    fn asterisk_matches_any_text() {
        for (pattern, good, bad) in [
            ("a", "a", "ab"),
            ("*", "", "x"),
            ("a*", "a", "ba"),
            ("*a", "ba", "ab"),
            ("a*a", "aa", "a"),
            ("a*b*c", "axbxc", "acb"),
            ("*b*", "abc", "ac"),
            ("a*bc*bc", "abcbc", "abc"),
            ("é*é", "éé", "é"),
            ("a**b", "ab", "a"),
        ] {
            assert!(fits(pattern, good), "{pattern} {good}");
            assert!(pattern == "*" || !fits(pattern, bad), "{pattern} {bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn filter_pattern_matches_its_expansion(parts in proptest::collection::vec("[ab]{0,3}", 1..5), filling in "[ab]{0,3}") {
            proptest::prop_assert!(fits(&parts.join("*"), &parts.join(&filling)));
        }
    }
}
