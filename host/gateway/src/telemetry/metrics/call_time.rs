//! Durations of module calls: a histogram for the metrics whose buckets can also be read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{array, fmt};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::histogram::{self, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Number of buckets: up to 2 µs, 4 µs and so on to 64 ms, and the rest.
pub const BUCKETS: usize = 17;
/// Upper bound of the first bucket, in microseconds. Each further one is twice the one before.
const FIRST: f64 = 2.0;

/// Numbers of calls by duration.
pub type Durations = [u64; BUCKETS];

/// Durations of the calls of a hook of a module.
pub struct Histogram {
    histogram: histogram::Histogram,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        let bounds = exponential_buckets(FIRST / 1e6, 2.0, 16);
        Self {
            histogram: histogram::Histogram::new(bounds),
            buckets: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Histogram {
    /// Records a call.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.histogram.observe(seconds);
        let bounds = (0..BUCKETS - 1).map(upper_bound);
        let bucket = bounds.take_while(|bound| *bound < seconds * 1e6).count();
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the numbers of calls since the start.
    pub fn durations(&self) -> Durations {
        array::from_fn(|at| self.buckets.get(at).map_or(0, |of| of.load(Ordering::Relaxed)))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.durations()).finish()
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.histogram.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = histogram::Histogram::TYPE;
}

/// Returns the upper bound of a bucket in microseconds. The last bucket has the bound of a further one.
fn upper_bound(bucket: usize) -> f64 {
    FIRST * f64::powi(2.0, i32::try_from(bucket).unwrap_or(i32::MAX))
}

/// Returns the duration in microseconds that a share of the calls does not exceed, estimated within its
/// bucket. Returns `None` without calls.
#[expect(clippy::cast_precision_loss, reason = "a counter of 2^53 needs a thousand years")]
pub fn quantile(of: &Durations, share: f64) -> Option<f64> {
    let all: u64 = of.iter().sum();
    let wanted = all as f64 * share;
    let mut before = 0.0;
    for (bucket, &count) in of.iter().enumerate().filter(|(_, count)| **count > 0) {
        let upto = before + count as f64;
        if upto >= wanted {
            let end = upper_bound(bucket);
            let start = if bucket == 0 { 0.0 } else { end / 2.0 };
            return Some(start + (end - start) * (wanted - before) / count as f64);
        }
        before = upto;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_bucket() {
        let time = Histogram::default();
        assert_eq!(quantile(&time.durations(), 0.5), None);
        for _ in 0..98 {
            time.observe(Duration::from_micros(3));
        }
        time.observe(Duration::from_millis(3));
        time.observe(Duration::from_secs(3));
        let durations = time.durations();
        assert_eq!((durations[1], durations[11], durations[16]), (98, 1, 1));
        let of = |share| quantile(&durations, share).unwrap();
        assert!((2.0..4.0).contains(&of(0.5)), "{}", of(0.5));
        assert!((2048.0..=4096.0).contains(&of(0.99)), "{}", of(0.99));
        assert!(of(1.0) > 64_000.0);
    }
}
