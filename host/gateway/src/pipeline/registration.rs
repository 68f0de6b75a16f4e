//! Registrations of AEs: who may, which AE-ID they get, and when they lose it.

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

/// Longest App-ID that policy is asked about, in bytes.
const MAX_APP_ID: usize = 256;

/// What a deletion takes along.
pub(super) struct Deletes {
    /// The AE-ID-Stem that is announced at the IN-CSE.
    announced: Option<AeIdStem>,
    /// Held where the AE is the one that the association has learnt to stand for.
    pub(super) aside: Option<AeIdReservation>,
}

/// Where an AE is to be registered.
pub(super) struct Place {
    /// Below what.
    pub(super) to: String,
    /// The resource name that it asks for.
    pub(super) name: Option<String>,
}

impl Place {
    /// The address of its resource, as far as it is known before.
    pub(super) fn address(&self) -> Option<String> {
        Some(format!("{}/{}", self.to, self.name.as_ref()?))
    }
}

impl Handler {
    /// Asks policy whether the AE may register.
    pub(super) async fn check_registration(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), Refusal> {
        let api = request.content.as_ref().and_then(|c| attribute(c.bytes(), "api"));
        // The representation is looked at after the service subscription (TS-0004 clause 7.2.2.2).
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
        allowed(
            generation.check_registration(&self.session.active.association, &registration).await,
        )?;
        match api {
            Some(_) => Ok(()),
            None => Err((Rsc::BadRequest, "the AE has no App-ID (api)".into())),
        }
    }

    /// Sets the AE-ID aside that a registration asks for, if it asks for one.
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

    /// Whether the AE-ID is given away already by what is no registration: it is in a table, an
    /// administrator's, or what the credential of a live association names.
    pub(super) fn is_of_another(&self, stem: &AeIdStem, generation: &Generation) -> bool {
        let credential = &self.session.active.association.credential_id;
        generation.reserves(stem)
            || self.gateway.config.cse.administrators.contains(stem)
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
                self.refuse(
                    request,
                    (Rsc::InternalServerError, "the AE-ID could not be kept".into()),
                )
            }
        }
    }

    /// An AE that is registered already, and asks to be given an AE-ID again, is told which it has:
    /// after it has lost its memory it can go on.
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
                "the association stands for {stem}; to register again, write that as From"
            )),
            _ => None,
        }
    }

    /// Learns the AE-ID that a registrar confirmed: the one asked for, or the one that its answer
    /// names.
    ///
    /// # Errors
    /// When it can't be kept, and the registration was taken back.
    pub(super) async fn learn(
        &self,
        aside: AeIdReservation,
        place: &Place,
        response: &ResponsePrimitive,
        generation: &Generation,
    ) -> Result<(), ReservationError> {
        let told = |what: &str| response.content.as_ref().and_then(|c| attribute(c, what));
        // Our registrar ends the address of an AE in its AE-ID; others tell it in the content.
        let address = response.content_location.clone();
        let address = address.filter(|_| self.gateway.backend.embedded().is_some());
        let last = |text: String| text.rsplit('/').next().map(ToString::to_string);
        let asked = aside.asked_for();
        let stem = told("aei").or(address.clone()).and_then(last);
        let stem = stem.and_then(|text| AeIdStem::parse(&text).ok()).or_else(|| asked.clone());
        let Some(stem) = stem else {
            let why = "the answer to the registration names no AE-ID";
            audit::nothing_learnt(&self.session.active.association, why);
            return Ok(());
        };
        // Where the AE's resource is, to know when it is deleted.
        let named = told("rn").map(|name| format!("{}/{name}", place.to)).or(place.address());
        let places = named.into_iter().chain(told("ri").or(address).and_then(last)).collect();
        match self.bind(aside, stem.clone(), places, generation).await {
            Ok(()) => Ok(()),
            Err(taken) => {
                self.not_bound(&taken);
                match self.undo(&stem, asked.as_ref(), place, &taken).await {
                    true => Err(taken),
                    false => Ok(()),
                }
            }
        }
    }

    /// The AE-ID is the credential's from now on.
    pub(super) async fn bind(
        &self,
        aside: AeIdReservation,
        stem: AeIdStem,
        places: Vec<String>,
        generation: &Generation,
    ) -> Result<(), ReservationError> {
        let credential = &self.session.active.association.credential_id;
        if self.is_of_another(&stem, generation) {
            return Err(ReservationError::ByAnother);
        }
        aside.confirm(stem.clone(), places).await?;
        if self.gateway.associations.stands_for_another(&stem, credential) {
            // It has come while the binding was written, and goes before it.
            self.gateway.ae_ids.free(credential).await?;
            return Err(ReservationError::ByAnother);
        }
        audit::bound(credential, &stem);
        self.gateway.associations.learn(credential, &stem);
        // Read after learning: a later generation sees what was learnt by itself.
        self.session.active.end_if_reserved(&self.gateway.policy.current()).await;
        Ok(())
    }

    pub(super) fn not_bound(&self, taken: &ReservationError) {
        if let ReservationError::Failed(error) = taken {
            log_failure(error);
        }
        audit::nothing_learnt(&self.session.active.association, &taken.to_string());
    }

    /// Whether the resource at an address is the AE that this association has learnt to stand for.
    /// Another CSE's resources are known by the addresses that it told at the registration.
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

    /// What a request is that may delete the AE of this association. While it is carried out, the
    /// credential can't register: a new AE-ID must not go with the old one.
    pub(super) async fn deletes_itself(
        &self,
        request: &RequestPrimitive,
    ) -> Result<Option<Deletes>, ReservationError> {
        if request.operation != Operation::Delete {
            return Ok(None);
        }
        let announced = self.announced_at(&request.to).await;
        if !self.is_its_own_ae(&request.to).await {
            return Ok(announced.map(|stem| Deletes { announced: Some(stem), aside: None }));
        }
        let association = &self.session.active.association;
        let own = association.entity().stems().first().cloned();
        let aside = self.gateway.ae_ids.reserve(&association.credential_id, own)?;
        Ok(Some(Deletes { announced, aside: Some(aside) }))
    }

    /// A request has deleted what it was to.
    pub(super) async fn has_deleted(&self, deletes: Option<Deletes>, generation: &Generation) {
        let Some(Deletes { announced, aside }) = deletes else { return };
        if let Some(stem) = announced {
            self.withdraw(Some(Announced { stem, is_new: true }));
        }
        if aside.is_some() {
            self.free_deleted(generation).await;
        }
    }

    /// The AE of this association is no more, and so its credential is free to be another one. The
    /// credential's other associations end; this one has to be answered, and may register again.
    async fn free_deleted(&self, generation: &Generation) {
        let credential = &self.session.active.association.credential_id;
        match self.gateway.ae_ids.free(credential).await {
            Ok(Some(binding)) => {
                let why = "its AE was deleted";
                audit::binding_freed(credential, &binding.stem, why);
                let this = Some(self.session.active.association.id);
                self.gateway.associations.forget(credential, this, generation, why).await;
            }
            Ok(None) => {}
            Err(error) => log_failure(&error),
        }
    }
}
