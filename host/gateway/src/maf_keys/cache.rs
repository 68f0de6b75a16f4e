//! Bounded cache of MAF keys: keys until they expire, and refusals for a short time.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use saegis_onem2m::credential::{Entity, PresharedKey};
use saegis_onem2m::id::CredentialId;
use saegis_policy::MafKey;
use subtle::ConstantTimeEq;

/// Maximum number of cached keys. An evicted key is fetched again when it is needed.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Maximum number of cached refusals. They are separate from the keys, so that invented identities
/// only evict each other.
const MAX_REFUSALS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// A key, identified by the index of its MAF in the configuration and its RelativeKeyID.
pub type Of = (usize, String);

/// A cached key.
pub struct CachedKey {
    /// The key.
    pub key: PresharedKey,
    /// Entity that registered it.
    pub source: Entity,
    /// Credential-ID that it defines.
    pub id: CredentialId,
    /// Security usage.
    pub suid: u8,
    /// Expiration time.
    pub expires: SystemTime,
}

impl CachedKey {
    /// Returns whether an association with the other key may continue with this one. This one may
    /// last longer.
    pub fn stands_for(&self, had: &Self) -> bool {
        let same_key: bool = self.key.expose().ct_eq(had.key.expose()).into();
        same_key
            && self.source == had.source
            && self.id == had.id
            && self.suid == had.suid
            && self.expires >= had.expires
    }

    /// Returns a copy for a call.
    pub fn copy(&self) -> Option<MafKey> {
        Some(MafKey {
            source: self.source.clone(),
            credential_id: self.id.clone(),
            suid: self.suid,
            expires: self.expires,
            key: PresharedKey::new(self.key.expose()).ok()?,
        })
    }
}

/// Reason why a key is not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUnavailable {
    /// The MAF has no such key for this CSE.
    Refused,
    /// The MAF cannot be reached.
    Unreachable,
}

impl KeyUnavailable {
    /// Returns the lifetime of the cache entry.
    fn lasts(self) -> Duration {
        match self {
            Self::Refused => Duration::from_secs(10),
            Self::Unreachable => Duration::from_secs(1),
        }
    }
}

/// Cached keys and refusals.
pub struct KeyCache {
    keys: LruCache<Of, Arc<CachedKey>>,
    refusals: LruCache<Of, (Instant, KeyUnavailable)>,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self { keys: LruCache::new(MAX_KEYS), refusals: LruCache::new(MAX_REFUSALS) }
    }
}

impl KeyCache {
    /// Returns the cache entry of a key, if there is one. Expired keys are not cached.
    pub fn get(
        &mut self,
        of: &Of,
        now: SystemTime,
    ) -> Option<Result<Arc<CachedKey>, KeyUnavailable>> {
        match self.keys.get(of) {
            Some(key) if key.expires > now => return Some(Ok(key.clone())),
            Some(_) => drop(self.keys.pop(of)),
            None => {}
        }
        let (since, why) = self.refusals.get(of)?;
        (since.elapsed() < why.lasts()).then_some(Err(*why))
    }

    /// Stores a result and replaces the previous one.
    pub fn keep(&mut self, of: Of, what: Result<CachedKey, KeyUnavailable>) {
        match what {
            Ok(key) => {
                self.refusals.pop(&of);
                self.keys.put(of, Arc::new(key));
            }
            Err(why) => {
                self.keys.pop(&of);
                self.refusals.put(of, (Instant::now(), why));
            }
        }
    }

    /// Returns the keys of a MAF that have not expired.
    pub fn of_maf(&self, nth: usize, now: SystemTime) -> Vec<(String, Arc<CachedKey>)> {
        let all = self.keys.iter().filter(|((maf, _), key)| *maf == nth && key.expires > now);
        all.map(|((_, relative), key)| (relative.clone(), key.clone())).collect()
    }

    /// Returns the first expiration time of the keys of a MAF that have not expired.
    pub fn first_end(&self, nth: usize, now: SystemTime) -> Option<SystemTime> {
        let ends = self.keys.iter().filter(|((maf, _), _)| *maf == nth);
        ends.map(|(_, key)| key.expires).filter(|expires| *expires > now).min()
    }

    /// Removes and wipes expired keys.
    pub fn wipe(&mut self, now: SystemTime) {
        let over = self.keys.iter().filter(|(_, key)| key.expires <= now);
        let over: Vec<Of> = over.map(|(of, _)| of.clone()).collect();
        for of in &over {
            self.keys.pop(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, expires: SystemTime) -> CachedKey {
        CachedKey {
            key: PresharedKey::new(&[byte; 32]).unwrap(),
            source: Entity::NotYetKnown,
            id: CredentialId::parse("12-a@maf.x").unwrap(),
            suid: 32,
            expires,
        }
    }

    fn of(n: usize) -> Of {
        (0, n.to_string())
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn refusals_do_not_displace_cached_keys() {
        let (mut kept, now) = (KeyCache::default(), SystemTime::now());
        kept.keep(of(0), Ok(key(1, now + HOUR)));
        for n in 1..=2 * MAX_REFUSALS.get() {
            kept.keep(of(n), Err(KeyUnavailable::Refused));
        }
        assert!(matches!(kept.get(&of(0), now), Some(Ok(_))));
        for n in 1..=MAX_KEYS.get() {
            kept.keep(of(n), Ok(key(2, now + HOUR)));
            assert!(matches!(kept.get(&of(n), now), Some(Ok(_))), "{n}");
        }
        assert!(kept.get(&of(0), now).is_none(), "the least recently used key was evicted");
    }

    #[test]
    fn cached_key_is_wiped_at_expiry() {
        let (mut kept, now) = (KeyCache::default(), SystemTime::now());
        for n in 0..2 {
            kept.keep(of(n), Ok(key(1, now + HOUR)));
        }
        assert_eq!(kept.of_maf(0, now).len(), 2);
        kept.keep(of(2), Ok(key(1, now + 2 * HOUR)));
        assert_eq!(kept.first_end(0, now), Some(now + HOUR));
        assert_eq!(kept.first_end(0, now + HOUR), Some(now + 2 * HOUR));
        assert_eq!((kept.first_end(1, now), kept.first_end(0, now + 2 * HOUR)), (None, None));
        kept.keys.pop(&of(2));
        assert!(kept.of_maf(1, now).is_empty() && kept.of_maf(0, now + HOUR).is_empty());
        assert!(kept.get(&of(0), now + HOUR).is_none());
        assert_eq!(kept.keys.len(), 1);
        kept.wipe(now + HOUR);
        assert_eq!(kept.keys.len(), 0);
    }

    #[test]
    fn new_result_replaces_cached_one() {
        let (mut kept, now) = (KeyCache::default(), SystemTime::now());
        kept.keep(of(0), Err(KeyUnavailable::Refused));
        kept.keep(of(0), Ok(key(1, now + HOUR)));
        assert!(matches!(kept.get(&of(0), now), Some(Ok(_))));
        kept.keep(of(0), Err(KeyUnavailable::Unreachable));
        assert!(matches!(kept.get(&of(0), now), Some(Err(KeyUnavailable::Unreachable))));
    }

    #[test]
    fn equal_key_with_later_expiry_is_equivalent() {
        let now = SystemTime::now();
        let had = key(1, now);
        assert!(key(1, now).stands_for(&had) && key(1, now + HOUR).stands_for(&had));
        assert!(!key(2, now).stands_for(&had) && !key(1, now - HOUR).stands_for(&had));
        assert!(!CachedKey { suid: 33, ..key(1, now) }.stands_for(&had));
        let other = CredentialId::parse("12-b@maf.x").unwrap();
        assert!(!CachedKey { id: other, ..key(1, now) }.stands_for(&had));
        let cse = Entity::Cse(saegis_onem2m::id::CseId::parse("/mn").unwrap());
        assert!(!CachedKey { source: cse, ..key(1, now) }.stands_for(&had));
    }
}
