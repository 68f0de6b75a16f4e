//! The identities in certificates.

use saegis_certificate::{Flavour, Identity, Names, PublicKeyId, TrustBuilder};
use saegis_onem2m::credential::Entity;
use saegis_test_ca::{Example, ExampleNames, Issued, Key, Name, RawKey, Request};

use super::*;

#[test]
fn worked_example_certificates_have_identities() {
    let names = ExampleNames::default();
    let example = Example::new(&names).unwrap();
    let trust = trust([
        anchor(&example.cse_authority, &[Flavour::CseId]),
        anchor(&example.ae_authority, &[Flavour::AeId]),
        anchor(&example.node_authority, &[Flavour::NodeId]),
        anchor(&example.device_authority, &[Flavour::Device]),
    ]);
    let table: [(&Issued, Flavour, &str, Option<&str>); 4] = [
        (
            &example.ae,
            Flavour::AeId,
            "33-//provider.com/mn-cse-123456/Clight-AE1",
            Some("Clight-AE1"),
        ),
        (&example.in_cse, Flavour::CseId, "32-in.provider.com", Some("/in")),
        (&example.node, Flavour::NodeId, "34-urn:gsma:imei:90420156-025763-0", None),
        (&example.device, Flavour::Device, "31-1.3.6.1.4.1.32473.1-000001", None),
    ];
    for (issued, flavour, credential, entity) in table {
        let verified = client(&trust, issued.chain()).unwrap();
        let identity = verified.identity;
        assert_eq!(identity.flavour(), flavour);
        assert_eq!(identity.credential_id().unwrap().to_string(), credential);
        let named = match identity.entity() {
            Some(Entity::Ae(stem)) => Some(stem.to_string()),
            Some(Entity::Cse(cse)) => Some(cse.to_string()),
            _ => None,
        };
        assert_eq!(named.as_deref(), entity, "{identity}");
        let left = verified.until.unwrap().duration_since(SystemTime::now()).unwrap();
        assert!((364 * DAY..366 * DAY).contains(&left), "{left:?}");
    }
    // The gateway does not accept its own certificate as that of a client, nor a MAF as a
    // registree.
    check("our own", &client(&trust, example.mn_cse.chain()), Err("NotOurs"));
    check("the MAF", &client(&trust, example.maf.chain()), Err("UnknownIssuer"));
    let fqdn = trusting(&example.fqdn_authority, &[Flavour::Fqdn]);
    check("the MAF", &client(&fqdn, example.maf.chain()), Err("NoIdentity"));
}

/// Checks certificates with these names, under an authority that may issue these flavors.
#[track_caller]
fn names(flavours: &[Flavour], table: &[(&[Name], Result<&str, &str>)]) {
    let root = root("root");
    let trust = trusting(&root, flavours);
    for (names, expected) in table {
        let all = Request::new("x");
        let request = names.iter().fold(all, |request, name| request.name(name.clone()));
        let issued = root.issue(&request).unwrap();
        check(&format!("{names:?}"), &client(&trust, issued.chain()), *expected);
    }
}

#[test]
fn ae_id_certificate_must_name_local_ae() {
    let uri = |uri: &str| Name::uri(uri);
    let long = format!("//provider.com/mn-cse-123456/C{}", "x".repeat(225));
    assert_eq!(long.len(), 255);
    names(
        &[Flavour::AeId],
        &[
            (&[uri(AE)], Ok(THE_AE)),
            (&[uri(AE), uri(AE)], Ok(THE_AE)),
            (&[Name::dns("x.y"), uri(AE), Name::ip([192, 0, 2, 1])], Ok(THE_AE)),
            // Names of flavors that the anchor may not issue.
            (&[uri(AE), uri("urn:x"), Name::dns("other.provider.com")], Ok(THE_AE)),
            (&[uri("//provider.com/Slight")], Ok("the AE-ID //provider.com/Slight")),
            (&[], Err("NoIdentity")),
            (&[Name::dns("provider.com")], Err("NoIdentity")),
            (&[Name::ip([192, 0, 2, 1])], Err("NoIdentity")),
            (&[uri(&format!("https:{AE}"))], Err("NoIdentity")),
            (&[uri("Clight-AE1")], Err("NoIdentity")),
            (&[uri("/mn-cse-123456/Clight-AE1")], Err("NoIdentity")),
            (&[uri("//providex.com/mn-cse-123456/Clight-AE1")], Err("NotOurs")),
            (&[uri("//provider.com.other.com/mn-cse-123456/Clight-AE1")], Err("NotOurs")),
            (&[uri("//Provider.com/mn-cse-123456/Clight-AE1")], Err("NotOurs")),
            (&[uri("//provider.com./mn-cse-123456/Clight-AE1")], Err("NotOurs")),
            (&[uri("//provider.com/mn-cse-123457/Clight-AE1")], Err("NotOurs")),
            (&[uri("//provider.com/MN-cse-123456/Clight-AE1")], Err("NotOurs")),
            (&[uri("//provider.com/mn-cse-123456/light")], Err("NotOurs")),
            (&[uri("//provider.com/mn-cse-123456/Slight")], Err("NotOurs")),
            (&[uri("//provider.com/Clight")], Err("NotOurs")),
            (&[uri("//provider.com/mn-cse-123456")], Err("NotOurs")),
            (&[uri("//provider.com/mn-cse-123456/C")], Err("NotOurs")),
            (&[uri(&format!("{AE}/"))], Err("NotOurs")),
            (&[uri(&format!("{AE}/x"))], Err("NotOurs")),
            (&[uri(&format!("{AE}?x"))], Err("NotOurs")),
            (&[uri(&format!("{AE}\0x"))], Err("NotOurs")),
            (&[uri(&format!("{AE} "))], Err("NotOurs")),
            (&[uri(&format!("{AE}\u{e9}"))], Err("NotOurs")),
            (&[uri("//provider.com/mn-cse-123456/%43light")], Err("NotOurs")),
            (&[uri(&long)], Err("NotOurs")),
            (&[uri("//provider.com/mn-cse-123456/C*")], Err("Wildcard")),
            (&[uri(AE), Name::dns("*.provider.com")], Err("Wildcard")),
            (&[uri(AE), uri("//provider.com/mn-cse-123456/Cother")], Err("Conflict")),
            (&[uri(AE), uri("//other.com/mn-cse-123456/Clight-AE1")], Err("NotOurs")),
            (&[uri("//other.com/mn-cse-123456/Clight-AE1"), uri(AE)], Err("NotOurs")),
        ],
    );
}

#[test]
fn cse_id_certificate_must_name_cse_of_same_provider() {
    let dns = |name: &str| Name::dns(name);
    let long = format!("asn.{}.provider.com", "x".repeat(238));
    names(
        &[Flavour::CseId],
        &[
            (&[dns("asn-1.in.provider.com")], Ok("the CSE asn-1.in.provider.com")),
            (&[dns("in.provider.com")], Ok("the CSE in.provider.com")),
            (&[dns("asn-1.IN.Provider.com")], Ok("the CSE asn-1.IN.Provider.com")),
            (
                &[dns("asn-1.in.provider.com"), dns("www.other.com")],
                Ok("the CSE asn-1.in.provider.com"),
            ),
            (&[], Err("NoIdentity")),
            (&[Name::uri("//provider.com/asn-1")], Err("NoIdentity")),
            (&[Name::uri("https://asn-1.in.provider.com")], Err("NoIdentity")),
            (&[dns("asn-1.in.providex.com")], Err("NoIdentity")),
            (&[dns("asn-1.in.xprovider.com")], Err("NoIdentity")),
            (&[dns("asn-1.x.in.provider.com")], Err("NoIdentity")),
            (&[dns("provider.com")], Err("NoIdentity")),
            (&[dns(".provider.com")], Err("NoIdentity")),
            (&[dns("asn-1.in.provider.com.")], Err("NoIdentity")),
            (&[dns("asn-1..provider.com")], Err("NoIdentity")),
            (&[dns("asn 1.in.provider.com")], Err("NoIdentity")),
            (&[dns("asn-1\0.in.provider.com")], Err("NoIdentity")),
            (&[dns("mn-cse-123456.in.provider.com")], Err("NotOurs")),
            (&[dns("mn-cse-123456.provider.com")], Err("NotOurs")),
            (&[dns("Slight.in.provider.com")], Err("NotOurs")),
            (&[dns(&long)], Err("NotOurs")),
            (&[dns("*.in.provider.com")], Err("Wildcard")),
            (&[dns("asn-1.*.provider.com")], Err("Wildcard")),
            (&[dns("asn-1.in.provider.com"), dns("asn-2.in.provider.com")], Err("Conflict")),
        ],
    );
}

#[test]
fn node_or_device_name_is_used_verbatim() {
    let long = format!("urn:{}", "x".repeat(250));
    names(
        &[Flavour::NodeId],
        &[
            (&[Name::uri("urn:dev:mac:00")], Ok("the Node-ID urn:dev:mac:00")),
            (&[Name::uri("")], Err("Malformed")),
            (&[Name::uri("urn:a b")], Err("Malformed")),
            (&[Name::uri(long)], Err("Malformed")),
            (&[Name::uri(AE)], Err("NoIdentity")),
            (&[Name::uri("urn:*")], Err("Wildcard")),
            (&[Name::uri("urn:a"), Name::uri("urn:b")], Err("Conflict")),
        ],
    );
    let (module, oid) = ("1.3.6.1.4.1.32473.1", "0.2.481.1");
    let other = |value: &[u8]| {
        let head = [0x06, 0x08, 0x2B, 6, 1, 5, 5, 7, 8, 4];
        let length = u8::try_from(head.len() + value.len()).unwrap();
        Name::der([&[0xA0, length], &head[..], value].concat())
    };
    names(
        &[Flavour::Device],
        &[
            (&[Name::hardware(module, [0, 0xAB])], Ok("the device 1.3.6.1.4.1.32473.1-00ab")),
            (&[Name::device(oid, "100.3030.11")], Ok("the device 0.2.481.1.100.3030.11")),
            // A device may have several.
            (
                &[Name::device(oid, "1.2"), Name::hardware(module, [1])],
                Ok("the device 0.2.481.1.1.2"),
            ),
            (&[Name::hardware(module, [])], Err("Malformed")),
            (&[Name::hardware(module, [1; 65])], Err("Malformed")),
            (&[other(&[])], Err("Malformed")),
            (&[other(&[0xA0, 2, 5, 0])], Err("Malformed")),
            (&[other(&[0xA1, 2, 0x30, 0])], Err("Malformed")),
            (&[other(&[0xA0, 2, 0x30, 0])], Err("Malformed")),
            (&[other(&[0xA0, 2, 0x30, 0, 0])], Err("Malformed")),
            (&[Name::dns("in.provider.com")], Err("NoIdentity")),
            (&[Name::uri("urn:x")], Err("NoIdentity")),
        ],
    );
    names(
        &[Flavour::Device, Flavour::NodeId],
        &[(&[Name::device(oid, "1"), Name::uri("urn:x")], Err("Conflict"))],
    );
}

#[test]
fn common_name_is_not_an_identity() {
    let root = root("root");
    for (common_name, flavour) in
        [(AE, Flavour::AeId), ("asn-1.in.provider.com", Flavour::CseId), ("urn:x", Flavour::NodeId)]
    {
        let trust = trusting(&root, &[flavour]);
        let without = root.issue(&Request::new(common_name)).unwrap();
        check(common_name, &client(&trust, without.chain()), Err("NoIdentity"));
        let other = root.issue(&Request::new(common_name).name(Name::ip([192, 0, 2, 1]))).unwrap();
        check(common_name, &client(&trust, other.chain()), Err("NoIdentity"));
    }
    // The reverse is valid: a subject without a name.
    let nameless = root.issue(&Request::new("").name(Name::uri(AE))).unwrap();
    check("nameless", &client(&trusting(&root, &[Flavour::AeId]), nameless.chain()), Ok(THE_AE));
}

#[test]
fn identity_without_service_provider_is_refused() {
    let root = root("root");
    for (name, flavour) in
        [(Name::uri(AE), Flavour::AeId), (Name::dns("in.provider.com"), Flavour::CseId)]
    {
        let names = Names { service_provider: None, ..own() };
        let mut builder = TrustBuilder::new(names);
        builder.add_anchor(anchor(&root, &[flavour]));
        let issued = root.issue(&Request::new("x").name(name)).unwrap();
        check("no provider", &client(&builder.build(), issued.chain()), Err("NotOurs"));
    }
}

#[test]
fn flavour_is_limited_by_anchor() {
    let (first, second) = (root("same name"), root("same name"));
    let trust = trust([anchor(&first, &[Flavour::AeId]), anchor(&second, &[Flavour::NodeId])]);
    let [ae, node] = [Name::uri(AE), Name::uri("urn:x")];
    let issue = |authority: &Authority, name: &Name| {
        authority.issue(&Request::new("x").name(name.clone())).unwrap()
    };
    check("first", &client(&trust, issue(&first, &ae).chain()), Ok(THE_AE));
    check("second", &client(&trust, issue(&second, &node).chain()), Ok("the Node-ID urn:x"));
    for (authority, name) in [(&first, &node), (&second, &ae)] {
        let result = client(&trust, issue(authority, name).chain());
        assert!(result.is_err(), "{result:?}");
    }
    let both = trusting(&first, &[Flavour::AeId, Flavour::NodeId]);
    check("both", &client(&both, issue(&first, &node).chain()), Ok("the Node-ID urn:x"));
    let two = Request::new("x").name(ae).name(node);
    check("two", &client(&both, first.issue(&two).unwrap().chain()), Err("Conflict"));
}

#[test]
fn raw_public_key_must_be_pinned() {
    let (key, other) = (RawKey::new(Key::P256).unwrap(), RawKey::new(Key::P256).unwrap());
    let spki = key.public_der();
    for id in PublicKeyId::all_of(&spki) {
        let mut builder = TrustBuilder::new(own());
        builder.add_key(id.to_string().parse().unwrap());
        let trust = builder.build();
        let verified = trust.verify_key(&spki).unwrap();
        assert_eq!(verified.identity, Identity::PublicKey(id.clone()));
        assert_eq!(verified.until, None);
        let credential = verified.identity.credential_id().unwrap();
        assert_eq!(credential.to_string(), format!("30-{id}"));
        assert_eq!(verified.identity.entity(), None);
        check("other", &trust.verify_key(&other.public_der()), Err("UnknownKey"));
        check("longer", &trust.verify_key(&[&spki[..], &[0]].concat()), Err("UnknownKey"));
        check("nothing", &trust.verify_key(&[]), Err("UnknownKey"));
        // A key is not a certificate, and the key of a certificate is not pinned.
        check("key", &client(&trust, &[spki.clone().into()]), Err("Malformed"));
    }
    check("none pinned", &trust([]).verify_key(&spki), Err("UnknownKey"));
}
