//! Roles in access control rules: held by a policy file, claimed in requests, in each binding.

use std::fs;

use saegis_tests::{
    CoapLight, CoapMessage, Event, Gateway, LIGHT1, LIGHT2, Light, Mark, Mqtt, Reply, Request,
    Setup, Upstream, saegis,
};
use serde_json::{Value, json};

use super::lights::{GUEST, LAMP, OWNER, TECHNICIAN, ask, create_container, registered};

const TENANT: &str = "tenant@in.provider.com";
const FILE: &str = "policies/roles.toml";

/// Assigns the role of the technician to the second light.
const ROLES: &str = "[[role]]\nid = \"technician@in.provider.com\"\noriginators = [\"Clight-AE2\"]\n\
                     [[role]]\nid = \"tenant@in.provider.com\"\n";

/// The same to nobody.
const NOBODY: &str = "[[role]]\nid = \"technician@in.provider.com\"\n";

/// Returns a retrieve of the lamp that claims roles.
fn claim(roles: &str) -> Request {
    Request::retrieve(&format!("{LAMP}?rids={roles}"))
}

/// Registers both lights. Technicians may do everything with the lamp of the first one, and tenants
/// may retrieve it.
fn start(setup: Setup) -> (Gateway, Light, Light) {
    let tenants = json!({"acor": [TENANT], "acop": 34});
    let (gateway, mut owner, guest) = registered(setup, &[tenants]);
    create_container(&mut owner, &json!({"rn": "lamp", "acpi": ["cse/light1/acp"]}));
    (gateway, owner, guest)
}

#[test]
fn assigned_role_grants_access() {
    let (gateway, _owner, mut guest) = start(Setup::new().file("roles.toml", ROLES));
    let value = json!({"m2m:cin": {"con": "on"}});
    ask(&mut guest, GUEST, Request::retrieve(LAMP)).expect_refusal(403, 4103);
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect(200, 2000);
    let create = |roles: &str| Request::create(&format!("{LAMP}?rids={roles}"), 4, &value);
    ask(&mut guest, GUEST, create(TECHNICIAN)).expect(201, 2001);
    // One of several claims suffices, in either form of a list.
    ask(&mut guest, GUEST, claim(&format!("{TENANT}+{TECHNICIAN}"))).expect(200, 2000);
    ask(&mut guest, GUEST, claim(&format!("{TENANT}&rids={TECHNICIAN}"))).expect(200, 2000);
    // A role holds for the request that claims it.
    ask(&mut guest, GUEST, Request::create(LAMP, 4, &value)).expect_refusal(403, 4103);
    // The rules are stored, and the roles are read again.
    let gateway = gateway.kill_and_restart();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect(200, 2000);
    ask(&mut guest, GUEST, Request::delete(&format!("{LAMP}?rids={TECHNICIAN}"))).expect(200, 2002);
}

#[test]
fn unassigned_claim_has_no_effect() {
    let (gateway, mut owner, mut guest) = start(Setup::new().file("roles.toml", ROLES));
    for roles in [
        TENANT,
        "technician@provider.com",
        "Technician@in.provider.com",
        "x.technician@in.provider.com",
        "all@in.provider.com",
    ] {
        ask(&mut guest, GUEST, claim(roles)).expect_refusal(403, 4103);
    }
    ask(&mut owner, GUEST, claim(TECHNICIAN)).expect_refusal(403, 4106);
    // The other grounds of the request decide.
    ask(&mut owner, OWNER, claim(TECHNICIAN)).expect(200, 2000);
    let of_owner = format!("12-{}", LIGHT1.identity);
    let fits = |event: &Event| event.text("credential_id") == of_owner;
    let claimed = gateway.log().wait_for(Mark::START, "request.roles-claimed", fits);
    let fields = ["from", "roles", "not_assigned"].map(|field| claimed.text(field));
    assert_eq!(fields, [OWNER, "", TECHNICIAN], "the refused request claims nothing");
}

#[test]
fn gateway_without_roles_file_assigns_none() {
    let (_gateway, mut owner, mut guest) = start(Setup::new());
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect_refusal(403, 4103);
    ask(&mut owner, OWNER, claim(TECHNICIAN)).expect(200, 2000);
}

#[test]
fn malformed_claim_is_refused() {
    let (_gateway, _owner, mut guest) = start(Setup::new().file("roles.toml", ROLES));
    let many = vec![TECHNICIAN; 17].join("+");
    for roles in ["technician", "", "technician@in.provider.com%20x", "*@in.provider.com", &many] {
        ask(&mut guest, GUEST, claim(roles)).expect_refusal(400, 4000);
    }
    ask(&mut guest, GUEST, Request::retrieve(&format!("{LAMP}?RIDS={TECHNICIAN}")))
        .expect_refusal(400, 4000);
    ask(&mut guest, GUEST, claim(&vec![TECHNICIAN; 16].join("+"))).expect(200, 2000);
}

#[test]
fn role_ends_with_its_assignment() {
    let (gateway, _owner, mut guest) = start(Setup::new().file("roles.toml", ROLES));
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect(200, 2000);
    let changed = gateway.in_force_after(|gateway| gateway.replace(FILE, NOBODY));
    assert_eq!(changed.text("changes"), "roles");
    // The association continues.
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect_refusal(403, 4103);
    gateway.in_force_after(|gateway| gateway.replace(FILE, ROLES));
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect(200, 2000);
    // A missing file is not a decision.
    gateway.refused_after("is missing, and the generation in force", |gateway| {
        fs::remove_file(gateway.path(FILE)).unwrap();
    });
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect(200, 2000);
    saegis(&gateway.path(""), &["reload", "--accept-removals"]).expect(0);
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect_refusal(403, 4103);
}

#[test]
fn faulty_roles_are_refused_with_position() {
    let bad = "[[role]]\nid = \"technician\"\noriginators = [\"light\"]\n";
    let setup = Setup::new().file("roles.toml", bad);
    let configuration = setup.configuration();
    let checked = saegis(configuration.parent().unwrap(), &["check"]).expect(2);
    assert!(checked.err.contains("roles.toml:2:6: \"technician\" is not a Role-ID"), "{checked:?}");
    let good = Setup::new().file("roles.toml", ROLES);
    let configuration = good.configuration();
    let checked = saegis(configuration.parent().unwrap(), &["check"]).expect(0);
    assert!(checked.out.contains("  roles       2 with their holders"), "{checked:?}");
    // A reload keeps the roles in force.
    let (gateway, _owner, mut guest) = start(good);
    gateway.refused_after("is not a Role-ID", |gateway| gateway.replace(FILE, bad));
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect(200, 2000);
}

/// Another AE can register a learned AE-ID later, so the credential has the role.
#[test]
fn role_of_learned_ae_id_belongs_to_credential() {
    let table = format!(
        "kpsa_id,kpsa,ae_id\n{},{},{OWNER}\n{},{},\n",
        LIGHT1.identity, LIGHT1.key, LIGHT2.identity, LIGHT2.key
    );
    let setup = Setup::new().file("psk-lookup-table.csv", &table).file("roles.toml", ROLES);
    let (gateway, _owner, mut guest) = start(setup);
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect_refusal(403, 4103);
    let of_credential = format!("{NOBODY}credentials = [\"12-{}\"]\n", LIGHT2.identity);
    gateway.in_force_after(|gateway| gateway.replace(FILE, of_credential));
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect(200, 2000);
}

#[test]
fn role_is_assigned_by_app_id() {
    let by_app_id = |app_id: &str| format!("{NOBODY}app-ids = [\"{app_id}\"]\n");
    let (gateway, _owner, mut guest) =
        start(Setup::new().file("roles.toml", &by_app_id("Nservice*")));
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect_refusal(403, 4103);
    gateway.in_force_after(|gateway| gateway.replace(FILE, by_app_id("Nli*ht")));
    ask(&mut guest, GUEST, claim(TECHNICIAN)).expect(200, 2000);
}

#[test]
fn roles_are_claimed_in_each_binding() {
    let setup = Setup::new().with_mqtt().with_coap().file("roles.toml", ROLES);
    let (gateway, _owner, guest) = start(setup);
    let without = json!({"op": 2, "to": "cse/light1/lamp", "fr": GUEST});
    let with = |roles: Value| {
        let mut request = without.clone();
        request["rids"] = roles;
        request
    };
    let mut socket = guest.websocket(&[("Sec-WebSocket-Protocol", "oneM2M.json")]).unwrap();
    socket.expect(without.clone(), 4103);
    socket.expect(with(json!([TENANT, TECHNICIAN])), 2000);
    socket.expect(with(json!([TENANT])), 4103);
    socket.expect(with(json!(TECHNICIAN)), 4000);
    socket.expect(with(json!(["technician"])), 4000);

    let topic = "/oneM2M/req/Clight-AE2/mn-cse-123456/json";
    let mut client = Mqtt::connect(gateway.mqtt_port(), LIGHT2, "A::Clight-AE2");
    assert_eq!(client.subscribe("/oneM2M/resp/Clight-AE2/#"), 1);
    client.expect(topic, without.clone(), 4103);
    client.expect(topic, with(json!([TECHNICIAN])), 2000);
    client.expect(topic, with(json!([TENANT])), 4103);

    let mut device = CoapLight::connect(gateway.coap_port(), LIGHT2).unwrap();
    let retrieve = || CoapMessage::retrieve("~/mn-cse-123456/cse/light1/lamp", GUEST);
    device.ask(&retrieve()).expect(0x83, 4103);
    let claim = |roles: &str| retrieve().option(15, format!("rids={roles}"));
    device.ask(&claim(TECHNICIAN)).expect(0x45, 2000);
    device.ask(&claim(&format!("{TENANT}+{TECHNICIAN}"))).expect(0x45, 2000);
    device.ask(&claim(TENANT)).expect(0x83, 4103);
}

/// A CSE behind the gateway believes what it receives.
#[test]
fn upstream_receives_assigned_roles_only() {
    let upstream = Upstream::start(Reply::answer(200, 2000, "{}"));
    let gateway = Setup::new().upstream(upstream.port()).file("roles.toml", ROLES).start();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    for (number, (query, arrives)) in [
        (format!("rids={TECHNICIAN}"), "?rids=technician%40in.provider.com"),
        (format!("rids={TENANT}"), ""),
        (format!("rids={TENANT}+{TECHNICIAN}&rids=x"), "?rids=technician%40in.provider.com"),
        (format!("Rids={TECHNICIAN}&%72ids={TENANT}"), ""),
        (format!("rcn=1&RIDS={TECHNICIAN}"), "?rcn=1"),
    ]
    .into_iter()
    .enumerate()
    {
        ask(&mut guest, GUEST, Request::retrieve(&format!("{LAMP}?{query}"))).expect(200, 2000);
        let arrived = upstream.wait(number + 1);
        let line = format!("GET /~/mn-cse-123456/cse/light1/lamp{arrives} HTTP/1.1");
        assert_eq!(arrived[number].line, line, "{query}");
    }
}

#[test]
fn claimed_roles_are_in_audit_trail() {
    let (gateway, _owner, mut guest) = start(Setup::new().file("roles.toml", ROLES));
    let request = claim(&format!("{TECHNICIAN}+{TENANT}")).from(GUEST);
    guest.ask(&request).unwrap().expect(200, 2000);
    let claimed = gateway.log().wait("request.roles-claimed");
    for (field, value) in [
        ("credential_id", format!("12-{}", LIGHT2.identity).as_str()),
        ("request_id", request.id()),
        ("operation", "retrieve"),
        ("to", "cse/light1/lamp"),
        ("from", GUEST),
        ("roles", TECHNICIAN),
        ("not_assigned", TENANT),
    ] {
        assert_eq!(claimed.text(field), value, "{field}");
    }
}
