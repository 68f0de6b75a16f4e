//! S-type AE-IDs, which the service provider assigns (TS-0001 clause 10.2.2.2): the requests of a
//! registrar CSE to the IN-CSE, and the checks of the IN-CSE.

use std::time::SystemTime;

use saegis_cse::{Announcement, EmbeddedCse};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, OriginatorId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use saegis_policy::{Generation, Registration};
use serde_json::{Value, json};

use super::allowed;
use super::{Handler, Refusal};
use crate::subscription::source::RulesUnavailable;
use saegis_onem2m::attribute::attribute;
use saegis_onem2m::cse::CseKind;

/// An AE that is announced at the IN-CSE.
pub(super) struct Announced {
    /// AE-ID-Stem that the service provider has assigned or confirmed.
    pub stem: AeIdStem,
    /// Whether this request announced it, so that a failed registration withdraws it.
    pub is_new: bool,
}

impl Handler {
    /// Returns whether a request may announce an AE here.
    pub(super) fn may_announce(&self, request: &RequestPrimitive) -> bool {
        let updates = request.operation == Operation::Update;
        (updates || request.creates(ResourceType::AeAnnc))
            && self.gateway.backend.embedded().is_some()
    }

    /// At an IN-CSE: checks with policy that an AE may register at the CSE that announces it.
    pub(super) async fn check_announcement(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), Refusal> {
        let failed = || (Rsc::InternalServerError, "the request could not be checked".to_string());
        let updates = request.operation == Operation::Update;
        let Some(embedded) = self.gateway.backend.embedded() else { return Ok(()) };
        let is_cse = matches!(self.session.active.association.entity(), Entity::Cse(_));
        let announcement = match Announcement::of(request) {
            // Only a CSE announces AEs, so other requests skip the lookup.
            None if updates && is_cse => {
                let request = request.clone();
                let look = move |cse: &EmbeddedCse| cse.announced_anew(&request, SystemTime::now());
                let found = embedded.run(look).await;
                found.map_err(|_| failed())?.map_err(|_| failed())?
            }
            other => other,
        };
        // Anything else is left to the registrar, or is an update of another resource.
        let Some(announcement) = announcement else { return Ok(()) };
        let rules = self.gateway.rules.rules_of(&announcement.cse, generation).await;
        let credential = announcement.credential_id.map(|id| id.to_string());
        let registration = Registration {
            from: Some(announcement.stem.map_or_else(|| "S".into(), |stem| stem.to_string())),
            app_id: announcement.app_id.to_string(),
            rules: rules.map_err(|RulesUnavailable| failed())?,
            announced: Some(credential.unwrap_or_default()),
        };
        let association = &self.session.active.association;
        let check = Box::pin(generation.check_registration(association, &registration));
        allowed(self.charged(check).await)
    }

    /// At another CSE: requests the IN-CSE to assign or confirm the S-type AE-ID of an AE that
    /// registers. Returns `None` if the request is not such a registration, or there is no IN-CSE.
    pub(super) async fn announce(
        &self,
        request: &RequestPrimitive,
    ) -> Result<Option<Announced>, (Rsc, String)> {
        let cse = &self.gateway.config.cse;
        let registers = request.creates(ResourceType::Ae) && cse.kind == CseKind::Mn;
        let Some(remote) = self.gateway.cses.registrar().filter(|_| registers) else {
            return Ok(None);
        };
        let wanted = match request.from.as_deref().map(OriginatorId::parse) {
            Some(Ok(OriginatorId::AssignByServiceProvider)) => None,
            Some(Ok(OriginatorId::Stem(stem))) if stem.starts_with('S') => {
                AeIdStem::parse(stem).ok()
            }
            _ => return Ok(None),
        };
        let api = request.content.as_ref().and_then(|c| attribute(c.bytes(), "api"));
        let label = format!("Credential-ID:{}", self.session.active.association.credential_id);
        let kind = ResourceType::AeAnnc;
        let announce = |operation, resource: String, attributes: Value| {
            let content = Some((kind, json!({ kind.root(): attributes })));
            let mut asked = remote.own_request(operation, resource, content)?;
            let stem = wanted.as_ref().map_or("S", AeIdStem::as_str);
            asked.from = Some(format!("{}/{stem}", cse.cse_id));
            Ok(asked)
        };
        let timeout = self.timeout();
        let create = announce(Operation::Create, "-".into(), json!({ "api": api, "lbl": [label] }));
        let mut response = remote.handle(create.map_err(unreachable)?, timeout).await;
        let mut is_new = true;
        if response.rsc == Rsc::OriginatorHasAlreadyRegistered
            && let Some(stem) = &wanted
        {
            // It may belong to this AE from an earlier registration: the IN-CSE knows its owner.
            let update = announce(Operation::Update, at_in_cse(stem), json!({ "lbl": [label] }));
            response = remote.handle(update.map_err(unreachable)?, timeout).await;
            is_new = false;
        }
        if !response.rsc.is_success() {
            let why =
                format!("the IN-CSE did not confirm the AE-ID: {}", response.reason_or_none());
            return Err((response.rsc, why));
        }
        let content = response.content.as_deref().unwrap_or_default();
        let content: Value = serde_json::from_slice(content).unwrap_or_default();
        let told = content.get(kind.root()).and_then(|a| a.get("aei")).and_then(Value::as_str);
        let stem = told.and_then(|aei| AeIdStem::parse(aei.trim_start_matches('/')).ok());
        let is_wanted = |stem: &AeIdStem| wanted.as_ref().is_none_or(|wanted| wanted == stem);
        match stem.or(wanted.clone()) {
            Some(stem) if stem.as_str().starts_with('S') && is_wanted(&stem) => {
                Ok(Some(Announced { stem, is_new }))
            }
            _ => {
                // A resource that was created despite the failure is deleted.
                if let Some(place) = &response.content_location
                    && let Ok(place) = Target::from_address(place)
                {
                    self.tell_in_cse(Operation::Delete, place.resource, None);
                }
                let why = "the IN-CSE assigned no AE-ID of the service provider";
                Err((Rsc::InternalServerError, why.into()))
            }
        }
    }

    /// Withdraws an announcement after a failed registration or a deletion, in the background.
    pub(super) fn withdraw(&self, announced: Option<Announced>) {
        let Some(Announced { stem, is_new: true }) = announced else { return };
        self.tell_in_cse(Operation::Delete, at_in_cse(&stem), None);
    }

    /// Extends an announcement at the IN-CSE for as long as the AE is registered here. The IN-CSE
    /// may assign the AE-ID of an expired announcement to another AE.
    pub(super) fn announce_until(&self, stem: &AeIdStem, response: &ResponsePrimitive) {
        if let Some(et) = response.content.as_ref().and_then(|c| attribute(c, "et")) {
            let kind = ResourceType::AeAnnc;
            let content = Some((kind, json!({ kind.root(): { "et": et } })));
            self.tell_in_cse(Operation::Update, at_in_cse(stem), content);
        }
    }

    fn tell_in_cse(
        &self,
        operation: Operation,
        place: String,
        content: Option<(ResourceType, Value)>,
    ) {
        let Some(remote) = self.gateway.cses.registrar().cloned() else { return };
        let Ok(turn) = remote.background.clone().try_acquire_owned() else {
            return tracing::warn!(
                event = "peer.update-dropped",
                place,
                "dropped update of {place}: too many pending requests to the IN-CSE"
            );
        };
        let timeout = self.timeout();
        tokio::spawn(async move {
            let _turn = turn;
            let request = remote.own_request(operation, place.clone(), content);
            let Ok(request) = request else { return };
            let response = remote.handle(request, timeout).await;
            if !response.rsc.is_success() && response.rsc != Rsc::NotFound {
                tracing::warn!(
                    event = "peer.update-dropped",
                    place,
                    rsc = response.rsc.code(),
                    "the IN-CSE rejected the {} of the announcement {place}",
                    operation.name()
                );
            }
        });
    }

    /// Returns the S-type AE-ID-Stem of the AE at an address, if it is announced at an IN-CSE.
    pub(super) async fn announced_at(&self, to: &Target) -> Option<AeIdStem> {
        let embedded = self.gateway.backend.embedded()?;
        let stems = self.session.active.association.entity().stems();
        let s_type = |stem: &AeIdStem| stem.as_str().starts_with('S');
        if self.gateway.cses.registrar().is_none() || !stems.iter().any(s_type) {
            return None;
        }
        let to = to.clone();
        let look = move |cse: &EmbeddedCse| cse.ae_at(&to, SystemTime::now());
        let found = Box::pin(embedded.run(look)).await.ok()?.ok()??;
        AeIdStem::parse(&found).ok().filter(s_type)
    }
}

/// Returns the address of the announcement of an AE-ID-Stem. This IN-CSE uses it as the
/// resource-ID.
fn at_in_cse(stem: &AeIdStem) -> String {
    format!("aeA-{stem}")
}

fn unreachable(error: crate::peer_cse::NoAnswer) -> (Rsc, String) {
    (Rsc::TargetNotReachable, format!("cannot reach the IN-CSE: {error}"))
}
