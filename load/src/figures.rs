//! What comes of a run.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::server::Server;

/// How long a run takes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Period {
    /// Seconds that count.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before, which do not.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Operations a second, for latencies that are not those of a server with more than it can do;
    /// without it as many as there can be.
    #[arg(long)]
    pace: Option<f64>,
}

/// Counts operations while it is time.
pub struct Counter {
    /// When the first operation is due, and how far apart they are.
    start: Instant,
    apart: Duration,
    counting: Cell<bool>,
    over: Cell<bool>,
    latencies: RefCell<Vec<Duration>>,
    errors: RefCell<Vec<String>>,
    next: Cell<u64>,
}

impl Counter {
    /// For a period that begins now.
    pub fn new(period: Period) -> Self {
        let apart = period.pace.map_or(Duration::ZERO, |pace| Duration::from_secs_f64(1.0 / pace));
        Self {
            start: Instant::now(),
            apart,
            counting: Cell::default(),
            over: Cell::default(),
            latencies: RefCell::default(),
            errors: RefCell::default(),
            next: Cell::default(),
        }
    }

    /// Waits until the next operation is due: its number, and since when it takes its time. None when
    /// the time is over, or anything was wrong.
    ///
    /// An operation that was due while nobody was free to do it has waited for the server, and that
    /// counts; that a timer goes off late does not.
    pub async fn next(&self) -> Option<(u64, Instant)> {
        let number = self.next.replace(self.next.get() + 1);
        let due = self.start + self.apart.mul_f64(number_as_f64(number));
        let now = Instant::now();
        let begun = if self.apart.is_zero() {
            now
        } else if due > now {
            tokio::time::sleep_until(due.into()).await;
            Instant::now()
        } else {
            due
        };
        let go_on = !self.over.get() && self.errors.borrow().is_empty();
        go_on.then_some((number, begun))
    }

    /// An operation is done, well or not.
    pub fn done(&self, begun: Instant, outcome: Result<()>) {
        match outcome {
            Err(error) => self.errors.borrow_mut().push(format!("{error:#}")),
            Ok(()) if self.counting.get() => self.latencies.borrow_mut().push(begun.elapsed()),
            Ok(()) => {}
        }
    }

    /// Lets the time pass, and then tells what was done meanwhile.
    ///
    /// # Errors
    /// When anything was wrong: then there are no figures.
    pub async fn count(&self, period: Period, server: &Server) -> Result<Value> {
        tokio::time::sleep(Duration::from_secs_f64(period.warm_up)).await;
        self.counting.set(true);
        let (start, used) = (Instant::now(), server.seconds()?);
        tokio::time::sleep(Duration::from_secs_f64(period.seconds)).await;
        let (seconds, used) = (start.elapsed().as_secs_f64(), server.seconds()? - used);
        self.counting.set(false);
        self.over.set(true);
        let errors = self.errors.borrow();
        ensure!(
            errors.is_empty(),
            "{} operations failed, so there are no figures; the first: {}",
            errors.len(),
            errors.first().map_or("", String::as_str)
        );
        let mut latencies = self.latencies.borrow_mut();
        ensure!(!latencies.is_empty(), "nothing was done in {seconds:.1} s");
        latencies.sort_unstable();
        let done = number_as_f64(latencies.len() as u64);
        Ok(json!({
            "operations": latencies.len(),
            "errors": 0,
            "seconds": seconds,
            "per_second": done / seconds,
            "server_cpu_us": used * 1e6 / done,
            "server_busy": used / seconds,
            "p50_us": percentile(&latencies, 0.5),
            "p99_us": percentile(&latencies, 0.99),
            "p999_us": percentile(&latencies, 0.999),
        }))
    }

    /// Whether something went wrong behind the end of the time.
    ///
    /// # Errors
    /// What it was.
    pub fn still_good(&self) -> Result<()> {
        let errors = self.errors.borrow();
        ensure!(errors.is_empty(), "an operation failed: {}", errors.join("; "));
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52")]
fn number_as_f64(number: u64) -> f64 {
    number as f64
}

/// A percentile in microseconds.
fn percentile(sorted: &[Duration], of: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a fraction of a length"
    )]
    let at = ((sorted.len().saturating_sub(1)) as f64 * of) as usize;
    sorted.get(at).copied().unwrap_or_default().as_secs_f64() * 1e6
}
