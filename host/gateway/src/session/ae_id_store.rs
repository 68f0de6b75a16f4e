//! AE-IDs that registrations assigned to credentials, if policy does not name one. They are stored
//! on disk, so that after a reconnection or a restart a credential still identifies the same AE.
//!
//! A binding is created in two steps. The AE-ID is reserved before the registrar receives the
//! request, and bound after the registrar has confirmed it. In between, no other credential can get
//! the AE-ID.
//!
//! An AE and its binding survive or vanish together. The embedded CSE writes the Credential-ID into
//! the `<AE>` in the transaction that registers it, so bindings are completed from there at the
//! start. An upstream CSE does not do so. An intended request to it is recorded first ([`Intent`])
//! and resolved when the same credential connects again.

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

/// Maximum number of bindings. Beyond it, a registration without an AE-ID is refused.
const MAX_BINDINGS: usize = 1_000_000;

/// Maximum number of AE-IDs that a credential can get in a burst. Each creates a line of the audit
/// trail that is exempt from the rate limit.
const MAX_BURST: f64 = 32.0;
/// Time after which a credential can get one more.
const REFILL_INTERVAL: Duration = Duration::from_secs(6);

/// Interval at which a removal checks whether the AE is still being registered.
const REMOVAL_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Error of a reservation.
#[derive(Debug, thiserror::Error)]
pub enum ReservationError {
    /// It belongs to another credential.
    #[error("the AE-ID belongs to another credential")]
    ByAnother,
    /// The credential already has an AE-ID, or is registering.
    #[error("the credential is registered or registering as another AE")]
    HasAnother,
    /// An operator is removing the AE.
    #[error("the AE is being removed")]
    BeingRemoved,
    /// The credential got too many AE-IDs recently.
    #[error("the credential has registered too often recently; try again later")]
    TooOften,
    /// The bindings cannot be written.
    #[error(transparent)]
    Failed(#[from] BindingError),
}

#[derive(Default)]
struct Maps {
    by_credential: HashMap<CredentialId, Binding>,
    by_stem: HashMap<AeIdStem, CredentialId>,
    /// Credentials that are registering, with the requested AE-ID.
    under_way: HashMap<CredentialId, Option<AeIdStem>>,
    /// AE-IDs of AEs that an operator is removing.
    being_removed: HashSet<AeIdStem>,
    /// Recorded requests to the CSE with an unknown result.
    intents: HashMap<CredentialId, Intent>,
    /// Times at which recent assignments of each credential no longer count.
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

    /// Returns whether a credential has the maximum number of recent AE-IDs.
    fn has_too_many(&self, credential: &CredentialId, now: Instant) -> bool {
        let counts = self.of_late.get(credential);
        let counts = counts.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        counts > REFILL_INTERVAL.mul_f64(MAX_BURST - 1.0)
    }

    /// Counts one more AE-ID of a credential.
    fn count(&mut self, credential: &CredentialId, now: Instant) {
        // It suffices to do this at powers of two: there are no more entries than credentials.
        if self.of_late.len() >= 1024 && self.of_late.len().is_power_of_two() {
            self.of_late.retain(|_, until| *until > now);
        }
        let until = self.of_late.entry(credential.clone()).or_insert(now);
        *until = (*until).max(now) + REFILL_INTERVAL;
    }

    /// Returns whether the credential of an AE is registering or deleting it.
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

/// Store of all bindings.
#[derive(Clone)]
pub struct AeIdStore {
    maps: Arc<Mutex<Maps>>,
    file: Arc<Mutex<File>>,
    /// The embedded CSE, whose `<AE>` resources have the same bindings.
    registrar: Arc<OnceLock<Arc<EmbeddedCse>>>,
    /// Called after each release.
    on_free: Arc<OnceLock<OnFree>>,
}

/// Removes what belongs to the AE of a credential.
type OnFree = Box<dyn Fn(&CredentialId, &AeIdStem) + Send + Sync>;

impl AeIdStore {
    /// Opens the store and reads the bindings, or creates the file.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or has another content.
    pub fn open(path: &Path) -> Result<Self, BindingError> {
        let (file, stored) = File::open(path)?;
        let mut maps = Maps::default();
        for (credential, binding) in stored {
            // Each AE-ID belongs to one credential, or the file is damaged.
            if maps.by_stem.contains_key(&binding.stem) {
                return Err(BindingError::Damaged(credential.to_string()));
            }
            maps.insert(&credential, binding);
        }
        maps.intents = file.intents()?.into_iter().collect();
        let file = Arc::new(Mutex::new(file));
        let maps = Arc::new(Mutex::new(maps));
        Ok(Self { maps, file, registrar: Arc::default(), on_free: Arc::default() })
    }

    /// Reconciles the bindings with the AEs of the embedded CSE, after the process ended between
    /// their commits. An AE without a binding gets it, unless policy reserves the AE-ID. A binding
    /// without an AE is released. Blocks on the disk.
    ///
    /// # Errors
    /// Fails if the bindings cannot be written or the AEs cannot be read.
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
                    "the AE {stem} was registered by {credential}, which has the AE-ID {}: no AE can be \
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
        // Set once, because there is one.
        let _ = self.registrar.set(registrar.clone());
        Ok(())
    }

    /// Calls `on_free` after each release of an AE-ID, before the credential can get another one. It
    /// is set once.
    pub fn on_free(&self, on_free: impl Fn(&CredentialId, &AeIdStem) + Send + Sync + 'static) {
        let _ = self.on_free.set(Box::new(on_free));
    }

    /// Code that holds the lock does not panic.
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the AE-ID of a credential.
    pub fn of(&self, credential: &CredentialId) -> Option<AeIdStem> {
        self.maps().by_credential.get(credential).map(|binding| binding.stem.clone())
    }

    /// Returns the credential that has an AE-ID or has requested it.
    pub fn holder(&self, stem: &AeIdStem) -> Option<CredentialId> {
        self.maps().holder(stem).cloned()
    }

    /// Returns the credential that has an AE-ID permanently, not one that has only requested it.
    pub fn bound_to(&self, stem: &AeIdStem) -> Option<CredentialId> {
        self.maps().by_stem.get(stem).cloned()
    }

    /// Returns the addresses of the AE of a credential, as far as known from its registration.
    pub fn places(&self, credential: &CredentialId) -> Vec<String> {
        let maps = self.maps();
        maps.by_credential.get(credential).map(|b| b.places.clone()).unwrap_or_default()
    }

    /// Returns all bindings by Credential-ID.
    pub fn all(&self) -> Vec<(CredentialId, Binding)> {
        let mut all: Vec<_> =
            self.maps().by_credential.iter().map(|(c, b)| (c.clone(), b.clone())).collect();
        all.sort_by_cached_key(|(credential, _)| credential.to_string());
        all
    }

    /// Returns whether a credential has the maximum number of recent AE-IDs.
    pub fn has_too_many(&self, credential: &CredentialId) -> bool {
        self.maps().has_too_many(credential, Instant::now())
    }

    /// Reserves an AE-ID for a credential that is registering: the requested one, or none if the
    /// registrar is to choose.
    ///
    /// # Errors
    /// Fails if the AE-ID belongs to another credential, or the credential has another AE-ID.
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

    /// Starts to remove an AE. No registration or deletion of it is active, and none starts until
    /// the guard is dropped. Returns `None` if one is still active after `timeout`.
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

    /// Releases the AE-ID of a credential, and returns the binding.
    ///
    /// # Errors
    /// Fails if it cannot be written. The binding is then unchanged.
    pub async fn free(&self, credential: &CredentialId) -> Result<Option<Binding>, BindingError> {
        let (bindings, credential) = (self.clone(), credential.clone());
        off_the_runtime(move || {
            let Some(stem) = bindings.of(&credential) else { return Ok(None) };
            // The CSE first, otherwise the next start would bind it again.
            if let Some(registrar) = bindings.registrar.get() {
                registrar.forget_credential(stem.as_str(), &credential.to_string())?;
            }
            // Held over both, so that file and memory change in the same order.
            let file = bindings.file();
            file.write(&[(credential.clone(), Change::Free)])?;
            let freed = {
                let mut maps = bindings.maps();
                maps.intents.remove(&credential);
                maps.remove(&credential)
            };
            drop(file);
            if let Some((binding, on_free)) = freed.as_ref().zip(bindings.on_free.get()) {
                on_free(&credential, &binding.stem);
            }
            Ok(freed)
        })
        .await
    }

    /// Returns whether the AE of a credential is the resource at an address, as far as known from
    /// its registration.
    pub fn is_at(&self, credential: &CredentialId, place: &str) -> bool {
        let maps = self.maps();
        maps.by_credential.get(credential).is_some_and(|b| b.places.iter().any(|p| p == place))
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs that bindings could not be written.
pub fn log_failure(error: &BindingError) {
    tracing::error!(event = "ae-id.store-failed", "cannot write the bindings of AE-IDs: {error}");
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BindingError> + Send + 'static,
) -> Result<T, BindingError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BindingError::GivenUp))
}

/// An active removal of an AE, until it is dropped.
pub struct Removal {
    bindings: AeIdStore,
    stem: AeIdStem,
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.bindings.maps().being_removed.remove(&self.stem);
    }
}

/// A reservation of an AE-ID, until it is dropped.
pub struct AeIdReservation {
    bindings: AeIdStore,
    credential: CredentialId,
    /// Earlier recorded request of the credential with an unknown result.
    intent: Option<Intent>,
}

impl Drop for AeIdReservation {
    fn drop(&mut self) {
        self.bindings.maps().under_way.remove(&self.credential);
    }
}

impl AeIdReservation {
    /// Returns the requested AE-ID, if any.
    pub fn asked_for(&self) -> Option<AeIdStem> {
        self.bindings.maps().under_way.get(&self.credential).cloned().flatten()
    }

    /// Returns the earlier recorded request of the credential with an unknown result.
    pub fn earlier(&self) -> Option<&Intent> {
        self.intent.as_ref()
    }

    /// Records the next request to the CSE.
    ///
    /// # Errors
    /// Fails if it cannot be written. The request must not be sent then.
    pub async fn intend(&self, intent: Intent) -> Result<(), BindingError> {
        self.change(Change::Intend(intent)).await
    }

    /// Removes the record after the CSE has carried out or refused the request.
    ///
    /// # Errors
    /// Fails if it cannot be written.
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

    /// Binds the AE-ID that the registrar confirmed, with the addresses of the AE.
    ///
    /// # Errors
    /// Fails if the AE-ID now belongs to another credential or differs from the requested one, or
    /// if the binding cannot be written.
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
                // The CSE chose the AE-ID, so an active removal did not wait for this registration.
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
