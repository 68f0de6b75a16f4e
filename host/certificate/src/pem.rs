//! What files hold: certificates and keys in PEM, revocation lists in PEM or DER.

use rustls::pki_types::pem::{Error, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroize as _;

use crate::key_kind::KeyKind;
use crate::parsed::ParsedCertificate;

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

/// Something that a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A certificate; that it is one is not said.
    Certificate(CertificateDer<'static>),
    /// A public key, its SubjectPublicKeyInfo in DER; that it is one is not said.
    PublicKey(Vec<u8>),
    /// A private key, which was passed over.
    PrivateKey,
    /// A revocation list; that it is one is not said.
    RevocationList,
    /// Something else, which was passed over.
    Other,
}

/// All that a file holds, in PEM, or one thing in DER; never nothing.
///
/// # Errors
/// When there is nothing, or it can't be read.
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
    // One with a password is passed over by the reader.
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
