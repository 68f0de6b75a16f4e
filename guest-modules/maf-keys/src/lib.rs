//! Finds keys that a MAF distributes (TS-0003 clause 8.2.2.3). The psk_identity is
//! `RelativeKeyID@MAF-FQDN`. If the part after the `@` names a configured MAF, the host fetches the
//! key, and the response contains a handle to it.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ world: "maf-module", path: "../../wit" });
    export!(MafKeys);
    use super::MafKeys;
}

use bindings::exports::saegis::policy::credential_lookup::{Answer, Credential, Guest, Query};
use bindings::saegis::policy::maf_keys::{self, Error};

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: saegis_arena::Arena<8192> = saegis_arena::Arena::new();

/// Security usage of a key for security associations (TS-0004 clause 6.3.4.2.39).
const SAEF: u8 = 32;

struct MafKeys;

impl Guest for MafKeys {
    fn lookup(query: Query) -> Answer {
        let Some((id, maf)) = query.psk_identity.rsplit_once('@') else { return Answer::NotMine };
        match maf_keys::retrieve(maf, id) {
            // Kc is only valid for associations; its source may register keys for other purposes.
            Ok(found) if found.suid != SAEF => {
                refused("the MAF's key is not for security associations")
            }
            Ok(found) => Answer::Found(Credential {
                entity: found.source,
                credential_id: found.credential_id,
                expires: Some(found.expires),
                key: found.key,
            }),
            Err(Error::UnknownMaf) => Answer::NotMine,
            Err(Error::Refused) => refused("the MAF has no such key for this CSE"),
            Err(Error::Unreachable) => refused("the MAF cannot be reached"),
            // This response is ignored.
            Err(Error::Pending) => refused("the MAF is being asked"),
        }
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.into())
}
