//! What files hold: certificates and keys in PEM, revocation lists in PEM or DER.

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// A file that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Nothing of the kind is in it.
    #[error("has no {0} in it (PEM)")]
    Nothing(&'static str),
    /// It is no PEM.
    #[error("can't be read as PEM")]
    Malformed,
}

/// First byte of what is written in DER.
const SEQUENCE: u8 = 0x30;

/// The certificates of a file, in their order; never none.
///
/// # Errors
/// When there is none, or it can't be read.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|_| PemError::Malformed)?;
    if all.is_empty() { Err(PemError::Nothing("certificate")) } else { Ok(all) }
}

/// The private key of a file.
///
/// # Errors
/// When there is none, or it can't be read.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|e| match e {
        Error::NoItemsFound => PemError::Nothing("private key without a password"),
        _ => PemError::Malformed,
    })
}

/// The revocation lists of a file, in DER; never none.
///
/// # Errors
/// When there is none, or it can't be read.
pub fn revocation_lists(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    if bytes.first() == Some(&SEQUENCE) {
        return Ok(vec![bytes.to_vec()]);
    }
    let all = CertificateRevocationListDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|_| PemError::Malformed)?;
    if all.is_empty() {
        return Err(PemError::Nothing("revocation list"));
    }
    Ok(all.iter().map(|crl| crl.to_vec()).collect())
}
