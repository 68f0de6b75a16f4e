//! Parses files: certificates and keys in PEM, revocation lists in PEM or DER.

use rustls::pki_types::pem::{Error, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroize as _;

use crate::key_kind::KeyKind;
use crate::parsed::ParsedCertificate;

/// The error for a file without the expected content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The file has no item of this kind.
    #[error("has no {0} in it (PEM)")]
    Nothing(&'static str),
    /// The file is not PEM.
    #[error("cannot be parsed as PEM")]
    Malformed,
}

/// First byte of a structure in DER.
const SEQUENCE: u8 = 0x30;

/// Returns the certificates of a file, at least one, in their order.
///
/// # Errors
/// Returns an error if there is no certificate, or the file cannot be parsed.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|_| PemError::Malformed)?;
    if all.is_empty() { Err(PemError::Nothing("certificate")) } else { Ok(all) }
}

/// Returns the private key of a file.
///
/// # Errors
/// Returns an error if there is no private key, or the file cannot be parsed.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|e| match e {
        Error::NoItemsFound => PemError::Nothing("private key without a password"),
        _ => PemError::Malformed,
    })
}

/// Returns the revocation lists of a file, at least one, in DER.
///
/// # Errors
/// Returns an error if there is no revocation list, or the file cannot be parsed.
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

/// An item of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A certificate, by its label in PEM; its content was not parsed.
    Certificate(CertificateDer<'static>),
    /// A public key, by its label: a SubjectPublicKeyInfo in DER; its content was not parsed.
    PublicKey(Vec<u8>),
    /// A private key, which was skipped.
    PrivateKey,
    /// A revocation list, by its label; its content was not parsed.
    RevocationList,
    /// Any other item, which was skipped.
    Other,
}

/// Returns all items of a file in PEM, or the one item of a file in DER; at least one.
///
/// # Errors
/// Returns an error if there is no item, or the file cannot be parsed.
pub fn items(bytes: &[u8]) -> Result<Vec<Item>, PemError> {
    if bytes.first() == Some(&SEQUENCE) {
        return item_in_der(bytes).map(|item| vec![item]).ok_or(PemError::Malformed);
    }
    let mut all = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, mut content) = section.map_err(|_| PemError::Malformed)?;
        all.push(match kind {
            SectionKind::Certificate => Item::Certificate(content.into()),
            SectionKind::PublicKey => Item::PublicKey(content),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                content.zeroize();
                Item::PrivateKey
            }
            SectionKind::Crl => Item::RevocationList,
            _ => Item::Other,
        });
    }
    // The PEM parser skips encrypted keys.
    const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    if bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        all.push(Item::PrivateKey);
    }
    if all.is_empty() { Err(PemError::Nothing("certificate or key")) } else { Ok(all) }
}

fn item_in_der(der: &[u8]) -> Option<Item> {
    if KeyKind::of_key(der).is_some() {
        Some(Item::PublicKey(der.to_vec()))
    } else if ParsedCertificate::new(der).is_ok() {
        Some(Item::Certificate(der.to_vec().into()))
    } else if PrivateKeyDer::try_from(der).is_ok() {
        Some(Item::PrivateKey)
    } else {
        webpki::BorrowedCertRevocationList::from_der(der).ok().map(|_| Item::RevocationList)
    }
}

#[cfg(test)]
mod tests {
    use saegis_test_ca::{Authority, Key, RawKey, Request};

    use super::*;

    #[test]
    fn items_are_told_apart() {
        let root = Authority::new(&Request::new("root")).unwrap();
        let key = RawKey::new(Key::P256).unwrap();
        let list = root.revoke(&[]).unwrap();
        let certificate = Item::Certificate(root.der().clone());
        let public = Item::PublicKey(key.public_der());
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let all = [root.pem(), &key.public_pem(), &key.key_pem(), list.pem(), locked].concat();
        let found = items(all.as_bytes()).unwrap();
        let rest = [Item::PrivateKey, Item::RevocationList, Item::PrivateKey];
        assert_eq!(found, [&[certificate.clone(), public.clone()][..], &rest].concat());
        assert_eq!(items(root.der()), Ok(vec![certificate]));
        assert_eq!(items(&key.public_der()), Ok(vec![public]));
        assert_eq!(items(key.key_der().secret_der()), Ok(vec![Item::PrivateKey]));
        assert_eq!(items(list.der()), Ok(vec![Item::RevocationList]));
    }

    #[test]
    fn invalid_pem_is_refused() {
        let nothing = Err(PemError::Nothing("certificate or key"));
        assert_eq!(items(b""), nothing);
        assert_eq!(items(b"-----BEGIN X-----\nAAAA\n-----END X-----\n"), nothing);
        for bad in ["0", "0\x03\x04\x01\x01", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert_eq!(items(bad.as_bytes()), Err(PemError::Malformed), "{bad:?}");
        }
    }
}
