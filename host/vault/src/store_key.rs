//! The key that encrypts the entries of the store.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use saegis_onem2m::credential::{GuessableKey, KeyStrength};
use zeroize::Zeroizing;

/// The store's key: 32 random bytes, stored apart from the store.
///
/// It has neither `Debug` nor `Clone`, and its bytes are overwritten on drop.
pub struct StoreKey(Box<Zeroizing<[u8; StoreKey::LEN]>>);

/// The error for a text that is not a store key. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreKeyError {
    /// The text has another form.
    #[error("the store's key must be 32 bytes: 64 hexadecimal digits, or base64")]
    Form,
    /// Anybody can guess the key.
    #[error("the store's key {0}")]
    Guessable(#[from] GuessableKey),
}

impl StoreKey {
    /// Length of a store key, in bytes.
    pub const LEN: usize = 32;

    /// Copies the bytes of a key. The caller must erase its own copy.
    #[must_use]
    pub fn new(bytes: &[u8; Self::LEN]) -> Self {
        let mut key = Self(Box::new(Zeroizing::new([0; Self::LEN])));
        key.0.copy_from_slice(bytes);
        key
    }

    /// Parses the text of a file or variable: 64 hexadecimal digits, or the base64 of 32 bytes,
    /// surrounded by optional white space. The two cannot be confused, because base64 has 44
    /// characters.
    ///
    /// # Errors
    /// Returns an error if the text is neither, or the key is a repeated byte.
    pub fn parse(text: &str) -> Result<Self, StoreKeyError> {
        let text = text.trim_ascii();
        let mut key = Self(Box::new(Zeroizing::new([0; Self::LEN])));
        if text.len() == 2 * Self::LEN {
            hex::decode_to_slice(text, key.0.as_mut_slice()).map_err(|_| StoreKeyError::Form)?;
            KeyStrength::of(key.0.as_slice(), Self::LEN)?;
            return Ok(key);
        }
        // The decoder needs space for what could be padding.
        let mut buffer = Zeroizing::new([0; Self::LEN + 4]);
        let read = match text.len() {
            44 => STANDARD
                .decode_slice(text, buffer.as_mut_slice())
                .map_err(|_| StoreKeyError::Form)?,
            _ => return Err(StoreKeyError::Form),
        };
        let bytes = buffer.get(..read).filter(|bytes| bytes.len() == Self::LEN);
        key.0.copy_from_slice(bytes.ok_or(StoreKeyError::Form)?);
        KeyStrength::of(key.0.as_slice(), Self::LEN)?;
        Ok(key)
    }

    pub(crate) fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_key_may_be_hexadecimal_or_base64() {
        let bytes: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let hexadecimal = hex::encode(bytes);
        let base64 = STANDARD.encode(bytes);
        for text in [&hexadecimal, &hexadecimal.to_uppercase(), &base64, &format!(" {base64}\r\n")]
        {
            assert_eq!(StoreKey::parse(text).ok().map(|k| *k.expose()), Some(bytes), "{text}");
        }
        for bad in [
            "",
            "00",
            &hexadecimal[1..],
            &hexadecimal.replace('0', "x"),
            &base64[1..],
            &STANDARD.encode([1; 31]),
            &STANDARD.encode([1; 33]),
            &base64.replace('A', "-"),
            &"é".repeat(22),
            &"é".repeat(32),
        ] {
            assert_eq!(StoreKey::parse(bad).err(), Some(StoreKeyError::Form), "{bad}");
        }
    }

    #[test]
    fn zeros_are_no_key() {
        for byte in [0, 0x5f] {
            for text in [hex::encode([byte; 32]), STANDARD.encode([byte; 32])] {
                let refused = StoreKey::parse(&text).err();
                assert_eq!(refused, Some(StoreKeyError::Guessable(GuessableKey::Constant)));
            }
        }
    }
}
