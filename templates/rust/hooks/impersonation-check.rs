//! Checks each request, in addition to `originator-check`: denies delete requests.

mod bindings;
mod panic;

use bindings::exports::saegis::policy::impersonation_check::{
    Association, Guest, Primitive, Verdict,
};
use bindings::saegis::policy::types::{Denial, Operation, Scope};

struct Module;

bindings::export!(Module);

impl Guest for Module {
    fn check(_association: Association, primitive: Primitive) -> Verdict {
        panic::log_message();
        if primitive.operation == Operation::Delete {
            // ORIGINATOR_HAS_NO_PRIVILEGE
            return Verdict::Deny(Denial { rsc: 4103, reason: "delete requests are not allowed here".into() });
        }
        // The result depends on the operation, so it applies to this request only.
        Verdict::Allow(Scope::ThisRequest)
    }
}
