//! Tokens in requests: what they permit, in each binding, and when they end.

use std::fs;

use saegis_tests::{
    Gateway, LIGHT2, Light, Mqtt, Reply, Request, Setup, TokenIssuer, Upstream, eventually,
    run_pyjwt, saegis, token_claims,
};
use serde_json::{Value, json};

use super::lights::{GUEST, LAMP, OWNER, TECHNICIAN, ask, create_container, registered};

pub const FILE: &str = "policies/token-issuers.toml";

/// Returns the policy file, in which the issuer may give the role of the technician, and privileges
/// for light 1.
pub fn file_of(issuer: &TokenIssuer, revoked: &str) -> String {
    let key = issuer.public_pem();
    format!(
        "revoked = [{revoked}]\n\n[[issuer]]\nid = \"das\"\nmax-life-seconds = 3600\n\
         holders = [\"//in.provider.com/mn-cse-123456/C*\"]\nroles = [\"{TECHNICIAN}\"]\n\
         resources = [\"cse/light1/*\"]\n\n[[issuer.key]]\nid = \"2026\"\nalgorithm = \"ES256\"\n\
         public = \"\"\"\n{key}\"\"\"\n"
    )
}

pub fn with(request: Request, token: &str) -> Request {
    request.header("Authorization", token)
}

/// Returns a permission to retrieve the lamp and to create instances in it.
pub fn lamp() -> Value {
    json!([{"ris": ["cse/light1/lamp"], "pv": {"acr": [{"acor": ["all"], "acop": 3}]}}])
}

/// Registers both lights, and creates the containers of the first one. Technicians may do everything
/// with the door.
pub fn start(setup: Setup) -> (Gateway, Light, Light) {
    let (gateway, mut owner, guest) = registered(setup, &[]);
    for container in [
        json!({"rn": "lamp"}),
        json!({"rn": "lamp2"}),
        json!({"rn": "door", "acpi": ["cse/light1/acp"]}),
    ] {
        create_container(&mut owner, &container);
    }
    (gateway, owner, guest)
}

fn start_with(issuer: &TokenIssuer) -> (Gateway, Light, Light) {
    start(Setup::new().file("token-issuers.toml", &file_of(issuer, "")))
}

#[test]
fn token_grants_listed_resources() {
    let issuer = TokenIssuer::new();
    let (gateway, mut owner, mut guest) = start_with(&issuer);
    let token = issuer.sign(&token_claims("1@das", GUEST, &lamp()));
    let value = json!({"m2m:cin": {"con": "on"}});
    ask(&mut guest, GUEST, Request::retrieve(LAMP)).expect_refusal(403, 4103);
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token)).expect(200, 2000);
    ask(&mut guest, GUEST, with(Request::create(LAMP, 4, &value), &token)).expect(201, 2001);
    let latest = format!("{LAMP}/la");
    ask(&mut guest, GUEST, with(Request::retrieve(&latest), &token)).expect(200, 2000);
    // Neither another operation, nor another resource, nor a child that is not an instance.
    ask(&mut guest, GUEST, with(Request::delete(LAMP), &token)).expect_refusal(403, 4103);
    for path in ["/cse/light1", "/cse/light1/lamp2", "/cse/light1/door"] {
        ask(&mut guest, GUEST, with(Request::retrieve(path), &token)).expect_refusal(403, 4103);
    }
    let below = json!({"m2m:cnt": {"rn": "below"}});
    ask(&mut owner, OWNER, Request::create(LAMP, 3, &below)).expect(201, 2001);
    let below = format!("{LAMP}/below");
    ask(&mut guest, GUEST, with(Request::retrieve(&below), &token)).expect_refusal(403, 4103);
    // A token holds for the request that has it.
    ask(&mut guest, GUEST, Request::retrieve(LAMP)).expect_refusal(403, 4103);
    let gateway = gateway.kill_and_restart();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token)).expect(200, 2000);
}

#[test]
fn rules_of_token_are_evaluated() {
    let issuer = TokenIssuer::new();
    let (_gateway, _owner, mut guest) = start_with(&issuer);
    let mut retrieve = |rule: Value| {
        let permissions = json!([{"ris": ["cse/light1/lamp"], "pv": {"acr": [rule]}}]);
        let token = issuer.sign(&token_claims("1@das", GUEST, &permissions));
        ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token))
    };
    retrieve(json!({"acor": [GUEST], "acop": 2})).expect(200, 2000);
    retrieve(json!({"acor": ["/mn-cse-123456/C*"], "acop": 2, "acaf": true})).expect(200, 2000);
    let near = json!([{"acip": {"ipv4": ["127.0.0.1"]}}]);
    retrieve(json!({"acor": ["all"], "acop": 2, "acco": near})).expect(200, 2000);
    let far = json!([{"acip": {"ipv4": ["10.0.0.1"]}}]);
    for rule in [
        json!({"acor": [OWNER], "acop": 2}),
        json!({"acor": ["all"], "acop": 61}),
        json!({"acor": ["all"], "acop": 2, "acco": far}),
        json!({"acor": ["all"], "acop": 2, "x": 1}),
        json!({"acor": ["all"]}),
        json!([["all"], 63]),
    ] {
        retrieve(rule).expect_refusal(403, 4103);
    }
}

#[test]
fn role_of_token_grants_access() {
    let issuer = TokenIssuer::new();
    let (_gateway, _owner, mut guest) = start_with(&issuer);
    let door = || Request::retrieve("/cse/light1/door");
    let mut retrieve = |permissions: Value| {
        let token = issuer.sign(&token_claims("1@das", GUEST, &permissions));
        ask(&mut guest, GUEST, with(door(), &token))
    };
    retrieve(json!([{"rids": [TECHNICIAN]}])).expect(200, 2000);
    retrieve(json!([{"ris": ["cse/light1/door"], "rids": [TECHNICIAN]}])).expect(200, 2000);
    retrieve(json!([{"ris": ["cse/light1/lamp"], "rids": [TECHNICIAN]}])).expect_refusal(403, 4103);
    // A rule of a token may name a role of the token.
    let rules = json!({"acr": [{"acor": [TECHNICIAN], "acop": 2}]});
    retrieve(json!([{"ris": ["cse/light1/door"], "pv": rules}])).expect_refusal(403, 4103);
    retrieve(json!([{"ris": ["cse/light1/door"], "pv": rules, "rids": [TECHNICIAN]}]))
        .expect(200, 2000);
    // The claim alone does not assign the role.
    ask(&mut guest, GUEST, door()).expect_refusal(403, 4103);
    let claimed = Request::retrieve(&format!("/cse/light1/door?rids={TECHNICIAN}"));
    ask(&mut guest, GUEST, claimed).expect_refusal(403, 4103);
}

/// A token ends, so it cannot give anything that lasts.
#[test]
fn token_does_not_change_privileges() {
    let issuer = TokenIssuer::new();
    let (_gateway, _owner, mut guest) = start_with(&issuer);
    let everything = json!({"acr": [{"acor": ["all"], "acop": 63}]});
    let resources = ["cse/light1/acp", "cse/light1/lamp", "cse/light1/door"];
    let permissions = json!([{"ris": resources, "pv": everything}]);
    let token = issuer.sign(&token_claims("1@das", GUEST, &permissions));
    let mut send = |request: Request| ask(&mut guest, GUEST, with(request, &token));
    send(Request::retrieve("/cse/light1/acp")).expect(200, 2000);
    send(Request::update("/cse/light1/lamp", &json!({"m2m:cnt": {"lbl": ["a"]}})))
        .expect(200, 2004);
    let open = json!({"m2m:acp": {"pv": everything}});
    send(Request::update("/cse/light1/acp", &open)).expect_refusal(403, 4103);
    send(Request::delete("/cse/light1/acp")).expect_refusal(403, 4103);
    let policies = json!({"m2m:cnt": {"acpi": ["cse/light1/acp"]}});
    send(Request::update("/cse/light1/lamp", &policies)).expect_refusal(403, 4103);
}

#[test]
fn several_tokens_are_added() {
    let issuer = TokenIssuer::new();
    let (_gateway, _owner, mut guest) = start_with(&issuer);
    let role = issuer.sign(&token_claims("2@das", GUEST, &json!([{"rids": [TECHNICIAN]}])));
    let both = format!("{}+{role}", issuer.sign(&token_claims("1@das", GUEST, &lamp())));
    for path in [LAMP, "/cse/light1/door"] {
        ask(&mut guest, GUEST, with(Request::retrieve(path), &both)).expect(200, 2000);
    }
    // One that is not valid refuses the request.
    let other = issuer.sign(&token_claims("3@das", OWNER, &lamp()));
    let request = with(Request::retrieve(LAMP), &format!("{both}+{other}"));
    ask(&mut guest, GUEST, request).expect_refusal(403, 4103);
    let many = [role.as_str(); 5].join("+");
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &many)).expect_refusal(400, 4000);
}

#[test]
fn token_ends_with_its_issuer_and_when_revoked() {
    let issuer = TokenIssuer::new();
    let (gateway, _owner, mut guest) = start_with(&issuer);
    let token = issuer.sign(&token_claims("1@das", GUEST, &lamp()));
    let retrieve = || with(Request::retrieve(LAMP), &token);
    ask(&mut guest, GUEST, retrieve()).expect(200, 2000);
    let changed =
        gateway.in_force_after(|gateway| gateway.replace(FILE, file_of(&issuer, "\"1@das\"")));
    assert_eq!(changed.text("changes"), "token issuers");
    ask(&mut guest, GUEST, retrieve()).expect_refusal(403, 4103);
    gateway.in_force_after(|gateway| gateway.replace(FILE, file_of(&issuer, "")));
    ask(&mut guest, GUEST, retrieve()).expect(200, 2000);
    // Another key, and no issuer.
    let other = TokenIssuer::new();
    gateway.in_force_after(|gateway| gateway.replace(FILE, file_of(&other, "")));
    ask(&mut guest, GUEST, retrieve()).expect_refusal(403, 4103);
    gateway.in_force_after(|gateway| gateway.replace(FILE, ""));
    ask(&mut guest, GUEST, retrieve()).expect_refusal(403, 4103);
    gateway.in_force_after(|gateway| gateway.replace(FILE, file_of(&issuer, "")));
    // A missing file is not a decision.
    gateway.refused_after("is missing, and the generation in force", |gateway| {
        fs::remove_file(gateway.path(FILE)).unwrap();
    });
    ask(&mut guest, GUEST, retrieve()).expect(200, 2000);
    saegis(&gateway.path(""), &["reload", "--accept-removals"]).expect(0);
    ask(&mut guest, GUEST, retrieve()).expect_refusal(403, 4103);
}

#[test]
fn faulty_issuers_are_refused_with_position() {
    let issuer = TokenIssuer::new();
    let good = file_of(&issuer, "");
    let bad = good.replace("ES256", "none");
    let setup = Setup::new().file("token-issuers.toml", &bad);
    let configuration = setup.configuration();
    let checked = saegis(configuration.parent().unwrap(), &["check"]).expect(2);
    let fault = "token-issuers.toml:12:13: \"none\" is not ES256 or ES384";
    assert!(checked.err.contains(fault), "{checked:?}");
    let setup = Setup::new().file("token-issuers.toml", &good);
    let configuration = setup.configuration();
    let checked = saegis(configuration.parent().unwrap(), &["check"]).expect(0);
    assert!(checked.out.contains("  tokens      1 issuers, 0 revoked tokens"), "{checked:?}");
    // A reload keeps the issuers in force.
    let (gateway, _owner, mut guest) = start(setup);
    gateway.refused_after("is not ES256 or ES384", |gateway| gateway.replace(FILE, &bad));
    let token = issuer.sign(&token_claims("1@das", GUEST, &lamp()));
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token)).expect(200, 2000);
}

#[test]
fn tokens_are_accepted_over_websocket_and_mqtt() {
    let issuer = TokenIssuer::new();
    let setup = Setup::new().with_mqtt().file("token-issuers.toml", &file_of(&issuer, ""));
    let (gateway, _owner, guest) = start(setup);
    let token = issuer.sign(&token_claims("1@das", GUEST, &lamp()));
    let other = issuer.sign(&token_claims("1@das", OWNER, &lamp()));
    let without = json!({"op": 2, "to": "cse/light1/lamp", "fr": GUEST});
    let with = |tokens: Value| {
        let mut request = without.clone();
        request["tkns"] = tokens;
        request
    };
    let mut socket = guest.websocket(&[("Sec-WebSocket-Protocol", "oneM2M.json")]).unwrap();
    socket.expect(without.clone(), 4103);
    socket.expect(with(json!([token])), 2000);
    socket.expect(with(json!([other])), 4103);
    socket.expect(with(json!(token)), 4000);
    socket.expect(with(json!([])), 4000);
    let topic = "/oneM2M/req/Clight-AE2/mn-cse-123456/json";
    let mut client = Mqtt::connect(gateway.mqtt_port(), LIGHT2, "A::Clight-AE2");
    assert_eq!(client.subscribe("/oneM2M/resp/Clight-AE2/#"), 1);
    client.expect(topic, without.clone(), 4103);
    client.expect(topic, with(json!([token])), 2000);
    client.expect(topic, with(json!([other])), 4103);
}

/// A CSE behind the gateway believes what it receives.
#[test]
fn upstream_receives_verified_tokens_only() {
    let issuer = TokenIssuer::new();
    let upstream = Upstream::start(Reply::answer(200, 2000, "{}"));
    let setup = Setup::new().upstream(upstream.port());
    let gateway = setup.file("token-issuers.toml", &file_of(&issuer, "")).start();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    let token = issuer.sign(&token_claims("1@das", GUEST, &lamp()));
    let forged = TokenIssuer::new().sign(&token_claims("1@das", GUEST, &lamp()));
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &forged)).expect_refusal(403, 4103);
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token)).expect(200, 2000);
    let arrived = upstream.wait(1);
    assert_eq!((arrived.len(), arrived[0].values("authorization")), (1, vec![token.as_str()]));
}

/// The token is a credential: neither the log nor the audit trail has it.
#[test]
fn token_is_in_audit_trail_by_its_identifier() {
    let issuer = TokenIssuer::new();
    let setup = Setup::new().file("token-issuers.toml", &file_of(&issuer, ""));
    let (gateway, _owner, mut guest) = start(setup.with("log", "filter = \"debug\""));
    let token = issuer.sign(&token_claims("visit-7@das", GUEST, &lamp()));
    let request = with(Request::retrieve(LAMP), &token).from(GUEST);
    guest.ask(&request).unwrap().expect(200, 2000);
    let accepted = gateway.log().wait("request.token-accepted");
    for (field, value) in [
        ("credential_id", format!("12-{}", LIGHT2.identity).as_str()),
        ("request_id", request.id()),
        ("operation", "retrieve"),
        ("to", "cse/light1/lamp"),
        ("from", GUEST),
        ("issuer", "das"),
        ("token_id", "visit-7@das"),
    ] {
        assert_eq!(accepted.text(field), value, "{field}");
    }
    let other = issuer.sign(&token_claims("visit-8@das", OWNER, &lamp()));
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &other)).expect_refusal(403, 4103);
    gateway.log().wait("request.refused");
    for token in [&token, &other] {
        for part in token.split('.').skip(1) {
            assert!(!gateway.log().text().contains(part), "{part} is in the log");
        }
    }
}

#[test]
fn token_of_pyjwt_is_accepted() {
    let issuer = TokenIssuer::new();
    let (_gateway, _owner, mut guest) = start_with(&issuer);
    let claims = token_claims("1@das", GUEST, &lamp());
    for headers in [json!({}), json!({"kid": "2026"})] {
        let asked = json!({"claims": claims, "key": issuer.private_pem(), "headers": headers});
        let token = run_pyjwt(&asked).expect(0).out;
        let request = with(Request::retrieve(LAMP), token.trim());
        ask(&mut guest, GUEST, request).expect(200, 2000);
    }
}

#[test]
fn denied_request_learns_where_to_get_a_token() {
    let issuer = TokenIssuer::new();
    let file = file_of(&issuer, "");
    let addressed =
        file.replace("max-life", "address = \"https://das.in.provider.com/\"\nmax-life");
    let (gateway, mut owner, mut guest) =
        start(Setup::new().file("token-issuers.toml", &addressed));
    let asks = || Request::retrieve(&format!("{LAMP}?tqi=true"));
    let tqf = json!({"dasi": [{"uri": "https://das.in.provider.com/"}]});
    let denied = ask(&mut guest, GUEST, asks()).expect(403, 4103);
    assert_eq!(denied.json(), json!({ "m2m:tqf": tqf }));
    ask(&mut guest, GUEST, Request::retrieve(LAMP)).expect_refusal(403, 4103);
    let no = Request::retrieve(&format!("{LAMP}?tqi=false"));
    ask(&mut guest, GUEST, no).expect_refusal(403, 4103);
    let bad = Request::retrieve(&format!("{LAMP}?tqi=x"));
    ask(&mut guest, GUEST, bad).expect_refusal(400, 4000);
    ask(&mut owner, OWNER, asks()).expect(200, 2000);
    let missing = Request::retrieve("/cse/light1/nothing?tqi=true");
    ask(&mut owner, OWNER, missing).expect_refusal(404, 4004);
    let other = Light::connect(gateway.port(), LIGHT2).unwrap();
    let mut socket = other.websocket(&[("Sec-WebSocket-Protocol", "oneM2M.json")]).unwrap();
    let request = json!({"op": 2, "to": "cse/light1/lamp", "fr": GUEST, "tqi": true});
    let denied = socket.expect(request, 4103);
    assert_eq!((&denied["tqf"], denied.get("pc")), (&tqf, None));
    // Without an address, the denial has its reason.
    gateway.in_force_after(|gateway| gateway.replace(FILE, &file));
    ask(&mut guest, GUEST, asks()).expect_refusal(403, 4103);
}

/// Others may be allowed to retrieve a stored request.
#[test]
fn stored_request_has_no_token() {
    let issuer = TokenIssuer::new();
    let (_gateway, _owner, mut guest) = start_with(&issuer);
    let token = issuer.sign(&token_claims("1@das", GUEST, &lamp()));
    let request = with(Request::retrieve(&format!("{LAMP}?rt=1")), &token);
    let accepted = ask(&mut guest, GUEST, request).expect(202, 1001).json();
    let address = format!("/~{}", accepted["m2m:uri"].as_str().unwrap());
    let stored = eventually(|| {
        let found = ask(&mut guest, GUEST, Request::retrieve(&address)).expect(200, 2000);
        if found.json()["m2m:req"]["rs"] == 3 { Err(found) } else { Ok(found.text()) }
    });
    assert!(stored.contains("2000") && stored.contains("cse/light1/lamp"), "{stored}");
    for part in token.split('.').chain(["tkns"]) {
        assert!(!stored.contains(part), "{stored}");
    }
}
