//! Lines that a thread of their own writes.
//!
//! Whoever has a line puts it into a buffer and goes on. The thread writes what is there in one go
//! and then waits a moment for more: at each line it would cost its writer a switch of threads, and
//! a busy gateway writes thousands a second.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// What is held of lines that nobody takes, in bytes. What comes beyond it is lost, and counted.
const MAX_BUFFERED: usize = 16 << 20;
/// What a buffer keeps of its room when it is empty again.
const RETAINED_CAPACITY: usize = 256 << 10;
/// Most bytes of whole lines in one write. The trail's smallest file has 64 KiB.
const BATCH_BYTES: usize = 8 << 10;
/// How long more lines are waited for.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// How long what is left may take at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes lines.
#[derive(Clone)]
pub struct NonBlockingWriter(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// The thread waits for a line.
    waiting: bool,
    /// The sink is to be flushed, whether there are lines or not.
    flush: bool,
    stop: bool,
    stopped: bool,
}

impl Shared {
    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is left when dropped, if it can be written in time.
pub struct WriterGuard(NonBlockingWriter);

impl Drop for WriterGuard {
    fn drop(&mut self) {
        let NonBlockingWriter(shared) = &self.0;
        let mut state = shared.lock();
        state.stop = true;
        shared.changed.notify_all();
        let written = shared.changed.wait_timeout_while(state, FLUSH_TIMEOUT, |s| !s.stopped);
        drop(written);
    }
}

impl NonBlockingWriter {
    /// Starts a thread that writes to `sink`. An error of the sink loses lines, and is not told: a sink
    /// that has something to say of it says it itself.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn to(name: &str, sink: impl Write + Send + 'static) -> io::Result<(Self, WriterGuard)> {
        let state = Mutex::default();
        let lines =
            Self(Arc::new(Shared { state, changed: Condvar::new(), lost: AtomicU64::new(0) }));
        let shared = lines.0.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || write(&shared, sink))?;
        Ok((lines.clone(), WriterGuard(lines)))
    }

    /// Has the sink flushed, even if there are no lines: a file that was moved away is let go.
    pub fn flush_soon(&self) {
        self.0.lock().flush = true;
        self.0.changed.notify_all();
    }

    /// Lines that there was no room for.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

fn write(shared: &Shared, mut sink: impl Write) {
    let mut taken = Vec::new();
    loop {
        let mut state = shared.lock();
        while state.buffer.is_empty() && !state.stop && !state.flush {
            state.waiting = true;
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (state.waiting, state.flush) = (false, false);
        std::mem::swap(&mut state.buffer, &mut taken);
        let stop = state.stop;
        drop(state);
        for chunk in chunks(&taken) {
            // Nobody misses lines after the reader has gone.
            let _ = sink.write_all(chunk);
        }
        let _ = sink.flush();
        taken.clear();
        taken.shrink_to(RETAINED_CAPACITY);
        if stop {
            shared.lock().stopped = true;
            shared.changed.notify_all();
            return;
        }
        std::thread::sleep(BATCH_DELAY);
    }
}

/// Whole lines, as many as may be written at once.
fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let most = bytes.get(..BATCH_BYTES).unwrap_or(bytes);
        let is_end = |byte: &u8| *byte == b'\n';
        let end = match most.iter().rposition(is_end) {
            Some(last) => last + 1,
            None => bytes.iter().position(is_end).map_or(bytes.len(), |first| first + 1),
        };
        let (chunk, rest) = bytes.split_at(end);
        bytes = rest;
        Some(chunk)
    })
}

impl Write for NonBlockingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Self(shared) = self;
        let mut state = shared.lock();
        if state.buffer.len() + line.len() > MAX_BUFFERED {
            drop(state);
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        state.buffer.extend_from_slice(line);
        let wake = std::mem::take(&mut state.waiting);
        drop(state);
        if wake {
            shared.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for NonBlockingWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing until it is let.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_before_exit() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut lines, rest) = NonBlockingWriter::to("test", Stuck(written.clone())).unwrap();
        let text: Vec<_> = (0..5000).map(|n| format!("line {n}\n")).collect();
        text.iter().for_each(|line| lines.write_all(line.as_bytes()).unwrap());
        drop(rest);
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), text.concat());
        assert_eq!(lines.lost(), 0);
    }

    #[test]
    fn unwritten_lines_are_limited_and_counted() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut lines, _rest) = NonBlockingWriter::to("test", Stuck(written.clone())).unwrap();
        let line = vec![b'x'; 1 << 20];
        let held = written.lock().unwrap();
        for _ in 0..40 {
            lines.write_all(&line).unwrap();
        }
        // Besides what waits, the thread may have taken as much.
        assert!(lines.lost() >= 8, "{}", lines.lost());
        drop(held);
    }

    #[test]
    fn batch_has_complete_lines_up_to_limit() {
        let long = "y".repeat(3 * BATCH_BYTES) + "\n";
        let text = "short\n".repeat(3000) + &long + "end";
        let pieces: Vec<_> = chunks(text.as_bytes()).collect();
        assert_eq!(pieces.concat(), text.as_bytes());
        let (last, whole) = pieces.split_last().unwrap();
        assert_eq!(*last, b"end");
        assert!(whole.iter().all(|piece| piece.ends_with(b"\n")));
        assert!(
            whole.iter().all(|piece| piece.len() <= BATCH_BYTES || **piece == *long.as_bytes())
        );
    }
}
