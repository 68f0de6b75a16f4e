//! The last generations, in force or refused, for the operator.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use saegis_onem2m::timestamp;
use saegis_policy::{Fault, Faults, Generation, Policy};

use crate::admin::protocol::{FaultEntry, GenerationEntry, ReloadOutcome, TableChange};

/// Maximum number of generations. A further one replaces the oldest.
const MAX_GENERATIONS: usize = 50;
/// Maximum number of faults, tables and modules of a generation, and length of a fault in characters.
const MAX_ITEMS: usize = 50;
const MAX_FAULT: usize = 500;

/// The last generations.
#[derive(Default)]
pub struct GenerationHistory(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    /// Each generation with its number here, the last one first.
    entries: VecDeque<(u64, GenerationEntry)>,
    next: u64,
}

impl GenerationHistory {
    /// Creates it with the first generation.
    pub fn starting_with(first: &Generation) -> Arc<Self> {
        let history = Self::default();
        history.in_force(first);
        Arc::new(history)
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the generations, the last one first.
    pub fn entries(&self) -> Vec<GenerationEntry> {
        self.recorded().entries.iter().map(|(_, entry)| entry.clone()).collect()
    }

    /// Records a generation that came into force.
    pub fn in_force(&self, generation: &Generation) {
        let difference = generation.difference();
        let tables = difference.into_iter().flat_map(|of| &of.tables).take(MAX_ITEMS);
        let tables = tables.map(|(name, rows)| TableChange {
            name: name.clone(),
            added: rows.added,
            removed: rows.removed,
            changed: rows.changed,
        });
        let modules = difference.into_iter().flat_map(|of| &of.modules).take(MAX_ITEMS);
        self.add(GenerationEntry {
            outcome: ReloadOutcome::InForce,
            generation: generation.number,
            at: now(),
            changes: difference.map(ToString::to_string),
            tables: tables.collect(),
            modules: modules.cloned().collect(),
            faults: generation.missed().iter().take(MAX_ITEMS).map(fault_entry).collect(),
        });
    }

    /// Records a generation that was refused while the one with that number is in force. The lines of the
    /// faults are added as soon as they have been read.
    pub fn refused(self: &Arc<Self>, in_force: u64, faults: &Faults, policy: &Arc<Policy>) {
        let faults: Vec<_> = faults.0.iter().take(MAX_ITEMS).cloned().collect();
        let number = self.add(GenerationEntry {
            outcome: ReloadOutcome::Refused,
            generation: in_force,
            at: now(),
            changes: None,
            tables: Vec::new(),
            modules: Vec::new(),
            faults: faults.iter().map(fault_entry).collect(),
        });
        // A slow disk must not delay the task that follows reloads.
        let (own, policy) = (self.clone(), policy.clone());
        tokio::spawn(async move {
            let lines = policy.lines_of(faults).await;
            own.set_lines(number, lines);
        });
    }

    fn add(&self, entry: GenerationEntry) -> u64 {
        let mut recorded = self.recorded();
        let number = recorded.next;
        recorded.next += 1;
        recorded.entries.truncate(MAX_GENERATIONS - 1);
        recorded.entries.push_front((number, entry));
        number
    }

    fn set_lines(&self, number: u64, lines: Vec<Option<String>>) {
        let mut recorded = self.recorded();
        let found = recorded.entries.iter_mut().find(|(of, _)| *of == number);
        let faults = found.into_iter().flat_map(|(_, entry)| &mut entry.faults);
        faults.zip(lines).for_each(|(fault, line)| fault.text = line);
    }
}

fn now() -> String {
    timestamp::format(SystemTime::now())
}

fn fault_entry(fault: &Fault) -> FaultEntry {
    FaultEntry {
        file: fault.file.display().to_string(),
        line: fault.line,
        column: fault.column,
        fault: fault.what.chars().take(MAX_FAULT).collect(),
        text: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(generation: u64) -> GenerationEntry {
        GenerationEntry {
            outcome: ReloadOutcome::Refused,
            generation,
            at: now(),
            changes: None,
            tables: Vec::new(),
            modules: Vec::new(),
            faults: vec![fault_entry(&Fault::of(std::path::Path::new("a"), "x".repeat(1000)))],
        }
    }

    #[test]
    fn history_is_bounded_and_lines_are_added() {
        let history = GenerationHistory::default();
        let numbers: Vec<_> = (0..60).map(|number| history.add(entry(number))).collect();
        history.set_lines(numbers[59], vec![Some("line".into()), Some("excess".into())]);
        history.set_lines(numbers[0], vec![Some("line".into())]);
        let entries = history.entries();
        assert_eq!((entries.len(), entries[0].generation), (MAX_GENERATIONS, 59));
        assert_eq!(entries[0].faults[0].text.as_deref(), Some("line"));
        assert_eq!(entries[0].faults[0].fault.len(), MAX_FAULT);
        assert!(entries.iter().skip(1).all(|entry| entry.faults[0].text.is_none()));
    }
}
