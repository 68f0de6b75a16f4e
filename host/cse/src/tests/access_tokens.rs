//! Verified tokens of originators.

use std::sync::Arc;

use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::role::RoleId;
use saegis_onem2m::token::{TokenPermission, VerifiedToken};
use serde_json::{Value, json};

use super::policies::{STATE, govern, policy, rule};
use crate::testing::{Bench, LIGHT1, LIGHT2, request};

const GUEST: &str = "guest@in.provider.com";

/// Returns a token with one permission.
fn token(resources: Option<&[&str]>, rules: Option<Value>, roles: &[&str]) -> VerifiedToken {
    let resources = resources.map(|all| all.iter().map(|&address| address.into()).collect());
    let roles = roles.iter().map(|role| RoleId::parse(role).unwrap()).collect();
    let permissions = Arc::from([TokenPermission { resources, rules, roles }]);
    VerifiedToken { issuer: "das".into(), id: "1@das".into(), permissions }
}

/// Returns a token with rules for a resource.
fn grant(address: &str, originators: &[&str], operations: u8) -> VerifiedToken {
    token(Some(&[address]), Some(rule(originators, operations)), &[])
}

fn with(request: RequestPrimitive, token: VerifiedToken) -> RequestPrimitive {
    RequestPrimitive { tokens: vec![token], ..request }
}

fn retrieve(bench: &Bench, who: &str, path: &str, token: VerifiedToken) -> u16 {
    bench.send(&with(request(Operation::Retrieve, path, Some(who), None), token)).code
}

#[test]
fn token_permits_its_holder() {
    let bench = Bench::with_lights();
    let everybody = || grant("cse/light1/state", &["all"], 2);
    for who in [LIGHT2, "/in-cse", "/in-cse/Capp", "//other.com/cse/Cx"] {
        assert_eq!(bench.retrieve(who, STATE).code, 4103, "{who}");
        assert_eq!(retrieve(&bench, who, STATE, everybody()), 2000, "{who}");
        assert_eq!(retrieve(&bench, who, STATE, grant("cse/light1/state", &[who], 2)), 2000);
        for other in ["cse/light1", "cse/light1/nothing", "cse/light1/state2"] {
            assert_eq!(retrieve(&bench, who, STATE, grant(other, &["all"], 2)), 4103, "{other}");
        }
        assert_eq!(retrieve(&bench, who, STATE, grant("cse/light1/state", &["Cx"], 2)), 4103);
        assert_eq!(retrieve(&bench, who, STATE, grant("cse/light1/state", &["all"], 61)), 4103);
    }
    // An originator that is not authenticated here has no tokens.
    for who in ["Cnobody", "/mn-cse-123456/Clight-AE2", "/mn-cse-123456"] {
        assert_eq!(retrieve(&bench, who, STATE, everybody()), 4103, "{who}");
    }
}

#[test]
fn resource_is_listed_by_any_address() {
    let bench = Bench::with_lights();
    let ri = bench.retrieve(LIGHT1, STATE).attributes()["ri"].as_str().unwrap().to_owned();
    for address in [
        &ri,
        "cse/light1/state",
        "-/light1/state",
        "/mn-cse-123456/cse/light1/state",
        "//in.provider.com/mn-cse-123456/cse/light1/state",
    ] {
        assert_eq!(retrieve(&bench, LIGHT2, STATE, grant(address, &["all"], 2)), 2000, "{address}");
    }
    for address in ["", "/in-cse/cse/light1/state", "//other.com/mn-cse-123456/cse/light1/state"] {
        assert_eq!(retrieve(&bench, LIGHT2, STATE, grant(address, &["all"], 2)), 4103, "{address}");
    }
}

/// A discovery finds what the token lists, and nothing else.
#[test]
fn discovery_finds_listed_resources() {
    let bench = Bench::with_lights();
    assert_eq!(bench.container(LIGHT1, STATE, json!({"rn": "below"})).code, 2001);
    let discovery = format!("{STATE}?fu=1");
    let token = grant("cse/light1/state", &["all"], 32);
    let found =
        bench.send(&with(request(Operation::Retrieve, &discovery, Some(LIGHT2), None), token));
    assert_eq!(found.code, 2000, "{}", found.why());
    assert!(found.found().iter().all(|address| !address.ends_with("below")), "{:?}", found.found());
}

#[test]
fn role_of_token_counts_in_rules_but_not_for_policies() {
    let bench = Bench::with_lights();
    let content = json!({"m2m:acp": {
        "rn": "open", "pv": rule(&[GUEST, LIGHT1], 63), "pvs": rule(&[GUEST, LIGHT1], 63),
    }});
    let reply = bench.create(Some(LIGHT1), "/cse/light1", 1, content);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    let holds = |resources: Option<&[&str]>| token(resources, None, &[GUEST]);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103);
    assert_eq!(retrieve(&bench, LIGHT2, STATE, holds(None)), 2000);
    assert_eq!(retrieve(&bench, LIGHT2, STATE, holds(Some(&["cse/light1/state"]))), 2000);
    assert_eq!(retrieve(&bench, LIGHT2, STATE, holds(Some(&["cse/light1"]))), 4103);
    let everything = ["cse/light1/open", "cse/light1/state"];
    for resources in [None, Some(&everything[..])] {
        let update = |path: &str, content: Value| {
            let update = request(Operation::Update, path, Some(LIGHT2), Some(content));
            bench.send(&with(update, holds(resources))).code
        };
        assert_eq!(
            update("/cse/light1/open", json!({"m2m:acp": {"pv": rule(&["all"], 63)}})),
            4103
        );
        assert_eq!(update(STATE, json!({"m2m:cnt": {"acpi": null}})), 4103);
        let delete = request(Operation::Delete, "/cse/light1/open", Some(LIGHT2), None);
        assert_eq!(bench.send(&with(delete, holds(resources))).code, 4103);
    }
    assert_eq!(policy(&bench, "other", rule(&[LIGHT1], 63)).code, 2001);
}

/// The points of access of an AE decide where its notifications go.
#[test]
fn token_does_not_redirect_notifications() {
    let bench = Bench::with_lights();
    let update = |path: &str, content: Value, given| {
        let update = request(Operation::Update, path, Some(LIGHT2), Some(content));
        bench.send(&with(update, given)).code
    };
    let everything = grant("cse/light1", &["all"], 63);
    assert_eq!(retrieve(&bench, LIGHT2, "/cse/light1", grant("cse/light1", &["all"], 63)), 2000);
    assert_eq!(
        update("/cse/light1", json!({"m2m:ae": {"poa": ["http://a.b/"]}}), everything),
        4103
    );
}

/// Everything but an instance could outlast the token: it has policies or a creator of its own.
#[test]
fn token_creates_instances_only() {
    let bench = Bench::with_lights();
    let content = json!({"m2m:acp": {
        "rn": "open", "pv": rule(&[GUEST, LIGHT1], 63), "pvs": rule(&[LIGHT1], 63),
    }});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, content).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    let own = policy(&bench, "own", rule(&[LIGHT2], 63));
    assert_eq!(own.code, 2001);
    let acp = json!({"m2m:acp": {"pv": rule(&[LIGHT2], 63), "pvs": rule(&[LIGHT2], 63)}});
    let sub = json!({"m2m:sub": {"nu": ["http://a.b/"], "nct": 1, "enc": {"net": [3]}}});
    for given in [
        grant("cse/light1/state", &["all"], 63),
        token(Some(&["cse/light1/state"]), None, &[GUEST]),
        token(None, None, &[GUEST]),
    ] {
        let create = |ty: u16, content: &Value| {
            let content = Some(content.clone());
            let mut create = request(Operation::Create, STATE, Some(LIGHT2), content);
            create.resource_type = Some(ty);
            bench.send(&with(create, given.clone())).code
        };
        assert_eq!(create(4, &json!({"m2m:cin": {"con": "on"}})), 2001);
        for container in [
            json!({}),
            json!({"acpi": ["cse/light1/own"]}),
            json!({"cr": null}),
            json!({"cstn": LIGHT2}),
        ] {
            assert_eq!(create(3, &json!({"m2m:cnt": container})), 4103, "{container}");
        }
        assert_eq!(create(1, &acp), 4103);
        assert_eq!(create(23, &sub), 4103);
        let update = |path: &str, content: Value| {
            let update = request(Operation::Update, path, Some(LIGHT2), Some(content));
            bench.send(&with(update, given.clone())).code
        };
        assert_eq!(update(STATE, json!({"m2m:cnt": {"lbl": ["x"]}})), 2004);
    }
}
