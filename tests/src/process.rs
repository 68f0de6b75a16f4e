//! Child processes with pipes. Reads do not block, and dropping a value kills the process.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for each wait in a suite. It is far above every normal duration, for slow machines.
pub const BOUND: Duration = Duration::from_secs(20);

/// The output of a program so far.
#[derive(Clone, Default)]
pub struct Output(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Reads a pipe to its end on a separate thread.
    fn follow(mut pipe: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let ours = output.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let read = pipe.read(&mut chunk).unwrap_or(0);
                let mut written = ours.lock();
                written.bytes.extend_from_slice(&chunk[..read]);
                written.ended = read == 0;
                ours.0.1.notify_all();
                if written.ended {
                    return;
                }
            }
        });
        output
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough` returns a value for the whole output so far. Its second argument is
    /// whether the output has ended. Returns `None` after the time limit.
    pub fn wait<T>(
        &self,
        bound: Duration,
        mut enough: impl FnMut(&[u8], bool) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + bound;
        let mut written = self.lock();
        loop {
            if let Some(found) = enough(&written.bytes, written.ended) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let woken = self.0.1.wait_timeout(written, left);
            written = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the output so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }
}

/// A running program. Dropping the value kills it.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    /// Its standard output.
    pub out: Output,
    /// Its standard error.
    pub err: Output,
}

impl Running {
    /// Starts a program.
    pub fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::piped())
    }

    /// Starts a program with its standard error redirected.
    pub fn start_with(command: &mut Command, error: impl Into<Stdio>) -> Self {
        Self::start_between(command, Stdio::piped(), error)
    }

    /// Starts a program with standard input and standard error redirected.
    pub fn start_between(
        command: &mut Command,
        input: impl Into<Stdio>,
        error: impl Into<Stdio>,
    ) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(error);
        let name = command.get_program().to_owned();
        let mut child =
            command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", name.display()));
        let out = Output::follow(child.stdout.take().expect("a pipe was asked for"));
        let err = match child.stderr.take() {
            Some(pipe) => Output::follow(pipe),
            None => Output::follow(std::io::empty()),
        };
        Self { input: child.stdin.take(), child, out, err }
    }

    /// Writes to the standard input. Errors are ignored, because a program that has exited is
    /// visible in its output.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(bytes).and_then(|()| input.flush());
        }
    }

    /// Closes the standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for the exit. Returns `None` after the time limit.
    pub fn wait(&mut self, bound: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            // The standard library has no wait with a timeout.
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(kill.is_ok_and(|status| status.success()), "no SIG{name} for {}", self.id());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
