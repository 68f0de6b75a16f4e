//! Credentials: what a security association is established with, and whom it stands for.

use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::association::Saef;
use crate::id::{AbsoluteId, AeIdStem, CredentialId, CseId};

/// A pre-shared key of 1 to 64 bytes. TS-0003 sets no length for a Kpsa, so short ones are taken.
///
/// It has neither `Debug` nor `Clone`, and its bytes are overwritten when it is dropped.
///
/// The bytes are on the heap, so that moving a key leaves no copy behind.
pub struct PresharedKey(Zeroizing<Box<[u8]>>);

/// A key that is empty or longer than [`PresharedKey::MAX_LEN`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has 1 to {max} bytes, this one has {0}", max = PresharedKey::MAX_LEN)]
pub struct KeyLengthError(pub usize);

impl PresharedKey {
    /// Longest key, in bytes.
    pub const MAX_LEN: usize = 64;

    /// A key shorter than this can be guessed by whoever recorded one handshake; it is taken,
    /// and warned about.
    pub const SHORT: usize = 16;

    /// Copies the key's bytes in. The caller's copy stays the caller's to erase.
    ///
    /// # Errors
    /// When there is no byte or there are more than [`Self::MAX_LEN`].
    pub fn new(key: &[u8]) -> Result<Self, KeyLengthError> {
        if key.is_empty() || key.len() > Self::MAX_LEN {
            return Err(KeyLengthError(key.len()));
        }
        Ok(Self(Zeroizing::new(key.into())))
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Whom a credential stands for (TS-0003 clause 8.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// An AE whose AE-ID is not known yet: it is learnt when the AE registers.
    NotYetKnown,
    /// An AE registered, or allowed to register, at this registrar under this AE-ID-Stem.
    Ae(AeIdStem),
    /// Several AEs of one device or node, by the AE-ID-Stems that they may have: it speaks as each
    /// of them, and as no other.
    Aes(Vec<AeIdStem>),
    /// A CSE.
    Cse(CseId),
    /// A client of an M2M Authentication Function, by its absolute AE-ID or CSE-ID.
    MafClient(AbsoluteId),
}

impl Entity {
    /// The AE-ID-Stems that it may speak as.
    #[must_use]
    pub fn stems(&self) -> &[AeIdStem] {
        match self {
            Self::Ae(stem) => std::slice::from_ref(stem),
            Self::Aes(stems) => stems,
            Self::NotYetKnown | Self::Cse(_) | Self::MafClient(_) => &[],
        }
    }
}

/// In words, for logs.
impl std::fmt::Display for Entity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotYetKnown => f.write_str("an AE not yet known"),
            Self::Ae(stem) => write!(f, "AE {stem}"),
            Self::Aes(stems) => {
                f.write_str("AEs")?;
                stems.iter().try_for_each(|stem| write!(f, " {stem}"))
            }
            Self::Cse(cse) => write!(f, "CSE {cse}"),
            Self::MafClient(id) => write!(f, "MAF client {id}"),
        }
    }
}

/// A credential as a look-up found it: the entity, its Credential-ID, how long it holds, the key.
pub struct Credential {
    /// The framework that it is of.
    pub saef: Saef,
    /// Whom it stands for.
    pub entity: Entity,
    /// Its Credential-ID.
    pub id: CredentialId,
    /// From when on it no longer holds; `None` for one without end.
    pub expires: Option<SystemTime>,
    /// The key.
    pub key: PresharedKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_1_to_64_bytes() {
        assert_eq!(PresharedKey::new(&[7; 8]).ok().map(|k| k.expose().to_vec()), Some(vec![7; 8]));
        assert_eq!(PresharedKey::new(&[7; 64]).ok().map(|k| k.expose().len()), Some(64));
        assert_eq!(PresharedKey::new(&[]).err(), Some(KeyLengthError(0)));
        assert_eq!(PresharedKey::new(&[7; 65]).err(), Some(KeyLengthError(65)));
    }
}
