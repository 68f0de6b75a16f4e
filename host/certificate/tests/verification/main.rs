//! Tests of the verification: accepted certificates with their identities, and rejected ones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod chains;
mod constraints;
mod identities;
mod keys;
mod malformed;
mod remembered;
mod revocation;
mod servers;

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use saegis_certificate::{Anchor, Flavour, KeyKind, Names, Purpose, Rejection};
use saegis_certificate::{Trust, TrustBuilder, VerifiedPeer};
use saegis_onem2m::id::CseId;
use saegis_test_ca::{Authority, Name, Request, Validity};

/// Absolute AE-ID of an AE at the gateway.
const AE: &str = "//provider.com/mn-cse-123456/Clight-AE1";
/// Identity of this AE.
const THE_AE: &str = "the AE-ID //provider.com/mn-cse-123456/Clight-AE1";
const DAY: Duration = Duration::from_secs(86400);

/// Returns the names of the gateway's CSE.
fn own() -> Names {
    Names::of(CseId::parse("mn-cse-123456").unwrap(), Some("provider.com".into()))
}

fn trust(anchors: impl IntoIterator<Item = Anchor>) -> Trust {
    let mut builder = TrustBuilder::new(own());
    anchors.into_iter().for_each(|anchor| builder.add_anchor(anchor));
    builder.build()
}

/// Returns an anchor according to the profile: P-256 only, without revocation lists.
fn anchor(authority: &Authority, flavours: &[Flavour]) -> Anchor {
    Anchor::new(authority.der().clone(), flavours, &[KeyKind::P256], &[]).unwrap()
}

/// Returns trust in one authority.
fn trusting(authority: &Authority, flavours: &[Flavour]) -> Trust {
    trust([anchor(authority, flavours)])
}

fn root(name: &str) -> Authority {
    Authority::new(&Request::new(name)).unwrap()
}

/// Returns a request for the certificate of the AE.
fn ae() -> Request {
    Request::new("Clight-AE1").name(Name::uri(AE))
}

fn client(trust: &Trust, chain: &[CertificateDer<'_>]) -> Result<VerifiedPeer, Rejection> {
    trust.verify(chain, Purpose::Client, SystemTime::now())
}

/// Returns the certificate with its signature changed.
fn tampered(der: &CertificateDer<'_>) -> CertificateDer<'static> {
    let mut der = der.to_vec();
    *der.last_mut().unwrap() ^= 1;
    der.into()
}

fn past() -> Validity {
    let now = SystemTime::now();
    Validity { from: now - 3 * DAY, until: now - DAY }
}

fn future() -> Validity {
    let now = SystemTime::now();
    Validity { from: now + DAY, until: now + 3 * DAY }
}

/// Converts a result for tables: the identity, or the name of the rejection.
fn outcome(result: &Result<VerifiedPeer, Rejection>) -> Result<String, String> {
    match result {
        Ok(verified) => Ok(verified.identity.to_string()),
        Err(rejection) => {
            let text = format!("{rejection:?}");
            Err(text.split(|c: char| !c.is_alphanumeric()).next().unwrap().into())
        }
    }
}

#[track_caller]
fn check(what: &str, result: &Result<VerifiedPeer, Rejection>, expected: Result<&str, &str>) {
    let expected = expected.map(Into::into).map_err(Into::into);
    assert_eq!(outcome(result), expected, "{what}: {result:?}");
}
