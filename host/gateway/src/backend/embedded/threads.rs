//! Threads for long work, which give way to those of other requests.

use tokio::sync::oneshot;

/// The niceness of the threads. Several of them together have less of a processor than one other.
const NICENESS: i32 = 10;

/// Does `work` on a thread of its own with a low priority. The priority of a pooled thread could not be
/// raised again.
///
/// # Errors
/// When there is no thread to be had, or the work panics.
pub async fn run_at_low_priority<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (give, given) = oneshot::channel();
    let work = move || {
        // Of the thread alone, as Linux has it. Where the system refuses, it is as fast as the others.
        let _ = rustix::process::nice(NICENESS);
        // Whoever waits for it may have gone.
        let _ = give.send(work());
    };
    let thread = std::thread::Builder::new().name("long-request".into());
    thread.spawn(work).map_err(|e| format!("no thread for a long request: {e}"))?;
    given.await.map_err(|_| "a long request panicked".into())
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn the_work_has_a_low_priority_and_nothing_else_has() {
        let before = getpriority_process(None).unwrap();
        let meanwhile = run_at_low_priority(|| getpriority_process(None).unwrap()).await;
        assert_eq!(meanwhile, Ok((before + NICENESS).min(19)));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let empty: Vec<u8> = Vec::new();
        let panics = run_at_low_priority(move || empty.iter().copied().max().unwrap());
        assert!(panics.await.is_err());
    }
}
