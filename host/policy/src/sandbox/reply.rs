//! Responses of modules, checked against the contract.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::credential::{Credential, Entity};
use saegis_onem2m::id::{AbsoluteId, AeIdStem, CredentialId, CseId};

use crate::data::decision::ModuleFault;
use crate::data::text::printable;
use crate::host::bindings::exports::saegis::policy::credential_lookup;
use crate::host::bindings::saegis::policy::types;
use crate::host::call::Call;

pub(super) fn invalid_response(what: impl fmt::Display) -> ModuleFault {
    ModuleFault::InvalidResponse(printable(&what.to_string()))
}

pub(super) fn credential(
    call: &mut Call,
    found: credential_lookup::Credential,
) -> Result<Credential, ModuleFault> {
    let entity = entity(found.entity)?;
    let id = CredentialId::parse(&found.credential_id)
        .map_err(|e| invalid_response(format!("the Credential-ID {e}")))?;
    let expires = expiry(found.expires)?;
    let source =
        call.take_key(&found.key).ok_or_else(|| invalid_response("the key handle is invalid"))?;
    let saef = source.saef();
    let key = source.into_key().ok_or_else(|| invalid_response("the key handle is invalid"))?;
    Ok(Credential { saef, entity, id, expires, key })
}

/// Maximum number of AE-IDs that one association may stand for.
const MAX_AES: usize = 64;

pub(super) fn entity(entity: types::Entity) -> Result<Entity, ModuleFault> {
    let stem = |stem: String| {
        AeIdStem::parse(&stem).map_err(|e| invalid_response(format!("the AE-ID-Stem {e}")))
    };
    Ok(match entity {
        types::Entity::NotYetKnown => Entity::NotYetKnown,
        types::Entity::Ae(one) => Entity::Ae(stem(one)?),
        types::Entity::Aes(all) => {
            if all.is_empty() || all.len() > MAX_AES {
                return Err(invalid_response(format!(
                    "a list of AE-IDs has 1 to {MAX_AES} entries"
                )));
            }
            Entity::Aes(all.into_iter().map(stem).collect::<Result<_, _>>()?)
        }
        types::Entity::Cse(id) => {
            let id = CseId::parse(&id).map_err(|e| invalid_response(format!("the CSE-ID {e}")))?;
            if id.could_be_an_ae_id() {
                return Err(invalid_response("the CSE-ID could be an S-type AE-ID"));
            }
            Entity::Cse(id)
        }
        types::Entity::MafClient(id) => Entity::MafClient(
            AbsoluteId::parse(&id)
                .map_err(|e| invalid_response(format!("the MAF client's identifier {e}")))?,
        ),
    })
}

pub(super) fn expiry(at: Option<u64>) -> Result<Option<SystemTime>, ModuleFault> {
    let Some(at) = at else { return Ok(None) };
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at));
    at.map(Some).ok_or_else(|| invalid_response("the expiry is not a valid time"))
}

pub(super) fn checked(verdict: types::Verdict) -> Result<types::Verdict, ModuleFault> {
    match verdict {
        types::Verdict::Deny(types::Denial { rsc, reason }) => {
            if !(4000..=5999).contains(&rsc) {
                return Err(invalid_response(format!(
                    "{rsc} is not a Response Status Code of a refusal"
                )));
            }
            let reason = printable(&reason);
            Ok(types::Verdict::Deny(types::Denial { rsc, reason }))
        }
        allow @ types::Verdict::Allow(_) => Ok(allow),
    }
}
