//! Roles that requests claim (`rids`, TS-0003 clause 7.4.3).
//!
//! A claimed role has an effect only if policy assigns it to the originator. Other claims do not
//! refuse the request: it is decided as if it had not made them.

use saegis_onem2m::primitive::{ROLE_IDS, RequestPrimitive};
use saegis_policy::Generation;

use super::Handler;
use crate::telemetry::audit::authorization;

impl Handler {
    /// Determines which of the claimed roles are assigned to the originator of a checked request for
    /// this CSE. A CSE behind the gateway trusts its requests, so it receives the assigned roles
    /// only.
    pub(super) fn assign_roles(&self, generation: &Generation, request: &mut RequestPrimitive) {
        // A deferred request was given roles when it was accepted.
        request.roles.clear();
        let is_embedded = self.gateway.backend.embedded().is_some();
        if request.claimed_roles().next().is_some() {
            let association = &self.session.active.association;
            request.roles = generation.assigned_roles(association, request);
            if !is_embedded {
                // Only the CSE that registered the AE knows its App-ID.
                request.roles.retain(|role| role.app_ids.is_none());
            }
            authorization::roles_claimed(association, request);
        }
        if !is_embedded {
            send_assigned_roles_only(request);
        }
    }
}

/// Replaces the claims of a request by its assigned roles. Another CSE may ignore the case of a
/// parameter's name.
fn send_assigned_roles_only(request: &mut RequestPrimitive) {
    request.options.retain(|(name, _)| !name.eq_ignore_ascii_case(ROLE_IDS));
    if !request.roles.is_empty() {
        let ids = request.roles.iter().map(|role| role.id.to_string()).collect();
        request.options.push((ROLE_IDS.into(), ids));
    }
}
