//! Credentials: what a security association is established with, and whom it stands for.

use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::id::{AbsoluteId, AeIdStem, CredentialId, CseId};
use crate::saef::Saef;

/// A pre-shared key of 1 to 64 bytes. TS-0003 sets no length for a Kpsa; [`KeyStrength`] says which keys
/// anybody can guess.
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

    /// Fewest bytes of a provisioned key (Kpsa, Ke). Examples of oneM2M's interoperability tests
    /// (TS-0013) have so few.
    pub const MIN_PROVISIONED: usize = 3;

    /// Fewest bytes of a key that is shared with a MAF, or distributed by one. Programs make these.
    pub const MIN_OF_MAF: usize = 8;

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

/// How hard a key is to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStrength {
    /// Nothing is known against it.
    Good,
    /// Whoever recorded one handshake can find it: it has fewer than 16 bytes, few different ones, or counts
    /// up or down.
    Weak,
}

/// A key that is not to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuessableKey {
    /// It is so short that it can be tried out.
    #[error(
        "has fewer than {0} bytes, so that it can be tried out; provision a random key of 16 or more"
    )]
    TooShort(usize),
    /// It is no secret: zeros, or another byte over and over.
    #[error("is one byte over and over, such as zeros; provision a random key of 16 bytes or more")]
    Constant,
}

impl KeyStrength {
    /// A key with fewer bytes can be found by whoever recorded one handshake.
    const STRONG_LEN: usize = 16;

    /// Fewest different bytes of a key that was made at random: with 16 bytes it has fewer once in 10^12.
    const MIN_DIFFERENT: usize = 8;

    /// Estimates how hard a key of at least `min_len` bytes is to guess.
    ///
    /// # Errors
    /// When anybody can guess it.
    pub fn of(key: &[u8], min_len: usize) -> Result<Self, GuessableKey> {
        if key.len() < min_len {
            return Err(GuessableKey::TooShort(min_len));
        }
        let mut steps =
            key.iter().zip(key.iter().skip(1)).map(|(one, next)| next.wrapping_sub(*one));
        let first = steps.next().unwrap_or_default();
        let counts = steps.all(|step| step == first);
        if counts && first == 0 {
            return Err(GuessableKey::Constant);
        }
        let mut seen = [0_u64; 4];
        for &byte in key {
            if let Some(word) = seen.get_mut(usize::from(byte >> 6)) {
                *word |= 1 << (byte & 0x3f);
            }
        }
        let different: u32 = seen.into_iter().map(u64::count_ones).sum();
        let good =
            key.len() >= Self::STRONG_LEN && different as usize >= Self::MIN_DIFFERENT && !counts;
        Ok(if good { Self::Good } else { Self::Weak })
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

    #[test]
    fn what_anybody_can_guess_is_no_key() {
        let of = |key: &[u8]| KeyStrength::of(key, PresharedKey::MIN_PROVISIONED);
        for len in 0..3 {
            let random = [0x1a, 0x2b, 0x3c].get(..len).unwrap_or_default();
            assert_eq!(of(random), Err(GuessableKey::TooShort(3)), "{len}");
        }
        for byte in [0, 1, 0xff] {
            for len in 3..=PresharedKey::MAX_LEN {
                assert_eq!(of(&vec![byte; len]), Err(GuessableKey::Constant), "{byte} {len}");
            }
        }
        let of_maf = |key: &[u8]| KeyStrength::of(key, PresharedKey::MIN_OF_MAF);
        assert_eq!(of_maf(&[1, 2, 4, 8, 16, 32, 64]), Err(GuessableKey::TooShort(8)));
        assert_eq!(of_maf(&[1, 2, 4, 8, 16, 32, 64, 128]), Ok(KeyStrength::Weak));
    }

    #[test]
    fn a_key_with_a_pattern_is_weak() {
        let of = |key: &[u8]| KeyStrength::of(key, PresharedKey::MIN_PROVISIONED);
        // The examples of TS-0013 and of the worked example.
        assert_eq!(of(&[0x12, 0x34, 0x56]), Ok(KeyStrength::Weak));
        assert_eq!(of(&[0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x7a, 0x8b]), Ok(KeyStrength::Weak));
        let indices: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let counting = indices.map(|n| 250_u8.wrapping_add(n));
        let down = indices.map(|n| 3_u8.wrapping_sub(n));
        let pair = indices.map(|n| if n % 2 == 0 { 0xab } else { 0xcd });
        let seven = indices.map(|n| (n % 7) * 31);
        for weak in [counting, down, pair, seven] {
            assert_eq!(of(&weak), Ok(KeyStrength::Weak), "{weak:x?}");
        }
        let good = [9, 54, 1, 200, 17, 33, 99, 250, 77, 5, 61, 142, 8, 90, 211, 3];
        assert_eq!(of(&good), Ok(KeyStrength::Good));
        assert_eq!(of(&good[..15]), Ok(KeyStrength::Weak));
    }
}
