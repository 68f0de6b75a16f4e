//! Encryption and lookup of the store's entries.
//!
//! The ID of an entry is a keyed hash of the client's or the key's identifier, so the file does not
//! reveal the clients without the store's key. The content is encrypted with XChaCha20-Poly1305.
//! The table and the entry ID are authenticated with it, so one entry cannot replace another.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::store_key::StoreKey;

/// The keyed hash under which an entry is stored.
pub(crate) type EntryId = [u8; 32];

/// Length of a nonce. Nonces are random. With 24 bytes, two under one key are never equal, so no
/// counter must survive restarts and copies of the file.
const NONCE: usize = 24;
/// Length of the authentication tag.
const TAG: usize = 16;

/// The kind of an entry. Its number is authenticated, and part of the expiry index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A client registration.
    Client = 1,
    /// A key registration.
    Key = 2,
    /// The proof of the store's key.
    Proof = 3,
}

/// The error for an entry that cannot be encrypted, for lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry cannot be encrypted")]
pub(crate) struct SealError;

/// The keys that encrypt, decrypt and locate entries.
pub(crate) struct EntryCipher {
    cipher: XChaCha20Poly1305,
    /// Key of the hash that yields the entry IDs.
    id_key: Box<Zeroizing<[u8; 32]>>,
}

impl EntryCipher {
    pub(crate) fn new(key: &StoreKey) -> Self {
        // Separate keys for each use, so that one does not reveal the other. The labels are part of
        // the store's format.
        let sealing = derive(key, "saegis MAF store: entries");
        Self {
            cipher: XChaCha20Poly1305::new(<&Key>::from(&*sealing)),
            id_key: Box::new(derive(key, "saegis MAF store: slots")),
        }
    }

    /// Returns the ID of the entry for a client or a key.
    pub(crate) fn entry_id(&self, kind: Kind, id: &str) -> EntryId {
        *mac(self.id_key.as_slice(), &[&[kind as u8], id.as_bytes()])
    }

    /// Encrypts an entry.
    pub(crate) fn seal(
        &self,
        kind: Kind,
        entry_id: &EntryId,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE] = rand::rng().random();
        // The capacity suffices for everything, so that growing leaves no copy of the plain text
        // behind. On success the buffer holds the cipher text. On an error it holds plain text, and
        // is overwritten.
        let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + TAG + NONCE));
        sealed.extend_from_slice(plain);
        self.cipher
            .encrypt_in_place(&XNonce::from(nonce), &associated(kind, entry_id), &mut *sealed)
            .map_err(|_| SealError)?;
        sealed.extend_from_slice(&nonce);
        Ok(std::mem::take(&mut *sealed))
    }

    /// Decrypts an entry. Returns `None` if it was changed, or has another entry ID.
    pub(crate) fn open(
        &self,
        kind: Kind,
        entry_id: &EntryId,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (text, nonce) = sealed.split_last_chunk::<NONCE>()?;
        let mut plain = Zeroizing::new(text.to_vec());
        self.cipher
            .decrypt_in_place(&XNonce::from(*nonce), &associated(kind, entry_id), &mut *plain)
            .ok()?;
        Some(plain)
    }
}

fn associated(kind: Kind, entry_id: &EntryId) -> [u8; 33] {
    let mut bytes = [kind as u8; 33];
    for (target, byte) in bytes.iter_mut().skip(1).zip(entry_id) {
        *target = *byte;
    }
    bytes
}

fn derive(key: &StoreKey, purpose: &str) -> Zeroizing<[u8; 32]> {
    mac(key.expose(), &[purpose.as_bytes()])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes any key length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_opens_only_under_its_id() {
        let cipher = EntryCipher::new(&StoreKey::new(&[7; 32]));
        let entry_id = cipher.entry_id(Kind::Key, "A");
        let sealed = cipher.seal(Kind::Key, &entry_id, b"plain").unwrap();
        let open = |kind, entry_id: &EntryId, sealed: &[u8]| {
            cipher.open(kind, entry_id, sealed).map(|plain| plain.to_vec())
        };
        assert_eq!(open(Kind::Key, &entry_id, &sealed), Some(b"plain".to_vec()));
        assert_eq!(open(Kind::Client, &entry_id, &sealed), None);
        assert_eq!(open(Kind::Key, &cipher.entry_id(Kind::Key, "B"), &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(Kind::Key, &entry_id, &changed), None, "{at}");
            assert_eq!(open(Kind::Key, &entry_id, &sealed[..at]), None, "{at}");
        }
        let other = EntryCipher::new(&StoreKey::new(&[8; 32]));
        assert!(other.open(Kind::Key, &entry_id, &sealed).is_none());
        assert_ne!(other.entry_id(Kind::Key, "A"), entry_id);
        assert_ne!(cipher.entry_id(Kind::Client, "A"), entry_id);
        // Two encryptions of the same text differ.
        assert_ne!(cipher.seal(Kind::Key, &entry_id, b"plain").unwrap(), sealed);
    }
}
