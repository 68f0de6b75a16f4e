//! Work on large tables, beside those who wait for an answer.

use std::mem::take;
use std::thread;

use zeroize::{Zeroize as _, Zeroizing};

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

/// Does `work` on a thread that gives way to those of the requests, some time.
pub(crate) fn later(work: impl FnOnce() + Send + 'static) {
    let work = move || {
        yield_to_others();
        work();
    };
    // Where there is no thread to be had, what was to be wiped wipes itself here and now.
    let _ = thread::Builder::new().name("policy-wipe".into()).spawn(work);
}

/// How many bytes are gone through, or how many rows, until others may go first. A thread that gives way
/// still has its processor for a slice of milliseconds, if it does not say that it can wait.
pub(crate) const BYTES_AT_ONCE: usize = 64 << 10;
pub(crate) const ROWS_AT_ONCE: usize = 128;

/// Wipes bytes part by part, and frees them.
pub(crate) fn wipe(mut bytes: Zeroizing<Vec<u8>>) {
    let mut bytes = take(&mut *bytes);
    // What is behind their end may have been written to.
    bytes.resize(bytes.capacity(), 0);
    for part in bytes.chunks_mut(BYTES_AT_ONCE) {
        part.zeroize();
        thread::yield_now();
    }
}

/// Of the thread alone, as Linux has it. Where the system refuses, it is as fast as the others.
fn yield_to_others() {
    let _ = rustix::process::nice(GIVES_WAY);
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn the_work_gives_way_and_who_waits_for_it_does_not() {
        let before = getpriority_process(None).unwrap();
        let meanwhile = give_way(|| getpriority_process(None).unwrap()).unwrap();
        assert_eq!(meanwhile, (before + GIVES_WAY).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn what_is_done_later_is_done_by_a_thread_that_gives_way() {
        let before = getpriority_process(None).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        later(move || {
            let name = thread::current().name().map(ToString::to_string);
            tell.send((name, getpriority_process(None).unwrap())).unwrap();
        });
        let (name, niceness) = told.recv().unwrap();
        assert_eq!(name.as_deref(), Some("policy-wipe"));
        assert_eq!(niceness, (before + GIVES_WAY).min(19));
    }
}
