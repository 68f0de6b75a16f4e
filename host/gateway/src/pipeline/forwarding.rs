//! Forwarded requests: from a CSE on behalf of others, and to a CSE other than this one.

use std::sync::Arc;
use std::time::SystemTime;

use saegis_cse::{EmbeddedCse, StoreError};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, CseId, OriginatorId};
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::{Scope, Target};
use saegis_onem2m::timestamp::check_times;
use saegis_policy::Generation;

use super::{Handler, Refusal};
use crate::peer_cse::PeerCse;
use saegis_onem2m::cse::CseKind;
use saegis_onem2m::routing::{cse_of, to_sp_relative_originator};

/// Result of the check of a forwarded originator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ForwardedOriginator {
    Good,
    /// The From belongs to a CSE that is itself registered here.
    Registree,
    /// The From is an S-type AE-ID of an AE that is not at that CSE.
    Another,
}

impl Handler {
    /// Checks the originator of a request that a CSE forwards. A CSE may forward for those behind
    /// it, and a registrar for many. Neither may use the identity of a CSE that is registered here
    /// itself (rule 4 of TS-0004 clause 7.3.2.1). Neither may use an S-type AE-ID, which names no
    /// CSE, if its AE is known to be elsewhere. The check is made for each request, because
    /// registrations change, even if policy allows the originator for longer.
    pub(super) async fn check_forwarded_originator(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), Refusal> {
        let Entity::Cse(peer) = self.session.active.association.entity() else { return Ok(()) };
        let id = match request.from.as_deref().map(OriginatorId::parse) {
            Some(Ok(OriginatorId::SpRelative(id) | OriginatorId::SpRelativeAe { cse: id, .. })) => {
                id
            }
            Some(Ok(OriginatorId::Absolute { first, .. })) => first,
            _ => return Ok(()),
        };
        if id == peer.bare() {
            return Ok(());
        }
        let stem = AeIdStem::parse(id).ok().filter(|stem| stem.as_str().starts_with('S'));
        let (peer, id) = (peer.clone(), CseId::parse(id).ok());
        let known_here = stem.as_ref().is_some_and(|stem| {
            generation.reserves(stem) || self.gateway.ae_ids.holder(stem).is_some()
        });
        let says = match self.gateway.backend.embedded() {
            _ if known_here => ForwardedOriginator::Another,
            None => ForwardedOriginator::Good,
            Some(embedded) => {
                let assigns = self.gateway.config.cse.kind == CseKind::In;
                let look =
                    move |cse: &EmbeddedCse| look(cse, &peer, id.as_ref(), stem.as_ref(), assigns);
                match embedded.run(look).await {
                    Ok(Ok(says)) => says,
                    Ok(Err(_)) | Err(_) => {
                        let why = "the request could not be checked";
                        return Err((Rsc::InternalServerError, why.into()));
                    }
                }
            }
        };
        let why = match says {
            ForwardedOriginator::Good => return Ok(()),
            ForwardedOriginator::Registree => {
                "From (X-M2M-Origin) belongs to a CSE that is itself registered here"
            }
            ForwardedOriginator::Another => {
                "From (X-M2M-Origin) belongs to an AE that is not at that CSE"
            }
        };
        Err((Rsc::OriginatorNotAuthenticated, why.into()))
    }

    /// Forwards a request to another CSE, if there is a route to it.
    pub(super) async fn forward(&self, mut request: RequestPrimitive) -> ResponsePrimitive {
        let cse = &self.gateway.config.cse.identity();
        if request.creates(ResourceType::Ae) {
            let why = "an AE must register at its registrar CSE";
            return self.refuse_check(&request, (Rsc::OperationNotAllowed, why.into())).await;
        }
        if let Err(fault) = check_times(&request.parameters, SystemTime::now()) {
            return self.refuse_check(&request, (fault.rsc(), fault.to_string())).await;
        }
        if self.came_from().is_none() && !self.is_registered(&request).await {
            let why = "the AE must register before it sends requests to other CSEs";
            return self
                .refuse_check(&request, (Rsc::OriginatorNotAuthenticated, why.into()))
                .await;
        }
        let Some((at, remote)) = self.route(&request.to) else {
            let why = "there is no route to that CSE";
            return self.refuse_check(&request, (Rsc::TargetNotReachable, why.into())).await;
        };
        request.to.scope = Scope::SpRelative(at);
        request.from = request.from.map(|from| to_sp_relative_originator(cse, &from));
        let Some(_under_way) = self.gateway.cses.enter(&request) else {
            let why = "the same request is already being forwarded: routing loop";
            return self.refuse_check(&request, (Rsc::TargetNotReachable, why.into())).await;
        };
        let Some(_share) = remote.acquire_permit(&self.session.active.association.credential_id)
        else {
            let why = "too many concurrent requests of this credential to that CSE";
            return self.refuse_check(&request, (Rsc::TargetNotReachable, why.into())).await;
        };
        let current = self.gateway.policy.current();
        if let Err((rsc, why)) = self.revalidate(&current, false).await {
            return self.refuse_check(&request, (rsc, why)).await;
        }
        let timeout = self.timeout();
        remote.handle(request, timeout).await
    }

    /// Returns the CSE that forwarded the request.
    pub(super) fn came_from(&self) -> Option<&CseId> {
        match self.session.active.association.entity() {
            Entity::Cse(id) => Some(id),
            Entity::Ae(_) | Entity::Aes(_) | Entity::NotYetKnown | Entity::MafClient(_) => None,
        }
    }

    /// Returns the CSE of a target at another CSE, and the next CSE on the way to it.
    pub(super) fn route(&self, to: &Target) -> Option<(CseId, &Arc<PeerCse>)> {
        let at = cse_of(&self.gateway.config.cse.identity(), to)?.clone();
        let next = self.gateway.cses.route_to(&at, self.came_from())?;
        Some((at, next))
    }

    /// Returns the location of a target whose address has an S-type AE-ID in place of a CSE-ID,
    /// which names no CSE. The AE is registered or announced here.
    pub(super) async fn located(&self, to: &Target) -> Option<Target> {
        let Scope::SpRelative(id) = &to.scope else { return None };
        if !id.bare().starts_with('S') {
            return None;
        }
        let to = to.clone();
        let locate = move |cse: &EmbeddedCse| cse.locate(&to, SystemTime::now());
        Box::pin(self.gateway.backend.embedded()?.run(locate)).await.ok()?.ok()?
    }

    /// Returns whether the originating AE is registered: other CSEs rely on it. An upstream CSE
    /// does not provide this information.
    async fn is_registered(&self, request: &RequestPrimitive) -> bool {
        let Some(embedded) = self.gateway.backend.embedded() else { return true };
        let Some(from) = request.from.clone() else { return false };
        let at = Target { scope: Scope::CseRelative, resource: from.clone() };
        let found = embedded.run(move |cse| cse.ae_at(&at, SystemTime::now())).await;
        matches!(found, Ok(Ok(Some(stem))) if stem == from)
    }
}

fn look(
    cse: &EmbeddedCse,
    peer: &CseId,
    id: Option<&CseId>,
    stem: Option<&AeIdStem>,
    assigns: bool,
) -> Result<ForwardedOriginator, StoreError> {
    let now = SystemTime::now();
    if let Some(id) = id
        && cse.is_registree_cse(id, now)?
    {
        return Ok(ForwardedOriginator::Registree);
    }
    let Some(stem) = stem else { return Ok(ForwardedOriginator::Good) };
    // The CSE that assigns them knows all locations.
    if assigns {
        let there = cse.announced_at(stem, now)?;
        return Ok(if there.as_ref() == Some(peer) {
            ForwardedOriginator::Good
        } else {
            ForwardedOriginator::Another
        });
    }
    let at = Target { scope: Scope::CseRelative, resource: stem.to_string() };
    let here = cse.ae_at(&at, now)?.as_deref() == Some(stem.as_str());
    Ok(if here { ForwardedOriginator::Another } else { ForwardedOriginator::Good })
}
