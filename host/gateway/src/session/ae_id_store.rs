//! Which AE-ID each credential has got by registering, where policy does not say it: on disk, so
//! that after a reconnection or a restart the same credential speaks as that AE and no other.
//!
//! A binding is made in two steps. It is set aside before the registrar is asked, and kept when the
//! registrar has confirmed; whatever happens between, no other credential can have the AE-ID.
//!
//! An AE and its binding survive or vanish together. The embedded CSE writes the Credential-ID into the
//! `<AE>` in the transaction that registers it, so a start completes the bindings from there. A CSE behind
//! the gateway does not, so what is asked of it is written down before ([`Intent`]), and resolved when the
//! same credential comes back.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use saegis_cse::EmbeddedCse;
use saegis_onem2m::id::{AeIdStem, CredentialId};

pub use self::file::{Binding, BindingError, Intent};
use self::file::{Change, File};
use crate::telemetry::audit;

mod file;

/// Most bindings there can be: one more registration without an AE-ID is refused.
const MAX_BINDINGS: usize = 1_000_000;

/// Maximum number of AE-IDs that a credential can get at once, one after the other. Each is a line of
/// the audit trail that no rate may hide.
const MAX_BURST: f64 = 32.0;
/// Time after which it can get one more.
const REFILL_INTERVAL: Duration = Duration::from_secs(6);

/// Time between two looks at whether an AE that is to be removed is still being registered.
const REMOVAL_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Why an AE-ID can't be set aside for a credential.
#[derive(Debug, thiserror::Error)]
pub enum ReservationError {
    /// It is another's.
    #[error("the AE-ID belongs to another credential")]
    ByAnother,
    /// The credential has an AE-ID, or is about to get one.
    #[error("the credential is registered, or about to be, as another AE")]
    HasAnother,
    /// An operator removes the AE.
    #[error("the AE is being removed")]
    BeingRemoved,
    /// The credential has got too many AE-IDs of late.
    #[error("the credential has registered too often of late; try again later")]
    TooOften,
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
    /// The AE-IDs of AEs that an operator removes.
    being_removed: HashSet<AeIdStem>,
    /// What was asked of the CSE, and is not known to have been done or refused.
    intents: HashMap<CredentialId, Intent>,
    /// When the AE-IDs that each credential has got of late no longer count.
    of_late: HashMap<CredentialId, Instant>,
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

    /// Returns whether a credential has got as many AE-IDs of late as it may.
    fn has_too_many(&self, credential: &CredentialId, now: Instant) -> bool {
        let counts = self.of_late.get(credential);
        let counts = counts.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        counts > REFILL_INTERVAL.mul_f64(MAX_BURST - 1.0)
    }

    /// Counts one more AE-ID that a credential has got.
    fn count(&mut self, credential: &CredentialId, now: Instant) {
        // Now and then is enough: there are no more of them than credentials.
        if self.of_late.len() >= 1024 && self.of_late.len().is_power_of_two() {
            self.of_late.retain(|_, until| *until > now);
        }
        let until = self.of_late.entry(credential.clone()).or_insert(now);
        *until = (*until).max(now) + REFILL_INTERVAL;
    }

    /// Returns whether an AE is being registered or deleted by its credential.
    fn is_under_way(&self, stem: &AeIdStem) -> bool {
        let holder = self.by_stem.get(stem);
        holder.is_some_and(|holder| self.under_way.contains_key(holder))
            || self.under_way.values().any(|asked| asked.as_ref() == Some(stem))
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
pub struct AeIdStore {
    maps: Arc<Mutex<Maps>>,
    file: Arc<Mutex<File>>,
    /// The embedded CSE, whose `<AE>`s say the same.
    registrar: Arc<OnceLock<Arc<EmbeddedCse>>>,
}

impl AeIdStore {
    /// Reads the bindings of a file, or makes it.
    ///
    /// # Errors
    /// When the file can't be had, or holds something else.
    pub fn open(path: &Path) -> Result<Self, BindingError> {
        let (file, stored) = File::open(path)?;
        let mut maps = Maps::default();
        for (credential, binding) in stored {
            // An AE-ID is one credential's, or the file is not what was written.
            if maps.by_stem.contains_key(&binding.stem) {
                return Err(BindingError::Damaged(credential.to_string()));
            }
            maps.insert(&credential, binding);
        }
        maps.intents = file.intents()?.into_iter().collect();
        let file = Arc::new(Mutex::new(file));
        Ok(Self { maps: Arc::new(Mutex::new(maps)), file, registrar: Arc::default() })
    }

    /// Brings the bindings and the AEs of the embedded CSE together, where the process ended between the
    /// two: an AE without a binding gets it, unless policy reserves the AE-ID, and a binding whose AE was
    /// deleted is freed. Blocks on the disk.
    ///
    /// # Errors
    /// When the bindings can't be written, or the AEs can't be read.
    pub fn reconcile(
        &self,
        registrar: &Arc<EmbeddedCse>,
        is_reserved: impl Fn(&AeIdStem) -> bool,
    ) -> Result<(), BindingError> {
        let mut maps = self.maps();
        let is_known =
            |stem: &str| AeIdStem::parse(stem).is_ok_and(|s| maps.by_stem.contains_key(&s));
        let mut changes = Vec::new();
        for ae in registrar.learned_aes(&is_known, SystemTime::now())? {
            let (Ok(stem), Ok(credential)) =
                (AeIdStem::parse(&ae.stem), CredentialId::parse(&ae.credential_id))
            else {
                continue;
            };
            if is_reserved(&stem) {
                continue;
            }
            if let Some(other) = maps.by_credential.get(&credential) {
                tracing::warn!(
                    event = "ae-id.conflict",
                    credential_id = %credential,
                    ae_id = %stem,
                    "the AE {stem} was registered by {credential}, which has the AE-ID {}: nobody is \
                     {stem} until it expires or is removed (saegis delete-ae {stem})",
                    other.stem
                );
                continue;
            }
            let places = vec![ae.stem];
            let binding = Binding { stem, since: SystemTime::now(), places };
            maps.insert(&credential, binding.clone());
            changes.push((credential, Change::Bind(binding)));
        }
        let deletions: Vec<_> = maps.intents.drain().collect();
        for (credential, intent) in deletions {
            let gone = match &intent {
                Intent::Delete => match maps.by_credential.get(&credential) {
                    Some(binding) => !registrar.is_ae(&binding.stem, SystemTime::now())?,
                    None => false,
                },
                Intent::Register { .. } => false,
            };
            changes.push((credential, if gone { Change::Free } else { Change::Settle }));
        }
        if !changes.is_empty() {
            self.file().write(&changes)?;
        }
        for (credential, change) in changes {
            match change {
                Change::Bind(binding) => audit::bound(&credential, &binding.stem),
                Change::Free => {
                    if let Some(binding) = maps.remove(&credential) {
                        audit::binding_freed(&credential, &binding.stem, "its AE was deleted");
                    }
                }
                Change::Settle | Change::Intend(_) => {}
            }
        }
        drop(maps);
        // Set once, for there is one.
        let _ = self.registrar.set(registrar.clone());
        Ok(())
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

    /// The addresses of the resource of a credential's AE, as far as its registration told.
    pub fn places(&self, credential: &CredentialId) -> Vec<String> {
        let maps = self.maps();
        maps.by_credential.get(credential).map(|b| b.places.clone()).unwrap_or_default()
    }

    /// All of them, by Credential-ID.
    pub fn all(&self) -> Vec<(CredentialId, Binding)> {
        let mut all: Vec<_> =
            self.maps().by_credential.iter().map(|(c, b)| (c.clone(), b.clone())).collect();
        all.sort_by_cached_key(|(credential, _)| credential.to_string());
        all
    }

    /// Returns whether a credential has got as many AE-IDs of late as it may.
    pub fn has_too_many(&self, credential: &CredentialId) -> bool {
        self.maps().has_too_many(credential, Instant::now())
    }

    /// Sets an AE-ID aside for a credential that is about to register: the one that it asks for, or
    /// none yet, where the registrar is to choose.
    ///
    /// # Errors
    /// When the AE-ID is another's, or the credential has another.
    pub fn reserve(
        &self,
        credential: &CredentialId,
        stem: Option<AeIdStem>,
    ) -> Result<AeIdReservation, ReservationError> {
        let mut maps = self.maps();
        if stem.as_ref().is_some_and(|stem| maps.being_removed.contains(stem)) {
            return Err(ReservationError::BeingRemoved);
        }
        if let Some(stem) = &stem
            && maps.holder(stem).is_some_and(|holder| holder != credential)
        {
            return Err(ReservationError::ByAnother);
        }
        let own = maps.by_credential.get(credential).map(|binding| &binding.stem);
        let other = own.is_some() && own != stem.as_ref();
        if other || maps.under_way.contains_key(credential) {
            return Err(ReservationError::HasAnother);
        }
        if maps.by_credential.len() + maps.under_way.len() >= MAX_BINDINGS {
            return Err(BindingError::Full(MAX_BINDINGS).into());
        }
        maps.under_way.insert(credential.clone(), stem);
        let intent = maps.intents.get(credential).cloned();
        Ok(AeIdReservation { bindings: self.clone(), credential: credential.clone(), intent })
    }

    /// Begins to remove an AE: no registration or deletion of it is under way, and none begins until the
    /// guard is dropped. None, where one stays under way for that time.
    pub async fn begin_removal(&self, stem: &AeIdStem, timeout: Duration) -> Option<Removal> {
        let is_first = self.maps().being_removed.insert(stem.clone());
        if !is_first {
            return None;
        }
        let removal = Removal { bindings: self.clone(), stem: stem.clone() };
        let ended = async {
            while self.maps().is_under_way(stem) {
                tokio::time::sleep(REMOVAL_POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(timeout, ended).await.ok().map(|()| removal)
    }

    /// Frees a credential's AE-ID, and gives what it was.
    ///
    /// # Errors
    /// When that can't be written; then it is as it was.
    pub async fn free(&self, credential: &CredentialId) -> Result<Option<Binding>, BindingError> {
        let (bindings, credential) = (self.clone(), credential.clone());
        off_the_runtime(move || {
            let Some(stem) = bindings.of(&credential) else { return Ok(None) };
            // First, or else the next start would bind it again.
            if let Some(registrar) = bindings.registrar.get() {
                registrar.forget_credential(stem.as_str(), &credential.to_string())?;
            }
            // Held over both, so that file and memory change in one order.
            let file = bindings.file();
            file.write(&[(credential.clone(), Change::Free)])?;
            let mut maps = bindings.maps();
            maps.intents.remove(&credential);
            Ok(maps.remove(&credential))
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
    tracing::error!(
        event = "ae-id.store-failed",
        "the bindings of AE-IDs can't be written: {error}"
    );
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BindingError> + Send + 'static,
) -> Result<T, BindingError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BindingError::GivenUp))
}

/// The removal of an AE, for as long as this is held.
pub struct Removal {
    bindings: AeIdStore,
    stem: AeIdStem,
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.bindings.maps().being_removed.remove(&self.stem);
    }
}

/// An AE-ID that is set aside, for as long as this is held.
pub struct AeIdReservation {
    bindings: AeIdStore,
    credential: CredentialId,
    /// What the credential had asked before, where it is not known what came of it.
    intent: Option<Intent>,
}

impl Drop for AeIdReservation {
    fn drop(&mut self) {
        self.bindings.maps().under_way.remove(&self.credential);
    }
}

impl AeIdReservation {
    /// The AE-ID that was asked for, if one was.
    pub fn asked_for(&self) -> Option<AeIdStem> {
        self.bindings.maps().under_way.get(&self.credential).cloned().flatten()
    }

    /// What the credential had asked before, where it is not known what came of it.
    pub fn earlier(&self) -> Option<&Intent> {
        self.intent.as_ref()
    }

    /// Writes down what is to be asked of the CSE.
    ///
    /// # Errors
    /// When it can't be written; then it is not to be asked.
    pub async fn intend(&self, intent: Intent) -> Result<(), BindingError> {
        self.change(Change::Intend(intent)).await
    }

    /// The CSE has done what it was asked, or refused to.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn settle(&self) -> Result<(), BindingError> {
        if self.bindings.maps().intents.contains_key(&self.credential) {
            self.change(Change::Settle).await?;
        }
        Ok(())
    }

    async fn change(&self, change: Change) -> Result<(), BindingError> {
        let (bindings, credential) = (self.bindings.clone(), self.credential.clone());
        off_the_runtime(move || {
            let file = bindings.file();
            file.write(&[(credential.clone(), change.clone())])?;
            let mut maps = bindings.maps();
            match change {
                Change::Intend(intent) => drop(maps.intents.insert(credential, intent)),
                _ => drop(maps.intents.remove(&credential)),
            }
            Ok(())
        })
        .await
    }

    /// The registrar has confirmed the AE-ID, and the AE's resource is at these addresses.
    ///
    /// # Errors
    /// When the AE-ID is another's meanwhile, or not the one that was asked for, or the binding
    /// can't be written.
    pub async fn confirm(
        self,
        stem: AeIdStem,
        places: Vec<String>,
    ) -> Result<(), ReservationError> {
        {
            let mut maps = self.bindings.maps();
            if maps.holder(&stem).is_some_and(|holder| *holder != self.credential) {
                return Err(ReservationError::ByAnother);
            }
            let asked = maps.under_way.insert(self.credential.clone(), Some(stem.clone()));
            match asked.flatten() {
                Some(asked) if asked != stem => return Err(ReservationError::HasAnother),
                Some(_) => {}
                // The CSE chose the AE-ID, so a removal that is under way did not wait for this.
                None if maps.being_removed.contains(&stem) => {
                    return Err(ReservationError::BeingRemoved);
                }
                None => {}
            }
        }
        let binding = Binding { stem, since: SystemTime::now(), places };
        let bindings = self.bindings.clone();
        let credential = self.credential.clone();
        let written = off_the_runtime(move || {
            let file = bindings.file();
            // An operator may have removed an AE whose AE-ID the registrar chose.
            if let Some(registrar) = bindings.registrar.get()
                && !registrar.is_ae(&binding.stem, SystemTime::now())?
            {
                return Ok(false);
            }
            file.write(&[(credential.clone(), Change::Bind(binding.clone()))])?;
            let mut maps = bindings.maps();
            maps.intents.remove(&credential);
            maps.count(&credential, Instant::now());
            maps.insert(&credential, binding);
            Ok(true)
        });
        if written.await? { Ok(()) } else { Err(ReservationError::BeingRemoved) }
    }
}

#[cfg(test)]
#[path = "ae_id_store_tests.rs"]
mod tests;
