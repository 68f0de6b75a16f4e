use saegis_test_ca::{Authority as TestAuthority, Key, KeyUsagePurpose, Request, Validity};

use super::*;
use crate::testing::{LIGHT, MONTH, authority_of, key_of, provider, root};

const HOUR: Duration = Duration::from_secs(3600);

fn key() -> PublicKey {
    let key = rcgen::KeyPair::generate().unwrap();
    PublicKey::of_point(key.der_bytes())
}

#[test]
fn certificate_follows_profile() {
    let ca = root();
    let authority = authority_of(&ca).unwrap();
    let now = SystemTime::now();
    let key = key();
    let issued = authority.issue(&SubjectName::AeId(LIGHT.into()), &key, now).unwrap();
    let read = parse(&issued.der).unwrap();
    assert_eq!(read.public_key().subject_public_key.data, key.der_bytes());
    assert!(!read.is_ca());
    assert!(read.basic_constraints().unwrap().unwrap().critical);
    let usage = read.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1, "{usage:?}");
    let extended = read.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.server_auth && !extended.any);
    assert_eq!(read.subject().to_string(), format!("CN={LIGHT}"));
    assert_eq!(hex::encode(read.serial.to_bytes_be()), issued.serial.trim_start_matches("00"));
    assert!(read.serial.bits() > 64);
    let until = time(read.validity().not_after);
    assert!(until <= now + MONTH && until > now + MONTH - HOUR);
    assert!(time(read.validity().not_before) < now);
}

#[test]
fn serial_numbers_differ() {
    let authority = authority_of(&root()).unwrap();
    let name = SubjectName::AeId(LIGHT.into());
    let serial = || authority.issue(&name, &key(), SystemTime::now()).unwrap().serial;
    assert_ne!(serial(), serial());
}

#[test]
fn certificate_ends_with_authority() {
    let now = SystemTime::now();
    let short = Validity { from: now - HOUR, until: now + HOUR };
    let ca = TestAuthority::new(&Request::new("short").valid(short)).unwrap();
    let authority = authority_of(&ca).unwrap();
    let name = SubjectName::AeId(LIGHT.into());
    let issued = authority.issue(&name, &key(), now).unwrap();
    assert!(issued.not_after <= now + HOUR);
    assert_eq!(
        authority.issue(&name, &key(), now + 2 * HOUR).err(),
        Some(AuthorityError::NotValid)
    );
}

#[test]
fn authority_that_cannot_issue_is_refused() {
    let now = SystemTime::now();
    let new = |request: &Request| authority_of(&TestAuthority::new(request).unwrap()).err();
    let of = || Request::new("root");
    let past = Validity { from: now - 2 * HOUR, until: now - HOUR };
    assert_eq!(new(&of().valid(past)), Some(AuthorityError::NotValid));
    let future = Validity { from: now + HOUR, until: now + 2 * HOUR };
    assert_eq!(new(&of().valid(future)), Some(AuthorityError::NotValid));
    assert_eq!(new(&of().without_authority()), Some(AuthorityError::NoAuthority));
    let usages = of().usages([KeyUsagePurpose::CrlSign]);
    assert_eq!(new(&usages), Some(AuthorityError::KeyUsage));
    assert_eq!(new(&of().key(Key::Rsa)), Some(AuthorityError::Key));
    assert_eq!(new(&of().key(Key::P384)), Some(AuthorityError::KeyKind));
    let (one, other) = (root(), root());
    let with = |chain: Vec<CertificateDer<'static>>| {
        Authority::new(chain, key_of(&other), &provider(), MONTH, now).err()
    };
    assert_eq!(with(vec![one.der().clone()]), Some(AuthorityError::AnotherKey));
    assert!(matches!(with(Vec::new()), Some(AuthorityError::Chain(_))));
    assert!(matches!(
        with(vec![b"no certificate".to_vec().into()]),
        Some(AuthorityError::Chain(_))
    ));
}

#[test]
fn name_that_gateway_rejects_is_not_certified() {
    let authority = authority_of(&root()).unwrap();
    let now = SystemTime::now();
    for name in [
        SubjectName::AeId("//other.com/mn-1/Clight".into()),
        SubjectName::AeId("//in.provider.com/mn-1".into()),
        SubjectName::CseDomain("mn-1.other.com".into()),
        SubjectName::CseDomain("mef.in-cse.in.provider.com".into()),
    ] {
        let refused = authority.issue(&name, &key(), now).err();
        assert!(matches!(refused, Some(AuthorityError::Rejected(_))), "{name}: {refused:?}");
    }
}
