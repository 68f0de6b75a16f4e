//! The privileges that the rules of an `<accessControlPolicy>` grant to an originator (TS-0001
//! clause 9.6.2, TS-0003 clause 7.1).

use std::collections::BTreeSet;

use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::role::RoleId;
use serde_json::Value;

use crate::access::originator::Identity;
use crate::resource::access_contexts::{AccessContext, RequestContext};
use crate::resource::access_rules::{ObjectDetails, Rule, RuleSet, is_group};
use crate::store::StoreError;

/// An operation on a resource that requires a privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Create a child of this type.
    Create(ResourceType),
    /// Retrieve the resource.
    Retrieve,
    /// Update the resource.
    Update,
    /// Delete the resource.
    Delete,
    /// Notify the resource.
    Notify,
    /// Discover the resource.
    Discover,
    /// Change the privileges of the resource.
    UpdatePrivileges,
}

impl Access {
    /// Returns the name of the operation.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Retrieve => "retrieve",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Notify => "notify",
            Self::Discover => "discover",
            Self::UpdatePrivileges => "change privileges",
        }
    }
}

/// Returns the bit of an operation.
fn bit(access: Access) -> u8 {
    match access {
        Access::Create(_) => 1,
        Access::Retrieve => 2,
        // A change of privileges is an update.
        Access::Update | Access::UpdatePrivileges => 4,
        Access::Delete => 8,
        Access::Notify => 16,
        Access::Discover => 32,
    }
}

/// The names of an originator in the rules of a policy.
pub(crate) struct Named<'a> {
    /// Identifiers.
    pub(crate) identity: &'a Identity,
    /// Registrant that the policy stores for its AE-ID.
    pub(crate) registrant: Option<&'a str>,
    /// Roles that it holds.
    pub(crate) roles: &'a [RoleId],
}

/// The privileges that a set of rules grants to one originator.
#[derive(Debug)]
pub(crate) struct Grants(Vec<Grant>);

#[derive(Debug)]
struct Grant {
    operations: u8,
    details: Vec<ObjectDetails>,
    /// Attributes to which it is limited.
    attributes: Option<Vec<String>>,
}

impl Grant {
    fn applies(&self, access: Access, on: ResourceType) -> bool {
        let named = |detail: &ObjectDetails| applies(detail, access, on);
        self.operations & bit(access) != 0
            && (self.details.is_empty() || self.details.iter().any(named))
    }
}

impl Grants {
    /// Returns the privileges that the rules in attribute `set` of a policy grant to `who` in the
    /// context of `request`. `in_group` returns whether the originator is a member of a group.
    /// Unreadable rules grant nothing.
    pub(crate) fn to(
        who: &Named<'_>,
        is_authenticated: bool,
        request: &RequestContext,
        set: Option<&Value>,
        in_group: &dyn Fn(&str) -> Result<bool, StoreError>,
    ) -> Result<Self, StoreError> {
        let set = set.and_then(RuleSet::read).unwrap_or_default();
        let holds = |rule: &Rule| {
            let in_context =
                |contexts: &Vec<AccessContext>| contexts.iter().any(|c| c.holds(request));
            (is_authenticated || !rule.acaf) && rule.acco.as_ref().is_none_or(in_context)
        };
        let mut grants = Vec::new();
        for rule in set.acr.into_iter().filter(holds) {
            if is_named(&rule, who, in_group)? {
                let Rule { acop: operations, acod: details, aca: attributes, .. } = rule;
                grants.push(Grant { operations, details, attributes });
            }
        }
        Ok(Self(grants))
    }

    /// Returns whether a rule grants access to all of a resource of this type.
    pub(crate) fn allow(&self, access: Access, on: ResourceType) -> bool {
        self.0.iter().any(|grant| grant.attributes.is_none() && grant.applies(access, on))
    }

    /// Adds the attributes of a resource of this type to which limited rules grant access.
    pub(crate) fn add_attributes(
        &self,
        access: Access,
        on: ResourceType,
        to: &mut BTreeSet<String>,
    ) {
        let limited = self.0.iter().filter(|grant| grant.applies(access, on));
        to.extend(limited.filter_map(|grant| grant.attributes.as_ref()).flatten().cloned());
    }
}

/// Returns whether a rule names an originator, directly, by a role, or as a member of a group. The
/// groups come last, because each costs a lookup.
fn is_named(
    rule: &Rule,
    who: &Named<'_>,
    in_group: &dyn Fn(&str) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let (groups, originators): (Vec<_>, Vec<_>) =
        rule.acor.iter().partition(|entry| is_group(entry));
    let names = |entry: &String| {
        who.identity.is_named_by(entry, who.registrant)
            || who.roles.iter().any(|role| role.as_str() == entry)
    };
    if originators.into_iter().any(names) {
        return Ok(true);
    }
    for group in groups {
        if in_group(group)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a detail of a rule applies. The types of children matter only for a create.
fn applies(detail: &ObjectDetails, access: Access, on: ResourceType) -> bool {
    let on_this = detail.spty.is_none() && detail.ty.is_none_or(|ty| ty == on.number());
    on_this
        && match access {
            Access::Create(child) => detail.chty.contains(&child.number()),
            Access::Retrieve
            | Access::Update
            | Access::UpdatePrivileges
            | Access::Delete
            | Access::Notify
            | Access::Discover => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::access_rules::{PRIVILEGES, check};
    use crate::resource::schema::AttributeError;
    use crate::testing::{NOW, settings};
    use ResourceType::{Ae, Container, ContentInstance};
    use saegis_onem2m::rsc::Rsc;
    use serde_json::json;
    use std::net::{IpAddr, Ipv4Addr};

    /// 2026-11-24, 09:30:00.
    const TUESDAY: RequestContext =
        RequestContext { at: NOW, source: Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))) };

    fn grants(rules: Value, is_authenticated: bool) -> Grants {
        let who = Identity::of_ae(&settings(), "Clight-AE1", Some("12-one".into()));
        let set = json!({ "acr": rules });
        check(PRIVILEGES, &set).unwrap();
        evaluate(&who, is_authenticated, Some(&set))
    }

    fn evaluate(who: &Identity, is_authenticated: bool, set: Option<&Value>) -> Grants {
        let in_group = |group: &str| Ok(group == "cse/members");
        let roles = [RoleId::parse("guest@in.provider.com").unwrap()];
        let who = Named { identity: who, registrant: Some("12-one"), roles: &roles };
        Grants::to(&who, is_authenticated, &TUESDAY, set, &in_group).unwrap()
    }

    const EACH: [Access; 7] = [
        Access::Create(Container),
        Access::Retrieve,
        Access::Update,
        Access::Delete,
        Access::Notify,
        Access::Discover,
        Access::UpdatePrivileges,
    ];

    #[test]
    fn operation_has_its_own_bit() {
        for (at, access) in EACH.into_iter().take(6).enumerate() {
            let grants = grants(json!([{"acor": ["Clight-AE1"], "acop": 1 << at}]), true);
            for other in EACH {
                let both = [access, other].map(bit);
                assert_eq!(
                    grants.allow(other, Container),
                    both[0] == both[1],
                    "{access:?} {other:?}"
                );
            }
        }
        assert!(!grants(json!([{"acor": ["all"], "acop": 0}]), true).allow(EACH[1], Container));
    }

    #[test]
    fn access_needs_one_matching_rule() {
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
    fn rule_with_attributes_grants_only_these() {
        let grants = grants(
            json!([
                {"acor": ["all"], "acop": 6, "aca": ["lbl", "rn"]},
                {"acor": ["all"], "acop": 2, "aca": ["ct"]},
                {"acor": ["Cother"], "acop": 63, "aca": ["con"]},
                {"acor": ["all"], "acop": 32},
            ]),
            true,
        );
        let of = |access| {
            let mut attributes = BTreeSet::new();
            grants.add_attributes(access, Container, &mut attributes);
            attributes.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of(Access::Retrieve), ["ct", "lbl", "rn"]);
        assert_eq!(of(Access::Update), ["lbl", "rn"]);
        assert!(of(Access::Delete).is_empty() && of(Access::Discover).is_empty());
        for access in [Access::Retrieve, Access::Update, Access::Delete] {
            assert!(!grants.allow(access, Container), "{access:?}");
        }
        assert!(grants.allow(Access::Discover, Container));
    }

    #[test]
    fn rule_names_members_of_groups() {
        for (acor, expected) in [
            (json!(["cse/members"]), true),
            (json!(["cse/others"]), false),
            (json!(["Cother", "cse/others", "cse/members"]), true),
            (json!(["Cother", "cse/others"]), false),
        ] {
            let grants = grants(json!([{"acor": acor, "acop": 2}]), true);
            assert_eq!(grants.allow(Access::Retrieve, Container), expected, "{acor}");
        }
    }

    #[test]
    fn rule_names_roles() {
        for (acor, expected) in [
            (json!(["guest@in.provider.com"]), true),
            (json!(["Cother", "guest@in.provider.com"]), true),
            (json!(["owner@in.provider.com"]), false),
            (json!(["guest@provider.com"]), false),
            (json!(["in.provider.com.org"]), false),
        ] {
            let grants = grants(json!([{"acor": acor, "acop": 2}]), true);
            assert_eq!(grants.allow(Access::Retrieve, Container), expected, "{acor}");
            assert!(!grants.allow(Access::Update, Container), "{acor}");
        }
    }

    #[test]
    fn rule_may_require_authentication() {
        let rule = json!([{"acor": ["all"], "acop": 63, "acaf": true}]);
        assert!(grants(rule.clone(), true).allow(Access::Retrieve, Container));
        assert!(!grants(rule, false).allow(Access::Retrieve, Container));
    }

    #[test]
    fn unsupported_rule_is_refused_and_grants_nothing() {
        for (rule, what) in [
            (json!({"acor": ["all"], "acop": 63, "acco": [{"aclr": {"accc": ["DE"]}}]}), "aclr"),
            (
                json!({"acor": ["all"], "acop": 63, "acco": [
                    {"actw": ["* * * * * * *"], "aclr": {"accr": [1.0, 2.0, 3.0]}}]}),
                "aclr",
            ),
            (json!({"acor": ["all"], "acop": 63, "acod": [{"chty": [], "spty": "x"}]}), "spty"),
        ] {
            let set = json!({ "acr": [rule] });
            let error = check(PRIVILEGES, &set).unwrap_err();
            assert_eq!(
                (error.rsc(), &error),
                (Rsc::NotImplemented, &AttributeError::Unsupported(what))
            );
            let who = Identity::of_ae(&settings(), "Clight-AE1", Some("12-one".into()));
            let grants = evaluate(&who, true, Some(&set));
            for access in EACH {
                assert!(!grants.allow(access, Container), "{set} {access:?}");
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
            let grants = evaluate(&who, true, damaged.as_ref());
            assert!(!grants.allow(Access::Retrieve, Container));
        }
    }

    #[test]
    fn rule_needs_one_matching_context() {
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
        // All parts of a rule must match, and one rule does not complete another.
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
}
