//! Work on large tables, on threads of low priority.

use std::thread;

/// By how much its thread yields to others. It has about a tenth of a processor that one other keeps busy,
/// and less beside more, so that a credential that was withdrawn goes even then. To yield every
/// so often as well (`sched_yield`) would leave it a hundredth.
const NICENESS: i32 = 10;

/// Has `work` done by a thread that gives way to those of the requests, and waits for it.
pub(crate) fn run_at_low_priority<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    thread::scope(|scope| {
        let work = || {
            lower_priority();
            work()
        };
        let thread = thread::Builder::new().name("policy-tables".into());
        let done = thread.spawn_scoped(scope, work)?.join();
        Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Drops something that takes long to drop, on a thread that gives way to those of the requests.
pub(crate) fn drop_in_background<T: Send + 'static>(what: T) {
    let drop_it = move || {
        lower_priority();
        drop(what);
    };
    // Where there is no thread to be had it was dropped here and now.
    let _ = thread::Builder::new().name("policy-wipe".into()).spawn(drop_it);
}

/// Of the thread alone, as Linux has it. Where the system refuses, it is as fast as the others.
fn lower_priority() {
    let _ = rustix::process::nice(NICENESS);
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_background_work_has_low_priority() {
        let before = getpriority_process(None).unwrap();
        let meanwhile = run_at_low_priority(|| getpriority_process(None).unwrap()).unwrap();
        assert_eq!(meanwhile, (before + NICENESS).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn value_is_dropped_in_background_thread() {
        struct Tells(std::sync::mpsc::Sender<(Option<String>, i32)>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let name = thread::current().name().map(Into::into);
                let _ = self.0.send((name, getpriority_process(None).unwrap_or_default()));
            }
        }
        let before = getpriority_process(None).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        drop_in_background(Tells(tell));
        let (name, niceness) = told.recv().unwrap();
        assert_eq!(name.as_deref(), Some("policy-wipe"));
        assert_eq!(niceness, (before + NICENESS).min(19));
    }
}
