//! What both ends of a TLS session derive from it (TS-0003 clause 10.3.1, RFC 5705): a key and its
//! identifier, which were never sent.

use zeroize::Zeroizing;

use crate::credential::PresharedKey;

/// The exporter's label for connections: it gives KcID and Kc.
pub const LABEL: &str = "EXPORTER-oneM2M-Connection";

/// How much is exported, in bytes: the identifier, and behind it the key.
pub const LENGTH: usize = 48;

/// Length of the identifier, in bytes.
const ID: usize = 16;

/// What was exported from a session.
///
/// It has neither `Debug` nor `Clone`, and its bytes are overwritten when it is dropped.
pub struct Exported(Zeroizing<Box<[u8]>>);

impl Exported {
    /// Has it written to where it stays.
    ///
    /// # Errors
    /// What `export` says.
    pub fn by<E>(export: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new(vec![0; LENGTH].into_boxed_slice());
        export(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// KcID as it is written, in hexadecimal digits: a RelativeKeyID (clause 10.3.5).
    #[must_use]
    pub fn relative_key_id(&self) -> String {
        self.0.iter().take(ID).map(|byte| format!("{byte:02X}")).collect()
    }

    /// Kc.
    #[must_use]
    pub fn key(&self) -> Option<PresharedKey> {
        PresharedKey::new(self.0.get(ID..)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_16_bytes_are_the_identifier() {
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
