//! State of the registration of one CSE with another.

use saegis_tests::{Gateway, LIGHT1, Request, Tool, eventually, saegis};
use serde_json::Value;

use super::pair::{LIGHT, MN, MN_CREDENTIAL, Pair, Saef};
use super::{light_at, phone_at};

fn peer(gateway: &Gateway) -> Value {
    saegis(&gateway.path(""), &["peers", "--json"]).expect(0).json()["peers"][0].clone()
}

/// Waits until a gateway's peer satisfies a condition.
#[track_caller]
fn wait_for(gateway: &Gateway, what: &str, is: impl Fn(&Value) -> bool) {
    eventually(|| {
        let peer = peer(gateway);
        if is(&peer) { Ok(()) } else { Err(format!("not {what}: {peer}")) }
    });
}

fn is_registered(peer: &Value) -> bool {
    peer["registration"] == "registered"
}

#[test]
fn registration_is_renewed_before_expiry() {
    let (infrastructure, home) = Pair::new(Saef::Certificates).start();
    assert!(is_registered(&peer(&home)));
    assert_eq!(peer(&infrastructure)["registration"], "none");
    assert_eq!(peer(&home)["saef"], "certificate");
    // Over a new association, because the IN-CSE restarts.
    let first = peer(&home)["expires"].clone();
    let infrastructure = infrastructure.restart();
    wait_for(&home, "renewed", |now| is_registered(now) && now["expires"] != first);
    drop(infrastructure);
}

#[test]
fn lost_registration_is_created_again() {
    let (infrastructure, home) = Pair::new(Saef::Psk).start();
    let own = format!("/{MN}");
    let mut same = Tool::OpenSsl.connect(infrastructure.port(), MN_CREDENTIAL);
    let base = format!("/cse/{MN}");
    same.ask(&Request::retrieve(&base).from(&own)).expect(200, 2000);
    same.ask(&Request::delete(&base).from(&own)).expect(200, 2002);
    eventually(|| {
        let found = same.ask(&Request::retrieve(&base).from(&own));
        if found.rsc() == Some(2000) { Ok(()) } else { Err(peer(&home)) }
    });
}

#[test]
fn registration_is_retried_until_in_cse_is_reachable() {
    let Pair { infrastructure, home, .. } = Pair::new(Saef::Certificates);
    // The port is open, but connections get no response.
    let home = home.start();
    let failed = home.log().wait("peer.registration-failed");
    assert!(failed.message().contains("next attempt in"), "{failed:?}");
    assert_eq!(peer(&home)["registration"], "failed");
    let infrastructure = infrastructure.start();
    wait_for(&home, "registered", is_registered);
    drop(infrastructure);
}

/// The server's certificate must prove the configured CSE-ID, not another one of the same
/// authority.
#[test]
fn peer_with_other_cse_id_is_not_registered_with() {
    let pair = Pair::new(Saef::Certificates);
    let example = pair.example.as_ref().unwrap();
    let other = saegis_test_ca::Request::new("other")
        .name(saegis_test_ca::Name::dns("in-cse2.in.provider.com"));
    let other = example.cse_authority.issue(&other).unwrap();
    pair.infrastructure.write("policies/own.pem", other.chain_pem().as_bytes());
    pair.infrastructure.write("policies/own.key", other.key_pem().as_bytes());
    let infrastructure = pair.infrastructure.start();
    let home = pair.home.start();
    let failed = home.log().wait("peer.registration-failed");
    assert!(failed.message().contains("does not prove in-cse.in.provider.com"), "{failed:?}");
    let refused = infrastructure.log().wait("handshake.refused");
    assert!(!refused.message().is_empty());
    // With the right certificate the registration succeeds, without a restart.
    let example = pair.example.as_ref().unwrap();
    infrastructure.in_force_after(|gateway| {
        gateway.write("policies/own.key", example.in_cse.key_pem());
        gateway.write("policies/own.pem", example.in_cse.chain_pem());
    });
    wait_for(&home, "registered", is_registered);
}

/// Policy decides which peer certificates are trusted, also for requests to the peer.
#[test]
fn peer_is_trusted_until_anchor_is_removed() {
    let (infrastructure, home) = Pair::new(Saef::Certificates).start();
    let _light = light_at(&home);
    let mut phone = phone_at(&infrastructure);
    let latest = Request::retrieve(&format!("/~/{MN}/cse/light1/lamp/la")).from("Cphone");
    phone.ask(&latest).expect(200, 2000);
    let text = std::fs::read_to_string(home.path("policies/certificates.toml")).unwrap();
    let mark = home.log().mark();
    home.in_force_after(|gateway| {
        let (own, _) = text.split_once("[[anchor]]").unwrap();
        gateway.write("policies/certificates.toml", own);
    });
    home.log().wait_after(mark, "association.revoked");
    let refused = phone.ask(&latest);
    refused.expect_refusal(404, 5103);
    home.in_force_after(|gateway| gateway.write("policies/certificates.toml", &text));
    phone.ask(&latest).expect(200, 2000);
}

/// The keys of both sides must match.
#[test]
fn registration_with_wrong_key_fails() {
    let pair = Pair::new(Saef::Psk);
    let table =
        format!("ae_id,cse_id,kpsa,kpsa_id\n,{MN},{},mn@in.provider.com\n", "1a2b".repeat(8));
    pair.infrastructure.write("policies/psk-lookup-table.csv", table.as_bytes());
    let infrastructure = pair.infrastructure.start();
    let home = pair.home.start();
    let refused = infrastructure.log().wait("handshake.refused");
    assert_eq!(refused.text("cause"), "wrong-key");
    home.log().wait("peer.registration-failed");
    let mut light = Tool::OpenSsl.connect(home.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from(LIGHT)).expect(201, 2001);
    light.ask(&Request::retrieve("/~/in-cse/cse").from(LIGHT)).expect_refusal(404, 5103);
}
