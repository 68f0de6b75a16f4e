//! Example of a module that supplies key bytes: stores no key per device, but derives the Kpsa of
//! each device from one enrolment key Ke (TS-0003 clause 10.3.7).
//!
//! `policies/enrolment-keys.csv` has a row `ke_id,ke` for each Ke. At a gateway, a psk_identity is
//! the AE-ID-Stem of the device, a dot, and the KeID. For example, the key of
//! `Clamp-7.fleet1@in.provider.com` is derived from the Ke of `fleet1@in.provider.com`, with
//! `Clamp-7` as the identifier of the other enrolee. The association stands for the AE `Clamp-7`.
//!
//! At a MAF, each client has its own Ke, and its psk_identity is the KeID. The row also has
//! `maf_fqdn`, the MAF-FQDN, and `client_id`, the absolute AE-ID or CSE-ID of the client. The key
//! is the Km of the two, and the association stands for that client.
//!
//! It needs three capabilities: `policy-tables` to find the row, `read-stored-keys` to read its Ke,
//! and `supply-key-bytes` to supply the derived key.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package saegis:psk-derived;
            world psk-derived {
                import saegis:policy/policy-tables@0.1.0;
                import saegis:policy/read-stored-keys@0.1.0;
                import saegis:policy/supply-key-bytes@0.1.0;
                export saegis:policy/credential-lookup@0.1.0;
            }
        ",
        generate_all,
    });
    export!(PskDerived);
    use super::PskDerived;
}

use bindings::exports::saegis::policy::credential_lookup::{Answer, Credential, Guest, Query};
use bindings::saegis::policy::policy_tables::{self, Row};
use bindings::saegis::policy::types::Entity;
use bindings::saegis::policy::{read_stored_keys, supply_key_bytes};
use saegis_onem2m::id::AeIdStem;
use saegis_onem2m::kdf;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: saegis_arena::Arena<8192> = saegis_arena::Arena::new();

const TABLE: &str = "enrolment-keys";

struct PskDerived;

impl Guest for PskDerived {
    fn lookup(query: Query) -> Answer {
        let identity = query.psk_identity;
        let row = match policy_tables::find(TABLE, &identity) {
            Ok(row) => row,
            Err(_) => return refused("there is no table enrolment-keys"),
        };
        if let Some(row) = row {
            return of_client(&identity, &row);
        }
        let Some((stem, ke_id)) = split(&identity) else { return Answer::NotMine };
        match policy_tables::find(TABLE, ke_id) {
            Ok(Some(row)) => of_ae(&identity, stem, &row),
            _ => Answer::NotMine,
        }
    }
}

/// Returns the Kpsa of an AE and this CSE.
fn of_ae(identity: &str, stem: &str, row: &Row) -> Answer {
    // The Ke of a client is valid for that client only, not for any AE that it names.
    if row.get("client_id").is_some() || row.get("maf_fqdn").is_some() {
        return Answer::NotMine;
    }
    let Some(ke) = row.key("ke") else { return refused("enrolment-keys has no column ke") };
    let key = kdf::kpsa(&read_stored_keys::read(&ke), stem);
    found(Entity::Ae(stem.into()), ["12-", identity].concat(), &key)
}

/// Returns the Km of a client and a MAF.
fn of_client(identity: &str, row: &Row) -> Answer {
    let (Some(ke), Some(maf), Some(client)) =
        (row.key("ke"), row.get("maf_fqdn"), row.get("client_id"))
    else {
        // At a gateway, a KeID without an AE-ID-Stem does not name an entity.
        return Answer::NotMine;
    };
    let key = kdf::km(&read_stored_keys::read(&ke), &maf);
    found(Entity::MafClient(client), ["11-", identity].concat(), &key)
}

fn found(entity: Entity, credential_id: String, key: &[u8]) -> Answer {
    match supply_key_bytes::supply(key) {
        Some(key) => Answer::Found(Credential { entity, credential_id, expires: None, key }),
        None => refused("the derived key is not valid"),
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.into())
}

/// Splits a psk_identity into the AE-ID-Stem and the KeID.
fn split(psk_identity: &str) -> Option<(&str, &str)> {
    let (relative, _) = psk_identity.split_once('@')?;
    let (stem, _) = relative.rsplit_once('.')?;
    AeIdStem::parse(stem).ok()?;
    Some((stem, psk_identity.get(stem.len() + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn identity_names_ae_and_enrolment_key() {
        assert_eq!(
            split("Clamp-7.fleet1@in.provider.com"),
            Some(("Clamp-7", "fleet1@in.provider.com"))
        );
        assert_eq!(split("Ca.b.fleet1@x.y"), Some(("Ca.b", "fleet1@x.y")));
        for other in ["Clamp-7@in.provider.com", "Clamp-7.fleet1", "lamp.fleet1@x.y", "C.f@x.y", ""]
        {
            assert_eq!(split(other), None, "{other}");
        }
    }
}
