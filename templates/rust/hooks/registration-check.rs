//! Decides which AEs may register: lights, by their App-ID.

mod bindings {
    wit_bindgen::generate!({ world: "module", path: "wit", generate_all });
    export!(Module);
    use super::Module;
}

use bindings::exports::saegis::policy::registration_check::{
    Association, Guest, Registration, Verdict,
};
use bindings::saegis::policy::types::{Denial, Scope};

struct Module;

impl Guest for Module {
    fn check(_association: Association, registration: Registration) -> Verdict {
        if registration.app_id != "Nlight" {
            // APP_RULE_VALIDATION_FAILED
            return Verdict::Deny(Denial { rsc: 4126, reason: "only lights register here".into() });
        }
        Verdict::Allow(Scope::ThisRequest)
    }
}
