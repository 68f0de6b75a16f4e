//! An example of a module that supplies key bytes: it stores no key per device, but derives the
//! Kpsa of each from one enrolment key Ke (TS-0003 clause 10.3.7).
//!
//! `policies/enrolment-keys.csv` has a row `ke_id,ke` for each Ke. A psk_identity is the device's
//! AE-ID-Stem, a dot, and the KeID: `Clamp-7.fleet1@in.provider.com` is derived from the Ke of
//! `fleet1@in.provider.com`, with `Clamp-7` as the identifier of the other enrolee, and the
//! association stands for the AE `Clamp-7`.
//!
//! It needs three capabilities: `policy-tables` to find the row, `read-stored-keys` to read its
//! Ke, and `supply-key-bytes` to hand over what it derived.

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
use bindings::saegis::policy::types::Entity;
use bindings::saegis::policy::{policy_tables, read_stored_keys, supply_key_bytes};
use saegis_onem2m::id::AeIdStem;

const TABLE: &str = "enrolment-keys";

struct PskDerived;

impl Guest for PskDerived {
    fn lookup(query: Query) -> Answer {
        let Some((stem, ke_id)) = split(&query.psk_identity) else { return Answer::NotMine };
        let row = match policy_tables::find(TABLE, ke_id) {
            Ok(Some(row)) => row,
            Ok(None) => return Answer::NotMine,
            Err(_) => return Answer::Refused("there is no table enrolment-keys".into()),
        };
        let Some(ke) = row.key("ke") else {
            return Answer::Refused("enrolment-keys has no column ke".into());
        };
        let kpsa = saegis_onem2m::kdf::kpsa(&read_stored_keys::read(&ke), stem);
        match supply_key_bytes::supply(&kpsa) {
            Some(key) => Answer::Found(Credential {
                entity: Entity::Ae(stem.into()),
                credential_id: ["12-", &query.psk_identity].concat(),
                expires: None,
                key,
            }),
            None => Answer::Refused("the derived key was not taken".into()),
        }
    }
}

/// The AE-ID-Stem and the KeID in a psk_identity.
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
    fn the_identity_names_the_ae_and_the_enrolment_key() {
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
