//! Sets of access control rules, the values of `pv` and `pvs` in an `<accessControlPolicy>`
//! (m2m:setOfAcrs; TS-0001 clause 9.6.2, TS-0003 clause 7.1).
//!
//! A rule that says something which cannot be evaluated here grants nothing; so that nobody relies on
//! it, it is refused when it is given, with NOT_IMPLEMENTED.

use serde::Deserialize;
use serde_json::Value;

use crate::identifiers;
use crate::record::Attributes;
use crate::resource::access_contexts::{self, AccessContext};
use crate::resource::schema::AttributeError;

/// The attributes with the rules for others' resources, and with those for the policy itself.
pub(crate) const PRIVILEGES: &str = "pv";

pub(crate) const SELF_PRIVILEGES: &str = "pvs";

/// Most rules in a set, originators in a rule, and details in a rule.
const MAX_RULES: usize = 32;

const MAX_ORIGINATORS: usize = 64;

const MAX_DETAILS: usize = 8;

/// All operations (m2m:accessControlOperations).
const ALL_OPERATIONS: u8 = 63;

/// A set of rules (m2m:setOfAcrs).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleSet {
    #[serde(default)]
    pub(crate) acr: Vec<Rule>,
}

/// A rule (m2m:accessControlRule).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Who.
    pub(crate) acor: Vec<String>,
    /// May do what.
    pub(crate) acop: u8,
    /// Whether only an originator that is authenticated by this very CSE.
    #[serde(default)]
    pub(crate) acaf: bool,
    /// On what.
    #[serde(default)]
    pub(crate) acod: Vec<ObjectDetails>,
    /// In which contexts: time and IP address. One is enough.
    pub(crate) acco: Option<Vec<AccessContext>>,
    /// On which attributes.
    pub(crate) aca: Option<Value>,
}

/// On what a rule grants something (m2m:accessControlObjectDetails).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectDetails {
    /// The type of the target.
    pub(crate) ty: Option<u16>,
    /// The types of children that may be created.
    pub(crate) chty: Vec<u16>,
    /// The specialization of the target.
    pub(crate) spty: Option<Value>,
}

impl RuleSet {
    pub(crate) fn read(value: &Value) -> Option<Self> {
        // A list would be taken for the members of an object, in their order.
        let objects = |value: Option<&Value>| {
            let list = value.and_then(Value::as_array);
            list.is_none_or(|list| list.iter().all(Value::is_object))
        };
        let rules = value.as_object()?.get("acr");
        let mut each = rules.and_then(Value::as_array).into_iter().flatten();
        if !objects(rules)
            || !each.all(|rule| {
                objects(rule.get("acod")) && access_contexts::are_objects(rule.get("acco"))
            })
        {
            return None;
        }
        Self::deserialize(value).ok()
    }
}

/// The originators that a set of rules names.
pub(crate) fn originators(set: &Value) -> Vec<String> {
    let rules = RuleSet::read(set).unwrap_or_default().acr;
    rules.into_iter().flat_map(|rule| rule.acor).collect()
}

/// Checks a set of rules that is given.
///
/// # Errors
/// What is wrong with it, or can't be evaluated here.
pub(crate) fn check(name: &'static str, value: &Value) -> Result<(), AttributeError> {
    let wrong = |why: &str| Err(AttributeError::value(name, why));
    let Some(set) = RuleSet::read(value) else {
        return wrong("must be a set of access control rules: acr, each with acor and acop");
    };
    if set.acr.len() > MAX_RULES {
        return wrong("has more rules than are taken");
    }
    for rule in &set.acr {
        if let Some(contexts) = &rule.acco {
            access_contexts::check(name, contexts)?;
        }
        if rule.aca.is_some() {
            return Err(AttributeError::Unsupported("aca"));
        }
        if rule.acod.iter().any(|detail| detail.spty.is_some()) {
            return Err(AttributeError::Unsupported("spty"));
        }
        if rule.acor.is_empty() || rule.acor.len() > MAX_ORIGINATORS {
            return wrong("must name originators in acor, and no more of them than are taken");
        }
        if rule.acop > ALL_OPERATIONS {
            return wrong("must have a sum of operations in acop, 0 to 63");
        }
        if rule.acod.len() > MAX_DETAILS || rule.acod.iter().any(|d| d.chty.len() > MAX_RULES) {
            return wrong("has more in acod than is taken");
        }
        for entry in &rule.acor {
            identifiers::check_originator_pattern(entry)
                .or_else(|why| wrong(&format!("in acor {why}")))?;
        }
    }
    Ok(())
}

/// Checks a policy as a whole: somebody must be left to change it (TS-0001 clause 9.6.2.0).
///
/// # Errors
/// When it has no rule for itself.
pub(crate) fn check_whole(attributes: &Attributes) -> Result<(), AttributeError> {
    let own = attributes.get(SELF_PRIVILEGES).and_then(RuleSet::read);
    match own {
        Some(own) if !own.acr.is_empty() => Ok(()),
        _ => Err(AttributeError::value(SELF_PRIVILEGES, "must have a rule")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saegis_onem2m::rsc::Rsc;
    use serde_json::json;

    #[test]
    fn invalid_rule_set_is_refused() {
        let many = |n| json!({"acr": vec![json!({"acor": ["all"], "acop": 1}); n]});
        assert_eq!(check(PRIVILEGES, &many(MAX_RULES)), Ok(()));
        assert_eq!(check(PRIVILEGES, &json!({})), Ok(()));
        for bad in [
            json!(null),
            json!([]),
            json!([[]]),
            json!({"acr": {}}),
            json!({"acr": [[["all"], 63]]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acod": [[3, [4]]]}]}),
            json!({"rules": []}),
            json!({"acr": [{"acop": 1}]}),
            json!({"acr": [{"acor": ["all"]}]}),
            json!({"acr": [{"acor": [], "acop": 1}]}),
            json!({"acr": [{"acor": "all", "acop": 1}]}),
            json!({"acr": [{"acor": ["*"], "acop": 1}]}),
            json!({"acr": [{"acor": ["light"], "acop": 1}]}),
            json!({"acr": [{"acor": ["all"], "acop": 64}]}),
            json!({"acr": [{"acor": ["all"], "acop": -1}]}),
            json!({"acr": [{"acor": ["all"], "acop": "1"}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acxx": 1}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acco": []}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acco": {}}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acco": [{}]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acco": [[["* * * * * * *"]]]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acco": [{"acip": [["::1"]]}]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acco": [{"actw": "* * * * * * *"}]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acco": [{"actw": ["* * * * * *"]}]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acco": [{"acxx": 1}]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acod": [{"ty": 3}]}]}),
            json!({"acr": [{"acor": vec!["all"; MAX_ORIGINATORS + 1], "acop": 1}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "acod": vec![json!({"chty": []}); MAX_DETAILS + 1]}]}),
            many(MAX_RULES + 1),
        ] {
            let error = check(PRIVILEGES, &bad).unwrap_err();
            assert_eq!(error.rsc(), Rsc::BadRequest, "{bad}");
        }
    }

    #[test]
    fn somebody_must_be_left_to_change_it() {
        let whole = |pvs: Value| check_whole(json!({ "pvs": pvs }).as_object().unwrap());
        assert!(whole(json!({"acr": [{"acor": ["all"], "acop": 0}]})).is_ok());
        assert!(whole(json!({"acr": []})).is_err());
        assert!(whole(json!({})).is_err());
        assert!(check_whole(&Attributes::new()).is_err());
    }
}
