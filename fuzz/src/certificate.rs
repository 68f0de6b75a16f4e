//! Certificates.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use saegis_certificate::{Anchor, Flavour, Identity, KeyKind, Names, Purpose, Rejection};
use saegis_certificate::{Summary, Trust, TrustBuilder, VerifiedPeer, summary};
use saegis_onem2m::id::CseId;
use saegis_test_ca::{Authority, Name, Request};

/// Requested name of the server.
const SERVER: &str = "maf.provider.com";
const CLIENTS: [Flavour; 4] = [Flavour::AeId, Flavour::CseId, Flavour::NodeId, Flavour::Device];

/// Trust in the authorities that issued the corpus, at a time when it is valid. A modified
/// certificate has an invalid signature.
static FIXED: LazyLock<Trust> = LazyLock::new(|| {
    trusting(&[
        (include_bytes!("../anchors/clients.der"), &CLIENTS),
        (include_bytes!("../anchors/servers.der"), &[Flavour::Fqdn]),
    ])
});

/// An authority that signs any request, and trust in it.
static OURS: LazyLock<(Authority, Trust)> = LazyLock::new(|| {
    let authority = Authority::new(&Request::new("ours")).expect("an authority can be made");
    let trust = trusting(&[(authority.der(), &CLIENTS)]);
    (authority, trust)
});

fn trusting(anchors: &[(&[u8], &[Flavour])]) -> Trust {
    let own =
        Names::of(CseId::parse("mn-cse-123456").expect("a CSE-ID"), Some("provider.com".into()));
    let mut builder = TrustBuilder::new(own);
    for (der, flavours) in anchors {
        let anchor = Anchor::new(der.to_vec().into(), flavours, &[KeyKind::P256], &[]);
        builder.add_anchor(anchor.expect("an anchor is a good one"));
    }
    builder.build()
}

/// Certificate parser and verification. The input is a client's chain, the names of a certificate
/// that the target signs, and the constraints of an authority. An accepted identity is one of the
/// certificate's names and has a Credential-ID.
pub fn certificate(input: &[u8]) {
    let chain = certificates(input);
    // A time when the corpus is valid.
    let day = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    client(&FIXED, &chain, day);
    server(&FIXED, &chain, day);

    let (authority, trust) = &*OURS;
    let now = SystemTime::now();
    let names = Request::new("names").extension("2.5.29.17", false, input);
    let issued = authority.issue(&names).expect("it can be made, whatever it is");
    client(trust, issued.chain(), now);

    let constraints = Request::new("constraints").extension("2.5.29.30", true, input);
    let below = authority.sub_authority(&constraints).expect("it can be made, whatever it is");
    let names = [
        Name::uri("//provider.com/mn-cse-123456/Clight"),
        Name::dns("in.provider.com"),
        Name::device("0.2.481.1", "1"),
    ];
    for name in names {
        let issued = below.issue(&Request::new("x").name(name)).expect("it can be made");
        let bound = client(trust, issued.chain(), now);
        // Unreadable constraints permit nothing.
        let read = summary(below.der()).is_ok_and(|parsed| !parsed.constraints.is_empty());
        assert!(!bound || read, "accepted under unreadable constraints");
    }
}

/// Returns the DER elements of the input. The last one may be malformed.
fn certificates(mut input: &[u8]) -> Vec<CertificateDer<'_>> {
    let mut all = Vec::new();
    while !input.is_empty() {
        let length = match input {
            [_, short @ 0..=0x7F, ..] => 2 + usize::from(*short),
            [_, 0x81, one, ..] => 3 + usize::from(*one),
            [_, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => input.len(),
        };
        let (first, rest) = input.split_at(length.min(input.len()));
        all.push(first.into());
        input = rest;
    }
    all
}

fn verify(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    purpose: Purpose<'_>,
    now: SystemTime,
) -> Result<(VerifiedPeer, Summary), Rejection> {
    let result = trust.verify(chain, purpose, now);
    assert_eq!(trust.verify(chain, purpose, now), result, "the result is the same twice");
    let parsed = chain.first().map(summary);
    match result {
        Ok(vouched) => {
            let parsed = parsed.expect("a chain has a certificate").expect("it can be read");
            assert!(parsed.may_sign && !parsed.is_ca, "{parsed:?}");
            assert!(parsed.not_before <= now, "{parsed:?}");
            let until = vouched.until.expect("a certificate has an end");
            assert!(now < until && until <= parsed.not_after, "{until:?} {parsed:?}");
            Ok((vouched, parsed))
        }
        Err(rejection) => {
            assert!(!rejection.to_string().is_empty());
            let _ = rejection.as_error();
            Err(rejection)
        }
    }
}

/// Returns whether a chain is valid for a client.
fn client(trust: &Trust, chain: &[CertificateDer<'_>], now: SystemTime) -> bool {
    let Ok((VerifiedPeer { identity, .. }, parsed)) = verify(trust, chain, Purpose::Client, now)
    else {
        return false;
    };
    let name = match &identity {
        Identity::Ae { absolute, stem } => {
            let stem = stem.to_string();
            assert!(absolute.starts_with("//provider.com/"), "{absolute}");
            assert!(absolute.ends_with(&format!("/{stem}")), "{absolute} {stem}");
            format!("URI {absolute}")
        }
        Identity::Cse { name, cse } => {
            let label = name.split('.').next();
            assert_eq!(label, Some(cse.bare()));
            assert_ne!(cse.bare(), "mn-cse-123456", "another entity has the CSE-ID of this CSE");
            format!("DNS {name}")
        }
        Identity::Node(id) => format!("URI {id}"),
        Identity::Device(id) => format!("hardware {id}"),
        Identity::Fqdn(_) | Identity::PublicKey(_) => panic!("no client has {identity}"),
    };
    assert!(parsed.names.contains(&name), "{name} is not in {:?}", parsed.names);
    let wildcard = |name: &String| name.starts_with("DNS ") && name.contains('*');
    assert!(!parsed.names.iter().any(wildcard), "{:?}", parsed.names);
    assert!(identity.credential_id().is_some(), "{identity} has no Credential-ID");
    true
}

fn server(trust: &Trust, chain: &[CertificateDer<'_>], now: SystemTime) {
    let purpose = Purpose::Server { name: SERVER, flavour: Flavour::Fqdn };
    if let Ok((vouched, parsed)) = verify(trust, chain, purpose, now) {
        assert_eq!(vouched.identity, Identity::Fqdn(SERVER.into()));
        let is = format!("DNS {SERVER}");
        assert!(parsed.names.iter().any(|name| name.eq_ignore_ascii_case(&is)), "{parsed:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_contains_trusted_certificates() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/certificate");
        let day = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (mut believed, mut refused) = (Vec::new(), 0);
        for entry in std::fs::read_dir(corpus).expect("there is a corpus") {
            let path = entry.expect("an entry").path();
            let input = std::fs::read(&path).expect("a file");
            let chain = certificates(&input);
            let purpose = Purpose::Server { name: SERVER, flavour: Flavour::Fqdn };
            let both = [Purpose::Client, purpose].map(|purpose| FIXED.verify(&chain, purpose, day));
            match both.into_iter().find_map(Result::ok) {
                Some(vouched) => believed.push(vouched.identity.flavour()),
                None => refused += 1,
            }
        }
        believed.sort();
        believed.dedup();
        assert_eq!(believed, Flavour::OF_ANCHORS);
        assert!(refused > 0);
    }
}
