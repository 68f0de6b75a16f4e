//! Chains in the cache of a trust.

use saegis_certificate::Flavour;

use super::*;

/// An authority, an AE of it, and a trust with the authority's revocation lists.
struct Setup {
    root: Authority,
    end: saegis_test_ca::Issued,
}

impl Setup {
    fn new() -> Self {
        let root = root("root");
        let end = root.issue(&ae().valid(around(3 * DAY))).unwrap();
        Self { root, end }
    }

    fn trust(&self, lists: &[Vec<u8>]) -> Trust {
        let der = self.root.der().clone();
        trust([Anchor::new(der, &[Flavour::AeId], &[KeyKind::P256], lists).unwrap()])
    }

    fn list(&self, serials: &[&[u8]], validity: Validity) -> Vec<u8> {
        self.root.revoke_for(serials, validity).unwrap().der().to_vec()
    }
}

fn around(time: Duration) -> Validity {
    let now = SystemTime::now();
    Validity { from: now - time, until: now + time }
}

/// Verifies a cached chain at a given time.
#[track_caller]
fn check_again(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
    expected: Result<&str, &str>,
) {
    check("at first", &client(trust, chain), Ok(THE_AE));
    check("again", &client(trust, chain), Ok(THE_AE));
    check("then", &trust.verify(chain, Purpose::Client, now), expected);
}

#[test]
fn remembered_chain_ends_with_its_certificates() {
    let setup = Setup::new();
    let (trust, now) = (setup.trust(&[]), SystemTime::now());
    check_again(&trust, setup.end.chain(), now + 2 * DAY, Ok(THE_AE));
    check_again(&trust, setup.end.chain(), now + 4 * DAY, Err("Expired"));
    check_again(&trust, setup.end.chain(), now - 4 * DAY, Err("NotYetValid"));
}

#[test]
fn remembered_chain_ends_with_its_revocation_list() {
    let setup = Setup::new();
    let lists = [setup.list(&[], around(DAY)), setup.list(&[], around(2 * DAY))];
    let now = SystemTime::now();
    let trust = setup.trust(&lists[..1]);
    check_again(&trust, setup.end.chain(), now + 2 * DAY, Err("RevocationUnknown"));
}

#[test]
fn remembered_chain_is_refused_by_newer_trust() {
    let setup = Setup::new();
    check_again(&setup.trust(&[]), setup.end.chain(), SystemTime::now(), Ok(THE_AE));
    let revoked = setup.list(&[setup.end.serial()], around(DAY));
    check("newer", &client(&setup.trust(&[revoked]), setup.end.chain()), Err("Revoked"));
}

#[test]
fn similar_chain_is_not_taken_for_remembered_one() {
    let setup = Setup::new();
    let trust = setup.trust(&[]);
    check_again(&trust, setup.end.chain(), SystemTime::now(), Ok(THE_AE));
    let changed = [tampered(&setup.end.chain()[0])];
    check("changed", &client(&trust, &changed), Err("BadSignature"));
    let longer = [setup.end.chain()[0].clone(), tampered(&setup.end.chain()[0])];
    check("longer", &client(&trust, &longer), Ok(THE_AE));
}

#[test]
fn cached_client_chain_is_not_valid_for_server() {
    let setup = Setup::new();
    let trust = setup.trust(&[]);
    check_again(&trust, setup.end.chain(), SystemTime::now(), Ok(THE_AE));
    let purpose = Purpose::Server { name: "in.provider.com", flavour: Flavour::CseId };
    let verified = trust.verify(setup.end.chain(), purpose, SystemTime::now());
    assert!(verified.is_err(), "{verified:?}");
}
