//! Decides, at a MAF, which keys its clients may register: those for security associations.

mod bindings;
mod panic;

use bindings::exports::saegis::policy::key_registration_check::{
    Association, Guest, KeyRegistration, Verdict,
};
use bindings::saegis::policy::types::{Denial, Scope};

/// Security usage of a key for security associations (TS-0004 clause 6.3.4.2.39).
const SECURITY_ASSOCIATION: u8 = 32;

struct Module;

bindings::export!(Module);

impl Guest for Module {
    fn check(_association: Association, registration: KeyRegistration) -> Verdict {
        panic::log_message();
        if registration.suid != SECURITY_ASSOCIATION {
            // ORIGINATOR_HAS_NO_PRIVILEGE
            let reason = "keys are for security associations only".into();
            return Verdict::Deny(Denial { rsc: 4103, reason });
        }
        Verdict::Allow(Scope::ThisRequest)
    }
}
