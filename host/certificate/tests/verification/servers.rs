//! Servers, whose names are known in advance.

use saegis_certificate::{Flavour, Identity};
use saegis_test_ca::ExtendedKeyUsagePurpose;

use super::*;

const MAF: &str = "maf.provider.com";

#[test]
fn server_certificate_must_match_requested_name() {
    let root = root("root");
    let with = |name: &str| Request::new("x").name(Name::dns(name));
    let client_alone = || vec![ExtendedKeyUsagePurpose::ClientAuth];
    let server_alone = || vec![ExtendedKeyUsagePurpose::ServerAuth];
    let table = [
        ("right", with(MAF), Ok(())),
        ("in capitals", with("MAF.Provider.com"), Ok(())),
        ("one of two", with("x.y").name(Name::dns(MAF)), Ok(())),
        ("for servers alone", with(MAF).extended_usages(server_alone()), Ok(())),
        ("other", with("mef.provider.com"), Err("AnotherServer")),
        ("below", with("x.maf.provider.com"), Err("AnotherServer")),
        ("above", with("provider.com"), Err("AnotherServer")),
        ("absolute", with("maf.provider.com."), Err("AnotherServer")),
        ("in the common name", Request::new(MAF), Err("AnotherServer")),
        ("common name and other", Request::new(MAF).name(Name::dns("x.y")), Err("AnotherServer")),
        (
            "as URI",
            Request::new("x").name(Name::uri("https://maf.provider.com")),
            Err("AnotherServer"),
        ),
        ("wildcard", with("*.provider.com"), Err("Wildcard")),
        ("wildcard too", with(MAF).name(Name::dns("*.provider.com")), Err("Wildcard")),
        ("for clients", with(MAF).extended_usages(client_alone()), Err("Purpose")),
        ("no usage", with(MAF).usages([]), Err("KeyUsage")),
        ("expired", with(MAF).valid(past()), Err("Expired")),
    ];
    for flavour in [Flavour::Fqdn, Flavour::CseId] {
        let trust = trusting(&root, &[flavour]);
        for (what, request, expected) in &table {
            let issued = root.issue(request).unwrap();
            let verify = |flavour| {
                let purpose = Purpose::Server { name: MAF, flavour };
                trust.verify(issued.chain(), purpose, SystemTime::now())
            };
            let is = format!("the domain name {MAF}");
            check(what, &verify(flavour), expected.map(|()| is.as_str()));
            let wrong = if flavour == Flavour::Fqdn { Flavour::CseId } else { Flavour::Fqdn };
            assert!(verify(wrong).is_err(), "{what}");
            if expected.is_ok() {
                check(what, &verify(wrong), Err("NoIdentity"));
                let identity = verify(flavour).unwrap().identity;
                assert_eq!(identity, Identity::Fqdn(MAF.into()));
                assert_eq!((identity.entity(), identity.credential_id()), (None, None));
            }
        }
    }
}

#[test]
fn anchor_is_found_among_equal_names() {
    let (cses, mafs) = (root("same"), root("same"));
    let trust = trust([anchor(&cses, &[Flavour::CseId]), anchor(&mafs, &[Flavour::Fqdn])]);
    let request = Request::new("x").name(Name::dns(MAF));
    let purpose = Purpose::Server { name: MAF, flavour: Flavour::Fqdn };
    let verify =
        |issued: &saegis_test_ca::Issued| trust.verify(issued.chain(), purpose, SystemTime::now());
    assert!(verify(&mafs.issue(&request).unwrap()).is_ok());
    assert!(verify(&cses.issue(&request).unwrap()).is_err());
}
