//! Protection of records by authenticated encryption (RFC 5246 clause 6.2.3.3, RFC 5288, RFC 6655,
//! RFC 7905).
//!
//! OpenSSL negotiates the keys and performs the encryption.

use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::{CipherCtx, CipherCtxRef};
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use super::record::{RECORD_HEADER, Record, VERSION_1_2};

/// Epoch of the records that the negotiated keys protect.
pub(super) const EPOCH: u16 = 1;
/// Maximum length of a plaintext (RFC 5246 clause 6.2.1).
pub(super) const MAX_PLAINTEXT: usize = 1 << 14;
/// Length of a nonce.
const NONCE: usize = 12;
/// Length of the part of a nonce that is in the record.
pub(super) const EXPLICIT_NONCE: usize = 8;
/// Length of the master secret, and of the random value of each peer.
pub(super) const MASTER_SECRET: usize = 48;
pub(super) const RANDOM: usize = 32;

/// The results of a key exchange, from which keys are derived.
pub(super) struct KeyMaterial {
    pub master_secret: Zeroizing<[u8; MASTER_SECRET]>,
    pub client_random: [u8; RANDOM],
    pub server_random: [u8; RANDOM],
}

/// An algorithm for authenticated encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    /// AES-128 in CCM mode with a tag of 8 bytes.
    Ccm8,
    ChaCha20Poly1305,
    Gcm128,
    Gcm256,
}

impl Algorithm {
    /// Returns the algorithm of a suite by OpenSSL's name.
    fn of(suite: &str) -> Option<Self> {
        match suite {
            "PSK-AES128-CCM8" | "ECDHE-ECDSA-AES128-CCM8" => Some(Self::Ccm8),
            "PSK-CHACHA20-POLY1305" | "ECDHE-PSK-CHACHA20-POLY1305" => Some(Self::ChaCha20Poly1305),
            "PSK-AES128-GCM-SHA256" => Some(Self::Gcm128),
            "PSK-AES256-GCM-SHA384" => Some(Self::Gcm256),
            _ => None,
        }
    }

    fn cipher(self) -> Result<&'static CipherRef, ErrorStack> {
        static CIPHERS: [OnceLock<Cipher>; 4] = [const { OnceLock::new() }; 4];
        let [ccm, chacha, gcm128, gcm256] = &CIPHERS;
        let (cell, name) = match self {
            Self::Ccm8 => (ccm, "AES-128-CCM"),
            Self::ChaCha20Poly1305 => (chacha, "ChaCha20-Poly1305"),
            Self::Gcm128 => (gcm128, "AES-128-GCM"),
            Self::Gcm256 => (gcm256, "AES-256-GCM"),
        };
        match cell.get() {
            Some(cipher) => Ok(cipher),
            None => {
                let cipher = Cipher::fetch(None, name, None)?;
                Ok(cell.get_or_init(|| cipher))
            }
        }
    }

    /// Derives key material with the hash function of the suite.
    fn expand(self, secret: &[u8], seed: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Ccm8 | Self::ChaCha20Poly1305 | Self::Gcm128 => {
                expand::<Hmac<Sha256>>(secret, seed, length)
            }
            Self::Gcm256 => expand::<Hmac<Sha384>>(secret, seed, length),
        }
    }

    fn key(self) -> usize {
        match self {
            Self::Ccm8 | Self::Gcm128 => 16,
            Self::ChaCha20Poly1305 | Self::Gcm256 => 32,
        }
    }

    /// Returns the length of the part of the nonce that each record has.
    fn explicit_nonce(self) -> usize {
        match self {
            Self::Ccm8 | Self::Gcm128 | Self::Gcm256 => EXPLICIT_NONCE,
            Self::ChaCha20Poly1305 => 0,
        }
    }

    fn tag(self) -> usize {
        match self {
            Self::Ccm8 => 8,
            Self::ChaCha20Poly1305 | Self::Gcm128 | Self::Gcm256 => 16,
        }
    }

    /// Returns whether OpenSSL accepts the length of the tag before the key. It has one for GCM.
    fn has_tag_length(self) -> bool {
        matches!(self, Self::Ccm8 | Self::ChaCha20Poly1305)
    }
}

/// The last encrypted record that OpenSSL has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastRecord {
    pub sequence: u64,
    /// The first bytes of its content, which are the explicit nonce with CCM and GCM.
    pub explicit_nonce: [u8; EXPLICIT_NONCE],
}

impl LastRecord {
    /// Returns the explicit nonce of the record 0. OpenSSL adds 1 for each record. It starts with the
    /// epoch and the sequence number for CCM, and with a random value for GCM.
    fn first_explicit_nonce(self) -> u64 {
        u64::from_be_bytes(self.explicit_nonce).wrapping_sub(self.sequence)
    }
}

fn take(from: &mut &[u8], length: usize) -> Option<Zeroizing<Vec<u8>>> {
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(Zeroizing::new(taken.to_vec()))
}

/// The keys of both directions.
pub(super) struct Protection {
    algorithm: Algorithm,
    sealing: Direction,
    opening: Direction,
    /// Explicit nonce of the record 0 that was sent. None occurs twice within the 2^48 numbers.
    first_explicit_nonce: u64,
}

/// The key of a direction, and the part of its nonces that is not in the records.
struct Direction {
    context: CipherCtx,
    fixed_nonce: Zeroizing<[u8; NONCE]>,
}

impl Protection {
    /// Returns the protection that a finished handshake has negotiated, or `None` for a suite that is left
    /// to OpenSSL. `last` is the record whose nonce the nonces continue.
    pub fn of(ssl: &SslRef, last: LastRecord) -> Result<Option<Self>, ErrorStack> {
        let algorithm = ssl.current_cipher().and_then(|suite| Algorithm::of(suite.name()));
        let (Some(algorithm), Some(session)) = (algorithm, ssl.session()) else { return Ok(None) };
        let mut material = KeyMaterial {
            master_secret: Zeroizing::new([0; MASTER_SECRET]),
            client_random: [0; RANDOM],
            server_random: [0; RANDOM],
        };
        let is_whole = session.master_key(&mut *material.master_secret) == MASTER_SECRET
            && ssl.client_random(&mut material.client_random) == RANDOM
            && ssl.server_random(&mut material.server_random) == RANDOM;
        if !is_whole {
            return Ok(None);
        }
        Self::new(algorithm, &material, ssl.is_server(), last.first_explicit_nonce()).map(Some)
    }

    /// Returns the protection of a handshake without OpenSSL, with AES-128-CCM_8.
    pub fn ccm8(material: &KeyMaterial, is_server: bool) -> Result<Self, ErrorStack> {
        // As OpenSSL does: the epoch and the sequence number.
        Self::new(Algorithm::Ccm8, material, is_server, u64::from(EPOCH) << 48)
    }

    fn new(
        algorithm: Algorithm,
        material: &KeyMaterial,
        is_server: bool,
        first_explicit_nonce: u64,
    ) -> Result<Self, ErrorStack> {
        // RFC 5246 clause 6.3. These algorithms need no keys for a MAC.
        let fixed = NONCE - algorithm.explicit_nonce();
        let length = 2 * (algorithm.key() + fixed);
        let KeyMaterial { master_secret, client_random, server_random } = material;
        let seed = [b"key expansion", &server_random[..], client_random].concat();
        let block = algorithm.expand(&**master_secret, &seed, length);
        let mut rest = block.as_slice();
        let mut next = |length| take(&mut rest, length).unwrap_or_default();
        let (client_key, server_key) = (next(algorithm.key()), next(algorithm.key()));
        let (client_nonce, server_nonce) = (next(fixed), next(fixed));
        let (own, peer) = if is_server {
            ((server_key, server_nonce), (client_key, client_nonce))
        } else {
            ((client_key, client_nonce), (server_key, server_nonce))
        };
        let sealing = Direction::new(algorithm, &own.0, &own.1, true)?;
        let opening = Direction::new(algorithm, &peer.0, &peer.1, false)?;
        Ok(Self { algorithm, sealing, opening, first_explicit_nonce })
    }

    #[cfg(test)]
    pub fn with_equal_keys() -> Result<Self, ErrorStack> {
        let algorithm = Algorithm::Ccm8;
        let direction = |seals| Direction::new(algorithm, &[1; 16], &[2; 4], seals);
        let (sealing, opening) = (direction(true)?, direction(false)?);
        Ok(Self { algorithm, sealing, opening, first_explicit_nonce: u64::from(EPOCH) << 48 })
    }

    /// Returns the record with a plaintext. A sequence number is used once.
    pub fn seal(
        &mut self,
        content_type: u8,
        sequence: u64,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, ErrorStack> {
        let numbers = numbers(sequence);
        let algorithm = self.algorithm;
        let explicit = self.first_explicit_nonce.wrapping_add(sequence).to_be_bytes();
        let explicit = explicit.get(..algorithm.explicit_nonce()).unwrap_or_default();
        let nonce = self.sealing.nonce(explicit, numbers);
        let context = &mut self.sealing.context;
        context.encrypt_init(None, None, Some(&nonce))?;
        let aad = additional_data(numbers, content_type, plaintext.len());
        if algorithm == Algorithm::Ccm8 {
            context.set_data_len(plaintext.len())?;
        }
        context.cipher_update(&aad, None)?;
        let content = explicit.len() + plaintext.len() + algorithm.tag();
        let mut record = Vec::with_capacity(RECORD_HEADER + content + 16);
        record.push(content_type);
        record.extend(VERSION_1_2);
        record.extend(numbers);
        record.extend(u16::try_from(content).unwrap_or_default().to_be_bytes());
        record.extend_from_slice(explicit);
        context.cipher_update_vec(plaintext, &mut record)?;
        context.cipher_final_vec(&mut record)?;
        let mut tag = [0; 16];
        let tag = tag.get_mut(..algorithm.tag()).unwrap_or_default();
        context.tag(tag)?;
        record.extend_from_slice(tag);
        Ok(record)
    }

    /// Returns the plaintext of a record, or `None` if the record is not authentic or is empty.
    pub fn open(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let algorithm = self.algorithm;
        let (explicit, rest) = record.content.split_at_checked(algorithm.explicit_nonce())?;
        let length = rest.len().checked_sub(algorithm.tag())?;
        if !(1..=MAX_PLAINTEXT).contains(&length) {
            return None;
        }
        let (ciphertext, tag) = rest.split_at_checked(length)?;
        let numbers = numbers(record.sequence);
        let nonce = self.opening.nonce(explicit, numbers);
        let context = &mut self.opening.context;
        let aad = additional_data(numbers, record.content_type, length);
        let mut decrypt = || {
            context.decrypt_init(None, None, Some(&nonce))?;
            context.set_tag(tag)?;
            if algorithm == Algorithm::Ccm8 {
                context.set_data_len(length)?;
            }
            context.cipher_update(&aad, None)?;
            let mut plaintext = Vec::with_capacity(length + 16);
            context.cipher_update_vec(ciphertext, &mut plaintext)?;
            context.cipher_final_vec(&mut plaintext)?;
            Ok::<_, ErrorStack>(plaintext)
        };
        decrypt().ok()
    }
}

impl Direction {
    fn new(
        algorithm: Algorithm,
        key: &[u8],
        nonce: &[u8],
        seals: bool,
    ) -> Result<Self, ErrorStack> {
        let mut context = CipherCtx::new()?;
        let cipher = Some(algorithm.cipher()?);
        let init = if seals { CipherCtxRef::encrypt_init } else { CipherCtxRef::decrypt_init };
        init(&mut context, cipher, None, None)?;
        context.set_iv_length(NONCE)?;
        if algorithm.has_tag_length() {
            context.set_tag_length(algorithm.tag())?;
        }
        init(&mut context, None, Some(key), None)?;
        let mut fixed_nonce = Zeroizing::new([0; NONCE]);
        fixed_nonce.iter_mut().zip(nonce).for_each(|(to, from)| *to = *from);
        Ok(Self { context, fixed_nonce })
    }

    /// Returns the nonce of a record: the fixed part and that of the record, or else the exclusive or
    /// with its numbers.
    fn nonce(&self, explicit: &[u8], numbers: [u8; 8]) -> [u8; NONCE] {
        let mut nonce = *self.fixed_nonce;
        let last = nonce.iter_mut().skip(NONCE - numbers.len());
        if explicit.is_empty() {
            last.zip(numbers).for_each(|(to, number)| *to ^= number);
        } else {
            last.zip(explicit).for_each(|(to, from)| *to = *from);
        }
        nonce
    }
}

/// Returns the epoch and the sequence number as in the header of a record.
fn numbers(sequence: u64) -> [u8; 8] {
    (u64::from(EPOCH) << 48 | sequence).to_be_bytes()
}

/// Returns the part of a record that is authenticated and not encrypted.
fn additional_data(numbers: [u8; 8], content_type: u8, length: usize) -> [u8; 13] {
    let [a, b, c, d, e, f, g, h] = numbers;
    let [major, minor] = VERSION_1_2;
    // A plaintext is not longer than 2^14 bytes.
    let [high, low] = u16::try_from(length).unwrap_or_default().to_be_bytes();
    [a, b, c, d, e, f, g, h, content_type, major, minor, high, low]
}

/// The pseudorandom function of the suites with SHA-256 (RFC 5246 clause 5).
pub(super) fn prf(secret: &[u8], label: &[u8], seed: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    expand::<Hmac<Sha256>>(secret, &[label, seed].concat(), length)
}

/// Derives key material with P_hash of a HMAC (RFC 5246 clause 5).
fn expand<M: Mac + KeyInit + Clone>(
    secret: &[u8],
    seed: &[u8],
    length: usize,
) -> Zeroizing<Vec<u8>> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let keyed = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes any key length");
    let mac = |parts: &[&[u8]]| {
        let mut mac = keyed.clone();
        parts.iter().for_each(|part| mac.update(part));
        // It clears itself, unlike its bytes.
        let code = mac.finalize();
        Zeroizing::new(code.as_bytes().to_vec())
    };
    let mut output = Zeroizing::new(Vec::with_capacity(length + M::output_size()));
    let mut chained = mac(&[seed]);
    while output.len() < length {
        output.extend_from_slice(&mac(&[&chained, seed]));
        chained = mac(&[&chained]);
    }
    output.truncate(length);
    output
}
