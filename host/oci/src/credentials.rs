//! Credentials for a registry, in the file that `docker login`, `podman login` and `skopeo login`
//! write: `{"auths":{"host:port":{"auth":"…"}}}`.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Maximum size of a file with credentials, in bytes.
const MAX_SIZE: u64 = 64 << 10;

/// A user name and a password for a registry.
pub struct Credentials {
    /// `user:password` in base64, as sent.
    auth: Zeroizing<String>,
}

/// The reason why a file yields no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The file is too large.
    #[error("is larger than {MAX_SIZE} bytes")]
    TooLarge,
    /// Other users can read the file.
    #[error("holds a password, and others on this machine may read it; chmod 600")]
    Exposed,
    /// The file has another form. The message does not quote it.
    #[error("is not as `docker login` and `skopeo login --authfile` write it (line {0})")]
    Form(usize),
    /// The file has no entry for the registry.
    #[error("has no password for {0}; `skopeo login --authfile` this file {0} writes it")]
    NotFound(String),
}

#[derive(Deserialize)]
struct Document {
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<Zeroizing<String>>,
}

impl Credentials {
    /// Reads the credentials for a registry.
    ///
    /// # Errors
    /// Returns an error if the file has no usable credentials for it.
    pub fn read(file: &Path, registry: &str) -> Result<Self, CredentialsError> {
        let open = crate::open::regular(file)?;
        if open.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(CredentialsError::Exposed);
        }
        let mut text = Zeroizing::new(Vec::new());
        open.take(MAX_SIZE + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(CredentialsError::TooLarge);
        }
        let document: Document =
            serde_json::from_slice(&text).map_err(|e| CredentialsError::Form(e.line()))?;
        let entry = document.auths.into_iter().find(|(host, _)| host == registry);
        let auth = entry.and_then(|(_, entry)| entry.auth);
        let auth = auth.ok_or_else(|| CredentialsError::NotFound(registry.into()))?;
        let whole = STANDARD.decode(auth.as_bytes()).map(Zeroizing::new);
        match whole {
            Ok(whole) if whole.contains(&b':') => Ok(Self { auth }),
            _ => Err(CredentialsError::Form(1)),
        }
    }

    /// Returns the header field of basic authentication.
    pub(crate) fn header(&self) -> Option<http::HeaderValue> {
        let text = Zeroizing::new(format!("Basic {}", *self.auth));
        let mut value = http::HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
