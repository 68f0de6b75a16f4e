//! The lookup of credentials by psk_identity.

use std::pin::Pin;

use saegis_onem2m::credential::Credential;

use crate::refusal::NoCredential;

/// Maximum length of a psk_identity, in bytes.
pub const MAX_IDENTITY: usize = 256;

/// The input of a lookup.
#[derive(Debug, Clone)]
pub struct Query {
    /// The psk_identity: 1 to [`MAX_IDENTITY`] bytes without a NUL.
    pub psk_identity: String,
    /// Indicated server name, in lower case.
    pub server_name: Option<String>,
}

/// The result of a lookup.
pub enum Answer {
    /// Credential of the identity.
    Found(Credential),
    /// No credential, for this reason in the log.
    Refused(NoCredential),
}

/// The future of a lookup.
pub type Looking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The interface through which a server looks up credentials. A lookup may take time: the handshake
/// waits, but no thread blocks.
pub trait CredentialLookup {
    /// Starts the lookup of an identity.
    fn lookup(&self, query: Query) -> Looking;
}

/// Returns the registered name of the negotiated cipher suite.
pub(crate) fn suite_name(ssl: &openssl::ssl::SslRef) -> String {
    let cipher = ssl.current_cipher();
    cipher.and_then(|c| c.standard_name().or(Some(c.name()))).unwrap_or_default().into()
}
