//! Compaction of the store of a running CSE.
//!
//! Deletions leave free pages between others, and the file does not become smaller by itself. While the
//! file is compacted, requests wait, so this happens rarely: only if most of a large file is free, and
//! only for an amount of data that is moved in a short time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::budget::RequestBudget;
use crate::cse::{COMPACTED, EmbeddedCse};
use crate::store::StoreError;

/// Minimum length of a file that is compacted.
const MIN_LENGTH: u64 = 8 << 20;

/// Maximum size of the stored resources and notifications, which bounds the time that requests wait.
const MAX_DATA: u64 = 64 << 20;

/// Minimum ratio of the length of the file to the size of the data. The indices, and the space that
/// the file grows by, need a part of it.
const MIN_RATIO: u64 = 6;

/// The result of a compaction.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Compaction {
    /// Length of the file before, in bytes.
    pub before: u64,
    /// Length of the file after, in bytes.
    pub after: u64,
    /// Time that requests waited.
    pub duration: Duration,
}

impl EmbeddedCse {
    /// Compacts the store if it pays and no request uses the store at this moment. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn compact(&self) -> Result<Option<Compaction>, StoreError> {
        let done = self.compact_if_due();
        done.inspect_err(|error| self.state().suspect_store(error))
    }

    fn compact_if_due(&self) -> Result<Option<Compaction>, StoreError> {
        let before = self.store().length();
        // A file that did not become smaller is not tried again before it has grown.
        let last = self.state().compacted_length.load(Ordering::Relaxed);
        if before < MIN_LENGTH.max(last.saturating_mul(2)) {
            return Ok(None);
        }
        let data = self.store().data_bytes()?;
        if data > MAX_DATA || data.saturating_mul(MIN_RATIO) > before {
            return Ok(None);
        }
        let begun = Instant::now();
        if self.store().try_compact()?.is_none() {
            return Ok(None);
        }
        let after = self.store().length();
        self.state().compacted_length.store(after, Ordering::Relaxed);
        self.store().write(&RequestBudget::unlimited(), |writer| {
            writer.set_about(COMPACTED, &after.to_string())
        })?;
        Ok(Some(Compaction { before, after, duration: begun.elapsed() }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use serde_json::json;

    use crate::budget::RequestBudget;
    use crate::testing::{Bench, LIGHT1, settings};

    /// Resources of the CSE itself are moved as well, such as the instances of an administrator.
    #[test]
    fn data_without_owner_count() {
        let bench = Bench::new(settings());
        let before = bench.cse().store().data_bytes().unwrap();
        assert!(before > 0, "the CSEBase counts");
        let label = "x".repeat(5000);
        let grow = bench.cse().store().write(&RequestBudget::unlimited(), |writer| {
            let mut base = writer.read().get("mn-cse-123456")?.unwrap();
            base.attributes.insert("lbl".into(), json!([label]));
            writer.put(&base)
        });
        grow.unwrap();
        assert!(bench.cse().store().data_bytes().unwrap() > before + 5000);
        bench.cse().store().assert_consistent();
        // A store of a former version has not counted them.
        let forget = bench
            .cse()
            .store()
            .write(&RequestBudget::unlimited(), |writer| writer.forget_unowned_usage());
        forget.unwrap();
        assert_eq!(bench.cse().store().data_bytes().unwrap(), 0);
        let bench = bench.reopen();
        assert!(bench.cse().store().data_bytes().unwrap() >= before);
        bench.cse().store().assert_consistent();
    }

    /// A file that a compaction does not make smaller is not compacted again after each restart.
    #[test]
    fn compacted_length_survives_restart() {
        let bench = Bench::with_lights();
        let large = json!({"con": "x".repeat(60_000)});
        for _ in 0..160 {
            assert_eq!(bench.instance(LIGHT1, "/cse/light1/state", large.clone()).code, 2001);
        }
        assert_eq!(bench.delete(LIGHT1, "/cse/light1/state").code, 2002);
        while bench.sweep() > 0 {}
        let done = bench.cse().compact().unwrap().unwrap();
        let bench = bench.reopen();
        let length = bench.cse().state().compacted_length.load(Ordering::Relaxed);
        assert_eq!(length, done.after);
    }
}
