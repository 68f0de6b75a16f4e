//! The file of the bindings.

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

/// An AE-ID that a credential has got.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The AE-ID-Stem.
    pub stem: AeIdStem,
    /// Since when.
    pub since: SystemTime,
    /// The addresses of the AE's resource, as a To names them.
    pub places: Vec<String>,
}

/// The form on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    stem: String,
    since: String,
    places: Vec<String>,
}

/// What is about to be asked of the CSE in the name of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// To register the AE with that AE-ID-Stem.
    Register {
        /// The AE-ID-Stem.
        stem: String,
        /// Its App-ID.
        app_id: String,
        /// Where its resource will be.
        place: String,
        /// When it was asked, in seconds since 1970.
        at: u64,
    },
    /// To delete its AE.
    Delete,
}

/// The bindings can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// The file can't be opened, read or written.
    #[error(transparent)]
    Store(#[from] Error),
    /// The embedded CSE's store can't be read or written.
    #[error("the embedded CSE: {0}")]
    Registrar(#[from] saegis_cse::StoreError),
    /// What is in it is no binding.
    #[error("the binding of {0} can't be read")]
    Damaged(String),
    /// There are as many as there can be.
    #[error("there are {0} bindings already")]
    Full(usize),
    /// The work was given up, as at the end of the process.
    #[error("it was given up")]
    GivenUp,
}

/// A change of what is known of a credential.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// It has an AE-ID.
    Bind(Binding),
    /// It has none.
    Free,
    /// Something is about to be asked.
    Intend(Intent),
    /// It is known what came of it.
    Settle,
}

/// The file.
pub(super) struct File(Store);

impl File {
    /// Opens the file, or makes it, and gives the bindings in it.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<(CredentialId, Binding)>), BindingError> {
        let file = Self(Store::open(path, CACHE)?);
        // Makes the tables, where there are none.
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

    /// What was about to be asked when the process ended.
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

    /// Writes changes, all or none.
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

    /// As after a failure.
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
