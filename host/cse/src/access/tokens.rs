//! The privileges that verified tokens give to an originator (TS-0003 clause 7.3.2.5).
//!
//! They are added to those of policies. A token holds for the resources that it lists, and for the
//! instances of a listed container. Other children are not included, so that a new child is not open to
//! a token that was issued before. A token ends, so it gives its holder nothing that lasts: it neither
//! changes privileges, nor creates anything but instances. Any other resource could name policies of
//! the holder, or belong to it as its creator.

use std::rc::Rc;

use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::role::RoleId;
use saegis_onem2m::token::{TokenPermission, VerifiedToken};

use crate::access::grants::Access;
use crate::record::{Record, Seconds};
use crate::resource::links;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// The resource-IDs that a permission lists.
pub(crate) struct ListedResources(Vec<String>);

impl ListedResources {
    /// Returns whether the permission is for a resource.
    pub(crate) fn include(&self, on: &Record) -> bool {
        let is_listed = |ri: &str| self.0.iter().any(|listed| listed == ri);
        is_listed(&on.ri) || on.ty.is_instance() && on.parent.as_deref().is_some_and(is_listed)
    }
}

/// Returns the permissions of tokens.
pub(crate) fn permissions(tokens: &[VerifiedToken]) -> impl Iterator<Item = &TokenPermission> {
    tokens.iter().flat_map(|token| token.permissions.iter())
}

/// Returns the roles of tokens that hold for all resources.
pub(crate) fn general_roles(tokens: &[VerifiedToken]) -> impl Iterator<Item = RoleId> {
    let general = permissions(tokens).filter(|permission| permission.resources.is_none());
    general.flat_map(|permission| permission.roles.iter().cloned())
}

/// Returns the resources that exist of those that each permission of the tokens lists.
pub(crate) fn listed(
    read: &dyn Read,
    settings: &Settings,
    tokens: &[VerifiedToken],
    now: Seconds,
) -> Result<Rc<[ListedResources]>, StoreError> {
    let mut all = Vec::new();
    for permission in permissions(tokens) {
        let mut resources = Vec::new();
        for address in permission.resources.iter().flatten() {
            let found = links::resolve(read, settings, address, now)?;
            resources.extend(found.map(|record| record.ri));
        }
        all.push(ListedResources(resources));
    }
    Ok(all.into())
}

/// Returns whether a token can give an access.
pub(crate) fn can_give(access: Access, on: &Record) -> bool {
    // They belong to one originator, independently of policies.
    if matches!(on.ty, ResourceType::Request | ResourceType::PollingChannel) {
        return false;
    }
    match access {
        Access::UpdatePrivileges => false,
        Access::Create(child) => child.is_instance(),
        // Other resources have attributes that redirect notifications, such as the `poa` of an AE.
        Access::Update => matches!(
            on.ty,
            ResourceType::Container | ResourceType::FlexContainer | ResourceType::TimeSeries
        ),
        Access::Delete => on.ty != ResourceType::AccessControlPolicy,
        Access::Retrieve | Access::Notify | Access::Discover => true,
    }
}
