//! Test module that misbehaves on request, to test the limits of the sandbox.
//!
//! A psk_identity or a To that starts with `fault-` selects the fault. Any other one gets a valid
//! response.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package saegis:faulty;
            world faulty {
                import saegis:policy/log@0.1.0;
                export saegis:policy/credential-lookup@0.1.0;
                export saegis:policy/impersonation-check@0.1.0;
                export saegis:policy/registration-check@0.1.0;
            }
        ",
        generate_all,
    });
    export!(Faulty);
    use super::Faulty;
}

use core::sync::atomic::{AtomicU32, Ordering};

use bindings::exports::saegis::policy::{
    credential_lookup, impersonation_check, registration_check,
};
use bindings::saegis::policy::log;
use bindings::saegis::policy::types::{Association, Denial, Primitive, Scope, Verdict};

struct Faulty;

/// Number of calls of this instance: data that one device could leave for the next.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// Performs the selected fault. Returns if the fault does not end the call.
#[expect(clippy::panic, reason = "that is what it is for")]
#[expect(clippy::infinite_loop, reason = "that is what it is for")]
fn misbehave(fault: &str) {
    match fault.split('@').next().unwrap_or_default() {
        "fault-loop" => loop {
            core::hint::black_box(());
        },
        "fault-trap" => panic!("told to"),
        "fault-message" => {
            // As in the template of `saegis module new`.
            let write = |panic: &std::panic::PanicHookInfo<'_>| {
                log::write(log::Level::Warn, &panic.to_string());
            };
            std::panic::set_hook(Box::new(write));
            panic!("told to");
        }
        "fault-recurse" => {
            core::hint::black_box(recurse(core::hint::black_box(0)));
        }
        "fault-memory" => {
            // Nothing is written to it: touching that many pages may take longer than the deadline
            // on a busy machine.
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(Vec::with_capacity(1 << 20));
                core::hint::black_box(&hoard);
            }
        }
        "fault-log" => {
            for n in 0..10_000 {
                log::write(log::Level::Warn, &format!("line {n}\nforged line"));
            }
        }
        _ => {}
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn recurse(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 16]);
    recurse(depth + 1) + frame.iter().sum::<u64>()
}

impl credential_lookup::Guest for Faulty {
    fn lookup(query: credential_lookup::Query) -> credential_lookup::Answer {
        misbehave(&query.psk_identity);
        if query.psk_identity.starts_with("fault-remember@") {
            let before = CALLS.fetch_add(1, Ordering::Relaxed);
            return credential_lookup::Answer::Refused(format!("remembers {before} calls"));
        }
        credential_lookup::Answer::NotMine
    }
}

impl impersonation_check::Guest for Faulty {
    fn check(_: Association, primitive: Primitive) -> Verdict {
        let fault = primitive.to.rsplit('/').next().unwrap_or_default();
        misbehave(fault);
        match fault {
            // A success as the code of a denial, and a reason that would split a header.
            "fault-rsc" => Verdict::Deny(Denial { rsc: 2000, reason: "fine".into() }),
            "fault-reason" => {
                Verdict::Deny(Denial { rsc: 4103, reason: "x\r\nX-M2M-RSC: 2000".repeat(10_000) })
            }
            _ => Verdict::Allow(Scope::ThisRequest),
        }
    }
}

impl registration_check::Guest for Faulty {
    fn check(_: Association, registration: registration_check::Registration) -> Verdict {
        misbehave(&registration.app_id);
        match registration.app_id.as_str() {
            "Nforbidden" => Verdict::Deny(Denial { rsc: 4126, reason: "no rule allows it".into() }),
            _ => Verdict::Allow(Scope::ThisRequest),
        }
    }
}
