//! The attributes of a resource to which an originator has access, for rules that are limited to
//! attributes (`aca`).

use std::collections::BTreeSet;

use crate::access::decision::{Originator, allows, is_excluded};
use crate::access::grants::Access;
use crate::access::rule::Rule;
use crate::error::Refusal;
use crate::record::Record;

/// The attributes of a resource to which an originator has access.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AllowedAttributes {
    /// All attributes.
    All,
    /// Only those that rules name (`aca`).
    Only(BTreeSet<String>),
}

impl AllowedAttributes {
    /// Returns whether an attribute is among them.
    pub(crate) fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }

    /// Requires access to these attributes.
    pub(crate) fn require<'n>(
        &self,
        access: Access,
        names: impl IntoIterator<Item = &'n String>,
    ) -> Result<(), Refusal> {
        match names.into_iter().all(|name| self.contain(name)) {
            true => Ok(()),
            false => Err(Refusal::NoPrivilege(access.name())),
        }
    }
}

/// Requires access to a resource, or to some of its attributes. The caller checks the attributes.
///
/// # Errors
/// Returns an error if the originator has access to none.
pub(crate) fn require_attributes(
    who: &Originator<'_>,
    access: Access,
    on: &Record,
) -> Result<AllowedAttributes, Refusal> {
    let rule = who.rule(on)?;
    if allows(who, access, on, &rule)? {
        return Ok(AllowedAttributes::All);
    }
    let mut names = BTreeSet::new();
    match rule {
        _ if is_excluded(who, access, on) || access == Access::UpdatePrivileges => {}
        Rule::Own(ri) => who.own_grants(&ri)?.add_attributes(access, on.ty, &mut names),
        Rule::Policies(policies) => {
            policies.iter().for_each(|(_, p)| p.add_attributes(access, on.ty, &mut names));
        }
        Rule::Default { .. } => {}
    }
    if names.is_empty() {
        return Err(Refusal::NoPrivilege(access.name()));
    }
    Ok(AllowedAttributes::Only(names))
}
