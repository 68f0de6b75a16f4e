//! Cipher suites of TLS-PSK (TS-0003 clause 10.2.2 and RFC 4279, 5487, 5489, 6655, 7905).

use serde::de::{Deserialize, Deserializer, Error as _};
use std::fmt;
use std::str::FromStr;

macro_rules! suites {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $iana:literal, $openssl:literal;)*) => {
        /// A cipher suite of TLS-PSK.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Suite { $($(#[$doc])* $name,)* }

        impl Suite {
            /// All supported suites.
            pub const ALL: &'static [Suite] = &[$(Suite::$name,)*];

            /// Returns the number on the wire.
            #[must_use]
            pub fn id(self) -> u16 {
                match self { $(Suite::$name => $id,)* }
            }

            /// Returns the registered name, such as `TLS_PSK_WITH_AES_128_CBC_SHA256`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Suite::$name => $iana,)* }
            }

            /// Returns OpenSSL's name.
            #[must_use]
            pub fn openssl_name(self) -> &'static str {
                match self { $(Suite::$name => $openssl,)* }
            }
        }
    };
}

suites! {
    /// Forward secrecy and authenticated encryption.
    EcdhePskChacha20Poly1305 = 0xCCAC, "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-PSK-CHACHA20-POLY1305";
    /// Forward secrecy.
    EcdhePskAes128Cbc = 0xC037, "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256", "ECDHE-PSK-AES128-CBC-SHA256";
    /// Authenticated encryption.
    PskAes256Gcm = 0x00A9, "TLS_PSK_WITH_AES_256_GCM_SHA384", "PSK-AES256-GCM-SHA384";
    /// Authenticated encryption.
    PskChacha20Poly1305 = 0xCCAB, "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", "PSK-CHACHA20-POLY1305";
    /// Authenticated encryption.
    PskAes128Gcm = 0x00A8, "TLS_PSK_WITH_AES_128_GCM_SHA256", "PSK-AES128-GCM-SHA256";
    /// Authenticated encryption with a tag of 8 bytes, for constrained devices.
    PskAes128Ccm8 = 0xC0A8, "TLS_PSK_WITH_AES_128_CCM_8", "PSK-AES128-CCM8";
    /// The suite that TS-0003 mandates for TLS.
    PskAes128Cbc = 0x00AE, "TLS_PSK_WITH_AES_128_CBC_SHA256", "PSK-AES128-CBC-SHA256";
}

impl Suite {
    /// Suites that are offered by default, in order of preference: forward secrecy first, then
    /// authenticated encryption, the mandated suite last.
    pub const DEFAULT: &'static [Suite] = &[
        Suite::EcdhePskChacha20Poly1305,
        Suite::EcdhePskAes128Cbc,
        Suite::PskAes256Gcm,
        Suite::PskChacha20Poly1305,
        Suite::PskAes128Gcm,
        Suite::PskAes128Cbc,
    ];

    /// Suites that are offered by default over datagrams, in order of preference. TS-0003 clause
    /// 10.2.2 mandates the one with CCM for constrained devices.
    pub const DEFAULT_OF_DATAGRAMS: &'static [Suite] = &[
        Suite::EcdhePskChacha20Poly1305,
        Suite::EcdhePskAes128Cbc,
        Suite::PskAes128Ccm8,
        Suite::PskAes128Cbc,
    ];

    /// Returns the suites as a cipher list of OpenSSL, in the given order.
    pub(crate) fn openssl_list(suites: &[Suite]) -> String {
        let mut list: Vec<_> = suites.iter().map(|s| s.openssl_name()).collect();
        if suites.contains(&Suite::PskAes128Ccm8) {
            // OpenSSL's default security level rejects the 8-byte tag.
            list.push("@SECLEVEL=0");
        }
        list.join(":")
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error for a name that is not a supported suite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cipher suite for pre-shared keys; supported: {all}", all = names())]
pub struct SuiteError(String);

fn names() -> String {
    Suite::ALL.iter().map(|s| s.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Suite {
    type Err = SuiteError;

    /// Parses the registered name.
    fn from_str(text: &str) -> Result<Self, SuiteError> {
        Self::ALL.iter().copied().find(|s| s.name() == text).ok_or_else(|| SuiteError(text.into()))
    }
}

/// Returns whether the key exchange of a suite uses a pre-shared key. The list includes suites that
/// this crate does not support: those of RFC 4279, 4785, 5487, 5489, 5932, 6209, 6367, 6655, 7905
/// and 8442.
pub(crate) fn is_psk(id: u16) -> bool {
    matches!(id,
        0x002C..=0x002E
        | 0x008A..=0x0095
        | 0x00A8..=0x00B9
        | 0xC033..=0xC03B
        | 0xC064..=0xC069
        | 0xC06A..=0xC071
        | 0xC08E..=0xC09B
        | 0xC0A4..=0xC0AB
        | 0xCCAB..=0xCCAE
        | 0xD001..=0xD005)
}

/// Suites of TLS 1.3: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305.
pub(crate) const TLS13: &[u16] = &[0x1301, 0x1302, 0x1303];

/// TLS 1.2 suites of rustls: ECDHE with ECDSA or RSA, and authenticated encryption.
pub(crate) const CURRENT: &[u16] = &[0xC02B, 0xC02C, 0xCCA9, 0xC02F, 0xC030, 0xCCA8];

/// TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, which TS-0003 clause 10.2.3 mandates for TLS, and
/// TLS_ECDHE_ECDSA_WITH_AES_128_CCM.
pub(crate) const MANDATED: &[u16] = &[0xC023, 0xC0AC];

/// The same suites as a cipher list of OpenSSL.
pub(crate) const MANDATED_OPENSSL: &str = "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-CCM";

/// TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, which TS-0003 clause 10.2.3 mandates for DTLS, as a cipher
/// list of OpenSSL. Its default security level rejects the 8-byte tag.
pub(crate) const MANDATED_OF_DATAGRAMS_OPENSSL: &str = "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0";

/// Deserializes a list of cipher suites, which must not be empty or name a suite twice.
///
/// # Errors
/// Returns an error if a name is not a supported suite, or the list is empty or has a duplicate.
pub fn suites<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Suite>, D::Error> {
    let mut suites = Vec::new();
    for name in Vec::<String>::deserialize(deserializer)? {
        let suite = name.parse().map_err(D::Error::custom)?;
        if suites.contains(&suite) {
            return Err(D::Error::custom(format!("duplicate cipher suite {name}")));
        }
        suites.push(suite);
    }
    if suites.is_empty() {
        return Err(D::Error::custom(
            "the list of cipher suites is empty; omit it for the default",
        ));
    }
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse(), Ok(*suite));
            assert!(is_psk(suite.id()), "{suite}");
        }
        assert!("PSK-AES128-CBC-SHA256".parse::<Suite>().is_err());
    }

    #[test]
    fn certificate_suites_are_not_psk() {
        // Mandated by clause 10.2.3, then TLS 1.3, ECDHE-ECDSA-GCM, RSA, the renegotiation signal.
        for id in [0xC023, 0x1301, 0xC02B, 0x009C, 0x00FF, 0xC0AE] {
            assert!(!is_psk(id), "{id:04x}");
        }
    }

    #[test]
    fn mandated_suite_is_last_in_default() {
        assert_eq!(Suite::DEFAULT.last().map(|s| s.id()), Some(0x00AE));
    }
}
