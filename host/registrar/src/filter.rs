//! Conditions of a discovery (m2m:filterCriteria of TS-0004 clause 6.3.5): all those of
//! different names must hold, and one of those of the same name.

use serde_json::Value;

use crate::record::{Record, Seconds};

/// A condition with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `crb`: created before.
    CreatedBefore(Seconds),
    /// `cra`: created after.
    CreatedAfter(Seconds),
    /// `ms`: modified since.
    ModifiedSince(Seconds),
    /// `us`: not modified since.
    UnmodifiedSince(Seconds),
    /// `exb`: expires before.
    ExpiresBefore(Seconds),
    /// `exa`: expires after.
    ExpiresAfter(Seconds),
    /// `sts`: the state tag is smaller.
    StateSmaller(u64),
    /// `stb`: the state tag is bigger.
    StateBigger(u64),
    /// `sza`: the content has that many bytes, or more.
    SizeAbove(u64),
    /// `szb`: the content has fewer bytes.
    SizeBelow(u64),
}

impl Condition {
    fn holds(self, record: &Record, expires: Option<Seconds>) -> bool {
        match self {
            Self::CreatedBefore(at) => record.created < at,
            Self::CreatedAfter(at) => record.created > at,
            Self::ModifiedSince(at) => record.modified > at,
            Self::UnmodifiedSince(at) => record.modified < at,
            Self::ExpiresBefore(at) => expires.is_some_and(|e| e < at),
            Self::ExpiresAfter(at) => expires.is_some_and(|e| e > at),
            Self::StateSmaller(n) => record.state.is_some_and(|s| s < n),
            Self::StateBigger(n) => record.state.is_some_and(|s| s > n),
            Self::SizeAbove(n) => record.size.is_some_and(|s| s >= n),
            Self::SizeBelow(n) => record.size.is_some_and(|s| s < n),
        }
    }
}

/// Conditions that must all hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `ty`: one of these resource types.
    pub(crate) types: Vec<u16>,
    /// `lbl`: one of these labels.
    pub(crate) labels: Vec<String>,
    /// `cty`: one of these content types.
    pub(crate) content_types: Vec<String>,
    /// The others.
    pub(crate) conditions: Vec<Condition>,
}

impl Filter {
    /// Whether there is no condition at all.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a resource that expires then fits.
    pub(crate) fn matches(&self, record: &Record, expires: Option<Seconds>) -> bool {
        let labelled = || {
            let labels = record.attributes.get("lbl").and_then(Value::as_array);
            labels.is_some_and(|own| {
                own.iter().filter_map(Value::as_str).any(|l| self.labels.iter().any(|w| w == l))
            })
        };
        let typed = || {
            let content_type = record.attributes.get("cnf").and_then(Value::as_str);
            content_type.is_some_and(|own| self.content_types.iter().any(|w| w == own))
        };
        (self.types.is_empty() || self.types.contains(&record.ty.number()))
            && (self.labels.is_empty() || labelled())
            && (self.content_types.is_empty() || typed())
            && self.conditions.iter().all(|c| c.holds(record, expires))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saegis_onem2m::resource::ResourceType;
    use serde_json::json;

    fn record() -> Record {
        Record {
            ty: ResourceType::ContentInstance,
            ri: "cin-1".into(),
            name: "cin-1".into(),
            parent: Some("cnt-1".into()),
            sequence: 0,
            depth: 3,
            owner: Some("Cx".into()),
            named_by: None,
            created: 100,
            modified: 100,
            expires: None,
            state: Some(7),
            stock: None,
            size: Some(10),
            opens: false,
            attributes: json!({"lbl": ["room:1", "light"], "cnf": "text/plain:0"})
                .as_object()
                .unwrap()
                .clone(),
        }
    }

    #[test]
    fn each_condition_holds_or_not() {
        use Condition as C;
        for (holds, fails) in [
            (C::CreatedBefore(101), C::CreatedBefore(100)),
            (C::CreatedAfter(99), C::CreatedAfter(100)),
            (C::ModifiedSince(99), C::ModifiedSince(100)),
            (C::UnmodifiedSince(101), C::UnmodifiedSince(100)),
            (C::ExpiresBefore(201), C::ExpiresBefore(200)),
            (C::ExpiresAfter(199), C::ExpiresAfter(200)),
            (C::StateSmaller(8), C::StateSmaller(7)),
            (C::StateBigger(6), C::StateBigger(7)),
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
    fn one_of_a_name_and_all_names() {
        let filter = |types: &[u16], labels: &[&str], content: &[&str]| Filter {
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
        ] {
            assert!(good.matches(&record(), None), "{good:?}");
        }
        for bad in [
            filter(&[3], &[], &[]),
            filter(&[], &["lig"], &[]),
            filter(&[4], &["other"], &[]),
            filter(&[4], &["light"], &["text/plain"]),
        ] {
            assert!(!bad.matches(&record(), None), "{bad:?}");
        }
    }
}
