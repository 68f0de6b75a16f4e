//! `reuse`: instances that live for several calls, if the operator allows it.

use saegis_tests::{Credential, Gateway, LIGHT1, Light, Request, Setup};

const LOOKUP: &str = "fault-remember@in.provider.com";

fn setup(most: u32) -> Setup {
    Setup::new().with("modules.reuse", &format!("faulty = {most}"))
}

fn manifest(calls: u32) -> String {
    format!("order = 1\nreuse = {calls}\ncapabilities = [\"log\"]\n")
}

fn outcome(gateway: &Gateway, identity: &str) -> String {
    let mark = gateway.log().mark();
    assert!(Light::connect(gateway.port(), Credential { identity, ..LIGHT1 }).is_err());
    gateway.handshake_refused(mark).message()
}

#[track_caller]
fn assert_previous_calls(gateway: &Gateway, calls: u32) {
    let actual = outcome(gateway, LOOKUP);
    assert!(actual.contains(&format!("remembers {calls} calls")), "{actual}");
}

#[test]
fn instance_is_reused_for_allowed_calls() {
    let gateway = setup(5).module("faulty", &manifest(3)).start();
    for calls in [0, 1, 2, 0, 1, 2, 0] {
        assert_previous_calls(&gateway, calls);
    }
}

#[test]
fn instance_ends_with_fault_or_generation() {
    let gateway = setup(1000).module("faulty", &manifest(1000)).start();
    for fault in ["fault-trap", "fault-loop", "fault-memory", "fault-recurse"] {
        assert_previous_calls(&gateway, 0);
        assert_previous_calls(&gateway, 1);
        let actual = outcome(&gateway, &format!("{fault}@in.provider.com"));
        assert!(!actual.contains("remembers"), "{actual}");
    }
    assert_previous_calls(&gateway, 0);
    assert_previous_calls(&gateway, 1);
    gateway.in_force_after(|g| g.replace("policies/other.csv", "ae_id,kpsa,kpsa_id\n"));
    assert_previous_calls(&gateway, 0);
    // Other hooks and other modules work as before.
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    for _ in 0..3 {
        let ask = Request::retrieve("/cse/nothing").from("Clight-AE1");
        light.ask(&ask).unwrap().expect_refusal(404, 4004);
        let ask = Request::retrieve("/cse/fault-trap").from("Clight-AE1");
        light.ask(&ask).unwrap().expect_refusal(500, 5000);
        let ask = Request::retrieve("/cse/fault-rsc").from("Clight-AE1");
        light.ask(&ask).unwrap().expect_refusal(500, 5000);
    }
}

#[test]
fn reuse_without_operator_permission_is_refused() {
    let gateway = Setup::new().start();
    let why = "faulty.toml: requests reuse = 3, which the configuration does not allow";
    gateway.refused_after(why, |g| g.install("faulty", &manifest(3)));
    let gateway = setup(5).start();
    let why = "requests reuse = 6, but the configuration allows at most 5 calls";
    gateway.refused_after(why, |g| g.install("faulty", &manifest(6)));
    gateway.refused_after("invalid value", |g| {
        g.write("policies/modules/faulty.toml", manifest(0));
    });
    gateway.in_force_after(|g| g.write("policies/modules/faulty.toml", manifest(5)));
    assert_previous_calls(&gateway, 0);
    assert_previous_calls(&gateway, 1);
}

#[test]
fn module_without_reuse_keeps_no_state() {
    let gateway = setup(5).module("faulty", "order = 1\ncapabilities = [\"log\"]\n").start();
    for _ in 0..3 {
        assert_previous_calls(&gateway, 0);
    }
}
