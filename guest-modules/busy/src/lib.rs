//! Test module that imports nothing and computes for long, to test calls that run without yielding
//! first.
//!
//! A psk_identity that starts with `rounds-` and a number selects how much it computes. The module
//! then refuses it with the result as the reason. It does not know any other identity.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package saegis:busy;
            world busy {
                export saegis:policy/credential-lookup@0.1.0;
            }
        ",
        generate_all,
    });
    export!(Busy);
    use super::Busy;
}

use core::hint::black_box;

use bindings::exports::saegis::policy::credential_lookup::{Answer, Guest, Query};

struct Busy;

impl Guest for Busy {
    fn lookup(query: Query) -> Answer {
        let rounds = query.psk_identity.strip_prefix("rounds-");
        let rounds = rounds.and_then(|rest| rest.split('@').next());
        let Some(rounds) = rounds.and_then(|rounds| rounds.parse::<u64>().ok()) else {
            return Answer::NotMine;
        };
        let counted = (0..rounds).fold(0, |sum: u64, _| sum + black_box(1));
        Answer::Refused(format!("counted {counted} rounds"))
    }
}
