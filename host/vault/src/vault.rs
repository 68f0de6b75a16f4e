//! Encryption and lookup of entries.
//!
//! The ID of an entry is a keyed hash of its identity, so the store does not reveal identities without
//! its key. The content is encrypted with XChaCha20-Poly1305. The table and the entry ID are
//! authenticated with it, so one entry cannot replace another.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::store_key::StoreKey;

/// The keyed hash under which an entry is stored.
pub type EntryId = [u8; 32];

/// Length of a nonce. Nonces are random. With 24 bytes, two under one key are never equal, so no
/// counter must survive restarts and copies of the file.
const NONCE: usize = 24;
/// Length of the authentication tag.
const TAG: usize = 16;

/// The error for an entry that cannot be encrypted, for lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry cannot be encrypted")]
pub struct SealError;

/// The keys that encrypt, decrypt and locate the entries of a store.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    /// Key of the hash that yields the entry IDs.
    id_key: Box<Zeroizing<[u8; 32]>>,
}

impl Vault {
    /// Derives the keys of the store with that name from its key. The name is part of the store's
    /// format: the entries of a store with another name cannot be read.
    #[must_use]
    pub fn new(key: &StoreKey, store: &str) -> Self {
        // Separate keys for each use, so that one does not reveal the other.
        let sealing = derive(key, store, ": entries");
        Self {
            cipher: XChaCha20Poly1305::new(<&Key>::from(&*sealing)),
            id_key: Box::new(derive(key, store, ": slots")),
        }
    }

    /// Returns the ID of an entry of a table.
    #[must_use]
    pub fn entry_id(&self, table: impl Into<u8>, identity: &str) -> EntryId {
        *mac(self.id_key.as_slice(), &[&[table.into()], identity.as_bytes()])
    }

    /// Encrypts an entry of a table.
    ///
    /// # Errors
    /// Fails for lack of memory.
    pub fn seal(
        &self,
        table: impl Into<u8>,
        entry_id: &EntryId,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE] = rand::rng().random();
        let associated = associated(table.into(), entry_id);
        // The capacity suffices for everything, so that growing leaves no copy of the plain text
        // behind. On success the buffer holds the cipher text. On an error it holds plain text, and
        // is overwritten.
        let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + TAG + NONCE));
        sealed.extend_from_slice(plain);
        self.cipher
            .encrypt_in_place(&XNonce::from(nonce), &associated, &mut *sealed)
            .map_err(|_| SealError)?;
        sealed.extend_from_slice(&nonce);
        Ok(std::mem::take(&mut *sealed))
    }

    /// Decrypts an entry. Returns `None` if it was changed, or has another table or entry ID.
    #[must_use]
    pub fn open(
        &self,
        table: impl Into<u8>,
        entry_id: &EntryId,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (text, nonce) = sealed.split_last_chunk::<NONCE>()?;
        let associated = associated(table.into(), entry_id);
        let mut plain = Zeroizing::new(text.to_vec());
        self.cipher.decrypt_in_place(&XNonce::from(*nonce), &associated, &mut *plain).ok()?;
        Some(plain)
    }
}

fn associated(table: u8, entry_id: &EntryId) -> [u8; 33] {
    let mut bytes = [table; 33];
    for (target, byte) in bytes.iter_mut().skip(1).zip(entry_id) {
        *target = *byte;
    }
    bytes
}

fn derive(key: &StoreKey, store: &str, use_of_key: &str) -> Zeroizing<[u8; 32]> {
    mac(key.expose(), &[store.as_bytes(), use_of_key.as_bytes()])
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
#[path = "vault_tests.rs"]
mod tests;
