//! Figures of a measurement.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::server::Server;

/// Duration of a measurement.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Period {
    /// Measured seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Warm-up seconds, which are not measured.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Operations a second, for latencies of a server below saturation. Without it, as many as
    /// possible.
    #[arg(long)]
    pace: Option<f64>,
}

/// Counts operations during the measurement.
pub struct Counter {
    /// Due time of the first operation, and the interval between operations.
    start: Instant,
    apart: Duration,
    counting: Cell<bool>,
    over: Cell<bool>,
    latencies: RefCell<Vec<Duration>>,
    errors: RefCell<Vec<String>>,
    next: Cell<u64>,
}

impl Counter {
    /// Returns a counter for a measurement that starts now.
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

    /// Waits until the next operation is due, and returns its number and its start time. Returns
    /// `None` after the measurement or after a failure.
    ///
    /// An operation that is due while all callers are busy has waited for the server, so that time
    /// counts. The delay of a timer does not count.
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

    /// Records a finished operation.
    pub fn done(&self, begun: Instant, outcome: Result<()>) {
        match outcome {
            Err(error) => self.errors.borrow_mut().push(format!("{error:#}")),
            Ok(()) if self.counting.get() => self.latencies.borrow_mut().push(begun.elapsed()),
            Ok(()) => {}
        }
    }

    /// Waits for the end of the measurement, and returns the figures.
    ///
    /// # Errors
    /// Fails if any operation failed.
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
        ensure!(!latencies.is_empty(), "no operation finished in {seconds:.1} s");
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

    /// Checks for failures after the end of the measurement.
    ///
    /// # Errors
    /// Returns the failure.
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

/// Returns a percentile in microseconds.
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
