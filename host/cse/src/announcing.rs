//! The synchronization of announcements with the registrar CSE (TS-0001 clause 10.2.13).
//!
//! The CSE sends nothing: its caller takes one [`AnnouncementTask`] after the other, sends the
//! requests, and reports the outcome. The tasks are on disk, so those of a killed process are done
//! after its restart. Each uses the present state of its resource, so that many changes of a
//! resource cause one update.

mod task;

use std::collections::BTreeSet;
use std::time::SystemTime;

use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;
use serde_json::{Map, Value, json};

use self::task::Turn;
pub use self::task::{
    AnnouncementOutcome, AnnouncementStatus, AnnouncementTask, Deletion, Position, Synchronization,
};
use crate::budget::RequestBudget;
use crate::cse::EmbeddedCse;
use crate::error::Refusal;
use crate::operation::announcement::is_announced;
use crate::record::{AnnouncementState, Attributes, Record, Seconds, seconds, timestamp};
use crate::resource::address::{self, Resolved, ResolvedResource};
use crate::resource::announced;
use crate::resource::registrant;
use crate::resource::schema::{ANNOUNCE_TO, LINK, POLICIES};
use crate::settings::Settings;
use crate::store::{DueAnnouncement, Read, StoreError, Writer};

/// Delay after which a refused request is repeated.
const RETRY_AFTER: Seconds = 600;

/// Minimum delay before an announcement is extended.
const MIN_EXTENSION: Seconds = 60;

/// Maximum number of changes of a resource during a task.
const MAX_CHANGES: u64 = 1 << 32;

/// Entry with the address of the `<CSEBaseAnnc>` of this CSE at the registrar CSE.
const OWN: &str = "announced";

impl EmbeddedCse {
    /// Returns a task that is due at the time `now`, if there is one. The owners take turns, and the
    /// last task was one of the owner `after`. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn next_announcement(
        &self,
        after: &str,
        now: SystemTime,
    ) -> Result<Option<AnnouncementTask>, StoreError> {
        let now = seconds(now);
        while let Some(entry) = self.store().due_announcement(after, now)? {
            match self.announcement_task(&entry, now) {
                Ok(Some(task)) => return Ok(Some(task)),
                Ok(None) => {}
                Err(StoreError::Corrupt(ri)) => {
                    let what = &entry.what;
                    tracing::error!(
                        event = "cse.store-failed",
                        "cannot announce {what}: the resource {ri} in the store is damaged"
                    );
                    self.set_back(&entry, None, now.saturating_add(RETRY_AFTER))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Returns the task of an entry. Ends the synchronization if there is none.
    fn announcement_task(
        &self,
        entry: &DueAnnouncement,
        now: Seconds,
    ) -> Result<Option<AnnouncementTask>, StoreError> {
        let snapshot = self.store().snapshot(&RequestBudget::unlimited())?;
        let read = snapshot.read();
        let registrant = registrant::registrant(read, &entry.owner, now)?;
        let turn = Turn { entry: entry.clone(), registrant };
        if entry.what.starts_with('/') {
            let address = entry.what.clone();
            return Ok(Some(AnnouncementTask::Delete(Deletion { address, turn })));
        }
        let task = match address::by_id(read, &entry.what, now)? {
            Some(found) if !is_of(entry, &found.record) => None,
            Some(found) => synchronization(read, self.settings(), &found, turn)?,
            None => None,
        };
        drop(snapshot);
        if task.is_none() {
            self.settle_announcement(entry, now)?;
        }
        Ok(task.map(|task| AnnouncementTask::Synchronize(Box::new(task))))
    }

    /// Sets the task of an entry back, also that of a resource that cannot be read. An announcement
    /// that was requested after the `version` of the task is another one, and is not delayed.
    fn set_back(
        &self,
        entry: &DueAnnouncement,
        version: Option<u64>,
        until: Seconds,
    ) -> Result<(), StoreError> {
        let DueAnnouncement { owner, due, what } = entry;
        self.store().write(&RequestBudget::unlimited(), |writer| {
            let (record, is_retained) = match writer.read().get(what) {
                Ok(record) => (record, what.starts_with('/')),
                Err(StoreError::Corrupt(_)) => (None, true),
                Err(error) => return Err(error),
            };
            let again = is_retained.then_some(until);
            writer.move_announcement(Some(owner), what, Some(*due), again)?;
            let Some((mut record, mut state)) = with_state(record) else { return Ok(()) };
            if version.is_some_and(|version| !is_version_of(version, &state)) {
                // The entry of the other one may be due at the same time.
                return writer.move_announcement(record.owner.as_deref(), what, None, state.due);
            }
            state.due = Some(until);
            record.announcement = Some(state);
            writer.put(&record)
        })
    }

    /// Records the outcome of a task. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn announcement_outcome(
        &self,
        task: &AnnouncementTask,
        outcome: &AnnouncementOutcome,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let now = seconds(now);
        let DueAnnouncement { owner, due, what } = &task.turn().entry;
        if let AnnouncementOutcome::Failed(delay) = outcome {
            let until = now.saturating_add(delay.as_secs().max(1));
            let version = match task {
                AnnouncementTask::Synchronize(task) => Some(task.version),
                AnnouncementTask::Delete(_) => None,
            };
            return self.set_back(&task.turn().entry, version, until);
        }
        self.store().write(&RequestBudget::unlimited(), |writer| match task {
            AnnouncementTask::Delete(_) => {
                let again = (*outcome == AnnouncementOutcome::Delayed).then(|| now + RETRY_AFTER);
                writer.move_announcement(Some(owner), what, Some(*due), again)
            }
            AnnouncementTask::Synchronize(task) => conclude(writer, task, outcome, now),
        })
    }

    /// Returns the representation of the `<CSEBaseAnnc>` of this CSE, in its root element.
    #[must_use]
    pub fn own_announcement(&self, now: SystemTime) -> Value {
        let settings = self.settings();
        let until = seconds(now).saturating_add(settings.limits.max_lifetime.as_secs());
        json!({ ResourceType::CseBaseAnnc.root(): {
            LINK: format!("{0}/{1}", settings.cse_id, settings.cse_id.bare()),
            "et": timestamp(until),
            "srv": settings.release_versions,
        }})
    }

    /// Returns the address of the `<CSEBaseAnnc>` of this CSE at a registrar CSE, if it is known.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn own_announcement_at(&self, registrar: &str) -> Result<Option<String>, StoreError> {
        let known = self.store().write(&RequestBudget::unlimited(), |writer| writer.about(OWN))?;
        Ok(known.filter(|address| address.starts_with(&format!("{registrar}/"))))
    }

    /// Stores that address; an empty one if the resource does not exist any more. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn set_own_announcement(&self, address: &str) -> Result<(), StoreError> {
        self.store().write(&RequestBudget::unlimited(), |writer| writer.set_about(OWN, address))
    }

    /// Returns the state of the announcement of the resource at an address, if one was requested.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn announcement_status(
        &self,
        of: &Target,
        now: SystemTime,
    ) -> Result<Option<AnnouncementStatus>, StoreError> {
        let now = seconds(now);
        let snapshot = self.store().snapshot(&RequestBudget::unlimited())?;
        let record = match address::resolve(snapshot.read(), self.settings(), of, now) {
            Ok(Resolved::Resource(found)) => found.record,
            Err(Refusal::Store(error)) => return Err(error),
            Ok(Resolved::Instance { .. }) | Err(_) => return Ok(None),
        };
        Ok(record.announcement.map(|state| AnnouncementStatus {
            is_pending: state.due.is_some_and(|due| due <= now),
            address: state.address,
        }))
    }

    /// Ends the synchronization of a resource that is gone or cannot be announced, or adapts it to a
    /// new registrar CSE.
    fn settle_announcement(&self, entry: &DueAnnouncement, now: Seconds) -> Result<(), StoreError> {
        let DueAnnouncement { owner, due, what: ri } = entry;
        let registrar = self.settings().registrar.as_ref().map(ToString::to_string);
        self.store().write(&RequestBudget::unlimited(), |writer| {
            let record = writer.read().get(ri)?;
            let Some((mut record, mut state)) = with_state(record) else {
                // An entry without an announcement must not be found again.
                return writer.move_announcement(Some(owner), ri, Some(*due), None);
            };
            if !is_of(entry, &record) {
                return writer.move_announcement(Some(owner), ri, Some(*due), None);
            }
            let exists = address::by_id(writer.read(), ri, now)?.is_some();
            match registrar {
                Some(registrar) if exists && registrar != state.cse => {
                    state = AnnouncementState {
                        cse: registrar,
                        address: None,
                        attempted: false,
                        sent: BTreeSet::new(),
                        policies: Value::Null,
                        version: state.version,
                        due: Some(now),
                    };
                    record.attributes.remove(ANNOUNCE_TO);
                }
                _ if exists && state.address.is_none() => {
                    record.announcement = None;
                    return writer.put(&record);
                }
                _ => state.due = None,
            }
            record.announcement = Some(state);
            writer.put(&record)
        })
    }
}

/// Returns the task for a resource. Returns `None` if it is not announced to the registrar CSE, or
/// cannot be.
fn synchronization(
    read: &dyn Read,
    settings: &Settings,
    found: &ResolvedResource,
    turn: Turn,
) -> Result<Option<Synchronization>, StoreError> {
    let record = &found.record;
    let (Some(state), Some(kind)) = (&record.announcement, record.ty.announced()) else {
        return Ok(None);
    };
    if settings.registrar.as_ref().map(ToString::to_string).as_ref() != Some(&state.cse) {
        return Ok(None);
    }
    let parent = record.parent.as_deref().map(|ri| read.get(ri)).transpose()?.flatten();
    let above = parent.filter(|parent| is_announced(settings, parent));
    let above = above.and_then(|parent| parent.announcement).and_then(|state| state.address);
    let position = match (&state.address, above) {
        (Some(address), _) => Position::At(address.clone()),
        (None, Some(parent)) => Position::Below(parent),
        (None, None) if record.ty.is_instance() => return Ok(None),
        (None, None) => Position::BelowCse,
    };
    let mut attributes = announced::representation(read, settings, record, found.expires)?;
    let sent: BTreeSet<_> = attributes.keys().cloned().collect();
    let sent_policies = attributes.get(POLICIES).cloned().unwrap_or_default();
    let in_root = |attributes: Attributes| {
        let mut representation = Map::new();
        let root = announced::root(record.ty, record.root());
        representation.insert(root, Value::Object(attributes));
        Value::Object(representation)
    };
    let mut policies = None;
    if state.address.is_some() {
        for name in state.sent.difference(&sent) {
            attributes.insert(name.clone(), Value::Null);
        }
        // It is the definition of the announcement, which cannot change.
        attributes.remove("cnd");
        attributes.remove(POLICIES);
        if state.policies != sent_policies {
            let change = (POLICIES.to_owned(), sent_policies.clone());
            policies = Some(in_root(Attributes::from_iter([change])));
        }
    }
    Ok(Some(Synchronization {
        kind,
        link: format!("{}/{}", settings.cse_id, record.ri),
        representation: in_root(attributes),
        policies,
        position,
        may_exist: state.attempted,
        turn,
        version: state.version,
        sent,
        sent_policies,
        expires: found.expires,
    }))
}

/// Records the outcome of the synchronization of a resource.
fn conclude(
    writer: &mut Writer<'_>,
    task: &Synchronization,
    outcome: &AnnouncementOutcome,
    now: Seconds,
) -> Result<(), StoreError> {
    let DueAnnouncement { owner, what: ri, .. } = &task.turn.entry;
    let record = writer.read().get(ri)?.filter(|record| record.parent.is_some());
    let Some((mut record, mut state)) = with_state(record) else {
        // The resource was deleted while it was announced.
        return match outcome {
            AnnouncementOutcome::Done(address) | AnnouncementOutcome::Found(address) => {
                writer.move_announcement(Some(owner), address, None, Some(now))
            }
            _ => Ok(()),
        };
    };
    if let Position::At(address) = &task.position
        && state.address.as_ref() != Some(address)
    {
        // The announcement at this address was ended in the meantime, and another one requested.
        return Ok(());
    }
    let has_changed = state.version != task.version;
    match outcome {
        AnnouncementOutcome::Attempted => {
            if !state.attempted {
                state.sent.clear();
            }
            state.sent.extend(task.sent.iter().cloned());
            state.policies.clone_from(&task.sent_policies);
            state.attempted = true;
        }
        AnnouncementOutcome::Found(address) => {
            record.attributes.insert(ANNOUNCE_TO.into(), json!([address]));
            (state.address, state.attempted) = (Some(address.clone()), false);
            state.due = Some(now);
        }
        AnnouncementOutcome::Done(address) => {
            record.attributes.insert(ANNOUNCE_TO.into(), json!([address]));
            state.address = Some(address.clone());
            state.attempted = false;
            state.sent.clone_from(&task.sent);
            state.policies.clone_from(&task.sent_policies);
            let extension = task.expires.map(|at| {
                let left = at.saturating_sub(now);
                now.saturating_add((left - left / 3).max(MIN_EXTENSION))
            });
            state.due = if has_changed { Some(now) } else { extension };
        }
        AnnouncementOutcome::Gone => {
            record.attributes.remove(ANNOUNCE_TO);
            (state.address, state.attempted, state.due) = (None, false, Some(now));
        }
        AnnouncementOutcome::Refused if !has_changed && state.address.is_none() => {
            record.announcement = None;
            return writer.put(&record);
        }
        AnnouncementOutcome::Refused
        | AnnouncementOutcome::Delayed
        | AnnouncementOutcome::Failed(_) => {
            state.due = Some(if has_changed { now } else { now.saturating_add(RETRY_AFTER) });
        }
    }
    record.announcement = Some(state);
    writer.put(&record)
}

/// Returns whether an entry is that of the announcement of a resource, which has one at most.
fn is_of(entry: &DueAnnouncement, record: &Record) -> bool {
    let due = record.announcement.as_ref().and_then(|state| state.due);
    due == Some(entry.due) && record.owner.as_deref().unwrap_or_default() == entry.owner
}

/// Returns whether an announcement had this version before. The version of another one is random.
fn is_version_of(version: u64, state: &AnnouncementState) -> bool {
    state.version.checked_sub(version).is_some_and(|changes| changes <= MAX_CHANGES)
}

fn with_state(record: Option<Record>) -> Option<(Record, AnnouncementState)> {
    let record = record?;
    let state = record.announcement.clone()?;
    Some((record, state))
}
