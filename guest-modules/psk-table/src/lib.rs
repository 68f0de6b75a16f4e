//! Looks up a psk_identity in `policies/psk-lookup-table.csv` (TS-0003 clause 8.2.2.1). The
//! identity is the KpsaID, the key is the Kpsa of the row, and the association stands for the
//! AE-ID-Stem or CSE-ID of the row. If the row has neither, the AE-ID is assigned when the AE
//! registers.
//!
//! The module does not see the key: the response contains a handle to it.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ world: "lookup-module", path: "../../wit" });
    export!(PskTable);
    use super::PskTable;
}

use bindings::exports::saegis::policy::credential_lookup::{Answer, Credential, Guest, Query};
use bindings::saegis::policy::policy_tables::{self, Row};
use bindings::saegis::policy::types::Entity;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: saegis_arena::Arena<8192> = saegis_arena::Arena::new();

const TABLE: &str = "psk-lookup-table";

struct PskTable;

impl Guest for PskTable {
    fn lookup(query: Query) -> Answer {
        let row = match policy_tables::find(TABLE, &query.psk_identity) {
            Ok(Some(row)) => row,
            Ok(None) => return Answer::NotMine,
            Err(_) => return refused("there is no table psk-lookup-table"),
        };
        let Some(key) = row.key("kpsa") else {
            return refused("psk-lookup-table has no column kpsa");
        };
        let expires = match row.get("expires").map(|at| at.parse()) {
            None => None,
            Some(Ok(at)) => Some(at),
            // An invalid time must not become "no expiry".
            Some(Err(_)) => return refused("the row's expires is not a valid time"),
        };
        Answer::Found(Credential {
            entity: entity(&row),
            credential_id: ["12-", &query.psk_identity].concat(),
            expires,
            key,
        })
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.into())
}

fn entity(row: &Row) -> Entity {
    if let Some(stem) = row.get("ae_id") {
        Entity::Ae(stem)
    } else if let Some(cse) = row.get("cse_id") {
        Entity::Cse(cse)
    } else {
        Entity::NotYetKnown
    }
}
