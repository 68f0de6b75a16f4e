//! Example of a module that counts over time: limits the requests of each credential per time
//! window.
//!
//! Its configuration has the limit (`requests`) and the length of a window (`window-seconds`). It
//! counts by Credential-ID, which a client cannot choose, in its store. So the count survives a
//! restart, and is shared by all associations of a credential. It needs `key-value`, `config` and
//! `clock`.
//!
//! A window starts at a multiple of its length. Its count replaces that of the previous window, so
//! the store has two entries for each credential.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package saegis:quota;
            world quota {
                import saegis:policy/clock@0.1.0;
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                export saegis:policy/impersonation-check@0.1.0;
            }
        ",
        generate_all,
    });
    export!(Quota);
    use super::Quota;
}

use bindings::exports::saegis::policy::impersonation_check::Guest;
use bindings::saegis::policy::clock;
use bindings::saegis::policy::types::{Association, Denial, Primitive, Scope, Verdict};
use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::atomics;
use bindings::wasi::keyvalue::store::{self, Bucket, Error};

struct Quota;

impl Guest for Quota {
    fn check(association: Association, _: Primitive) -> Verdict {
        let (Some(most), Some(seconds)) = (configured("requests"), configured("window-seconds"))
        else {
            return denied(5000, "the quota is not configured");
        };
        let window = clock::now() / seconds.max(1);
        match count(&association.credential_id, window) {
            // The next request counts as well, so the scope must be this request.
            Ok(count) if count <= most => Verdict::Allow(Scope::ThisRequest),
            Ok(_) => denied(4103, &format!("more than {most} requests in {seconds} seconds")),
            // A request that cannot be counted is denied.
            Err(_) => denied(5000, "the requests cannot be counted"),
        }
    }
}

/// Counts a request, and returns the count of the window.
fn count(credential: &str, window: u64) -> Result<u64, Error> {
    let bucket = store::open("")?;
    let window = enter(&bucket, credential, window)?;
    atomics::increment(&bucket, &key(credential, window), 1)
}

/// Enters a window, and first deletes the count of the previous window of the credential. So there
/// is room even in a full store, and no entry is left behind if the call ends in between. A past
/// window is not entered again, even if the clock was set back or the call is late.
fn enter(bucket: &Bucket, credential: &str, window: u64) -> Result<u64, Error> {
    let last = ["last ", credential].concat();
    let before = bucket.get(&last)?.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
    match before {
        Some(before) if before >= window => return Ok(before),
        Some(before) => bucket.delete(&key(credential, before))?,
        None => {}
    }
    bucket.set(&last, window.to_string().as_bytes())?;
    Ok(window)
}

fn key(credential: &str, window: u64) -> String {
    format!("count {window} {credential}")
}

fn configured(name: &str) -> Option<u64> {
    config::get(name).ok().flatten()?.parse().ok()
}

fn denied(rsc: u16, reason: &str) -> Verdict {
    Verdict::Deny(Denial { rsc, reason: reason.into() })
}
