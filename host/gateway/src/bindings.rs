//! Which AE-ID each credential has got by registering, where policy does not say it: on disk, so
//! that after a reconnection or a restart the same credential speaks as that AE and no other.
//!
//! A binding is made in two steps. It is set aside before the registrar is asked, and kept when the
//! registrar has confirmed; whatever happens between, no other credential can have the AE-ID.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::timestamp;
use serde::{Deserialize, Serialize};

/// By Credential-ID, a [`Stored`] in JSON.
const BINDINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bindings");

/// Most bindings there can be: one more registration without an AE-ID is refused.
const MOST: usize = 1_000_000;

/// An AE-ID that a credential has got.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The AE-ID-Stem.
    pub stem: AeIdStem,
    /// Since when.
    pub since: SystemTime,
    /// The addresses of the AE's resource, as a To names them.
    places: Vec<String>,
}

/// The form on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    stem: String,
    since: String,
    places: Vec<String>,
}

/// The bindings can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// The file can't be opened, read or written.
    #[error(transparent)]
    Store(Box<redb::Error>),
    /// What is in it is no binding.
    #[error("the binding of {0} can't be read")]
    Damaged(String),
    /// There are as many as there can be.
    #[error("there are {MOST} bindings already")]
    Full,
    /// The work was given up, as at the end of the process.
    #[error("it was given up")]
    GivenUp,
}

impl<E: Into<redb::Error>> From<E> for BindingError {
    fn from(error: E) -> Self {
        Self::Store(Box::new(error.into()))
    }
}

/// Why an AE-ID can't be set aside for a credential.
#[derive(Debug, thiserror::Error)]
pub enum Taken {
    /// It is another's.
    #[error("the AE-ID belongs to another credential")]
    ByAnother,
    /// The credential has an AE-ID, or is about to get one.
    #[error("the credential is registered, or about to be, as another AE")]
    HasAnother,
    /// The bindings can't be written.
    #[error(transparent)]
    Failed(#[from] BindingError),
}

#[derive(Default)]
struct Maps {
    by_credential: HashMap<CredentialId, Binding>,
    by_stem: HashMap<AeIdStem, CredentialId>,
    /// Credentials whose registration is under way, each with the AE-ID that is asked for.
    under_way: HashMap<CredentialId, Option<AeIdStem>>,
}

impl Maps {
    fn insert(&mut self, credential: &CredentialId, binding: Binding) {
        self.remove(credential);
        self.by_stem.insert(binding.stem.clone(), credential.clone());
        self.by_credential.insert(credential.clone(), binding);
    }

    fn remove(&mut self, credential: &CredentialId) -> Option<Binding> {
        let binding = self.by_credential.remove(credential)?;
        if self.by_stem.get(&binding.stem) == Some(credential) {
            self.by_stem.remove(&binding.stem);
        }
        Some(binding)
    }

    fn holder(&self, stem: &AeIdStem) -> Option<&CredentialId> {
        let asked_for = |(credential, asked): (&'_ CredentialId, &Option<AeIdStem>)| {
            (asked.as_ref() == Some(stem)).then(|| credential.clone())
        };
        match self.by_stem.get(stem) {
            Some(holder) => Some(holder),
            None => {
                let asking = self.under_way.iter().find_map(asked_for)?;
                self.under_way.get_key_value(&asking).map(|(credential, _)| credential)
            }
        }
    }
}

/// All bindings.
#[derive(Clone)]
pub struct Bindings {
    maps: Arc<Mutex<Maps>>,
    file: Arc<Mutex<File>>,
}

/// The file, opened anew after a failure, as redb wants it.
struct File {
    path: PathBuf,
    database: Option<Database>,
}

impl File {
    fn database(&mut self) -> Result<&Database, BindingError> {
        match &mut self.database {
            Some(database) => Ok(database),
            none => Ok(none.insert(Database::create(&self.path)?)),
        }
    }

    fn write(
        &mut self,
        work: impl FnOnce(&mut redb::Table<'_, &str, &[u8]>) -> Result<(), redb::StorageError>,
    ) -> Result<(), BindingError> {
        let done = self.database().and_then(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            work(&mut transaction.open_table(BINDINGS)?)?;
            transaction.commit()?;
            Ok(())
        });
        if done.is_err() {
            self.database = None;
        }
        done
    }
}

impl Bindings {
    /// Reads the bindings of a file, or makes it.
    ///
    /// # Errors
    /// When the file can't be had, or holds something else.
    pub fn open(path: &Path) -> Result<Self, BindingError> {
        let mut file = File { path: path.into(), database: None };
        // Makes the table, where there is none.
        file.write(|_| Ok(()))?;
        let mut maps = Maps::default();
        for entry in file.database()?.begin_read()?.open_table(BINDINGS)?.iter()? {
            let (credential, stored) = entry?;
            let damaged = || BindingError::Damaged(credential.value().into());
            let stored: Stored = serde_json::from_slice(stored.value()).map_err(|_| damaged())?;
            let id = CredentialId::parse(credential.value()).map_err(|_| damaged())?;
            let stem = AeIdStem::parse(&stored.stem).map_err(|_| damaged())?;
            // An AE-ID is one credential's, or the file is not what was written.
            if maps.by_stem.contains_key(&stem) {
                return Err(damaged());
            }
            let since = timestamp::parse(&stored.since).map_err(|_| damaged())?;
            maps.insert(&id, Binding { stem, since, places: stored.places });
        }
        Ok(Self { maps: Arc::new(Mutex::new(maps)), file: Arc::new(Mutex::new(file)) })
    }

    /// Nothing panics while it holds the lock.
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The AE-ID of a credential.
    pub fn of(&self, credential: &CredentialId) -> Option<AeIdStem> {
        self.maps().by_credential.get(credential).map(|binding| binding.stem.clone())
    }

    /// The credential that has an AE-ID, or has asked for it.
    pub fn holder(&self, stem: &AeIdStem) -> Option<CredentialId> {
        self.maps().holder(stem).cloned()
    }

    /// The credential that has an AE-ID for good; one that has only asked for it has not.
    pub fn bound_to(&self, stem: &AeIdStem) -> Option<CredentialId> {
        self.maps().by_stem.get(stem).cloned()
    }

    /// All of them, by Credential-ID.
    pub fn all(&self) -> Vec<(CredentialId, Binding)> {
        let mut all: Vec<_> =
            self.maps().by_credential.iter().map(|(c, b)| (c.clone(), b.clone())).collect();
        all.sort_by_cached_key(|(credential, _)| credential.to_string());
        all
    }

    /// Sets an AE-ID aside for a credential that is about to register: the one that it asks for, or
    /// none yet, where the registrar is to choose.
    ///
    /// # Errors
    /// When the AE-ID is another's, or the credential has another.
    pub fn set_aside(
        &self,
        credential: &CredentialId,
        stem: Option<AeIdStem>,
    ) -> Result<SetAside, Taken> {
        let mut maps = self.maps();
        if let Some(stem) = &stem
            && maps.holder(stem).is_some_and(|holder| holder != credential)
        {
            return Err(Taken::ByAnother);
        }
        let own = maps.by_credential.get(credential).map(|binding| &binding.stem);
        let other = own.is_some() && own != stem.as_ref();
        if other || maps.under_way.contains_key(credential) {
            return Err(Taken::HasAnother);
        }
        if maps.by_credential.len() + maps.under_way.len() >= MOST {
            return Err(BindingError::Full.into());
        }
        maps.under_way.insert(credential.clone(), stem);
        Ok(SetAside { bindings: self.clone(), credential: credential.clone() })
    }

    /// Frees a credential's AE-ID, and gives what it was.
    ///
    /// # Errors
    /// When that can't be written; then it is as it was.
    pub async fn free(&self, credential: &CredentialId) -> Result<Option<Binding>, BindingError> {
        let (bindings, credential) = (self.clone(), credential.clone());
        off_the_runtime(move || {
            if !bindings.maps().by_credential.contains_key(&credential) {
                return Ok(None);
            }
            let key = credential.to_string();
            // Held over both, so that file and memory change in one order.
            let mut file = bindings.file();
            file.write(|table| table.remove(key.as_str()).map(drop))?;
            Ok(bindings.maps().remove(&credential))
        })
        .await
    }

    /// Whether a credential's AE is the resource at an address, as far as its registration told.
    pub fn is_at(&self, credential: &CredentialId, place: &str) -> bool {
        let maps = self.maps();
        maps.by_credential.get(credential).is_some_and(|b| b.places.iter().any(|p| p == place))
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells that bindings could not be written.
pub fn log_failure(error: &BindingError) {
    tracing::error!(event = "bindings.failed", "the bindings of AE-IDs can't be written: {error}");
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BindingError> + Send + 'static,
) -> Result<T, BindingError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BindingError::GivenUp))
}

/// An AE-ID that is set aside, for as long as this is held.
pub struct SetAside {
    bindings: Bindings,
    credential: CredentialId,
}

impl Drop for SetAside {
    fn drop(&mut self) {
        self.bindings.maps().under_way.remove(&self.credential);
    }
}

impl SetAside {
    /// The AE-ID that was asked for, if one was.
    pub fn asked_for(&self) -> Option<AeIdStem> {
        self.bindings.maps().under_way.get(&self.credential).cloned().flatten()
    }

    /// The registrar has confirmed the AE-ID, and the AE's resource is at these addresses.
    ///
    /// # Errors
    /// When the AE-ID is another's meanwhile, or not the one that was asked for, or the binding
    /// can't be written.
    pub async fn confirm(self, stem: AeIdStem, places: Vec<String>) -> Result<(), Taken> {
        {
            let mut maps = self.bindings.maps();
            if maps.holder(&stem).is_some_and(|holder| *holder != self.credential) {
                return Err(Taken::ByAnother);
            }
            let asked = maps.under_way.insert(self.credential.clone(), Some(stem.clone()));
            if asked.flatten().is_some_and(|asked| asked != stem) {
                return Err(Taken::HasAnother);
            }
        }
        let binding = Binding { stem, since: SystemTime::now(), places };
        let bindings = self.bindings.clone();
        let credential = self.credential.clone();
        let written = off_the_runtime(move || {
            let stored = Stored {
                stem: binding.stem.to_string(),
                since: timestamp::format(binding.since),
                places: binding.places.clone(),
            };
            let key = credential.to_string();
            let value =
                serde_json::to_vec(&stored).map_err(|_| BindingError::Damaged(key.clone()))?;
            let mut file = bindings.file();
            file.write(|table| table.insert(key.as_str(), value.as_slice()).map(drop))?;
            bindings.maps().insert(&credential, binding);
            Ok(())
        });
        Ok(written.await?)
    }
}

#[cfg(test)]
#[path = "bindings_tests.rs"]
mod tests;
