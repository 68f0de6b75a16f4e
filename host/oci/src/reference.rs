//! References: `oci://host:port/name:tag@sha256:…`.

use std::fmt;
use std::str::FromStr;

/// The SHA-256 digest of content in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl FromStr for Digest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix("sha256:").ok_or(ReferenceError::Unpinned)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| ReferenceError::Unpinned)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

/// A reference that names an artifact and pins its digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry, `host` or `host:port`.
    pub registry: String,
    /// Repository in the registry.
    pub repository: String,
    /// Digest of the artifact's manifest.
    pub digest: Digest,
}

/// The reason why a text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text has another form.
    #[error("is not a reference of the form oci://host:port/name:tag@sha256:…")]
    Form,
    /// The reference pins no digest.
    #[error(
        "pins no digest; a tag can be moved, so @sha256: and 64 digits must follow it, as the command \
         that pushed it printed them"
    )]
    Unpinned,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bare = text.strip_prefix("oci://").ok_or(ReferenceError::Form)?;
        let parsed: oci_spec::distribution::Reference =
            bare.parse().map_err(|_| ReferenceError::Form)?;
        // Other clients use a default registry for a name without a host. This one does not.
        let registry = parsed.registry().to_owned();
        if !bare.strip_prefix(&registry).is_some_and(|rest| rest.starts_with('/')) {
            return Err(ReferenceError::Form);
        }
        let digest = parsed.digest().ok_or(ReferenceError::Unpinned)?.parse()?;
        Ok(Self { registry, repository: parsed.repository().to_owned(), digest })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn reference_has_registry_and_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let parsed: Reference =
            format!("oci://127.0.0.1:5000/modules/psk-table:1.2@{digest}").parse().unwrap();
        assert_eq!(parsed.registry, "127.0.0.1:5000");
        assert_eq!(parsed.repository, "modules/psk-table");
        assert_eq!(parsed.digest.to_string(), digest);
        let short: Reference = format!("oci://registry.example/x@{digest}").parse().unwrap();
        assert_eq!((short.registry.as_str(), short.repository.as_str()), ("registry.example", "x"));
    }

    #[test]
    fn invalid_reference_states_reason() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let parse = |text: &str| text.parse::<Reference>();
        assert_eq!(parse("oci://registry.example:5000/x:1"), Err(ReferenceError::Unpinned));
        let sha512 = format!("oci://registry.example/x@sha512:{}", "ab".repeat(64));
        assert_eq!(parse(&sha512), Err(ReferenceError::Unpinned));
        for bad in [
            format!("https://registry.example/x@{digest}"),
            format!("oci://x@{digest}"),
            format!("oci://psk-table:1@{digest}"),
            format!("oci://registry.example/../x@{digest}"),
            format!("oci://user@registry.example/x@{digest}"),
            format!("oci://registry.example/X@{digest}"),
            "oci://".into(),
        ] {
            assert_eq!(parse(&bad), Err(ReferenceError::Form), "{bad}");
        }
    }
}
