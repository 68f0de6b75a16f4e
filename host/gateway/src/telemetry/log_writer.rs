//! Writes lines on a separate thread.
//!
//! Callers put a line into a buffer and continue. The thread writes the buffered lines in one batch
//! and then waits for more. Waking it for each line would cost the caller a thread switch, and a
//! busy gateway writes thousands of lines per second.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Maximum size of buffered lines, in bytes. Further lines are dropped and counted.
const MAX_BUFFERED: usize = 16 << 20;
/// Capacity that an empty buffer retains, in bytes.
const RETAINED_CAPACITY: usize = 256 << 10;
/// Maximum size of one write of whole lines, in bytes. The smallest file of a trail has 64 KiB.
const BATCH_BYTES: usize = 8 << 10;
/// Delay to collect more lines.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// Timeout for writing pending lines at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writer that does not block.
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
    /// The thread is waiting for a line.
    waiting: bool,
    /// The sink must be flushed, even without lines.
    flush: bool,
    stop: bool,
    stopped: bool,
}

impl Shared {
    /// Code that holds the lock does not panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes pending lines when it is dropped, within a timeout.
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
    /// Starts a thread that writes to `sink`. An error of the sink loses lines and is not logged
    /// here; a sink can log it itself.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn to(name: &str, sink: impl Write + Send + 'static) -> io::Result<(Self, WriterGuard)> {
        let state = Mutex::default();
        let lines =
            Self(Arc::new(Shared { state, changed: Condvar::new(), lost: AtomicU64::new(0) }));
        let shared = lines.0.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || write(&shared, sink))?;
        Ok((lines.clone(), WriterGuard(lines)))
    }

    /// Flushes the sink, even without lines, so that a moved file is reopened.
    pub fn flush_soon(&self) {
        self.0.lock().flush = true;
        self.0.changed.notify_all();
    }

    /// Returns the number of lines that were dropped because the buffer was full.
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
            // Without a reader, lost lines do not matter.
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

/// Splits the buffer into parts of whole lines that can be written at once.
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

    /// Blocks until it is released.
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
        // The thread may hold as much as the buffer.
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
