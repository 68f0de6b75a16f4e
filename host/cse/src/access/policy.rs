//! Access control rules: what an `<accessControlPolicy>` grants (TS-0001 clause 9.6.2, TS-0003
//! clause 7.1).
//!
//! A rule may hold in some contexts only (`circumstances`). One that says something which can't be
//! evaluated here grants nothing; so that nobody relies on it, it is refused when it is given, with
//! NOT_IMPLEMENTED.

use saegis_onem2m::resource::ResourceType;
use serde::Deserialize;
use serde_json::Value;

use crate::access::context::{self, Circumstances, Context};
use crate::access::decision::Access;
use crate::access::originator::{self, Identity};
use crate::record::Attributes;
use crate::resource::attributes::AttributeError;

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
struct Set {
    #[serde(default)]
    acr: Vec<Rule>,
}

/// A rule (m2m:accessControlRule).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Who.
    acor: Vec<String>,
    /// May do what.
    acop: u8,
    /// Whether only an originator that is authenticated by this very CSE.
    #[serde(default)]
    acaf: bool,
    /// On what.
    #[serde(default)]
    acod: Vec<Detail>,
    /// In which contexts: time and IP address. One is enough.
    acco: Option<Vec<Context>>,
    /// On which attributes.
    aca: Option<Value>,
}

/// On what a rule grants something (m2m:accessControlObjectDetails).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail {
    /// The type of the target.
    ty: Option<u16>,
    /// The types of children that may be created.
    chty: Vec<u16>,
    /// The specialization of the target.
    spty: Option<Value>,
}

impl Set {
    fn read(value: &Value) -> Option<Self> {
        // A list would be taken for the members of an object, in their order.
        let objects = |value: Option<&Value>| {
            let list = value.and_then(Value::as_array);
            list.is_none_or(|list| list.iter().all(Value::is_object))
        };
        let rules = value.as_object()?.get("acr");
        let mut each = rules.and_then(Value::as_array).into_iter().flatten();
        if !objects(rules)
            || !each.all(|rule| objects(rule.get("acod")) && context::are_objects(rule.get("acco")))
        {
            return None;
        }
        Self::deserialize(value).ok()
    }
}

/// The bit of an operation.
fn bit(access: Access) -> u8 {
    match access {
        Access::Create(_) => 1,
        Access::Retrieve => 2,
        // To say who may do what is to update that.
        Access::Update | Access::Govern => 4,
        Access::Delete => 8,
        Access::Notify => 16,
        Access::Discover => 32,
    }
}

/// What a set of rules grants to one originator.
#[derive(Debug)]
pub(crate) struct Grants(Vec<Grant>);

#[derive(Debug)]
struct Grant {
    operations: u8,
    details: Vec<Detail>,
}

impl Grants {
    /// What the rules in that attribute of a policy grant to `who`, as things are. What can't be
    /// read grants nothing.
    pub(crate) fn to(
        (who, registrant): (&Identity, Option<&str>),
        is_authenticated: bool,
        circumstances: &Circumstances,
        set: Option<&Value>,
    ) -> Self {
        let set = set.and_then(Set::read).unwrap_or_default();
        let holds = |rule: &Rule| {
            let fits = |contexts: &Vec<Context>| contexts.iter().any(|c| c.holds(circumstances));
            rule.aca.is_none()
                && (is_authenticated || !rule.acaf)
                && rule.acor.iter().any(|entry| who.is_named_by(entry, registrant))
                && rule.acco.as_ref().is_none_or(fits)
        };
        let rules = set.acr.into_iter().filter(holds);
        Self(rules.map(|r| Grant { operations: r.acop, details: r.acod }).collect())
    }

    /// Whether one of them allows it on a resource of that type.
    pub(crate) fn allow(&self, access: Access, on: ResourceType) -> bool {
        self.0.iter().any(|grant| {
            let named = |detail: &Detail| detail.fits(access, on);
            grant.operations & bit(access) != 0
                && (grant.details.is_empty() || grant.details.iter().any(named))
        })
    }
}

impl Detail {
    /// The types of children count for a create alone.
    fn fits(&self, access: Access, on: ResourceType) -> bool {
        let on_this = self.spty.is_none() && self.ty.is_none_or(|ty| ty == on.number());
        on_this
            && match access {
                Access::Create(child) => self.chty.contains(&child.number()),
                Access::Retrieve
                | Access::Update
                | Access::Govern
                | Access::Delete
                | Access::Notify
                | Access::Discover => true,
            }
    }
}

/// The originators that a set of rules names.
pub(crate) fn originators(set: &Value) -> Vec<String> {
    let rules = Set::read(set).unwrap_or_default().acr;
    rules.into_iter().flat_map(|rule| rule.acor).collect()
}

/// Checks a set of rules that is given.
///
/// # Errors
/// What is wrong with it, or can't be evaluated here.
pub(crate) fn check(name: &'static str, value: &Value) -> Result<(), AttributeError> {
    let wrong = |why: &str| Err(AttributeError::value(name, why));
    let Some(set) = Set::read(value) else {
        return wrong("must be a set of access control rules: acr, each with acor and acop");
    };
    if set.acr.len() > MAX_RULES {
        return wrong("has more rules than are taken");
    }
    for rule in &set.acr {
        if let Some(contexts) = &rule.acco {
            context::check(name, contexts)?;
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
            originator::check(entry).or_else(|why| wrong(&format!("in acor {why}")))?;
        }
    }
    Ok(())
}

/// Checks a policy as a whole: somebody must be left to change it (TS-0001 clause 9.6.2.0).
///
/// # Errors
/// When it has no rule for itself.
pub(crate) fn check_whole(attributes: &Attributes) -> Result<(), AttributeError> {
    let own = attributes.get(SELF_PRIVILEGES).and_then(Set::read);
    match own {
        Some(own) if !own.acr.is_empty() => Ok(()),
        _ => Err(AttributeError::value(SELF_PRIVILEGES, "must have a rule")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, settings};
    use ResourceType::{Ae, Container, ContentInstance};
    use saegis_onem2m::rsc::Rsc;
    use serde_json::json;
    use std::net::{IpAddr, Ipv4Addr};

    /// 2026-11-24, 09:30:00.
    const TUESDAY: Circumstances =
        Circumstances { at: NOW, source: Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))) };

    fn grants(rules: Value, is_authenticated: bool) -> Grants {
        let who = Identity::of_ae(&settings(), "Clight-AE1", Some("12-one".into()));
        let set = json!({ "acr": rules });
        check(PRIVILEGES, &set).unwrap();
        Grants::to((&who, Some("12-one")), is_authenticated, &TUESDAY, Some(&set))
    }

    const EACH: [Access; 7] = [
        Access::Create(Container),
        Access::Retrieve,
        Access::Update,
        Access::Delete,
        Access::Notify,
        Access::Discover,
        Access::Govern,
    ];

    #[test]
    fn each_operation_has_its_bit() {
        for (at, access) in EACH.into_iter().take(6).enumerate() {
            let grants = grants(json!([{"acor": ["Clight-AE1"], "acop": 1 << at}]), true);
            for other in EACH {
                let both = [access, other].map(bit);
                assert_eq!(grants.allow(other, Container), both[0] == both[1], "{access} {other}");
            }
        }
        assert!(!grants(json!([{"acor": ["all"], "acop": 0}]), true).allow(EACH[1], Container));
    }

    #[test]
    fn one_rule_is_enough() {
        let grants = grants(
            json!([{"acor": ["Cother"], "acop": 63}, {"acor": ["Cother", "Clight*"], "acop": 2}]),
            true,
        );
        assert!(grants.allow(Access::Retrieve, Container));
        assert!(!grants.allow(Access::Update, Container));
    }

    #[test]
    fn details_say_on_what() {
        let rule = json!([{"acor": ["all"], "acop": 63, "acod": [{"ty": 3, "chty": [4]}]}]);
        let grants = grants(rule, true);
        assert!(grants.allow(Access::Create(ContentInstance), Container));
        assert!(!grants.allow(Access::Create(Container), Container));
        assert!(!grants.allow(Access::Create(ContentInstance), Ae));
        assert!(grants.allow(Access::Retrieve, Container));
        assert!(!grants.allow(Access::Retrieve, Ae));
    }

    #[test]
    fn some_rules_hold_for_the_authenticated_only() {
        let rule = json!([{"acor": ["all"], "acop": 63, "acaf": true}]);
        assert!(grants(rule.clone(), true).allow(Access::Retrieve, Container));
        assert!(!grants(rule, false).allow(Access::Retrieve, Container));
    }

    #[test]
    fn what_can_not_be_evaluated_is_refused_and_grants_nothing() {
        for (rule, what) in [
            (json!({"acor": ["all"], "acop": 63, "acco": [{"aclr": {"accc": ["DE"]}}]}), "aclr"),
            (
                json!({"acor": ["all"], "acop": 63, "acco": [
                    {"actw": ["* * * * * * *"], "aclr": {"accr": [1.0, 2.0, 3.0]}}]}),
                "aclr",
            ),
            (json!({"acor": ["all"], "acop": 63, "aca": ["lbl"]}), "aca"),
            (json!({"acor": ["all"], "acop": 63, "acod": [{"chty": [], "spty": "x"}]}), "spty"),
        ] {
            let set = json!({ "acr": [rule] });
            let error = check(PRIVILEGES, &set).unwrap_err();
            assert_eq!(
                (error.rsc(), &error),
                (Rsc::NotImplemented, &AttributeError::Unsupported(what))
            );
            let who = Identity::of_ae(&settings(), "Clight-AE1", Some("12-one".into()));
            let grants = Grants::to((&who, Some("12-one")), true, &TUESDAY, Some(&set));
            for access in EACH {
                assert!(!grants.allow(access, Container), "{set} {access}");
            }
        }
        let with =
            |acco: Value| Some(json!({"acr": [{"acor": ["all"], "acop": 63, "acco": acco}]}));
        for damaged in [
            None,
            Some(json!(null)),
            Some(json!([1])),
            Some(json!({"acr": [{"acor": []}]})),
            with(json!([])),
            with(json!([{}])),
            with(json!({})),
            with(json!("* * * * * * *")),
            with(json!([[["* * * * * * *"]]])),
            with(json!([{"acip": [["10.0.0.0/8"]]}])),
            with(json!([{"actw": "* * * * * * *"}])),
            with(json!([{"actw": ["* * * * * * *"], "acui": ["x"]}])),
        ] {
            let who = Identity::of_ae(&settings(), "Clight-AE1", Some("12-one".into()));
            let grants = Grants::to((&who, Some("12-one")), true, &TUESDAY, damaged.as_ref());
            assert!(!grants.allow(Access::Retrieve, Container));
        }
    }

    #[test]
    fn a_rule_holds_in_one_of_its_contexts() {
        let (open, shut) = (json!({"actw": ["* * 9 * * * *"]}), json!({"actw": ["* * 8 * * * *"]}));
        let (near, far) =
            (json!({"acip": {"ipv4": ["10.0.0.0/8"]}}), json!({"acip": {"ipv4": ["11.0.0.0/8"]}}));
        for (contexts, expected) in [
            (json!([open]), true),
            (json!([near]), true),
            (json!([shut]), false),
            (json!([far]), false),
            (json!([shut, near]), true),
            (json!([open, far]), true),
            (json!([shut, far]), false),
            (json!([far, shut, open]), true),
        ] {
            let rule = json!([{"acor": ["Clight*"], "acop": 2, "acco": contexts}]);
            let grants = grants(rule, true);
            assert_eq!(grants.allow(Access::Retrieve, Container), expected, "{contexts}");
            assert!(!grants.allow(Access::Update, Container), "{contexts}");
        }
        // Everything else in the rule has to be so too, and another rule is another rule.
        for (rules, expected) in [
            (json!([{"acor": ["Cother"], "acop": 63, "acco": [open]}]), false),
            (json!([{"acor": ["all"], "acop": 63, "acaf": true, "acco": [open]}]), false),
            (
                json!([{"acor": ["all"], "acop": 63, "acco": [shut]},
                    {"acor": ["all"], "acop": 2}]),
                true,
            ),
        ] {
            let grants = grants(rules.clone(), false);
            assert_eq!(grants.allow(Access::Retrieve, Container), expected, "{rules}");
        }
    }

    #[test]
    fn what_is_no_set_of_rules_is_refused() {
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
