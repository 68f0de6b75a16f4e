//! Finds the credential of a psk_identity: its row in the policy table `psk-lookup-table`.
//!
//! The module does not see the key: the response contains a handle to it.

mod bindings;
mod panic;

use bindings::exports::saegis::policy::credential_lookup::{Answer, Credential, Guest, Query};
use bindings::saegis::policy::policy_tables;
use bindings::saegis::policy::types::Entity;

struct Module;

bindings::export!(Module);

impl Guest for Module {
    fn lookup(query: Query) -> Answer {
        panic::log_message();
        let row = match policy_tables::find("psk-lookup-table", &query.psk_identity) {
            Ok(Some(row)) => row,
            Ok(None) => return Answer::NotMine,
            Err(_) => return Answer::Refused("there is no table psk-lookup-table".into()),
        };
        let Some(key) = row.key("kpsa") else {
            return Answer::Refused("the table has no column kpsa".into());
        };
        Answer::Found(Credential {
            entity: row.get("ae_id").map_or(Entity::NotYetKnown, Entity::Ae),
            credential_id: format!("12-{}", query.psk_identity),
            expires: None,
            key,
        })
    }
}
