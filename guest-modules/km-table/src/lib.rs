//! Looks up a psk_identity in `policies/km-table.csv`, at a MAF (TS-0003 clause 8.8.2.2). The
//! identity is the KmID, the key is the Km of the row, and the association stands for the MAF
//! client of the row.
//!
//! The module does not see the key: the response contains a handle to it.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ world: "lookup-module", path: "../../wit" });
    export!(KmTable);
    use super::KmTable;
}

use bindings::exports::saegis::policy::credential_lookup::{Answer, Credential, Guest, Query};
use bindings::saegis::policy::policy_tables;
use bindings::saegis::policy::types::Entity;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: saegis_arena::Arena<8192> = saegis_arena::Arena::new();

const TABLE: &str = "km-table";

struct KmTable;

impl Guest for KmTable {
    fn lookup(query: Query) -> Answer {
        let Some(id) = canonical(&query.psk_identity) else { return Answer::NotMine };
        let row = match policy_tables::find(TABLE, &id) {
            Ok(Some(row)) => row,
            Ok(None) => return Answer::NotMine,
            Err(_) => return refused("there is no table km-table"),
        };
        let (Some(key), Some(client)) = (row.key("km"), row.get("client_id")) else {
            return refused("the row has no km or no client_id");
        };
        let expires = match row.get("expires").map(|at| at.parse()) {
            None => None,
            Some(Ok(at)) => Some(at),
            // An invalid time must not become "no expiry".
            Some(Err(_)) => return refused("the row's expires is not a valid time"),
        };
        Answer::Found(Credential {
            entity: Entity::MafClient(client),
            credential_id: ["11-", &id].concat(),
            expires,
            key,
        })
    }
}

/// Returns the KmID in the form of the table: its relative part is in lower case, because it is
/// case-insensitive (clause 10.3.4).
fn canonical(id: &str) -> Option<String> {
    let (relative, maf) = id.split_once('@')?;
    Some([&relative.to_ascii_lowercase(), "@", maf].concat())
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_key_id_is_case_insensitive() {
        assert_eq!(canonical("Phone-1@MAF.x").as_deref(), Some("phone-1@MAF.x"));
        assert_eq!(canonical("phone"), None);
    }
}
