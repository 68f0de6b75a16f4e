//! Kinds of keys.

use saegis_certificate::Flavour;
use saegis_test_ca::{Key, PublicKeyData};

use super::*;

/// A public key of a given algorithm without a private key.
struct Public(RawAlgorithm, Vec<u8>);

type RawAlgorithm = &'static rcgen::SignatureAlgorithm;

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> RawAlgorithm {
        self.0
    }
}

#[test]
fn key_kind_is_limited_by_anchor() {
    const ALL: [(Key, KeyKind); 3] =
        [(Key::P256, KeyKind::P256), (Key::P384, KeyKind::P384), (Key::Rsa, KeyKind::Rsa)];
    for (authority_key, authority_kind) in ALL {
        let root = Authority::new(&Request::new("root").key(authority_key)).unwrap();
        for (key, kind) in ALL {
            let issued = root.issue(&ae().key(key)).unwrap();
            for allowed in
                [vec![KeyKind::P256], vec![authority_kind, kind], KeyKind::ALL.to_vec(), vec![]]
            {
                let der = root.der().clone();
                let anchor = Anchor::new(der, &[Flavour::AeId], &allowed, &[]).unwrap();
                let good = allowed.contains(&kind) && allowed.contains(&authority_kind);
                let expected = if good { Ok(THE_AE) } else { Err("Key") };
                let what = format!("{authority_kind} signs {kind} under {allowed:?}");
                check(&what, &client(&trust([anchor]), issued.chain()), expected);
            }
        }
    }
}

#[test]
fn weak_or_unknown_key_is_refused() {
    let root = root("root");
    let der = root.der().clone();
    let trust = trust([Anchor::new(der, &[Flavour::AeId], &KeyKind::ALL, &[]).unwrap()]);
    let rsa = |bytes: usize, first: u8| {
        let modulus = [&[first][..], &vec![0x55; bytes - 1]].concat();
        let modulus = if first >= 0x80 { [&[0], &modulus[..]].concat() } else { modulus };
        let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
        let integer = [&[2, 0x82][..], &length(modulus.len()), &modulus, &[2, 3, 1, 0, 1]].concat();
        [&[0x30, 0x82][..], &length(integer.len()), &integer].concat()
    };
    let (p256, p384) = (&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384);
    let point = |first: u8, length: usize| [vec![first], vec![7; length - 1]].concat();
    let table = [
        ("compressed", Public(p256, point(2, 33)), Err("OtherKey")),
        ("compressed", Public(p384, point(3, 49)), Err("OtherKey")),
        ("hybrid", Public(p256, point(6, 65)), Err("OtherKey")),
        ("too short", Public(p256, point(4, 64)), Err("OtherKey")),
        ("of another curve", Public(p256, point(4, 97)), Err("OtherKey")),
        ("no point", Public(p256, vec![]), Err("OtherKey")),
        ("RSA 1024", Public(&rcgen::PKCS_RSA_SHA256, rsa(128, 0x95)), Err("OtherKey")),
        ("RSA 2047", Public(&rcgen::PKCS_RSA_SHA256, rsa(256, 0x55)), Err("OtherKey")),
        ("RSA 2048", Public(&rcgen::PKCS_RSA_SHA256, rsa(256, 0x95)), Ok(THE_AE)),
        ("RSA 8200", Public(&rcgen::PKCS_RSA_SHA256, rsa(1025, 0x95)), Err("OtherKey")),
        ("RSA of nothing", Public(&rcgen::PKCS_RSA_SHA256, vec![0x30, 0]), Err("OtherKey")),
        ("Ed25519", Public(&rcgen::PKCS_ED25519, vec![7; 32]), Err("OtherKey")),
        ("P-521", Public(&rcgen::PKCS_ECDSA_P521_SHA512, point(4, 133)), Err("OtherKey")),
    ];
    for (what, key, expected) in table {
        check(what, &client(&trust, &root.certify(&ae(), &key).unwrap()), expected);
    }
}
