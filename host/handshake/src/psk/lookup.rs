//! Look-ups of credentials, which the engine asks for.

use std::pin::Pin;

use saegis_onem2m::credential::Credential;

/// Longest psk_identity, in bytes.
pub const MAX_IDENTITY: usize = 256;

/// What a look-up is asked.
#[derive(Debug, Clone)]
pub struct Query {
    /// The psk_identity: 1 to [`MAX_IDENTITY`] bytes without a NUL.
    pub psk_identity: String,
    /// The server name indicated, in lower case.
    pub server_name: Option<String>,
}

/// What a look-up answers.
pub enum Answer {
    /// The identity's credential.
    Found(Credential),
    /// There is none; why, for the log.
    Refused(String),
}

/// A look-up under way.
pub type Looking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Whom an engine asks for the credential of an identity. The answer may take its time; the
/// handshake waits, no thread does.
pub trait CredentialLookup {
    /// Looks an identity up.
    fn lookup(&self, query: Query) -> Looking;
}

/// The registered name of the cipher suite agreed on.
pub(crate) fn suite_name(ssl: &openssl::ssl::SslRef) -> String {
    let cipher = ssl.current_cipher();
    cipher.and_then(|c| c.standard_name().or(Some(c.name()))).unwrap_or_default().into()
}
