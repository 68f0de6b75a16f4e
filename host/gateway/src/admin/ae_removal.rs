//! Removes an AE with its resources and its AE-ID.

use std::time::Duration;

use saegis_onem2m::id::AeIdStem;
use saegis_onem2m::primitive::Operation;
use saegis_onem2m::rsc::Rsc;

use super::protocol::Deleted;
use crate::backend::{Backend, as_ae};
use crate::state::Gateway;
use crate::telemetry::audit;

/// Deletes the AE with that AE-ID-Stem at the CSE, releases its AE-ID if a registration assigned
/// it, and ends the associations of the credential.
///
/// # Errors
/// Returns the reason if a step fails.
pub async fn delete_ae(gateway: &Gateway, ae_id: &str) -> Result<Deleted, String> {
    let Ok(stem) = AeIdStem::parse(ae_id) else {
        return Err(format!("{ae_id} is not an AE-ID-Stem such as Clight-AE1"));
    };
    let why = "the gateway's owner removed its AE";
    let timeout = Duration::from_secs(gateway.config.limits.upstream_seconds);
    // Held until the end, so that the credential cannot register again between the steps.
    let Some(_removal) = gateway.ae_ids.begin_removal(&stem, 2 * timeout).await else {
        return Err(format!("{stem} is being registered or deleted; try again"));
    };
    let holder = gateway.ae_ids.bound_to(&stem);
    let deleted = match &gateway.backend {
        Backend::Embedded(embedded) => {
            let stem = stem.clone();
            match embedded.run(move |cse| cse.remove_ae(&stem, None)).await {
                Ok(Ok(deleted)) => deleted,
                Ok(Err(error)) => return Err(error.to_string()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Backend::Remote(remote) => {
            let places = holder.as_ref().map(|holder| gateway.ae_ids.places(holder));
            let place = places.unwrap_or_default().into_iter().next();
            let place = place.unwrap_or_else(|| stem.to_string());
            let Some(request) = as_ae(Operation::Delete, &place, &stem) else {
                return Err(format!("{place} is not the address of a resource"));
            };
            let response = remote.handle(request, timeout).await;
            match response.rsc {
                Rsc::Deleted => true,
                Rsc::NotFound => false,
                rsc => {
                    let code = rsc.code();
                    let what = format!("the upstream CSE did not delete {place}: {code}");
                    return Err(what);
                }
            }
        }
        Backend::Maf(_) | Backend::Mef(_) => return Err("a MAF or MEF has no AEs".into()),
    };
    if deleted {
        audit::ae_removed(&stem);
    }
    // If the registrar chose the AE-ID, it may have been bound in the meantime.
    let holder = gateway.ae_ids.bound_to(&stem);
    let Some(holder) = holder else { return Ok(Deleted { deleted, credential_id: None }) };
    let generation = gateway.policy.current();
    let bindings = &gateway.ae_ids;
    match gateway.associations.try_free(bindings, &holder, &generation, why).await {
        Ok(_) => Ok(Deleted { deleted, credential_id: Some(holder.to_string()) }),
        Err(error) => Err(error.to_string()),
    }
}
