//! Requests for this CSE.

use std::sync::Arc;
use std::time::{Duration, Instant};

use saegis_onem2m::attribute::attribute;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::AeIdStem;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_policy::Generation;

use super::announcement::Announced;
use super::registration::{Deletes, RegistrationLocation};
use super::{Handler, NO_MEMORY, Refusal};
use crate::backend::Outcome;
use crate::notification::relay_address;
use crate::session::ae_id_store::{AeIdReservation, ReservationError};
use crate::session::response_memory::{Reserved, may_be_large};

/// Effects that a request for this CSE has outside the CSE.
#[derive(Default)]
struct Effects {
    /// The AE-ID that a registration may bind to the credential.
    reservation: Option<AeIdReservation>,
    /// The AE that this request has announced at the IN-CSE.
    announced: Option<Announced>,
    /// Announcements and AE-IDs that a deletion removes.
    deletes: Option<Deletes>,
}

/// Reason why a request is not passed to the CSE.
enum NotForwarded {
    Refused(Refusal),
    AeId(ReservationError),
}

impl From<Refusal> for NotForwarded {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ReservationError> for NotForwarded {
    fn from(error: ReservationError) -> Self {
        Self::AeId(error)
    }
}

impl Handler {
    /// Handles a request at this CSE. `memory` receives the reservation for a large response.
    pub(super) async fn handle_local(
        &self,
        generation: &Arc<Generation>,
        mut request: RequestPrimitive,
        memory: &mut Option<Reserved>,
    ) -> ResponsePrimitive {
        let has_effects =
            request.creates(ResourceType::Ae) || request.operation == Operation::Delete;
        let effects = match has_effects {
            true => Box::pin(self.prepare(generation, &mut request)).await,
            false => Ok(Effects::default()),
        };
        let effects = match effects {
            Ok(effects) => effects,
            Err(why) => return self.refuse_to_pass(&request, why),
        };
        let location = location_of(&request, &effects);
        match self.admit(&request).await {
            Ok(reserved) => *memory = reserved,
            Err(why) => {
                self.withdraw(effects.announced);
                return self.refuse(&request, why);
            }
        }
        let renews = match request.operation {
            Operation::Update => self.announced_at(&request.to).await,
            _ => None,
        };
        if let Some(relay) = self.gateway.relay_address.get() {
            let credential = &self.session.active.association.credential_id;
            relay_address::rewrite_points_of_access(&mut request, credential, relay);
        }
        let (reservation, deletes) = (effects.reservation.as_ref(), effects.deletes.as_ref());
        let recorded = match reservation.is_some() || deletes.is_some() {
            true => Box::pin(self.record_intent(&request, reservation, &location, deletes)).await,
            false => Ok(()),
        };
        if let Err(error) = recorded {
            self.withdraw(effects.announced);
            return self.refuse_taken(&request, &error.into());
        }
        let asked = effects.reservation.as_ref().map(|_| request.clone());
        let passed_on = Instant::now();
        let outcome = self.gateway.backend.handle(request, self.asker(), self.timeout()).await;
        self.gateway.metrics.upstream(passed_on.elapsed());
        if !has_effects && renews.is_none() {
            return outcome.response;
        }
        Box::pin(self.conclude(generation, effects, renews, &location, asked, outcome)).await
    }

    /// Returns the timeout of the backend.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.gateway.config.limits.upstream_seconds)
    }

    /// Performs the steps outside the CSE that precede a request: reserves and announces an AE-ID,
    /// and finds the AE that a deletion removes.
    async fn prepare(
        &self,
        generation: &Generation,
        request: &mut RequestPrimitive,
    ) -> Result<Effects, NotForwarded> {
        let mut effects = Effects::default();
        // An AE whose credential names no AE-ID permanently gets the one that the registrar CSE
        // confirms. A requested AE-ID is reserved before the registrar CSE receives the request.
        let learns = request.creates(ResourceType::Ae)
            && self.session.active.association.credential_entity() == &Entity::NotYetKnown;
        if learns {
            effects.reservation = Some(self.reserve_ae_id(request, generation)?);
        }
        effects.announced = self.announce(request).await?;
        if let Some(announced) = &effects.announced {
            // The IN-CSE assigns names of the whole service provider, which must not belong to
            // another AE here.
            if learns && self.is_of_another(&announced.stem, generation) {
                return Err(ReservationError::ByAnother.into());
            }
            request.from = Some(announced.stem.to_string());
        }
        effects.deletes = self.deletes_itself(request).await?;
        Ok(effects)
    }

    /// Reserves memory for the response, and checks that the association is still valid, because
    /// the steps before took time.
    async fn admit(&self, request: &RequestPrimitive) -> Result<Option<Reserved>, Refusal> {
        let reserved = self.reserve_memory(request).await?;
        let current = self.gateway.policy.current();
        self.revalidate(&current, request.creates(ResourceType::Ae)).await?;
        Ok(reserved)
    }

    /// Reserves memory for a response of the embedded CSE, if it may be large.
    async fn reserve_memory(
        &self,
        request: &RequestPrimitive,
    ) -> Result<Option<Reserved>, Refusal> {
        if self.gateway.backend.embedded().is_none() || !may_be_large(request) {
            return Ok(None);
        }
        match Box::pin(self.session.response_memory.reserve(self.timeout())).await {
            Some(reserved) => Ok(Some(reserved)),
            None => Err((Rsc::RequestTimeout, NO_MEMORY.into())),
        }
    }

    /// Completes or reverts the effects of a request, according to the response of the CSE.
    async fn conclude(
        &self,
        generation: &Generation,
        effects: Effects,
        renews: Option<AeIdStem>,
        location: &RegistrationLocation,
        asked: Option<RequestPrimitive>,
        outcome: Outcome,
    ) -> ResponsePrimitive {
        let Outcome { response, is_answered } = outcome;
        let Effects { reservation, announced, deletes } = effects;
        match response.rsc {
            Rsc::Created => {
                if let (Some(reservation), Some(asked)) = (reservation, asked)
                    && let Err(taken) =
                        self.learn(reservation, location, &response, generation).await
                {
                    self.withdraw(announced);
                    return self.refuse_taken(&asked, &taken);
                }
                if let Some(announced) = announced {
                    self.announce_until(&announced.stem, &response);
                }
            }
            Rsc::Updated => {
                if let Some(stem) = renews {
                    self.announce_until(&stem, &response);
                }
            }
            Rsc::Deleted => self.has_deleted(deletes, generation).await,
            rsc => {
                self.has_not((rsc, is_answered), reservation, deletes, generation).await;
                // Another AE has registered with the name in the meantime, and owns the
                // announcement.
                if !matches!(rsc, Rsc::OriginatorHasAlreadyRegistered | Rsc::Conflict) {
                    self.withdraw(announced);
                }
            }
        }
        response
    }

    fn refuse_to_pass(&self, request: &RequestPrimitive, why: NotForwarded) -> ResponsePrimitive {
        match why {
            NotForwarded::Refused(refusal) => self.refuse(request, refusal),
            NotForwarded::AeId(error) => self.refuse_taken(request, &error),
        }
    }
}

/// Returns the location at which a registration creates its AE.
fn location_of(request: &RequestPrimitive, effects: &Effects) -> RegistrationLocation {
    if effects.reservation.is_none() {
        return RegistrationLocation { to: String::new(), name: None };
    }
    let name = request.content.as_ref().and_then(|content| attribute(content.bytes(), "rn"));
    RegistrationLocation { to: request.to.to_string(), name }
}
