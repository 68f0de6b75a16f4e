//! Work on large tables, on low-priority threads.

use std::thread;

/// Niceness of the threads. Beside one busy thread they get about a tenth of a processor, and less
/// beside more. So a revoked credential is removed even under load. Yielding explicitly
/// (`sched_yield`) would leave them only a hundredth.
const NICENESS: i32 = 10;

/// Runs `work` on a low-priority thread, and waits for it.
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

/// Drops a large value on a low-priority thread.
pub(crate) fn drop_in_background<T: Send + 'static>(what: T) {
    let drop_it = move || {
        lower_priority();
        drop(what);
    };
    // If no thread can be started, the value was already dropped here.
    let _ = thread::Builder::new().name("policy-wipe".into()).spawn(drop_it);
}

/// On Linux this applies to the thread only. If the system refuses, the thread has the normal
/// priority.
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
