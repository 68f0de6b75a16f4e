//! File of the bindings.

use std::path::Path;
use std::time::SystemTime;

use redb::{ReadableTable, TableDefinition};
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::timestamp;
use saegis_store::{Error, Store};
use serde::{Deserialize, Serialize};

/// By Credential-ID, a [`Stored`] in JSON.
const BINDINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bindings");

/// By Credential-ID, an [`Intent`] in JSON.
const INTENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("intents");

/// Maximum memory that redb uses for pages, in bytes.
const CACHE: usize = 4 << 20;

/// AE-ID that was assigned to a credential.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The AE-ID-Stem.
    pub stem: AeIdStem,
    /// The time of the assignment.
    pub since: SystemTime,
    /// The addresses of the AE, in the form of a To.
    pub places: Vec<String>,
}

/// The form on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    stem: String,
    since: String,
    places: Vec<String>,
}

/// Intended request to the CSE on behalf of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Registration of the AE with that AE-ID-Stem.
    Register {
        /// The AE-ID-Stem.
        stem: String,
        /// Its App-ID.
        app_id: String,
        /// Expected address of its resource.
        place: String,
        /// Time of the request, in seconds since 1970.
        at: u64,
    },
    /// Deletion of its AE.
    Delete,
}

/// Error of the store.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// The file cannot be opened, read or written.
    #[error(transparent)]
    Store(#[from] Error),
    /// The store of the embedded CSE cannot be read or written.
    #[error("the embedded CSE: {0}")]
    Registrar(#[from] saegis_cse::StoreError),
    /// An entry is not a valid binding.
    #[error("the binding of {0} is damaged")]
    Damaged(String),
    /// The maximum number of bindings is reached.
    #[error("the maximum number of bindings is reached ({0})")]
    Full(usize),
    /// The work was canceled, such as at the end of the process.
    #[error("the work was canceled")]
    GivenUp,
}

/// Change of the entries of a credential.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Adds its AE-ID.
    Bind(Binding),
    /// Removes its AE-ID.
    Free,
    /// Records an intended request.
    Intend(Intent),
    /// Removes the recorded request.
    Settle,
}

/// The file.
pub(super) struct File(Store);

impl File {
    /// Opens or creates the file, and returns its bindings.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<(CredentialId, Binding)>), BindingError> {
        let file = Self(Store::open(path, CACHE)?);
        // Creates the tables if they do not exist.
        file.write(&[])?;
        let stored = file.read()?;
        Ok((file, stored))
    }

    fn read(&self) -> Result<Vec<(CredentialId, Binding)>, BindingError> {
        let mut all = Vec::new();
        for (credential, stored) in self.rows::<Stored>(BINDINGS)? {
            let damaged = || BindingError::Damaged(credential.to_string());
            let stem = AeIdStem::parse(&stored.stem).map_err(|_| damaged())?;
            let since = timestamp::parse(&stored.since).map_err(|_| damaged())?;
            all.push((credential, Binding { stem, since, places: stored.places }));
        }
        Ok(all)
    }

    /// Returns the recorded requests whose results are unknown.
    pub(super) fn intents(&self) -> Result<Vec<(CredentialId, Intent)>, BindingError> {
        self.rows(INTENTS)
    }

    fn rows<T: serde::de::DeserializeOwned>(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
    ) -> Result<Vec<(CredentialId, T)>, BindingError> {
        let rows = || {
            let mut rows: Vec<(String, Vec<u8>)> = Vec::new();
            for entry in self.0.access()?.begin_read()?.open_table(table)?.iter()? {
                let (key, value) = entry?;
                rows.push((key.value().into(), value.value().into()));
            }
            Ok::<_, Error>(rows)
        };
        let read = |(key, value): (String, Vec<u8>)| {
            let credential = CredentialId::parse(&key).ok();
            let value = serde_json::from_slice(&value).ok();
            credential.zip(value).ok_or(BindingError::Damaged(key))
        };
        rows()?.into_iter().map(read).collect()
    }

    /// Writes all changes in one transaction.
    pub(super) fn write(&self, changes: &[(CredentialId, Change)]) -> Result<(), BindingError> {
        let done = self.commit(changes);
        if done.as_ref().is_err_and(|error| !error.is_paused()) {
            self.0.suspect();
        }
        Ok(done?)
    }

    fn commit(&self, changes: &[(CredentialId, Change)]) -> Result<(), Error> {
        let access = self.0.access()?;
        let transaction = access.begin_write()?;
        {
            let mut bindings = transaction.open_table(BINDINGS)?;
            let mut intents = transaction.open_table(INTENTS)?;
            for (credential, change) in changes {
                let key = credential.to_string();
                match change {
                    Change::Bind(binding) => {
                        bindings.insert(&*key, &*in_json(&Stored::of(binding))?)?;
                    }
                    Change::Free => drop(bindings.remove(&*key)?),
                    Change::Intend(_) | Change::Settle => {}
                }
                match change {
                    Change::Intend(intent) => drop(intents.insert(&*key, &*in_json(intent)?)?),
                    Change::Bind(_) | Change::Free | Change::Settle => drop(intents.remove(&*key)?),
                }
            }
        }
        access.commit(transaction)
    }

    /// Puts the store into the state after a failure.
    #[cfg(test)]
    pub(super) fn suspect(&self) {
        self.0.suspect();
    }
}

impl Stored {
    fn of(binding: &Binding) -> Self {
        Self {
            stem: binding.stem.to_string(),
            since: timestamp::format(binding.since),
            places: binding.places.clone(),
        }
    }
}

fn in_json(value: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(value).map_err(|error| redb::Error::Io(error.into()))
}
