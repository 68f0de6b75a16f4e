//! Sets of access control rules, the values of `pv` and `pvs` in an `<accessControlPolicy>`
//! (m2m:setOfAcrs; TS-0001 clause 9.6.2, TS-0003 clause 7.1).
//!
//! An entry that has the form of no originator is the address of a group, whose members are
//! originators. A rule that cannot be evaluated grants nothing. It is refused with NOT_IMPLEMENTED
//! when it is given, so that nobody relies on it.

use saegis_onem2m::target::Target;
use serde::Deserialize;
use serde_json::Value;

use crate::identifiers;
use crate::record::Attributes;
use crate::resource::access_contexts::{self, AccessContext};
use crate::resource::schema::AttributeError;

/// Attributes with the rules for other resources, and with those for the policy itself.
pub(crate) const PRIVILEGES: &str = "pv";

pub(crate) const SELF_PRIVILEGES: &str = "pvs";

/// Maximum number of rules in a set, of originators in a rule, of groups in a set, of attributes in
/// a rule, and of details in a rule.
const MAX_RULES: usize = 32;

const MAX_ORIGINATORS: usize = 64;

const MAX_GROUPS: usize = 16;

const MAX_ATTRIBUTES: usize = 64;

const MAX_DETAILS: usize = 8;

/// Maximum length of the address of a group, and of the name of an attribute, in bytes.
const MAX_GROUP_ADDRESS: usize = 1024;

const MAX_ATTRIBUTE_NAME: usize = 64;

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
    /// Originators.
    pub(crate) acor: Vec<String>,
    /// Allowed operations.
    pub(crate) acop: u8,
    /// Whether the rule requires an originator that this CSE has authenticated.
    #[serde(default)]
    pub(crate) acaf: bool,
    /// Target resources.
    #[serde(default)]
    pub(crate) acod: Vec<ObjectDetails>,
    /// Contexts: time and IP address, one of which must hold.
    pub(crate) acco: Option<Vec<AccessContext>>,
    /// Attributes to which the rule is limited (accessControlAttributes of release 4).
    pub(crate) aca: Option<Vec<String>>,
}

/// The resources to which a rule applies (m2m:accessControlObjectDetails).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectDetails {
    /// Type of the target.
    pub(crate) ty: Option<u16>,
    /// Types of children that may be created.
    pub(crate) chty: Vec<u16>,
    /// Specialization of the target.
    pub(crate) spty: Option<Value>,
}

impl RuleSet {
    pub(crate) fn read(value: &Value) -> Option<Self> {
        // serde would read a list as the members of an object, in order.
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

/// Returns the originators that a set of rules names.
pub(crate) fn originators(set: &Value) -> Vec<String> {
    let rules = RuleSet::read(set).unwrap_or_default().acr;
    rules.into_iter().flat_map(|rule| rule.acor).collect()
}

/// Returns whether an entry is the address of a group.
pub(crate) fn is_group(entry: &str) -> bool {
    identifiers::check_originator_pattern(entry).is_err()
        && entry.len() <= MAX_GROUP_ADDRESS
        && Target::from_address(entry).is_ok()
}

/// Returns the addresses of groups in a set of rules, in their order.
pub(crate) fn groups(set: &Value) -> Vec<String> {
    originators(set).into_iter().filter(|entry| is_group(entry)).collect()
}

fn is_attribute_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_:.".contains(&b);
    (1..=MAX_ATTRIBUTE_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

/// Checks a given set of rules. The groups in it are resolved separately.
///
/// # Errors
/// Returns an error if it is invalid, or cannot be evaluated.
pub(crate) fn check(name: &'static str, value: &Value) -> Result<(), AttributeError> {
    let wrong = |why: &str| Err(AttributeError::value(name, why));
    let Some(set) = RuleSet::read(value) else {
        return wrong("must be a set of access control rules: acr, each with acor and acop");
    };
    if set.acr.len() > MAX_RULES {
        return wrong("has too many rules");
    }
    for rule in &set.acr {
        if let Some(contexts) = &rule.acco {
            access_contexts::check(name, contexts)?;
        }
        if let Some(attributes) = &rule.aca
            && (!(1..=MAX_ATTRIBUTES).contains(&attributes.len())
                || !attributes.iter().all(|name| is_attribute_name(name)))
        {
            return wrong("must have 1 to 64 short names of attributes in aca");
        }
        if rule.acod.iter().any(|detail| detail.spty.is_some()) {
            return Err(AttributeError::Unsupported("spty"));
        }
        if rule.acor.is_empty() || rule.acor.len() > MAX_ORIGINATORS {
            return wrong("must name 1 to 64 originators in acor");
        }
        if rule.acop > ALL_OPERATIONS {
            return wrong("must have a sum of operations in acop, 0 to 63");
        }
        if rule.acod.len() > MAX_DETAILS || rule.acod.iter().any(|d| d.chty.len() > MAX_RULES) {
            return wrong("has too many entries in acod");
        }
        for entry in rule.acor.iter().filter(|entry| !is_group(entry)) {
            identifiers::check_originator_pattern(entry)
                .or_else(|why| wrong(&format!("in acor {why}")))?;
        }
    }
    let entries = set.acr.iter().flat_map(|rule| &rule.acor);
    if entries.filter(|entry| is_group(entry)).count() > MAX_GROUPS {
        return wrong("must name at most 16 groups in acor");
    }
    Ok(())
}

/// Checks a policy as a whole: at least one rule must allow to change it (TS-0001 clause 9.6.2.0).
///
/// # Errors
/// Returns an error if it has no rule for itself.
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
        let groups = json!({"acr": [{"acor": ["cse/a/grp", "grp-1", "/mn/cse/grp"], "acop": 1}]});
        assert_eq!(check(PRIVILEGES, &groups), Ok(()));
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
            json!({"acr": [{"acor": ["li ght"], "acop": 1}]}),
            json!({"acr": [{"acor": ["light//grp"], "acop": 1}]}),
            json!({"acr": [{"acor": vec!["cse/grp"; MAX_GROUPS + 1], "acop": 1}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "aca": []}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "aca": "lbl"}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "aca": [1]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "aca": [""]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "aca": ["l bl"]}]}),
            json!({"acr": [{"acor": ["all"], "acop": 1, "aca": vec!["lbl"; MAX_ATTRIBUTES + 1]}]}),
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
