//! The authorization of requests by a generation, beyond the decisions of its modules.

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::role::AssignedRole;

use crate::generation::generation::Generation;

impl Generation {
    /// Returns the number of roles, or `None` without a file with roles.
    #[must_use]
    pub fn roles(&self) -> Option<usize> {
        self.roles.content.as_ref().map(|roles| roles.count())
    }

    /// Returns the roles that a request claims and that policy assigns to its originator. The caller
    /// has checked the originator.
    #[must_use]
    pub fn assigned_roles(
        &self,
        association: &SecurityAssociation,
        request: &RequestPrimitive,
    ) -> Vec<AssignedRole> {
        match (&self.roles.content, request.from.as_deref()) {
            (Some(roles), Some(from)) => roles.assigned(association, from, request.claimed_roles()),
            _ => Vec::new(),
        }
    }
}
