//! Key material that both ends of a TLS session export from it (TS-0003 clause 10.3.1, RFC 5705): a
//! key and its identifier. Neither is ever sent.

use zeroize::Zeroizing;

use crate::credential::PresharedKey;

/// Exporter label for connections, from which KcID and Kc are derived.
pub const LABEL: &str = "EXPORTER-oneM2M-Connection";

/// Number of exported bytes: the identifier, followed by the key.
pub const LENGTH: usize = 48;

/// Length of the identifier, in bytes.
const ID: usize = 16;

/// Key material exported from a session.
///
/// It has neither `Debug` nor `Clone`, and its bytes are overwritten on drop.
pub struct Exported(Zeroizing<Box<[u8]>>);

impl Exported {
    /// Calls `export` with the final buffer, so that no copy of the bytes is left behind.
    ///
    /// # Errors
    /// Returns the error of `export`.
    pub fn by<E>(export: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new(vec![0; LENGTH].into_boxed_slice());
        export(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns KcID in hexadecimal digits: a RelativeKeyID (clause 10.3.5).
    #[must_use]
    pub fn relative_key_id(&self) -> String {
        self.0.iter().take(ID).map(|byte| format!("{byte:02X}")).collect()
    }

    /// Returns Kc.
    #[must_use]
    pub fn key(&self) -> Option<PresharedKey> {
        PresharedKey::new(self.0.get(ID..)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_16_bytes_are_relative_key_id() {
        let exported = Exported::by(|place| {
            place.iter_mut().zip(0..).for_each(|(byte, n)| *byte = n);
            Ok::<_, ()>(())
        });
        let exported = exported.unwrap();
        assert_eq!(exported.relative_key_id(), "000102030405060708090A0B0C0D0E0F");
        let key = exported.key().unwrap();
        assert_eq!(key.expose(), (16..48).collect::<Vec<u8>>());
    }
}
