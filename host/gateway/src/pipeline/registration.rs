//! Registrations of AEs: permission, AE-ID assignment and release.

use std::time::SystemTime;

use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, OriginatorId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use saegis_policy::{Generation, Registration};

use super::allowed;
use super::announcement::Announced;
use super::{Handler, Refusal};
use crate::session::ae_id_store::{AeIdReservation, ReservationError, log_failure};
use crate::subscription::source::RulesUnavailable;
use crate::telemetry::audit;
use saegis_onem2m::attribute::attribute;

/// Maximum length of an App-ID that is passed to policy, in bytes.
const MAX_APP_ID: usize = 256;

/// Announcement and AE-ID that a deletion removes.
pub(super) struct Deletes {
    /// AE-ID-Stem that is announced at the IN-CSE.
    announced: Option<AeIdStem>,
    /// Held if the AE-ID of the AE was assigned at its registration.
    pub(super) reservation: Option<AeIdReservation>,
}

/// Location at which an AE is registered.
pub(super) struct RegistrationLocation {
    /// Address of the parent.
    pub(super) to: String,
    /// Requested resource name.
    pub(super) name: Option<String>,
}

impl RegistrationLocation {
    /// Returns the address of the resource, as far as it is known in advance.
    pub(super) fn address(&self) -> Option<String> {
        Some(format!("{}/{}", self.to, self.name.as_ref()?))
    }
}

impl Handler {
    /// Checks with policy that the AE may register.
    pub(super) async fn check_registration(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), Refusal> {
        let api = request.content.as_ref().and_then(|c| attribute(c.bytes(), "api"));
        // The representation is checked after the service subscription (TS-0004 clause 7.2.2.2).
        let app_id = api.clone().unwrap_or_default();
        if app_id.len() > MAX_APP_ID {
            let why = format!("the App-ID (api) is longer than {MAX_APP_ID} bytes");
            return Err((Rsc::BadRequest, why));
        }
        let rules = match self.gateway.rules.rules().await {
            Ok(rules) => rules,
            Err(RulesUnavailable) => {
                let why = "the request could not be checked";
                return Err((Rsc::InternalServerError, why.into()));
            }
        };
        let from = request.from.clone();
        let registration = Registration { from, app_id, rules, announced: None };
        let association = &self.session.active.association;
        let check = Box::pin(generation.check_registration(association, &registration));
        allowed(self.charged(check).await)?;
        match api {
            Some(_) => Ok(()),
            None => Err((Rsc::BadRequest, "the AE has no App-ID (api)".into())),
        }
    }

    /// Reserves the AE-ID that a registration requests, if it requests one.
    pub(super) fn reserve_ae_id(
        &self,
        request: &RequestPrimitive,
        generation: &Generation,
    ) -> Result<AeIdReservation, ReservationError> {
        let credential = &self.session.active.association.credential_id;
        let wanted = match request.from.as_deref().map(OriginatorId::parse) {
            Some(Ok(OriginatorId::Stem(stem))) => AeIdStem::parse(stem).ok(),
            _ => None,
        };
        if wanted.as_ref().is_some_and(|stem| self.is_of_another(stem, generation)) {
            return Err(ReservationError::ByAnother);
        }
        if self.gateway.ae_ids.has_too_many(credential) {
            return Err(ReservationError::TooOften);
        }
        self.gateway.ae_ids.reserve(credential, wanted)
    }

    /// Returns whether the AE-ID is already in use without a registration: it is in a table,
    /// has privileges by the configuration, or is named by the credential of an active association.
    pub(super) fn is_of_another(&self, stem: &AeIdStem, generation: &Generation) -> bool {
        let credential = &self.session.active.association.credential_id;
        generation.reserves(stem)
            || self.gateway.config.cse.is_privileged(stem)
            || self.gateway.associations.stands_for_another(stem, credential)
    }

    pub(super) fn refuse_taken(
        &self,
        request: &RequestPrimitive,
        taken: &ReservationError,
    ) -> ResponsePrimitive {
        match taken {
            ReservationError::ByAnother
            | ReservationError::HasAnother
            | ReservationError::BeingRemoved => {
                self.refuse(request, (self.gateway.config.cse.ae_id_taken_rsc, taken.to_string()))
            }
            ReservationError::TooOften => {
                self.refuse(request, (Rsc::NotAcceptable, taken.to_string()))
            }
            ReservationError::Failed(error) => {
                log_failure(error);
                self.refuse(request, (Rsc::InternalServerError, "cannot store the AE-ID".into()))
            }
        }
    }

    /// Returns the AE-ID of an AE that is already registered and requests an AE-ID again. An AE
    /// that lost its state can continue with it.
    pub(super) fn has_one_already(&self, request: &RequestPrimitive) -> Option<String> {
        let association = &self.session.active.association;
        let wants_one = match request.from.as_deref() {
            None => true,
            Some(from) => matches!(
                OriginatorId::parse(from),
                Ok(OriginatorId::AssignByRegistrar | OriginatorId::AssignByServiceProvider)
            ),
        };
        match (association.credential_entity(), association.entity()) {
            (Entity::NotYetKnown, Entity::Ae(stem)) if wants_one => Some(format!(
                "the association stands for {stem}; to register again, use it as From"
            )),
            _ => None,
        }
    }

    /// Binds the AE-ID that a registrar confirmed: the requested one, or the one in its response.
    ///
    /// # Errors
    /// Fails if it cannot be stored. The registration is then reverted.
    pub(super) async fn learn(
        &self,
        reservation: AeIdReservation,
        location: &RegistrationLocation,
        response: &ResponsePrimitive,
        generation: &Generation,
    ) -> Result<(), ReservationError> {
        let told = |what: &str| response.content.as_ref().and_then(|c| attribute(c, what));
        // The embedded CSE ends the address of an AE with its AE-ID. Other CSEs return it in the
        // content.
        let address = response.content_location.clone();
        let address = address.filter(|_| self.gateway.backend.embedded().is_some());
        let last = |text: String| text.rsplit('/').next().map(ToString::to_string);
        let asked = reservation.asked_for();
        let stem = told("aei").or(address.clone()).and_then(last);
        let stem = stem.and_then(|text| AeIdStem::parse(&text).ok()).or_else(|| asked.clone());
        let Some(stem) = stem else {
            let why = "the response to the registration contains no AE-ID";
            audit::nothing_learnt(&self.session.active.association, why);
            return Ok(());
        };
        // The address of the resource, to detect its deletion.
        let named = told("rn").map(|name| format!("{}/{name}", location.to)).or(location.address());
        let places = named.into_iter().chain(told("ri").or(address).and_then(last)).collect();
        match self.bind(reservation, stem.clone(), places, generation).await {
            Ok(()) => Ok(()),
            Err(taken) => {
                self.not_bound(&taken);
                match self.undo(&stem, asked.as_ref(), location, &taken).await {
                    true => Err(taken),
                    false => Ok(()),
                }
            }
        }
    }

    /// Binds the AE-ID to the credential.
    pub(super) async fn bind(
        &self,
        reservation: AeIdReservation,
        stem: AeIdStem,
        places: Vec<String>,
        generation: &Generation,
    ) -> Result<(), ReservationError> {
        let credential = &self.session.active.association.credential_id;
        if self.is_of_another(&stem, generation) {
            return Err(ReservationError::ByAnother);
        }
        reservation.confirm(stem.clone(), places).await?;
        if self.gateway.associations.stands_for_another(&stem, credential) {
            // The named AE connected while the binding was written, and has precedence.
            self.gateway.ae_ids.free(credential).await?;
            return Err(ReservationError::ByAnother);
        }
        audit::bound(credential, &stem);
        self.gateway.associations.learn(credential, &stem);
        // Loaded after the binding: a later generation sees the binding itself.
        self.session.active.end_if_reserved(&self.gateway.policy.current()).await;
        Ok(())
    }

    pub(super) fn not_bound(&self, taken: &ReservationError) {
        if let ReservationError::Failed(error) = taken {
            log_failure(error);
        }
        audit::nothing_learnt(&self.session.active.association, &taken.to_string());
    }

    /// Returns whether the resource at an address is the AE whose AE-ID was assigned in this
    /// association. Resources of another CSE are identified by the addresses in the response to the
    /// registration.
    pub(super) async fn is_its_own_ae(&self, to: &Target) -> bool {
        let association = &self.session.active.association;
        let (Entity::NotYetKnown, Entity::Ae(own)) =
            (association.credential_entity(), association.entity())
        else {
            return false;
        };
        match self.gateway.backend.embedded() {
            None => self.gateway.ae_ids.is_at(&association.credential_id, &to.to_string()),
            Some(embedded) => {
                let to = to.clone();
                let found = embedded.run(move |cse| cse.ae_at(&to, SystemTime::now())).await;
                matches!(found, Ok(Ok(Some(stem))) if stem == own.as_str())
            }
        }
    }

    /// Returns the effects of a request that may delete the AE of this association. The credential
    /// cannot register at the same time, so that a new AE-ID is not released with the old one.
    pub(super) async fn deletes_itself(
        &self,
        request: &RequestPrimitive,
    ) -> Result<Option<Deletes>, ReservationError> {
        if request.operation != Operation::Delete {
            return Ok(None);
        }
        let announced = self.announced_at(&request.to).await;
        if !self.is_its_own_ae(&request.to).await {
            return Ok(announced.map(|stem| Deletes { announced: Some(stem), reservation: None }));
        }
        let association = &self.session.active.association;
        let own = association.entity().stems().first().cloned();
        let reservation = self.gateway.ae_ids.reserve(&association.credential_id, own)?;
        Ok(Some(Deletes { announced, reservation: Some(reservation) }))
    }

    /// Completes the effects of a deletion.
    pub(super) async fn has_deleted(&self, deletes: Option<Deletes>, generation: &Generation) {
        let Some(Deletes { announced, reservation }) = deletes else { return };
        if let Some(stem) = announced {
            self.withdraw(Some(Announced { stem, is_new: true }));
        }
        if reservation.is_some() {
            self.free_deleted(generation).await;
        }
    }

    /// Releases the credential of the deleted AE, so that it may become another AE. Its other
    /// associations end. This one still gets its response, and may register again.
    async fn free_deleted(&self, generation: &Generation) {
        let active = &self.session.active;
        let credential = &active.association.credential_id;
        let why = "its AE was deleted";
        // Requests in flight were checked under the AE-ID, which may be another AE's once it is free.
        active.end_ae_authority().await;
        let this = Some(active.association.id);
        self.gateway.associations.forget(credential, this, generation, why).await;
        let freed = self.gateway.ae_ids.free(credential).await;
        active.renew_authority();
        match freed {
            Ok(Some(binding)) => audit::binding_freed(credential, &binding.stem, why),
            Ok(None) => {}
            Err(error) => log_failure(&error),
        }
    }
}
