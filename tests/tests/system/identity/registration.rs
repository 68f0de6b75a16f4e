//! Registration of credentials without an AE-ID in policy. The AE is assigned an AE-ID when it
//! registers, permanently and exclusively.

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Mark, Reply, Request, Setup, Tool, Upstream, eventually,
    saegis, seconds_from_now, with_each_client,
};

with_each_client!(
    registration_with_reserved_ae_id_is_refused,
    assigned_ae_id_persists,
    deleted_ae_releases_its_ae_id,
    ae_id_is_assigned_from_upstream_response,
    assigned_ae_id_is_lost_to_policy_row,
);

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const TABLE: &str = "policies/psk-lookup-table.csv";

/// Two credentials without an AE-ID in policy.
const NEW1: Credential<'static> =
    Credential { identity: "new-1@in.provider.com", key: "00112233445566778899aabbccddeeff" };
const NEW2: Credential<'static> =
    Credential { identity: "new-2@in.provider.com", key: "ffeeddccbbaa99887766554433221100" };

/// Returns a setup with the lights and two credentials without an AE-ID.
fn with_new_credentials() -> Setup {
    let mut rows = String::from("ae_id,kpsa,kpsa_id\n");
    for (name, of) in [(OWN, LIGHT1), (OTHER, LIGHT2), ("", NEW1), ("", NEW2)] {
        rows.push_str(&format!("{name},{},{}\n", of.key, of.identity));
    }
    Setup::new().file("psk-lookup-table.csv", &rows)
}

/// Neither the AE-ID of a registered light nor that of an unregistered one is available.
fn registration_with_reserved_ae_id_is_refused(tool: Tool) {
    let gateway = with_new_credentials().start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from(OWN)).expect(201, 2001);
    let mut new = tool.connect(gateway.port(), NEW1);
    for from in [OWN, "C", "Cnew"] {
        new.ask(&Request::retrieve("/cse/light1").from(from)).expect_refusal(403, 4106);
    }
    let taken = new.ask(&Request::create_ae("new").from(OWN));
    assert_eq!(taken.status(), 403, "{taken:?}");
    new.ask(&Request::retrieve("/cse/light1").from(OWN)).expect_refusal(403, 4106);
    // Light 2 has not registered yet, but the table reserves its AE-ID.
    let taken = new.ask(&Request::create_ae("new").from(OTHER));
    assert_eq!(taken.status(), 403, "{taken:?}");
    new.ask(&Request::retrieve("/cse/new").from(OTHER)).expect_refusal(403, 4106);
    let mut other = tool.connect(gateway.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from(OTHER)).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light1").from(OWN)).expect(200, 2000);
}

/// The assignment is stored. The credential has this AE-ID from then on, and no other.
fn assigned_ae_id_persists(tool: Tool) {
    let gateway = with_new_credentials().start();
    let mut new = tool.connect(gateway.port(), NEW1);
    let registered = new.ask(&Request::create_ae("new").from("C")).expect(201, 2001);
    let name = registered.json()["m2m:ae"]["aei"].as_str().unwrap().to_string();
    assert!(gateway.log().wait("association.ae-id-assigned").message().contains(&name));
    let bound = gateway.log().wait("ae-id.bound");
    assert_eq!(bound.text("ae_id"), name);
    assert_eq!(bound.text("credential_id"), format!("12-{}", NEW1.identity));
    let own = || Request::retrieve("/cse/new").from(&name);
    new.ask(&own()).expect(200, 2000);
    new.ask(&Request::retrieve("/cse/new").from(OWN)).expect_refusal(403, 4106);
    new.close();
    let assert_same_ae = |gateway: &Gateway| {
        let mut again = tool.connect(gateway.port(), NEW1);
        again.ask(&own()).expect(200, 2000);
        again.ask(&Request::retrieve("/cse/new").from(OWN)).expect_refusal(403, 4106);
        again.ask(&Request::create_ae("again").from(OWN)).expect_refusal(403, 4106);
        again.ask(&Request::create_ae("again").from("Cother")).expect_refusal(403, 4106);
        // The error response names the AE-ID that the credential already has.
        for from in ["C", "S"] {
            let refused = again.ask(&Request::create_ae("again").from(from));
            assert!(refused.debug().contains(&name), "{refused:?}");
            refused.expect_refusal(403, 4117);
        }
        let refused = again.ask(&Request::create_ae("again")).expect_refusal(403, 4117);
        assert!(refused.debug().contains(&name), "{refused:?}");
        // Other credentials cannot use it.
        let mut other = tool.connect(gateway.port(), NEW2);
        other.ask(&own()).expect_refusal(403, 4106);
        other.ask(&Request::create_ae("other").from(&name)).expect_refusal(403, 4117);
    };
    assert_same_ae(&gateway);
    let gateway = gateway.restart();
    assert_same_ae(&gateway);
    let gateway = gateway.kill_and_restart();
    assert_same_ae(&gateway);
}

/// The AE-ID that one association registers applies to all associations of the credential.
#[test]
fn assigned_ae_id_applies_to_all_associations() {
    let gateway = with_new_credentials().start();
    let mut first = Tool::OpenSsl.connect(gateway.port(), NEW1);
    let mut second = Tool::OpenSsl.connect(gateway.port(), NEW1);
    first.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
    for light in [&mut first, &mut second] {
        light.ask(&Request::retrieve("/cse/new").from("Cnew")).expect(200, 2000);
    }
    second.ask(&Request::create_ae("other").from("Cother")).expect_refusal(403, 4106);
}

/// A deleted AE releases its AE-ID, for itself and for others.
fn deleted_ae_releases_its_ae_id(tool: Tool) {
    let gateway = with_new_credentials().start();
    let mut new = tool.connect(gateway.port(), NEW1);
    for address in ["/cse/new", "/Cnew"] {
        new.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
        let mark = gateway.log().mark();
        new.ask(&Request::delete(address).from("Cnew")).expect(200, 2002);
        let freed = gateway.log().wait_after(mark, "ae-id.released");
        assert_eq!(
            (freed.text("ae_id"), freed.text("why")),
            ("Cnew".into(), "its AE was deleted".into())
        );
    }
    let mut other = tool.connect(gateway.port(), NEW2);
    other.ask(&Request::create_ae("other").from("Cnew")).expect(201, 2001);
    // The first credential has no AE-ID any more.
    new.ask(&Request::create_ae("new").from("Cnew")).expect_refusal(403, 4117);
    new.ask(&Request::retrieve("/cse/other").from("Cnew")).expect_refusal(403, 4106);
    new.ended();
    let mut new = tool.connect(gateway.port(), NEW1);
    new.ask(&Request::create_ae("new").from("Cnew")).expect_refusal(403, 4117);
    new.ask(&Request::create_ae("new").from("Canew")).expect(201, 2001);
}

/// A delete by another AE does not release an AE-ID. The resource counts, not its address or the
/// spelling of the address.
#[test]
fn delete_by_other_ae_does_not_release_ae_id() {
    let gateway = with_new_credentials().start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    let short = serde_json::json!({ "m2m:ae": { "rn": "new", "api": "Nlight", "rr": false,
        "et": seconds_from_now(2) } });
    new.ask(&Request::create("/cse", 2, &short).from("Cnew")).expect(201, 2001);
    new.close();
    let mut other = Tool::OpenSsl.connect(gateway.port(), NEW2);
    // The registration has expired, so its resource name is free. The AE-ID remains bound.
    eventually(|| {
        let again = other.ask(&Request::create_ae("new").from("Cother"));
        if again.rsc() == Some(2001) { Ok(()) } else { Err(again) }
    });
    other.ask(&Request::delete("/-/new").from("Cother")).expect(200, 2002);
    other.ask(&Request::create_ae("again").from("Cother")).expect(201, 2001);
    other.ask(&Request::create_container("/cse/again", "new").from("Cother")).expect(201, 2001);
    other.ask(&Request::delete("/cse/again/new").from("Cother")).expect(200, 2002);
    let shown = saegis(&gateway.path(""), &["--json", "ae-ids"]).expect(0).json();
    assert_eq!(shown["ae_ids"].as_array().unwrap().len(), 2, "{shown}");
    let mut third = Tool::OpenSsl.connect(gateway.port(), NEW1);
    third.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
    third.ask(&Request::delete("/-/new").from("Cnew")).expect(200, 2002);
    gateway.log().wait_for(Mark::START, "ae-id.released", |e| e.text("ae_id") == "Cnew");
}

/// If the connection breaks during a registration, the device keeps the registered AE-ID.
#[test]
fn registration_completes_without_its_connection() {
    let upstream = Upstream::start(Reply::Pending);
    let gateway = with_new_credentials().upstream(upstream.port()).start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    new.send(&Request::create_ae("new").from("Cnew").bytes());
    upstream.wait(1);
    drop(new);
    gateway.log().wait("association.ended");
    upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cnew\"}}"));
    gateway.log().wait("ae-id.bound");
    upstream.reply_with(Reply::answer(200, 2000, "{}"));
    let mut again = Tool::OpenSsl.connect(gateway.port(), NEW1);
    again.ask(&Request::retrieve("/cse/new").from("Cnew")).expect(200, 2000);
}

#[test]
fn operator_lists_and_releases_ae_ids() {
    let gateway = with_new_credentials().start();
    let folder = gateway.path("");
    assert!(saegis(&folder, &["ae-ids"]).expect(0).out.starts_with("CREDENTIAL_ID"));
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    new.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
    let shown = saegis(&folder, &["--json", "ae-ids"]).expect(0).json();
    let credential = format!("12-{}", NEW1.identity);
    assert_eq!(shown["ae_ids"][0]["credential_id"], credential.as_str());
    assert_eq!(shown["ae_ids"][0]["ae_id"], "Cnew");
    let text = saegis(&folder, &["ae-ids"]).expect(0).out;
    assert!(text.contains(&credential) && text.contains("Cnew"), "{text}");
    saegis(&folder, &["release-ae-id", &credential]).expect(0);
    new.ended();
    let revoked = gateway.log().wait("association.revoked");
    assert_eq!(revoked.text("why"), "the gateway's owner asked for it");
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    new.ask(&Request::retrieve("/cse/new").from("Cnew")).expect_refusal(403, 4106);
    // The registration still exists, so its AE-ID is not free.
    new.ask(&Request::create_ae("again").from("Cnew")).expect_refusal(403, 4117);
    new.ask(&Request::create_ae("again").from("C")).expect(201, 2001);
    saegis(&folder, &["release-ae-id", "12-nobody@in.provider.com"]).expect(4);
    saegis(&folder, &["release-ae-id", "nobody"]).expect(4);
}

/// Some conformance test suites expect another code.
#[test]
fn taken_ae_id_is_answered_with_configured_code() {
    let gateway = with_new_credentials().with("cse", "ae-id-taken-rsc = 4105").start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    new.ask(&Request::create_ae("new").from(OTHER)).expect_refusal(409, 4105);
    new.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
    new.ask(&Request::create_ae("again").from("C")).expect_refusal(409, 4105);
    let setup = Setup::new().with("cse", "ae-id-taken-rsc = 4103");
    let ran = setup.run_until_exit();
    assert!(ran.code == 2 && ran.err.contains("must be 4117 or 4105"), "{ran:?}");
}

fn ae_id_is_assigned_from_upstream_response(tool: Tool) {
    let upstream = Upstream::start(Reply::answer(403, 4105, "{\"m2m:dbg\":\"taken\"}"));
    let gateway = with_new_credentials().upstream(upstream.port()).start();
    let mut first = tool.connect(gateway.port(), NEW1);
    let ask = |from: &str| Request::retrieve("/cse/x").from(from);
    // The credential has no AE-ID before it registers, nor after a refused registration.
    for from in ["Cnew", "C", OWN] {
        first.ask(&ask(from)).expect_refusal(403, 4106);
    }
    first.ask(&Request::create_ae("new").from("C")).expect_refusal(409, 4105);
    first.ask(&ask("Cnew")).expect_refusal(403, 4106);
    assert_eq!(upstream.requests().len(), 1);

    upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cassigned\"}}"));
    first.ask(&Request::create_ae("new").from("C")).expect(201, 2001);
    assert!(gateway.log().wait("association.ae-id-assigned").message().contains("Cassigned"));
    upstream.reply_with(Reply::answer(200, 2000, "{}"));
    first.ask(&ask("Cassigned")).expect(200, 2000);
    for from in ["C", "Cnew", OWN] {
        first.ask(&ask(from)).expect_refusal(403, 4106);
    }
    for from in ["Cnew", OWN] {
        first.ask(&Request::create_ae("new").from(from)).expect_refusal(403, 4106);
    }
    let refused = first.ask(&Request::create_ae("new").from("C")).expect_refusal(403, 4117);
    assert!(refused.debug().contains("Cassigned"), "{refused:?}");
    first.ask(&ask("Cassigned")).expect(200, 2000);

    // Another association cannot obtain the AE-ID, even if the CSE behind the gateway allows it.
    let mut second = tool.connect(gateway.port(), NEW2);
    upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cassigned\"}}"));
    let before = upstream.requests().len();
    second.ask(&Request::create_ae("new").from("Cassigned")).expect_refusal(403, 4117);
    assert_eq!(upstream.requests().len(), before);
    second.ask(&Request::create_ae("new").from("C"));
    gateway.log().wait("association.ae-id-not-assigned");
    second.ask(&ask("Cassigned")).expect_refusal(403, 4106);
    // A response with an AE-ID other than the requested one does not assign it.
    second.ask(&Request::create_ae("new").from("Cown")).expect(201, 2001);
    second.ask(&ask("Cown")).expect_refusal(403, 4106);
    // A response with the requested AE-ID assigns it.
    upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cown\"}}"));
    second.ask(&Request::create_ae("new").from("Cown")).expect(201, 2001);
    upstream.reply_with(Reply::answer(200, 2000, "{}"));
    second.ask(&ask("Cown")).expect(200, 2000);
    second.ask(&ask("Cassigned")).expect_refusal(403, 4106);
    first.ask(&ask("Cassigned")).expect(200, 2000);
}

/// The AE-ID in a table row takes precedence over an assigned one.
fn assigned_ae_id_is_lost_to_policy_row(tool: Tool) {
    let gateway = with_new_credentials().start();
    let mut new = tool.connect(gateway.port(), NEW1);
    new.ask(&Request::create_ae("new").from("Cthird")).expect(201, 2001);
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from(OWN)).expect(201, 2001);
    let third = Credential { identity: "third@in.provider.com", key: "0011223344556677" };
    let table = format!("{}Cthird,{},{}\n", gateway.table(), third.key, third.identity);
    gateway.in_force_after(|g| g.replace(TABLE, table));
    let revoked = gateway.log().wait("association.revoked");
    assert_eq!(revoked.text("credential_id"), format!("12-{}", NEW1.identity));
    new.ended();
    let mut new = tool.connect(gateway.port(), NEW1);
    new.ask(&Request::retrieve("/cse/new").from("Cthird")).expect_refusal(403, 4106);
    let taken = new.ask(&Request::create_ae("again").from("Cthird"));
    assert_eq!(taken.status(), 403, "{taken:?}");
    light.ask(&Request::retrieve("/cse/light1").from(OWN)).expect(200, 2000);
    assert_eq!(gateway.log().all(Mark::START, "association.revoked", 1).len(), 1);
}

/// An AE-ID in policy replaces the assigned AE-ID of the credential.
#[test]
fn policy_ae_id_replaces_assigned_one() {
    let gateway = with_new_credentials().start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    new.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
    let table =
        gateway.table().replace(&format!("\n,{}", NEW1.key), &format!("\nCnamed,{}", NEW1.key));
    gateway.in_force_after(|g| g.replace(TABLE, table));
    new.ended();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    new.ask(&Request::create_ae("named").from("Cnamed")).expect(201, 2001);
    new.ask(&Request::retrieve("/cse/new").from("Cnew")).expect_refusal(403, 4106);
    let freed = gateway.log().wait("ae-id.released");
    assert_eq!(freed.text("ae_id"), "Cnew");
    assert!(saegis(&gateway.path(""), &["--json", "ae-ids"]).expect(0).out.contains("[]"));
}

/// The reservation starts before the CSE has responded.
#[test]
fn concurrent_registration_of_ae_id_is_refused() {
    let upstream = Upstream::start(Reply::Pending);
    let gateway = with_new_credentials().upstream(upstream.port()).start();
    let mut first = Tool::OpenSsl.connect(gateway.port(), NEW1);
    let mut second = Tool::GnuTls.connect(gateway.port(), NEW2);
    first.send(&Request::create_ae("first").from("Cone").bytes());
    upstream.wait(1);
    second.ask(&Request::create_ae("second").from("Cone")).expect_refusal(403, 4117);
    upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cone\"}}"));
    first.read().expect(201, 2001);
    upstream.reply_with(Reply::answer(200, 2000, "{}"));
    let as_one = || Request::retrieve("/cse/x").from("Cone");
    first.ask(&as_one()).expect(200, 2000);
    second.ask(&as_one()).expect_refusal(403, 4106);
    // The AE-ID stays bound after the association has ended.
    first.close();
    gateway.log().wait("association.ended");
    let before = upstream.requests().len();
    second.ask(&Request::create_ae("second").from("Cone")).expect_refusal(403, 4117);
    assert_eq!(upstream.requests().len(), before);
}

/// The gateway refuses content above the limit, and the association continues.
#[test]
fn oversized_registration_is_refused() {
    let gateway = with_new_credentials().start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    let label = "x".repeat(1 << 20);
    let content = serde_json::json!({
        "m2m:ae": { "rn": "new", "api": "Nlight", "rr": false, "lbl": [label] }
    });
    new.ask(&Request::create("/cse", 2, &content).from("Cnew")).expect_refusal(400, 4000);
    new.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
}

/// Registers an AE with an assigned AE-ID for each row. Each registration succeeds, and each AE has
/// the same AE-ID after a restart.
fn register_many(count: usize) {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let row = |n: usize| format!(",1a{n:030x},storm{n}@in.provider.com\n");
    let table: String = (0..count).map(row).collect();
    let gateway =
        Setup::new().file("psk-lookup-table.csv", &format!("ae_id,kpsa,kpsa_id\n{table}")).start();
    let (next, given) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let for_each_device = |port: u16, work: &(dyn Fn(usize, &mut saegis_tests::Light) + Sync)| {
        next.store(0, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= count {
                            break;
                        }
                        let (key, identity) =
                            (format!("1a{n:030x}"), format!("storm{n}@in.provider.com"));
                        let credential = Credential { identity: &identity, key: &key };
                        let mut light = saegis_tests::Light::connect(port, credential).unwrap();
                        work(n, &mut light);
                        light.close();
                    }
                });
            }
        });
    };
    for_each_device(gateway.port(), &|n, light| {
        let request = Request::create_ae(&format!("storm{n}")).from("C");
        let registered = light.ask(&request).unwrap().expect(201, 2001).json();
        let stem = registered["m2m:ae"]["aei"].as_str().unwrap().to_string();
        given.lock().unwrap().push((n, stem));
    });
    let given: std::collections::BTreeMap<_, _> = given.into_inner().unwrap().into_iter().collect();
    assert_eq!(given.len(), count);
    assert_eq!(given.values().collect::<std::collections::BTreeSet<_>>().len(), count);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes < 512 << 10, "{kibibytes} KiB");
    let gateway = gateway.restart();
    for_each_device(gateway.port(), &|n, light| {
        let own = Request::retrieve(&format!("/cse/storm{n}")).from(&given[&n]);
        light.ask(&own).unwrap().expect(200, 2000);
    });
}

#[test]
fn thousand_registrations_succeed() {
    register_many(1000);
}

#[test]
#[ignore = "takes minutes with a gateway for development; cargo xtask load runs it"]
fn load_of_ten_thousand_registrations() {
    register_many(10_000);
}

/// The audit log names a returning AE by its assigned AE-ID.
#[test]
fn assigned_ae_id_is_in_audit_log() {
    let gateway = with_new_credentials().start();
    let established =
        |mark: Mark| gateway.log().wait_after(mark, "association.established").text("entity");
    let mark = gateway.log().mark();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    assert_eq!(established(mark), "an AE not yet known");
    new.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
    new.close();
    gateway.log().wait("association.ended");
    let mark = gateway.log().mark();
    let _new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    assert_eq!(established(mark), "AE Cnew");
    let gateway = gateway.restart();
    let _new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    assert_eq!(gateway.log().wait("association.established").text("entity"), "AE Cnew");
}
