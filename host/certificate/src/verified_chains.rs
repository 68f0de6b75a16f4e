//! A cache of verified chains.
//!
//! The verification of the client's chain is the largest part of a mutual handshake, and most
//! clients return with the same chain. A [`Trust`](crate::Trust) caches the chains that it has
//! accepted. A result is used only within the validity of each certificate in the path and of the
//! anchor's revocation lists. It is never used with another `Trust`, so new anchors and new lists
//! start with an empty cache.
//!
//! The proof that the peer has the private key, its CertificateVerify, is not part of a chain. The
//! engine checks it in each handshake.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lru::LruCache;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::verified_peer::VerifiedPeer;

/// Maximum number of cached chains in a `Trust`, of a few hundred bytes each.
const MAX_CHAINS: usize = 4096;

/// SHA-256 over a chain, each certificate after its length.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct ChainDigest([u8; 32]);

impl ChainDigest {
    /// Returns the digest of a chain.
    pub fn of(chain: &[CertificateDer<'_>]) -> Self {
        let mut digest = Sha256::new();
        for der in chain {
            digest.update((der.len() as u64).to_be_bytes());
            digest.update(der);
        }
        Self(digest.finalize().into())
    }
}

/// The result of one verification.
pub(crate) struct VerifiedChain {
    /// Peer that the chain identifies.
    pub peer: VerifiedPeer,
    /// Range of times in which a verification by the same `Trust` has this result.
    pub holds: Range<SystemTime>,
}

/// The most recently used results of a `Trust`.
pub(crate) struct VerifiedChains(Mutex<LruCache<ChainDigest, VerifiedChain>>);

impl Default for VerifiedChains {
    fn default() -> Self {
        // Unbounded, because a bounded cache allocates its whole table at once.
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl VerifiedChains {
    /// Returns the cached result for a chain, if it is valid at `now`.
    pub fn get(&self, chain: &ChainDigest, now: SystemTime) -> Option<VerifiedPeer> {
        let mut chains = self.lock();
        let verified = chains.get(chain).filter(|verified| verified.holds.contains(&now));
        verified.map(|verified| verified.peer.clone())
    }

    /// Caches a result. Beyond [`MAX_CHAINS`], the least recently used one is dropped.
    pub fn insert(&self, chain: ChainDigest, verified: VerifiedChain) {
        let mut chains = self.lock();
        chains.put(chain, verified);
        if chains.len() > MAX_CHAINS {
            chains.pop_lru();
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<ChainDigest, VerifiedChain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::identity::Identity;

    fn chain(number: u32) -> ChainDigest {
        ChainDigest::of(&[number.to_be_bytes().to_vec().into()])
    }

    fn verified() -> VerifiedChain {
        let peer =
            VerifiedPeer { identity: Identity::Fqdn("a".into()), until: None, chain: vec![0] };
        let second = |n| UNIX_EPOCH + Duration::from_secs(n);
        VerifiedChain { peer, holds: second(10)..second(20) }
    }

    #[test]
    fn result_outside_its_validity_is_not_used() {
        let chains = VerifiedChains::default();
        chains.insert(chain(1), verified());
        let at = |n| chains.get(&chain(1), UNIX_EPOCH + Duration::from_secs(n)).is_some();
        assert_eq!([9, 10, 19, 20].map(at), [false, true, true, false]);
    }

    #[test]
    fn chain_cut_elsewhere_has_another_digest() {
        let digest = |chain: &[&[u8]]| {
            ChainDigest::of(&chain.iter().map(|der| der.to_vec().into()).collect::<Vec<_>>()).0
        };
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"abc"]), digest(&[b"abc", b""]));
    }

    #[test]
    fn least_recently_used_chain_is_dropped() {
        let chains = VerifiedChains::default();
        let now = UNIX_EPOCH + Duration::from_secs(15);
        let most = u32::try_from(MAX_CHAINS).unwrap();
        (0..most).for_each(|number| chains.insert(chain(number), verified()));
        assert!(chains.get(&chain(0), now).is_some());
        chains.insert(chain(most), verified());
        assert_eq!(chains.lock().len(), MAX_CHAINS);
        assert!(chains.get(&chain(0), now).is_some());
        assert!(chains.get(&chain(1), now).is_none());
    }
}
