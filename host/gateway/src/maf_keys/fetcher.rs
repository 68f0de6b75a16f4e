//! Fetches keys that MAFs distribute, for handshakes that need them (TS-0003 clauses 8.2.2.3 and
//! 8.8.2.8). Each key is fetched once for all waiting handshakes and cached until it expires. A
//! refusal is cached for a short time, so that invented identities do not cause requests to the
//! MAF.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use rand::RngExt;
use saegis_certificate::Flavour;
use saegis_maf::client::{AnswerError, Client, RetrievedKey, Terms, read_retrieved_key};
use saegis_maf::{MAX_RELATIVE_ID, names};
use saegis_onem2m::credential::{Entity, KeyStrength, PresharedKey};
use saegis_onem2m::id::{AbsoluteId, AeIdStem, CredentialId, CseId, OriginatorId, check_fqdn};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::{MafKeyState, MafKeys, Policy};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::config::maf::{CredentialOf, MafPeer};
use crate::maf_keys::cache::{CachedKey, KeyCache, KeyUnavailable};
use saegis_client::{Endpoint, NoAnswer, PeerBinding, PeerClient};

/// Maximum number of concurrent fetches from one MAF.
const MAX_CONCURRENT: usize = 64;

/// Maximum number of active and waiting fetches from one MAF. Beyond it, a handshake fails.
const MAX_PENDING: usize = 1024;

/// Interval between removals of expired keys.
const WIPE_INTERVAL: Duration = Duration::from_secs(60);

/// Requested duration of the registration with a MAF.
const REGISTRATION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Keys of all configured MAFs.
pub struct KeyFetcher {
    mafs: Vec<MafClient>,
    own: CseId,
    service_provider: String,
    cache: Mutex<KeyCache>,
}

struct MafClient {
    peer: MafPeer,
    client: Client,
    connection: OnceLock<PeerClient>,
    permits: Semaphore,
    /// Active fetches. Each ends by dropping its sender.
    fetching: Mutex<HashMap<String, watch::Receiver<()>>>,
}

impl MafClient {
    fn fetching(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<()>>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Error of a fetch.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("{0}")]
    Refused(#[from] AnswerError),
    #[error("cannot build the request: {0}")]
    Request(#[from] saegis_maf::client::RequestError),
}

impl KeyFetcher {
    /// Creates the fetcher for the configured MAFs. Returns `None` if there are none.
    pub fn new(config: &Config) -> Option<Arc<Self>> {
        let service_provider = config.cse.service_provider.clone()?;
        let own = config.cse.cse_id.clone();
        let id = AbsoluteId::parse(&format!("//{service_provider}{own}")).ok()?;
        let of = |peer: &MafPeer| {
            Some(MafClient {
                client: Client::new(id.clone(), &peer.fqdn, peer.base.clone()).ok()?,
                peer: peer.clone(),
                connection: OnceLock::new(),
                permits: Semaphore::new(MAX_CONCURRENT),
                fetching: Mutex::default(),
            })
        };
        let mafs: Vec<_> = config.maf_peer.iter().filter_map(of).collect();
        let cache = Mutex::default();
        (!mafs.is_empty()).then(|| Arc::new(Self { mafs, own, service_provider, cache }))
    }

    /// Enables requests.
    pub fn start(&self, policy: &Arc<Policy>) {
        for maf in &self.mafs {
            let endpoint = Endpoint {
                name: format!("the MAF {}", maf.peer.fqdn),
                binding: PeerBinding::Http,
                address: maf.peer.address.clone(),
                domain_name: Some(maf.peer.fqdn.clone()),
                flavour: Flavour::Fqdn,
                credential: maf.peer.credential.clone(),
                connect_timeout: Duration::from_secs(maf.peer.timeout_seconds),
                content_bytes: 64 << 10,
            };
            // It is started once.
            let _ = maf
                .connection
                .set(PeerClient::new(endpoint, crate::peer_certificates::in_force(policy)));
        }
    }

    /// Requests cached keys again, at the configured interval of each MAF. Notifies `changed` if a
    /// key has changed or is no longer registered. If a request fails, the key is used until it
    /// expires. Removes expired keys.
    pub async fn tend(self: Arc<Self>, changed: Arc<Notify>) {
        let mut tending = JoinSet::new();
        for nth in 0..self.mafs.len() {
            let every = self.mafs.get(nth).map_or(0, |maf| maf.peer.recheck_seconds);
            if every > 0 {
                let (own, changed) = (self.clone(), changed.clone());
                tending.spawn(async move {
                    loop {
                        tokio::time::sleep(Duration::from_secs(every)).await;
                        own.recheck(nth, &changed).await;
                    }
                });
            }
        }
        loop {
            tokio::time::sleep(WIPE_INTERVAL).await;
            self.cache().wipe(SystemTime::now());
        }
    }

    async fn recheck(&self, nth: usize, changed: &Notify) {
        let Some(maf) = self.mafs.get(nth) else { return };
        let cached = self.cache().of_maf(nth, SystemTime::now());
        for (relative, had) in cached {
            let found = match self.retrieve(maf, &relative).await {
                Ok(found) => self.take(maf, &relative, found),
                Err(FetchError::Refused(AnswerError::Refused { rsc, .. })) if is_refusal(rsc) => {
                    Err(KeyUnavailable::Refused)
                }
                // Further requests would time out as well.
                Err(FetchError::NoAnswer(_)) => return,
                Err(FetchError::Refused(_) | FetchError::Request(_)) => continue,
            };
            if !found.as_ref().is_ok_and(|found| found.can_replace(&had)) {
                self.cache().insert((nth, relative), found);
                changed.notify_one();
            }
        }
    }

    /// Returns the first expiration time of the cached keys of each MAF, by its FQDN. A MAF without
    /// cached keys is left out.
    pub fn first_ends(&self) -> Vec<(String, SystemTime)> {
        let (cache, now) = (self.cache(), SystemTime::now());
        let mafs = self.mafs.iter().enumerate();
        mafs.filter_map(|(nth, maf)| Some((maf.peer.fqdn.clone(), cache.first_end(nth, now)?)))
            .collect()
    }

    fn cache(&self) -> MutexGuard<'_, KeyCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn maf(&self, fqdn: &str) -> Option<usize> {
        check_fqdn(fqdn).ok()?;
        self.mafs.iter().position(|maf| maf.peer.fqdn.eq_ignore_ascii_case(fqdn))
    }

    /// Fetches a key. Registers with the MAF first if this CSE is not registered there.
    async fn retrieve(&self, maf: &MafClient, relative: &str) -> Result<RetrievedKey, FetchError> {
        let id = || format!("{:016x}", rand::rng().random::<u64>());
        let ask = async |request| {
            let Some(connection) = maf.connection.get() else {
                return Err(NoAnswer::Failed("the fetcher is not started".into()));
            };
            let timeout = Duration::from_secs(maf.peer.timeout_seconds);
            connection.ask(&request, &maf.peer.base, timeout).await
        };
        let request = maf.client.retrieve_key(&id(), relative)?;
        let answer = ask(request.clone()).await?;
        if answer.rsc != Rsc::OriginatorHasNoPrivilege {
            return Ok(read_retrieved_key(&answer)?);
        }
        let terms = Terms::until(SystemTime::now() + REGISTRATION_LIFETIME, &self.service_provider);
        let registered = ask(maf.client.register(&id(), &terms)?).await?;
        tracing::info!(
            event = "maf.registered",
            maf = maf.peer.fqdn,
            rsc = registered.rsc.code(),
            "registered with the MAF {}",
            maf.peer.fqdn
        );
        Ok(read_retrieved_key(&ask(request).await?)?)
    }

    /// Validates a fetched key for use at this CSE.
    fn take(
        &self,
        maf: &MafClient,
        relative: &str,
        found: RetrievedKey,
    ) -> Result<CachedKey, KeyUnavailable> {
        let Some(source) = entity(&found.source, &self.own, &self.service_provider) else {
            tracing::warn!(event = "maf.key-refused", maf = maf.peer.fqdn, source = %found.source,
                "rejected a key of the MAF {}: its source {} may not use this CSE", maf.peer.fqdn, found.source);
            return Err(KeyUnavailable::Refused);
        };
        let part = maf.peer.key.of(found.key.expose());
        if let Err(e) = KeyStrength::of(part, PresharedKey::MIN_OF_MAF) {
            tracing::warn!(event = "maf.key-refused", maf = maf.peer.fqdn, source = %found.source,
                "rejected a key of the MAF {}: its source {} registered a key that {e}", maf.peer.fqdn, found.source);
            return Err(KeyUnavailable::Refused);
        }
        let id = match maf.peer.credential_id {
            CredentialOf::Kc => format!("12-{relative}@{}", maf.peer.fqdn),
            CredentialOf::Source => format!("11-{}", found.source),
        };
        match (PresharedKey::new(part), CredentialId::parse(&id)) {
            (Ok(key), Ok(id)) => {
                let (suid, expires) = (found.suid, found.expires);
                Ok(CachedKey { key, source, id, suid, expires })
            }
            _ => Err(KeyUnavailable::Refused),
        }
    }

    /// Fetches a key and caches the result.
    async fn fetch_now(&self, nth: usize, maf: &MafClient, relative: &str) {
        // The wait for a permit has the same timeout as a response.
        let timeout = Duration::from_secs(maf.peer.timeout_seconds);
        let found = match tokio::time::timeout(timeout, maf.permits.acquire()).await {
            Err(_) | Ok(Err(_)) => Err(KeyUnavailable::Unreachable),
            Ok(Ok(_permit)) => match self.retrieve(maf, relative).await {
                Ok(found) => {
                    let source = found.source.clone();
                    let taken = self.take(maf, relative, found);
                    if taken.as_ref().is_ok_and(CachedKey::is_weak) {
                        tracing::warn!(event = "maf.weak-key", maf = maf.peer.fqdn, %source,
                            relative_key_id = relative, "a key of the MAF {} of less than 16 bytes, or with a \
                            pattern, can be guessed; let its source register the key of its TLS session",
                            maf.peer.fqdn);
                    }
                    taken
                }
                Err(FetchError::Refused(AnswerError::Refused { .. })) => {
                    Err(KeyUnavailable::Refused)
                }
                Err(error) => {
                    tracing::warn!(
                        event = "maf.failed",
                        maf = maf.peer.fqdn,
                        "cannot fetch a key from the MAF {}: {error}",
                        maf.peer.fqdn
                    );
                    Err(KeyUnavailable::Unreachable)
                }
            },
        };
        self.cache().insert((nth, relative.to_string()), found);
    }

    /// Returns the active fetch of a key, or starts one. It is a separate task: the handshake that
    /// started it may end earlier, and the result is cached anyway.
    fn fetching(self: &Arc<Self>, nth: usize, relative: String) -> Option<watch::Receiver<()>> {
        let mut fetching = self.mafs.get(nth)?.fetching();
        if let Some(active) = fetching.get(&relative) {
            return Some(active.clone());
        }
        if fetching.len() >= MAX_PENDING {
            return None;
        }
        let (ends, done) = watch::channel(());
        fetching.insert(relative.clone(), done.clone());
        let active = ActiveFetch { keys: self.clone(), nth, relative, _ends: ends };
        tokio::spawn(async move {
            if let Some(maf) = active.keys.mafs.get(nth) {
                active.keys.fetch_now(nth, maf, &active.relative).await;
            }
        });
        Some(done)
    }
}

/// An active fetch. When it is dropped, it is no longer active, and waiting handshakes continue.
struct ActiveFetch {
    keys: Arc<KeyFetcher>,
    nth: usize,
    relative: String,
    _ends: watch::Sender<()>,
}

impl Drop for ActiveFetch {
    fn drop(&mut self) {
        if let Some(maf) = self.keys.mafs.get(self.nth) {
            maf.fetching().remove(&self.relative);
        }
    }
}

/// Returns whether a response means that this key does not exist, rather than a failure of the MAF.
fn is_refusal(rsc: Rsc) -> bool {
    (4000..5000).contains(&rsc.code()) && rsc != Rsc::RequestTimeout
}

/// Returns the entity of the source of a key: an AE that may register at this CSE, or a CSE of the
/// service provider.
fn entity(source: &AbsoluteId, own: &CseId, service_provider: &str) -> Option<Entity> {
    let OriginatorId::Absolute { sp, first, stem } = OriginatorId::parse(source.as_str()).ok()?
    else {
        return None;
    };
    if !sp.eq_ignore_ascii_case(service_provider) {
        return None;
    }
    match stem {
        Some(stem) if first == own.bare() && stem.starts_with('C') => {
            AeIdStem::parse(stem).ok().map(Entity::Ae)
        }
        Some(_) => None,
        None if first.starts_with('S') => AeIdStem::parse(first).ok().map(Entity::Ae),
        None => CseId::parse(first).ok().filter(|cse| cse != own).map(Entity::Cse),
    }
}

/// Returns whether it may be a RelativeKeyID. Other strings are not sent to the MAF: they cannot be
/// a key, or could name another resource.
fn may_be_a_key(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_RELATIVE_ID).contains(&id.len())
        && id.bytes().all(plain)
        && !matches!(id, "-" | "_" | "." | "..")
        && !id.starts_with(names::CLIENT_REGISTRATION_PREFIX)
}

impl MafKeys for KeyFetcher {
    fn state(&self, maf: &str, relative_key_id: &str) -> MafKeyState {
        let Some(nth) = self.maf(maf) else { return MafKeyState::NoMaf };
        if !may_be_a_key(relative_key_id) {
            return MafKeyState::Refused;
        }
        match self.cache().get(&(nth, relative_key_id.to_string()), SystemTime::now()) {
            None => MafKeyState::NotFetched,
            Some(Err(KeyUnavailable::Refused)) => MafKeyState::Refused,
            Some(Err(KeyUnavailable::Unreachable)) => MafKeyState::Unreachable,
            Some(Ok(key)) => key.copy().map_or(MafKeyState::Refused, MafKeyState::Key),
        }
    }

    fn fetch(
        self: Arc<Self>,
        maf: String,
        relative_key_id: String,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Some(nth) = self.maf(&maf) else { return };
            // Another handshake may have fetched it in the meantime.
            if matches!(self.state(&maf, &relative_key_id), MafKeyState::NotFetched)
                && let Some(mut active) = self.fetching(nth, relative_key_id)
            {
                // Resolves with an error, because no value is ever sent.
                let _ = active.changed().await;
            }
        })
    }
}
