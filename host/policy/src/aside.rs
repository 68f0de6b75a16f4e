//! Work on large tables, beside those who wait for an answer.

use std::thread;

/// By how much its thread yields to others: it has about a tenth of a processor that is wanted by one
/// other, so that a credential that was withdrawn is withdrawn soon however busy the gateway is.
const GIVES_WAY: i32 = 10;

/// Has `work` done by a thread that gives way to those of the requests, and waits for it.
pub(crate) fn give_way<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    thread::scope(|scope| {
        let work = || {
            yield_to_others();
            work()
        };
        let thread = thread::Builder::new().name("policy-tables".into());
        let done = thread.spawn_scoped(scope, work)?.join();
        Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Drops something that takes long to drop, on a thread that gives way to those of the requests.
pub(crate) fn drop_aside<T: Send + 'static>(what: T) {
    let drop_it = move || {
        yield_to_others();
        drop(what);
    };
    // Where there is no thread to be had it was dropped here and now.
    let _ = thread::Builder::new().name("policy-wipe".into()).spawn(drop_it);
}

/// Of the thread alone, as Linux has it. Where the system refuses, it is as fast as the others.
fn yield_to_others() {
    let _ = rustix::process::nice(GIVES_WAY);
}
