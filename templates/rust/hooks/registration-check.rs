//! Decides which AEs may register: lights, by their App-ID.

mod bindings;
mod panic;

use bindings::exports::saegis::policy::registration_check::{
    Association, Guest, Registration, Verdict,
};
use bindings::saegis::policy::types::{Denial, Scope};

struct Module;

bindings::export!(Module);

impl Guest for Module {
    fn check(_association: Association, registration: Registration) -> Verdict {
        panic::log_message();
        if registration.app_id != "Nlight" {
            // APP_RULE_VALIDATION_FAILED
            return Verdict::Deny(Denial { rsc: 4126, reason: "only lights register here".into() });
        }
        Verdict::Allow(Scope::ThisRequest)
    }
}
