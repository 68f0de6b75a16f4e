//! Certs-only messages (CMS SignedData without content and signers, RFC 5272 clause 4.1), in
//! base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Oid};
use yasna::Tag;
use yasna::models::ObjectIdentifier;

/// Maximum size of a message in base64, in bytes, and maximum number of its certificates.
pub(crate) const MAX_MESSAGE: usize = 128 << 10;
const MAX_CERTIFICATES: usize = 8;

/// id-signedData and id-data.
const SIGNED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 2];
const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];

/// Writes a message with these certificates.
pub(crate) fn write(certificates: &[CertificateDer<'_>]) -> String {
    let oid = ObjectIdentifier::from_slice;
    in_lines(&yasna::construct_der(|content_info| {
        content_info.write_sequence(|content_info| {
            content_info.next().write_oid(&oid(SIGNED_DATA));
            content_info.next().write_tagged(Tag::context(0), |signed| {
                signed.write_sequence(|signed| {
                    signed.next().write_u8(1);
                    signed.next().write_set(|_| {});
                    signed.next().write_sequence(|content| content.next().write_oid(&oid(DATA)));
                    signed.next().write_tagged_implicit(Tag::context(0), |set| {
                        set.write_set_of(|set| {
                            for der in certificates {
                                set.next().write_der(der);
                            }
                        });
                    });
                    signed.next().write_set(|_| {});
                });
            });
        });
    }))
}

/// Encodes DER in base64, with lines of 64 characters.
pub(crate) fn in_lines(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = String::with_capacity(text.len() + text.len() / 64 + 1);
    for (at, character) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines.push('\n');
    lines
}

/// Returns the certificates of a message, without parsing them; `None` if it is malformed or has too
/// many.
pub(crate) fn read(message: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    if message.len() > MAX_MESSAGE {
        return None;
    }
    let text: Vec<u8> = message.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(text).ok()?;
    let content_info = whole(&der).filter(is_sequence)?;
    let (rest, kind) = Oid::from_der(content_info.data).ok()?;
    if kind != Oid::from(SIGNED_DATA).ok()? {
        return None;
    }
    let explicit = whole(rest).filter(|any| is_context(any, 0))?;
    let signed = whole(explicit.data).filter(is_sequence)?;
    let mut rest = signed.data;
    let mut certificates = None;
    while !rest.is_empty() {
        let (after, any) = Any::from_der(rest).ok()?;
        if is_context(&any, 0) && certificates.replace(any.data).is_some() {
            return None;
        }
        rest = after;
    }
    let mut rest = certificates?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (after, any) = Any::from_der(rest).ok()?;
        let der = rest.get(..rest.len() - after.len())?;
        if !is_sequence(&any) || all.len() == MAX_CERTIFICATES {
            return None;
        }
        all.push(CertificateDer::from(der.to_vec()));
        rest = after;
    }
    Some(all)
}

fn whole(der: &[u8]) -> Option<Any<'_>> {
    match Any::from_der(der) {
        Ok(([], any)) => Some(any),
        _ => None,
    }
}

fn is_sequence(any: &Any<'_>) -> bool {
    any.class() == Class::Universal && any.tag().0 == 16
}

fn is_context(any: &Any<'_>, number: u32) -> bool {
    any.class() == Class::ContextSpecific && any.tag().0 == number
}

#[cfg(test)]
mod tests {
    use saegis_test_ca::{Authority, Request};

    use super::*;

    #[test]
    fn message_has_its_certificates() {
        let one = Authority::new(&Request::new("one")).unwrap();
        let two = Authority::new(&Request::new("two")).unwrap();
        let both = [one.der().clone(), two.der().clone()];
        let mut read_back = read(write(&both).as_bytes()).unwrap();
        read_back.sort_by_key(|der| der.to_vec());
        let mut both = both.to_vec();
        both.sort_by_key(|der| der.to_vec());
        assert_eq!(read_back, both);
        assert_eq!(read(write(&[]).as_bytes()), Some(Vec::new()));
        assert!(write(&both).lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn malformed_message_is_refused() {
        let one = Authority::new(&Request::new("one")).unwrap();
        let der = one.der().clone();
        let good = write(std::slice::from_ref(&der));
        for at in 0..good.len() {
            let cut = good.get(..at).unwrap_or_default();
            assert!(read(cut.as_bytes()).is_none_or(|all| all == [der.clone()]), "{at}");
        }
        let many = vec![der.clone(); MAX_CERTIFICATES + 1];
        assert_eq!(read(write(&many).as_bytes()), None);
        assert_eq!(read(&vec![b'A'; MAX_MESSAGE + 1]), None);
        for text in ["", "MAA=", "MA==", "!", "MAMCAQA="] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
