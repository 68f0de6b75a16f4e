//! Maps a certificate that does not name an entity: its row in the policy table
//! `certificate-table` names the entity.

mod bindings;
mod panic;

use bindings::exports::saegis::policy::certificate_mapping::{Answer, Guest, Mapping, Query};
use bindings::saegis::policy::policy_tables;
use bindings::saegis::policy::types::Entity;

struct Module;

bindings::export!(Module);

impl Guest for Module {
    fn identify(query: Query) -> Answer {
        panic::log_message();
        match policy_tables::find("certificate-table", &query.credential_id) {
            Ok(Some(row)) => Answer::Found(Mapping {
                entity: row.get("ae_id").map_or(Entity::NotYetKnown, Entity::Ae),
                expires: None,
            }),
            Ok(None) => Answer::NotMine,
            Err(_) => Answer::Refused("there is no table certificate-table".into()),
        }
    }
}
