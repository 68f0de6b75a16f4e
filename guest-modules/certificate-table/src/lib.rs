//! Maps a device certificate, a Node-ID certificate or a raw public key to its entity (TS-0003
//! clause 8.2.2.2). The row of its Credential-ID in `policies/certificate-table.csv` has an AE-ID,
//! a list of AE-IDs, or a CSE-ID. Without a row, the service subscription may have a rule for the
//! credential. It then belongs to an AE whose AE-ID is assigned at registration, as the rule
//! allows.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ world: "mapping-module", path: "../../wit" });
    export!(CertificateTable);
    use super::CertificateTable;
}

use bindings::exports::saegis::policy::certificate_mapping::{Answer, Guest, Mapping, Query};
use bindings::saegis::policy::policy_tables::{self, Row};
use bindings::saegis::policy::service_subscription;
use bindings::saegis::policy::types::Entity;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: saegis_arena::Arena<16384> = saegis_arena::Arena::new();

const TABLE: &str = "certificate-table";

struct CertificateTable;

impl Guest for CertificateTable {
    fn identify(query: Query) -> Answer {
        match policy_tables::find(TABLE, &query.credential_id) {
            Ok(Some(row)) => by_row(&row),
            // Without the table there may still be rules.
            Ok(None) | Err(policy_tables::Error::NoSuchTable) => by_rule(&query.credential_id),
            Err(policy_tables::Error::TooManyRows) => refused("too many rows were found"),
        }
    }
}

fn by_row(row: &Row) -> Answer {
    let entity = if let Some(stem) = row.get("ae_id") {
        Entity::Ae(stem)
    } else if let Some(stems) = row.get("ae_ids") {
        Entity::Aes(stems.split(' ').map(Into::into).collect())
    } else if let Some(cse) = row.get("cse_id") {
        Entity::Cse(cse)
    } else {
        Entity::NotYetKnown
    };
    let expires = match row.get("expires").map(|at| at.parse()) {
        None => None,
        Some(Ok(at)) => Some(at),
        // An invalid time must not become "no expiry".
        Some(Err(_)) => return refused("the row's expires is not a valid time"),
    };
    Answer::Found(Mapping { entity, expires })
}

fn by_rule(credential_id: &str) -> Answer {
    match service_subscription::has_rule_for(credential_id) {
        Ok(true) => Answer::Found(Mapping { entity: Entity::NotYetKnown, expires: None }),
        Ok(false) | Err(_) => Answer::NotMine,
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.into())
}
