//! Bounded cache of MAF keys: keys until they expire, and refusals for a short time.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use saegis_onem2m::credential::{Entity, KeyStrength, PresharedKey};
use saegis_onem2m::id::CredentialId;
use saegis_policy::MafKey;
use subtle::ConstantTimeEq;

/// Maximum number of cached keys. An evicted key is fetched again when it is needed.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Maximum number of cached refusals. They are separate from the keys, so that invented identities
/// only evict each other.
const MAX_REFUSALS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The name of a key: the index of its MAF in the configuration and its RelativeKeyID.
pub type KeyName = (usize, String);

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
    pub fn can_replace(&self, old: &Self) -> bool {
        let same_key: bool = self.key.expose().ct_eq(old.key.expose()).into();
        same_key
            && self.source == old.source
            && self.id == old.id
            && self.suid == old.suid
            && self.expires >= old.expires
    }

    /// Returns whether the key can be guessed from one recorded handshake.
    pub fn is_weak(&self) -> bool {
        KeyStrength::of(self.key.expose(), PresharedKey::MIN_OF_MAF) != Ok(KeyStrength::Good)
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
    keys: LruCache<KeyName, Arc<CachedKey>>,
    refusals: LruCache<KeyName, (Instant, KeyUnavailable)>,
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
        name: &KeyName,
        now: SystemTime,
    ) -> Option<Result<Arc<CachedKey>, KeyUnavailable>> {
        match self.keys.get(name) {
            Some(key) if key.expires > now => return Some(Ok(key.clone())),
            Some(_) => drop(self.keys.pop(name)),
            None => {}
        }
        let (since, why) = self.refusals.get(name)?;
        (since.elapsed() < why.lasts()).then_some(Err(*why))
    }

    /// Stores a result and replaces the previous one.
    pub fn insert(&mut self, name: KeyName, result: Result<CachedKey, KeyUnavailable>) {
        match result {
            Ok(key) => {
                self.refusals.pop(&name);
                self.keys.put(name, Arc::new(key));
            }
            Err(why) => {
                self.keys.pop(&name);
                self.refusals.put(name, (Instant::now(), why));
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
        let over: Vec<KeyName> = over.map(|(name, _)| name.clone()).collect();
        for name in &over {
            self.keys.pop(name);
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

    fn of(n: usize) -> KeyName {
        (0, n.to_string())
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn refusals_do_not_displace_cached_keys() {
        let (mut cache, now) = (KeyCache::default(), SystemTime::now());
        cache.insert(of(0), Ok(key(1, now + HOUR)));
        for n in 1..=2 * MAX_REFUSALS.get() {
            cache.insert(of(n), Err(KeyUnavailable::Refused));
        }
        assert!(matches!(cache.get(&of(0), now), Some(Ok(_))));
        for n in 1..=MAX_KEYS.get() {
            cache.insert(of(n), Ok(key(2, now + HOUR)));
            assert!(matches!(cache.get(&of(n), now), Some(Ok(_))), "{n}");
        }
        assert!(cache.get(&of(0), now).is_none(), "the least recently used key was evicted");
    }

    #[test]
    fn cached_key_is_wiped_at_expiry() {
        let (mut cache, now) = (KeyCache::default(), SystemTime::now());
        for n in 0..2 {
            cache.insert(of(n), Ok(key(1, now + HOUR)));
        }
        assert_eq!(cache.of_maf(0, now).len(), 2);
        cache.insert(of(2), Ok(key(1, now + 2 * HOUR)));
        assert_eq!(cache.first_end(0, now), Some(now + HOUR));
        assert_eq!(cache.first_end(0, now + HOUR), Some(now + 2 * HOUR));
        assert_eq!((cache.first_end(1, now), cache.first_end(0, now + 2 * HOUR)), (None, None));
        cache.keys.pop(&of(2));
        assert!(cache.of_maf(1, now).is_empty() && cache.of_maf(0, now + HOUR).is_empty());
        assert!(cache.get(&of(0), now + HOUR).is_none());
        assert_eq!(cache.keys.len(), 1);
        cache.wipe(now + HOUR);
        assert_eq!(cache.keys.len(), 0);
    }

    #[test]
    fn new_result_replaces_cached_one() {
        let (mut cache, now) = (KeyCache::default(), SystemTime::now());
        cache.insert(of(0), Err(KeyUnavailable::Refused));
        cache.insert(of(0), Ok(key(1, now + HOUR)));
        assert!(matches!(cache.get(&of(0), now), Some(Ok(_))));
        cache.insert(of(0), Err(KeyUnavailable::Unreachable));
        assert!(matches!(cache.get(&of(0), now), Some(Err(KeyUnavailable::Unreachable))));
    }

    #[test]
    fn equal_key_with_later_expiry_is_equivalent() {
        let now = SystemTime::now();
        let old = key(1, now);
        assert!(key(1, now).can_replace(&old) && key(1, now + HOUR).can_replace(&old));
        assert!(!key(2, now).can_replace(&old) && !key(1, now - HOUR).can_replace(&old));
        assert!(!CachedKey { suid: 33, ..key(1, now) }.can_replace(&old));
        let other = CredentialId::parse("12-b@maf.x").unwrap();
        assert!(!CachedKey { id: other, ..key(1, now) }.can_replace(&old));
        let cse = Entity::Cse(saegis_onem2m::id::CseId::parse("/mn").unwrap());
        assert!(!CachedKey { source: cse, ..key(1, now) }.can_replace(&old));
    }
}
