//! Provisioned symmetric keys, as configuration files state them.

use saegis_handshake::{Suite, suites};
use saegis_onem2m::credential::{KeyStrength, PresharedKey};
use saegis_onem2m::id::KpsaId;
use saegis_onem2m::serde::parsed;
use serde::de::{Deserialize, Deserializer, Error as _};
use zeroize::Zeroizing;

/// A provisioned symmetric key: Kpsa with its KpsaID (TS-0003 clause 8.2.2.1), or Km with its KmID
/// toward a MAF (clause 8.8).
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Credential {
    /// KpsaID of the shared key. Toward a MAF it is the KmID, and the option is `km-id`.
    #[serde(alias = "km-id", deserialize_with = "parsed")]
    pub kpsa_id: KpsaId,
    /// Shared key Kpsa in hexadecimal digits. Toward a MAF it is Km, and the option is `km`.
    #[serde(alias = "km", deserialize_with = "key")]
    pub kpsa: PresharedKey,
    /// Cipher suites to offer, in order of preference. Absent, it offers the default of TLS or DTLS.
    #[serde(default, deserialize_with = "suites_if_there")]
    pub suites: Option<Vec<Suite>>,
}

impl Credential {
    /// Returns the cipher suites to offer over a stream.
    #[must_use]
    pub fn suites(&self) -> &[Suite] {
        self.suites.as_deref().unwrap_or(Suite::DEFAULT)
    }

    /// Returns the cipher suites to offer over datagrams.
    #[must_use]
    pub fn suites_of_datagrams(&self) -> &[Suite] {
        self.suites.as_deref().unwrap_or(Suite::DEFAULT_OF_DATAGRAMS)
    }
}

/// Deserializes a list of cipher suites that is present.
///
/// # Errors
/// Returns an error if a name is not a supported suite, or the list is empty or has a duplicate.
pub fn suites_if_there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Suite>>, D::Error> {
    suites(from).map(Some)
}

/// Deserializes a key in hexadecimal digits.
///
/// # Errors
/// Returns an error if the digits are invalid, or the key is too short, too long or trivially weak.
pub fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PresharedKey, D::Error> {
    let digits = Zeroizing::new(String::deserialize(deserializer)?);
    // The decoder's error would disclose a digit of the key.
    let bytes = hex::decode(&*digits)
        .map_err(|_| D::Error::custom("the key is not an even number of hexadecimal digits"))?;
    let bytes = Zeroizing::new(bytes);
    KeyStrength::of(&bytes, PresharedKey::MIN_PROVISIONED)
        .map_err(|e| D::Error::custom(format!("the key {e}")))?;
    PresharedKey::new(&bytes).map_err(D::Error::custom)
}
