//! The `<schedule>` of a subscription: the times at which it may notify its targets (TS-0001 clause
//! 9.6.9, TS-0004 clause 7.4.9).

use std::time::{Duration, UNIX_EPOCH};

use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::schedule::ScheduleEntry;

use crate::error::Refusal;
use crate::record::{Record, Seconds, alive, seconds};
use crate::resource::schedule;
use crate::store::{Read, StoreError};

/// Whether a network takes the schedule of a node into account (`networkCoordinated`).
const COORDINATED: &str = "nco";

/// The times at which a subscription may notify.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule(Vec<ScheduleEntry>);

impl Schedule {
    /// Returns the schedule of a subscription, if it has one.
    pub(crate) fn of(
        read: &dyn Read,
        subscription: &str,
        now: Seconds,
    ) -> Result<Option<Self>, StoreError> {
        let record = find(read, subscription, now)?;
        // The entries were checked when they were stored.
        let entries =
            record.map(|record| schedule::entries(&record.attributes).unwrap_or_default());
        Ok(entries.map(Self))
    }

    #[cfg(test)]
    pub(crate) fn parse(entry: &str) -> Self {
        Self(vec![ScheduleEntry::parse(entry).unwrap()])
    }

    /// Returns whether notifications may be sent at a time.
    pub(crate) fn is_open(&self, at: Seconds) -> bool {
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(at));
        at.is_some_and(|at| self.0.iter().any(|entry| entry.holds_at(at)))
    }

    /// Returns the first time from `at` on at which notifications may be sent, if there is one.
    pub(crate) fn next_opening(&self, at: Seconds) -> Option<Seconds> {
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(at))?;
        self.0.iter().filter_map(|entry| entry.next_match(at)).min().map(seconds)
    }
}

/// Checks that the attributes of a `<schedule>` fit its parent: only that of a `<node>` is coordinated
/// with a network.
///
/// # Errors
/// Returns an error if they do not.
pub(crate) fn check_names(parent: ResourceType, names: &[String]) -> Result<(), Refusal> {
    if parent != ResourceType::Node && names.iter().any(|name| name == COORDINATED) {
        let why = "the attribute nco is only for the schedule of a node".into();
        return Err(Refusal::Invalid { rsc: Rsc::ContentsUnacceptable, why });
    }
    Ok(())
}

/// Returns the `<schedule>` below a resource, if it has one.
pub(crate) fn find(
    read: &dyn Read,
    parent: &str,
    now: Seconds,
) -> Result<Option<Record>, StoreError> {
    let mut after = None;
    while let Some(child) = read.next_of_type(parent, ResourceType::Schedule, after)? {
        let record = read.get(&child.ri)?.ok_or(StoreError::Corrupt(child.ri))?;
        if alive(record.expires, now) {
            return Ok(Some(record));
        }
        after = Some(child.sequence);
    }
    Ok(None)
}
