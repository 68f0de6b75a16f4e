//! Public key identifiers (TS-0003 clause 10.1.2, RFC 6920), which name and pin raw public keys.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The length of a public key's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Length {
    /// `sha-256`.
    Whole,
    /// `sha-256-128`.
    Bits128,
    /// `sha-256-120`.
    Bits120,
}

impl Length {
    const ALL: [Self; 3] = [Self::Whole, Self::Bits128, Self::Bits120];

    fn name(self) -> &'static str {
        match self {
            Self::Whole => "sha-256",
            Self::Bits128 => "sha-256-128",
            Self::Bits120 => "sha-256-120",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Whole => 32,
            Self::Bits128 => 16,
            Self::Bits120 => 15,
        }
    }
}

/// The identifier of a public key: `ni:///sha-256;…`, the hash of its SubjectPublicKeyInfo.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicKeyId {
    length: Length,
    hash: Vec<u8>,
}

/// The error for a text that is not a public key identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a public key identifier: it must have the form ni:///sha-256;HASH (or sha-256-128 or \
     sha-256-120), the hash in base64 with - and _ and without ="
)]
pub struct PublicKeyIdError;

impl PublicKeyId {
    /// Returns the identifiers of a key, the longest first.
    #[must_use]
    pub fn all_of(spki: &[u8]) -> [Self; 3] {
        let whole = Sha256::digest(spki);
        Length::ALL.map(|length| {
            let hash = whole.iter().take(length.bytes()).copied().collect();
            Self { length, hash }
        })
    }
}

impl FromStr for PublicKeyId {
    type Err = PublicKeyIdError;

    fn from_str(text: &str) -> Result<Self, PublicKeyIdError> {
        // An authority would locate the key. It is not part of the identifier.
        let rest = text.strip_prefix("ni:///").ok_or(PublicKeyIdError)?;
        let (name, hash) = rest.split_once(';').ok_or(PublicKeyIdError)?;
        let length = Length::ALL.into_iter().find(|l| l.name() == name).ok_or(PublicKeyIdError)?;
        let hash = URL_SAFE_NO_PAD.decode(hash).map_err(|_| PublicKeyIdError)?;
        if hash.len() == length.bytes() { Ok(Self { length, hash }) } else { Err(PublicKeyIdError) }
    }
}

impl fmt::Display for PublicKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ni:///{};{}", self.length.name(), URL_SAFE_NO_PAD.encode(&self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_read_back() {
        for id in PublicKeyId::all_of(b"key") {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        // The first bytes of SHA-256 of "Hello World!", the example of RFC 6920.
        let [whole, half, _] = PublicKeyId::all_of(b"Hello World!");
        assert_eq!(whole.to_string(), "ni:///sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk");
        assert_eq!(half.to_string(), "ni:///sha-256-128;f4OxZX_x_FO5LcGBSKHWXQ");
    }

    #[test]
    fn invalid_public_key_id_is_refused() {
        for bad in [
            "",
            "ni:///sha-256",
            "ni:///sha-256;",
            "ni:///sha-256;f4OxZX",
            "ni:///sha-256-128;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk",
            "ni:///md5;f4OxZX_x_FO5LcGBSKHWXQ",
            "ni:///sha-256-64;f4OxZX_x_FM",
            "ni://a.b/sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk",
            "ni:///sha-256;f4OxZX/x/FO5LcGBSKHWXfwtSx+j1ncoSt3SABJtkGk",
        ] {
            assert_eq!(bad.parse::<PublicKeyId>(), Err(PublicKeyIdError), "{bad}");
        }
    }
}
