//! The import of exported resources into a CSE that does not run.
//!
//! A resource is restored after those that it names. Resources that name each other in a circle are
//! restored in one transaction: policies and groups without their references first, which are added
//! when all resources exist.

mod comparison;
mod entry;
#[cfg(test)]
mod reference_tests;
mod restoration;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use saegis_onem2m::target::Target;
use serde_json::Value;

use self::comparison::{Comparison, Present, other};
use self::entry::Entry;
use self::restoration::restore;
use crate::budget::RequestBudget;
use crate::record::{Record, seconds};
use crate::resource::address::{self, Resolved};
use crate::state::State;
use crate::store::StoreError;

/// An import of exported resources.
///
/// The holders of the names in them must be the same as at the export: the owners and creators of the
/// resources, and the registrants of the AEs.
pub struct Import<'a> {
    state: &'a State,
    /// Resources that name others which do not exist yet.
    waiting: Vec<Entry>,
    report: ImportReport,
}

/// The result of an import.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// Number of created resources.
    pub created: usize,
    /// Number of resources that existed.
    pub existing: usize,
    /// Addresses of the omitted resources, with the reasons.
    pub omitted: Vec<(String, String)>,
}

/// The state of an exported resource in the CSE.
enum Status {
    /// It exists, with the same holder.
    Exists,
    /// It cannot be restored, for this reason.
    Refused(String),
    /// It does not exist.
    Compared(Comparison),
}

impl<'a> Import<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Self { state, waiting: Vec::new(), report: ImportReport::default() }
    }

    /// Restores a resource from its exported representation and holders. It gets another resource-ID
    /// and other times. It waits for the resources that it names.
    pub fn add(&mut self, address: &str, representation: &Value, holders: &Value) {
        match Entry::parse(address, representation, holders) {
            Ok(entry) => {
                let waits = self.attempt(entry);
                self.waiting.extend(waits);
            }
            Err(why) => self.report.omitted.push((address.into(), why)),
        }
    }

    /// Restores the resources that wait for others, as far as possible.
    #[must_use]
    pub fn finish(mut self) -> ImportReport {
        loop {
            let before = self.waiting.len();
            for entry in std::mem::take(&mut self.waiting) {
                let waits = self.attempt(entry);
                self.waiting.extend(waits);
            }
            if self.waiting.len() == before {
                break;
            }
        }
        self.restore_circles();
        self.report
    }

    fn omit(&mut self, entry: &Entry, why: impl Into<String>) {
        self.report.omitted.push((entry.address.clone(), why.into()));
    }

    /// Restores a resource, unless it waits for others. Returns it then.
    fn attempt(&mut self, entry: Entry) -> Option<Entry> {
        match self.status(&entry) {
            Ok(Status::Exists) => self.report.existing += 1,
            Ok(Status::Refused(why)) => self.omit(&entry, why),
            Ok(Status::Compared(found)) if found.missing.is_empty() && !found.has_dangling_link => {
                match restore(self.state, &[&entry], false) {
                    Ok(()) => self.report.created += 1,
                    Err(failure) => self.omit(&entry, failure.why),
                }
            }
            Ok(Status::Compared(_)) => return Some(entry),
            Err(error) => self.omit(&entry, error.to_string()),
        }
        None
    }

    fn status(&self, entry: &Entry) -> Result<Status, StoreError> {
        let snapshot = self.state.store.snapshot(&RequestBudget::unlimited())?;
        let now = seconds(SystemTime::now());
        let present = Present { read: snapshot.read(), settings: &self.state.settings, now };
        let Ok(target) = Target::from_address(&entry.address) else {
            return Ok(Status::Refused("the address is invalid".into()));
        };
        if let Some(record) = found(&present, &target) {
            // Another one can have taken the name. Its resources are not those of the export.
            return Ok(match present.holder(&record)? == entry.holders.own {
                true => Status::Exists,
                false => Status::Refused(other(&entry.address, false)),
            });
        }
        if entry.is_made_elsewhere() {
            return Ok(Status::Refused("it must register itself".into()));
        }
        let compared = present.compare(&entry.parent, &entry.holders, &entry.attributes)?;
        Ok(match compared.mismatch {
            Some(why) => Status::Refused(why),
            None => Status::Compared(compared),
        })
    }

    /// Restores resources that name each other, and those whose addresses without rights denote
    /// nothing.
    fn restore_circles(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut open: HashMap<&str, &Entry> =
            waiting.iter().map(|entry| (entry.address.as_str(), entry)).collect();
        for entry in &waiting {
            if !open.contains_key(entry.address.as_str()) {
                continue;
            }
            let restored = self.connected(entry, &open).and_then(|all| {
                let entries: Vec<_> = all.iter().filter_map(|at| open.get(at).copied()).collect();
                restore(self.state, &entries, true).map(|()| all).map_err(|failure| {
                    match failure.address == entry.address {
                        true => failure.why,
                        false => format!("{}: {}", failure.address, failure.why),
                    }
                })
            });
            match restored {
                Ok(all) => {
                    self.report.created += all.len();
                    open.retain(|at, _| !all.contains(at));
                }
                Err(why) => {
                    open.remove(entry.address.as_str());
                    self.omit(entry, why);
                }
            }
        }
    }

    /// Returns the addresses of a waiting resource and of all that it waits for.
    ///
    /// # Errors
    /// Returns the reason if one of them is not in the import.
    fn connected<'e>(
        &self,
        entry: &'e Entry,
        open: &HashMap<&'e str, &'e Entry>,
    ) -> Result<BTreeSet<&'e str>, String> {
        let mut all = BTreeSet::from([entry.address.as_str()]);
        let mut next = vec![entry];
        while let Some(entry) = next.pop() {
            let compared = match self.status(entry).map_err(|error| error.to_string())? {
                Status::Compared(compared) => compared,
                Status::Refused(why) => return Err(why),
                Status::Exists => return Err("it is in the export several times".into()),
            };
            for missing in compared.missing {
                let Some((address, named)) = open.get_key_value(missing.path.as_str()) else {
                    return Err(missing.reason());
                };
                if all.insert(address) {
                    next.push(named);
                }
            }
        }
        Ok(all)
    }
}

/// Returns the resource at an address.
fn found(present: &Present<'_>, target: &Target) -> Option<Record> {
    match address::resolve(present.read, present.settings, target, present.now) {
        Ok(Resolved::Resource(found)) => Some(found.record),
        Ok(Resolved::Instance { container, .. }) => Some(container.record),
        Err(_) => None,
    }
}
