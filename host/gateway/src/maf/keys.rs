//! Keys that MAFs distribute, for handshakes that need them (TS-0003 clauses 8.2.2.3 and 8.8.2.8): each
//! is fetched once for all who wait, and kept for its time, never past it. That there is none is kept
//! for a little while, so that made-up identities do not come to the MAF.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rand::RngExt;
use saegis_certificate::Flavour;
use saegis_maf::client::{AnswerError, Client, RetrievedKey, Terms, read_retrieved_key};
use saegis_maf::{MAX_RELATIVE_ID, names};
use saegis_onem2m::credential::{Entity, PresharedKey};
use saegis_onem2m::id::{AbsoluteId, AeIdStem, CredentialId, CseId, From, check_fqdn};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::{Known, MafKey, MafKeys, Policy};
use tokio::sync::Semaphore;

use super::config::{At, CredentialOf};
use crate::config::Config;
use crate::dial::{Dial, NoAnswer, Place};

/// How long it is believed that a MAF has no such key, and that it can't be reached.
const REFUSED_FOR: Duration = Duration::from_secs(10);
const UNREACHABLE_FOR: Duration = Duration::from_secs(1);

/// Most keys, and refusals, that are kept.
const MOST: usize = 10_000;

/// Fetches at a time from one MAF.
const AT_A_TIME: usize = 64;

/// How long our registration with a MAF is asked for.
const REGISTERED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The keys of all MAFs that are configured.
pub struct Keys {
    mafs: Vec<OfMaf>,
    own: CseId,
    service_provider: String,
    kept: Mutex<HashMap<(usize, String), Kept>>,
}

struct OfMaf {
    at: At,
    client: Client,
    dial: OnceLock<Dial>,
    places: Semaphore,
    /// One fetch of a key at a time: who comes second finds what the first has got.
    fetching: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

struct Kept {
    since: Instant,
    what: What,
}

enum What {
    Key { key: Arc<PresharedKey>, source: Entity, id: CredentialId, suid: u8, expires: SystemTime },
    Refused,
    Unreachable,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
enum NoKey {
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("{0}")]
    Refused(#[from] AnswerError),
    #[error("the request can't be made: {0}")]
    Request(#[from] saegis_maf::client::RequestError),
}

impl Keys {
    /// Those of the MAFs that are configured; none, where there are none.
    pub fn new(config: &Config) -> Option<Arc<Self>> {
        let service_provider = config.cse.service_provider.clone()?;
        let own = config.cse.cse_id.clone();
        let id = AbsoluteId::parse(&format!("//{service_provider}{own}")).ok()?;
        let of = |at: &At| {
            Some(OfMaf {
                client: Client::new(id.clone(), &at.fqdn).ok()?,
                at: at.clone(),
                dial: OnceLock::new(),
                places: Semaphore::new(AT_A_TIME),
                fetching: Mutex::default(),
            })
        };
        let mafs: Vec<_> = config.maf.iter().filter_map(of).collect();
        let kept = Mutex::default();
        (!mafs.is_empty()).then(|| Arc::new(Self { mafs, own, service_provider, kept }))
    }

    /// From now on it can ask.
    pub fn start(&self, policy: &Arc<Policy>) {
        for maf in &self.mafs {
            let place = Place {
                who: format!("the MAF {}", maf.at.fqdn),
                address: maf.at.address.clone(),
                name: Some(maf.at.fqdn.clone()),
                flavour: Flavour::Fqdn,
                credential: maf.at.credential.clone(),
                patience: Duration::from_secs(maf.at.timeout_seconds),
                content_bytes: 64 << 10,
            };
            // It is started once.
            let _ = maf.dial.set(Dial::new(place, policy.clone()));
        }
    }

    /// Asks for the keys in hand again, as often as is configured, and tells of each that is registered
    /// no more. What can't be asked is believed until it expires.
    pub async fn recheck(&self, gone: impl Fn(&CredentialId)) {
        let every = self.mafs.iter().map(|maf| maf.at.recheck_seconds).filter(|s| *s > 0).min();
        let Some(every) = every else { return std::future::pending().await };
        loop {
            tokio::time::sleep(Duration::from_secs(every)).await;
            let all: Vec<_> = {
                let kept = self.kept();
                let key = |(of, kept): (&(usize, String), &Kept)| match &kept.what {
                    What::Key { id, .. } => Some((of.clone(), id.clone())),
                    What::Refused | What::Unreachable => None,
                };
                kept.iter().filter_map(key).collect()
            };
            for ((nth, relative), id) in all {
                let Some(maf) = self.mafs.get(nth).filter(|m| m.at.recheck_seconds > 0) else {
                    continue;
                };
                if let Err(NoKey::Refused(AnswerError::Refused { rsc: Rsc::NotFound, .. })) =
                    self.retrieve(maf, &relative).await
                {
                    self.keep((nth, relative), What::Refused);
                    gone(&id);
                }
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<(usize, String), Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, of: (usize, String), what: What) {
        let mut kept = self.kept();
        if kept.len() >= MOST && !kept.contains_key(&of) {
            let now = SystemTime::now();
            kept.retain(|_, kept| match &kept.what {
                What::Key { expires, .. } => *expires > now,
                What::Refused | What::Unreachable => kept.since.elapsed() < REFUSED_FOR,
            });
            if kept.len() >= MOST {
                // It is asked for again, and nobody is let in by what is not kept.
                return;
            }
        }
        kept.insert(of, Kept { since: Instant::now(), what });
    }

    fn maf(&self, fqdn: &str) -> Option<usize> {
        check_fqdn(fqdn).ok()?;
        self.mafs.iter().position(|maf| maf.at.fqdn.eq_ignore_ascii_case(fqdn))
    }

    /// Fetches a key; a CSE that the MAF does not know yet registers with it first.
    async fn retrieve(&self, maf: &OfMaf, relative: &str) -> Result<RetrievedKey, NoKey> {
        let id = || format!("{:016x}", rand::rng().random::<u64>());
        let ask = async |request| {
            let Some(dial) = maf.dial.get() else {
                return Err(NoAnswer::Failed("it is not started".into()));
            };
            let patience = Duration::from_secs(maf.at.timeout_seconds);
            // What stands in the address where another has the CSE-ID.
            let base = CseId::parse(names::BASE);
            let base = base.map_err(|e| NoAnswer::Failed(e.to_string()))?;
            dial.ask(&request, &base, patience).await
        };
        let request = maf.client.retrieve_key(&id(), relative)?;
        let answer = ask(request.clone()).await?;
        if answer.rsc != Rsc::OriginatorHasNoPrivilege {
            return Ok(read_retrieved_key(&answer)?);
        }
        let terms = Terms::until(SystemTime::now() + REGISTERED_FOR, &self.service_provider);
        let registered = ask(maf.client.register(&id(), &terms)?).await?;
        tracing::info!(
            event = "maf.registered",
            maf = maf.at.fqdn,
            rsc = registered.rsc.code(),
            "registered with the MAF {}",
            maf.at.fqdn
        );
        Ok(read_retrieved_key(&ask(request).await?)?)
    }

    /// What a key that was fetched is good for here.
    fn take(&self, maf: &OfMaf, relative: &str, found: RetrievedKey) -> What {
        let Some(source) = entity(&found.source, &self.own, &self.service_provider) else {
            tracing::warn!(event = "maf.key-refused", maf = maf.at.fqdn, source = %found.source,
                "a key of the MAF {} is {}'s, who has no business here", maf.at.fqdn, found.source);
            return What::Refused;
        };
        let part = maf.at.key.of(found.key.expose());
        let id = match maf.at.credential_id {
            CredentialOf::Kc => format!("12-{relative}@{}", maf.at.fqdn),
            CredentialOf::Source => format!("11-{}", found.source),
        };
        match (PresharedKey::new(part), CredentialId::parse(&id)) {
            (Ok(key), Ok(id)) => {
                let (suid, expires) = (found.suid, found.expires);
                What::Key { key: Arc::new(key), source, id, suid, expires }
            }
            _ => What::Refused,
        }
    }
}

/// Whom the source of a key is here: an AE that may register at this CSE, or a CSE of the service
/// provider's.
fn entity(source: &AbsoluteId, own: &CseId, service_provider: &str) -> Option<Entity> {
    let From::Absolute { sp, first, stem } = From::parse(source.as_str()).ok()? else {
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

/// Whether it may be a RelativeKeyID: no MAF is asked about what can't be one, or names something else
/// there.
fn may_be_a_key(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_RELATIVE_ID).contains(&id.len())
        && id.bytes().all(plain)
        && !matches!(id, "-" | "_" | "." | ".." | names::OWN_REGISTRATION)
        && !id.starts_with(names::CLIENT_REGISTRATION_PREFIX)
}

impl MafKeys for Keys {
    fn known(&self, maf: &str, relative_key_id: &str) -> Known {
        let Some(nth) = self.maf(maf) else { return Known::NoMaf };
        if !may_be_a_key(relative_key_id) {
            return Known::Refused;
        }
        let kept = self.kept();
        match kept.get(&(nth, relative_key_id.to_string())) {
            None => Known::NotYet,
            Some(Kept { since, what: What::Refused }) if since.elapsed() < REFUSED_FOR => {
                Known::Refused
            }
            Some(Kept { since, what: What::Unreachable }) if since.elapsed() < UNREACHABLE_FOR => {
                Known::Unreachable
            }
            Some(Kept { what: What::Key { key, source, id, suid, expires }, .. })
                if *expires > SystemTime::now() =>
            {
                match PresharedKey::new(key.expose()) {
                    Ok(key) => Known::Key(MafKey {
                        source: source.clone(),
                        credential_id: id.clone(),
                        suid: *suid,
                        expires: *expires,
                        key,
                    }),
                    Err(_) => Known::Refused,
                }
            }
            // It may last longer at the MAF by now.
            Some(_) => Known::NotYet,
        }
    }

    fn fetch(
        &self,
        maf: String,
        relative_key_id: String,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let Some(nth) = self.maf(&maf) else { return };
            let Some(of) = self.mafs.get(nth) else { return };
            let turn = {
                let mut fetching = of.fetching.lock().unwrap_or_else(PoisonError::into_inner);
                fetching.entry(relative_key_id.clone()).or_default().clone()
            };
            let first = turn.lock().await;
            if matches!(self.known(&maf, &relative_key_id), Known::NotYet) {
                // Who waits for a place waits no longer than for an answer.
                let patience = Duration::from_secs(of.at.timeout_seconds);
                let what = match tokio::time::timeout(patience, of.places.acquire()).await {
                    Err(_) | Ok(Err(_)) => What::Unreachable,
                    Ok(Ok(_place)) => match self.retrieve(of, &relative_key_id).await {
                        Ok(found) => self.take(of, &relative_key_id, found),
                        Err(NoKey::Refused(AnswerError::Refused { .. })) => What::Refused,
                        Err(error) => {
                            tracing::warn!(
                                event = "maf.failed",
                                maf = of.at.fqdn,
                                "the MAF {} gave no key: {error}",
                                of.at.fqdn
                            );
                            What::Unreachable
                        }
                    },
                };
                self.keep((nth, relative_key_id.clone()), what);
            }
            drop(first);
            let mut fetching = of.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            // Those who wait have their own; who comes later finds what is kept.
            if fetching.get(&relative_key_id).is_some_and(|own| Arc::strong_count(own) <= 2) {
                fetching.remove(&relative_key_id);
            }
        })
    }
}
