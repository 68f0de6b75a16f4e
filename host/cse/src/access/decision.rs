//! The access decision (TS-0001 clauses 9.6.1.3.2 and 9.6.2, TS-0003 clause 7.1).
//!
//! The policies in a resource's `acpi` control access to it. A resource without policies inherits
//! those of its parent, up to the registered AE or CSE but not beyond: the policies of the
//! `<CSEBase>` do not apply to the resources below it. An instance always inherits from its
//! container, and a policy is controlled by its own `pvs`. If no policy applies, a subtree belongs
//! to its AE or CSE. A resource in it also belongs to its creator (`cr`), or only to its custodian
//! (`cstn`) if it has one. A verified token adds to this ([`crate::access::tokens`]).
//!
//! [`allows`] is the complete rule.

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::access::grants::Access;
pub(crate) use crate::access::requester::{Kind, Originator};
use crate::access::rule::Rule;
use crate::error::Refusal;
use crate::record::Record;
use crate::resource::ae_announcement;
use crate::resource::schema::{CREATOR, CUSTODIAN, POLICIES};
use crate::resource::service_subscription;
use crate::store::{StoreError, Writer};

/// Marks all ancestors of a resource that has its own rule.
///
/// # Errors
/// Returns an error if the store fails.
pub(crate) fn mark_ancestors(writer: &mut Writer<'_>, record: &Record) -> Result<(), StoreError> {
    let creator = record.attributes.get(CREATOR).and_then(Value::as_str);
    let differs = record.ty == ResourceType::AccessControlPolicy
        || [POLICIES, CUSTODIAN].iter().any(|name| record.attributes.contains_key(*name))
        || creator.is_some_and(|creator| record.owner.as_deref() != Some(creator));
    let mut above = record.parent.clone().filter(|_| differs);
    while let Some(ri) = above {
        let mut parent = writer.read().get(&ri)?.ok_or(StoreError::Corrupt(ri))?;
        above = parent.parent.clone().filter(|_| !parent.opens);
        if !parent.opens {
            parent.opens = true;
            writer.put(&parent)?;
        }
    }
    Ok(())
}

/// Returns whether an originator has access to a resource whose rule is `rule`.
pub(crate) fn allows(
    who: &Originator<'_>,
    access: Access,
    on: &Record,
    rule: &Rule,
) -> Result<bool, StoreError> {
    if who.settings.is_operated {
        return Ok(true);
    }
    // Administrators may access all resources without an owner, independently of policies, so they
    // cannot lock themselves out. Only they may change who may register.
    if who.kind == Kind::Administrator && on.owner.is_none() {
        return Ok(true);
    }
    if is_excluded(who, access, on) {
        return Ok(false);
    }
    // Policies decide only who else sees an announcement (TS-0004 clause 7.4.26.2).
    if who.observes(access, on) || who.has_announced(on) {
        return Ok(true);
    }
    Ok(is_permitted_by_rule(who, access, on, rule)?
        || who.is_permitted_by_token(access, on, rule)?)
}

fn is_permitted_by_rule(
    who: &Originator<'_>,
    access: Access,
    on: &Record,
    rule: &Rule,
) -> Result<bool, StoreError> {
    let own = |ri: &str, access| {
        let grants = who.own_grants(ri)?;
        Ok::<_, StoreError>(grants.allow(access, ResourceType::AccessControlPolicy))
    };
    match rule {
        Rule::Own(ri) => own(ri, access),
        // An originator that may change a policy may also change to which resources it applies.
        Rule::Policies(policies) if access == Access::UpdatePrivileges => {
            for (ri, _) in policies.iter() {
                if own(ri, Access::Update)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Rule::Policies(policies) => Ok(policies.iter().any(|(_, p)| p.allow(access, on.ty))),
        Rule::Default { custodian: Some(custodian), .. } => who.is_the(custodian),
        Rule::Default { custodian: None, creator } => {
            let looks = matches!(access, Access::Retrieve | Access::Discover)
                && on.ty == ResourceType::CseBase
                && matches!(who.kind, Kind::Ae | Kind::Administrator | Kind::Cse);
            // A CSE acts for an AE that it announces (TS-0001 clause 10.2.2.2).
            let announced = ae_announcement::ae_of(on);
            let owns = who.is(on.owner.as_deref()) || who.is(announced.as_deref());
            match creator {
                Some(creator) if !looks && !owns => who.is_the(creator),
                _ => Ok(looks || owns),
            }
        }
    }
}

/// Returns whether no policy can give an originator access to a resource.
pub(crate) fn is_excluded(who: &Originator<'_>, access: Access, on: &Record) -> bool {
    // A polling channel belongs only to its AE, independently of policies (TS-0004 clause
    // 7.4.21.2). Other originators cannot discover it either.
    let is_channel = on.ty == ResourceType::PollingChannel && !who.is(on.owner.as_deref());
    who.kind == Kind::Stranger
        || is_change(access, on.ty)
        || is_channel
        || changes_announcement(access, on.ty) && !who.has_announced(on)
}

/// Returns whether an originator has access to a resource, by the resource's rule. See [`allows`].
pub(crate) fn may(who: &Originator<'_>, access: Access, on: &Record) -> Result<bool, StoreError> {
    allows(who, access, on, &who.rule(on)?)
}

/// Requires access to a resource. See [`may`].
pub(crate) fn require(who: &Originator<'_>, access: Access, on: &Record) -> Result<(), Refusal> {
    if may(who, access, on)? { Ok(()) } else { Err(Refusal::NoPrivilege(access.name())) }
}

/// Returns whether an access changes an announcement, or announces something below it.
fn changes_announcement(access: Access, on: ResourceType) -> bool {
    on.is_announcement()
        && match access {
            Access::Create(child) => child.is_announcement(),
            Access::Update | Access::Delete | Access::UpdatePrivileges => true,
            Access::Retrieve | Access::Discover | Access::Notify => false,
        }
}

/// Returns whether an access changes a service subscription.
fn is_change(access: Access, on: ResourceType) -> bool {
    match access {
        Access::Create(child) => service_subscription::is_part(child),
        Access::Update | Access::Delete | Access::UpdatePrivileges => {
            service_subscription::is_part(on)
        }
        Access::Retrieve | Access::Discover | Access::Notify => false,
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
