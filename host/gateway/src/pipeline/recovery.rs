//! Recovery of incomplete registrations and deletions of AEs. An AE and its binding survive or
//! vanish together, even if the process ends between the commits of the CSE and of the gateway.

use std::time::{SystemTime, UNIX_EPOCH};

use saegis_onem2m::id::{AeIdStem, OriginatorId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp;
use saegis_policy::Generation;
use serde_json::Value;

use super::Handler;
use super::registration::{Deletes, RegistrationLocation};
use crate::backend::as_ae;
use crate::session::ae_id_store::{
    AeIdReservation, BindingError, Intent, ReservationError, log_failure,
};
use saegis_onem2m::attribute::attribute;

/// Maximum difference between the clocks of the upstream CSE and of the gateway, in seconds.
const MAX_CLOCK_SKEW: u64 = 2;

impl Handler {
    /// Records an intended request to the CSE if nothing else would show it after a crash: a deletion
    /// of the AE of this association, or a registration at a CSE that does not store its credential.
    pub(super) async fn record_intent(
        &self,
        request: &RequestPrimitive,
        registering: Option<&AeIdReservation>,
        location: &RegistrationLocation,
        deletes: Option<&Deletes>,
    ) -> Result<(), BindingError> {
        if let Some(reservation) = deletes.and_then(|deletes| deletes.reservation.as_ref()) {
            return reservation.intend(Intent::Delete).await;
        }
        let Some(reservation) = registering.filter(|_| self.gateway.backend.embedded().is_none())
        else {
            return Ok(());
        };
        let Some(Ok(OriginatorId::Stem(stem))) = request.from.as_deref().map(OriginatorId::parse)
        else {
            return Ok(());
        };
        // The time of the first attempt distinguishes its AE from others.
        let is_known =
            matches!(reservation.earlier(), Some(Intent::Register { stem: s, .. }) if s == stem);
        let bound =
            self.gateway.ae_ids.of(&self.session.active.association.credential_id).is_some();
        if is_known || bound {
            return Ok(());
        }
        let api = request.content.as_ref().and_then(|c| attribute(c.bytes(), "api"));
        reservation
            .intend(Intent::Register {
                stem: stem.into(),
                app_id: api.unwrap_or_default(),
                place: location.address().unwrap_or_else(|| stem.into()),
                at: seconds(SystemTime::now()),
            })
            .await
    }

    /// Handles a request that the CSE has not carried out: according to its response or, without a
    /// response, as far as is known.
    pub(super) async fn has_not(
        &self,
        (rsc, is_answered): (Rsc, bool),
        registering: Option<AeIdReservation>,
        deletes: Option<Deletes>,
        generation: &Generation,
    ) {
        if let Some(reservation) = registering {
            let is_there = matches!(rsc, Rsc::OriginatorHasAlreadyRegistered | Rsc::Conflict);
            match reservation.earlier().cloned() {
                Some(Intent::Register { stem, app_id, place: location, at })
                    if is_there && self.is_registered_by(&stem, &app_id, &location, at).await =>
                {
                    self.complete(reservation, &stem, location, generation).await;
                }
                // After any refusal: an AE that exists later belongs to another credential.
                _ if is_answered => settle(&reservation).await,
                _ => {}
            }
        }
        if let Some(reservation) = deletes.as_ref().and_then(|deletes| deletes.reservation.as_ref())
        {
            // A CSE that fails may have deleted the AE anyway, which releases the AE-ID.
            let is_known = is_answered
                && !matches!(
                    rsc,
                    Rsc::RequestTimeout | Rsc::TargetNotReachable | Rsc::InternalServerError
                );
            if rsc == Rsc::NotFound && reservation.earlier() == Some(&Intent::Delete) {
                self.has_deleted(deletes, generation).await;
            } else if is_known {
                settle(reservation).await;
            }
        }
    }

    /// Completes a registration whose AE exists, after the process ended before the binding was
    /// stored.
    async fn complete(
        &self,
        reservation: AeIdReservation,
        stem: &str,
        location: String,
        generation: &Generation,
    ) {
        let Ok(stem) = AeIdStem::parse(stem) else { return };
        let places = vec![location, stem.to_string()];
        if let Err(taken) = self.bind(reservation, stem, places, generation).await {
            self.not_bound(&taken);
        }
    }

    /// Returns whether the AE at the upstream CSE was registered by an earlier request of this
    /// credential. It was then created at the time of that request, with the same App-ID. An older
    /// AE belongs to another credential.
    async fn is_registered_by(&self, stem: &str, app_id: &str, location: &str, at: u64) -> bool {
        if self.gateway.backend.embedded().is_some() {
            return false;
        }
        let Ok(stem) = AeIdStem::parse(stem) else { return false };
        let timeout = self.timeout();
        let request = as_ae(Operation::Retrieve, location, &stem);
        let Some(request) = request else { return false };
        let response = self.gateway.backend.handle(request, self.asker(), timeout).await.response;
        let Some(content) = response.content.filter(|_| response.rsc == Rsc::Ok) else {
            return false;
        };
        let content: Value = serde_json::from_slice(&content).unwrap_or_default();
        let text = |name: &str| content.get("m2m:ae")?.get(name)?.as_str();
        let is_it = text("aei").is_some_and(|id| id.rsplit('/').next() == Some(stem.as_str()));
        let created = text("ct").and_then(|ct| timestamp::parse(ct).ok()).map(seconds);
        let first = at.saturating_sub(MAX_CLOCK_SKEW);
        let last = at.saturating_add(timeout.as_secs()).saturating_add(MAX_CLOCK_SKEW);
        is_it
            && text("api") == Some(app_id)
            && created.is_some_and(|ct| (first..=last).contains(&ct))
    }

    /// Reverts a registration whose binding cannot be stored. Returns whether this gateway may do
    /// so: an upstream CSE may have confirmed an AE of another credential.
    pub(super) async fn undo(
        &self,
        stem: &AeIdStem,
        asked: Option<&AeIdStem>,
        location: &RegistrationLocation,
        taken: &ReservationError,
    ) -> bool {
        if let Some(embedded) = self.gateway.backend.embedded() {
            let (stem, own) =
                (stem.clone(), self.session.active.association.credential_id.to_string());
            // A failure is completed or reverted at the next start.
            let _ = embedded.run(move |cse| cse.remove_ae(&stem, Some(&own))).await;
            return true;
        }
        if !matches!(taken, ReservationError::Failed(_)) || asked != Some(stem) {
            return false;
        }
        let at = location.address().unwrap_or_else(|| stem.to_string());
        if let Some(request) = as_ae(Operation::Delete, &at, stem) {
            let timeout = self.timeout();
            self.gateway.backend.handle(request, self.asker(), timeout).await;
        }
        true
    }
}

async fn settle(reservation: &AeIdReservation) {
    if let Err(error) = reservation.settle().await {
        log_failure(&error);
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
