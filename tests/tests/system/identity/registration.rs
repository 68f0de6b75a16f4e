//! Who may register as whom, where policy does not say whom a credential stands for: its AE gets
//! an AE-ID when it registers, nobody else's, and for good.

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Mark, Reply, Request, Setup, Tool, Upstream, eventually,
    saegis, seconds_from_now, with_each_client,
};

with_each_client!(
    an_ae_without_a_name_takes_nobodys,
    an_ae_that_comes_back_is_who_it_was,
    a_deleted_ae_gives_its_name_back,
    an_ae_id_is_learnt_from_the_answer,
    a_name_that_policy_gives_away_is_lost,
);

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const TABLE: &str = "policies/psk-lookup-table.csv";

/// Two credentials of which policy does not know whom they stand for.
const NEW1: Credential<'static> =
    Credential { identity: "new-1@in.provider.com", key: "00112233445566778899aabbccddeeff" };
const NEW2: Credential<'static> =
    Credential { identity: "new-2@in.provider.com", key: "ffeeddccbbaa99887766554433221100" };

/// The lights, and two credentials without an AE-ID.
fn with_new_credentials() -> Setup {
    let mut rows = String::from("ae_id,kpsa,kpsa_id\n");
    for (name, of) in [(OWN, LIGHT1), (OTHER, LIGHT2), ("", NEW1), ("", NEW2)] {
        rows.push_str(&format!("{name},{},{}\n", of.key, of.identity));
    }
    Setup::new().file("psk-lookup-table.csv", &rows)
}

/// Neither the name of a light that is there nor that of one that has yet to come.
fn an_ae_without_a_name_takes_nobodys(tool: Tool) {
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
    // Light 2 has not registered yet, but its name is its own by its row in the table.
    let taken = new.ask(&Request::create_ae("new").from(OTHER));
    assert_eq!(taken.status(), 403, "{taken:?}");
    new.ask(&Request::retrieve("/cse/new").from(OTHER)).expect_refusal(403, 4106);
    let mut other = tool.connect(gateway.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from(OTHER)).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light1").from(OWN)).expect(200, 2000);
}

/// What was learnt is kept on disk: the credential is that AE from then on, and no other.
fn an_ae_that_comes_back_is_who_it_was(tool: Tool) {
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
    let is_itself = |gateway: &Gateway| {
        let mut again = tool.connect(gateway.port(), NEW1);
        again.ask(&own()).expect(200, 2000);
        again.ask(&Request::retrieve("/cse/new").from(OWN)).expect_refusal(403, 4106);
        again.ask(&Request::create_ae("again").from(OWN)).expect_refusal(403, 4106);
        again.ask(&Request::create_ae("again").from("Cother")).expect_refusal(403, 4106);
        // Whoever has forgotten its AE-ID is told which it has.
        for from in ["C", "S"] {
            let told = again.ask(&Request::create_ae("again").from(from));
            assert!(told.debug().contains(&name), "{told:?}");
            told.expect_refusal(403, 4117);
        }
        let told = again.ask(&Request::create_ae("again")).expect_refusal(403, 4117);
        assert!(told.debug().contains(&name), "{told:?}");
        // Nobody else is it.
        let mut other = tool.connect(gateway.port(), NEW2);
        other.ask(&own()).expect_refusal(403, 4106);
        other.ask(&Request::create_ae("other").from(&name)).expect_refusal(403, 4117);
    };
    is_itself(&gateway);
    let gateway = gateway.stop_and_start();
    is_itself(&gateway);
    let gateway = gateway.cut_and_start();
    is_itself(&gateway);
}

/// Both connections of one credential are the AE that one of them has registered.
#[test]
fn a_credential_is_one_ae_on_all_its_associations() {
    let gateway = with_new_credentials().start();
    let mut first = Tool::OpenSsl.connect(gateway.port(), NEW1);
    let mut second = Tool::OpenSsl.connect(gateway.port(), NEW1);
    first.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
    for light in [&mut first, &mut second] {
        light.ask(&Request::retrieve("/cse/new").from("Cnew")).expect(200, 2000);
    }
    second.ask(&Request::create_ae("other").from("Cother")).expect_refusal(403, 4106);
}

/// An AE that deletes itself is nobody again: it, or somebody else, can have the AE-ID.
fn a_deleted_ae_gives_its_name_back(tool: Tool) {
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
    // The first is nobody now, whatever it was.
    new.ask(&Request::create_ae("new").from("Cnew")).expect_refusal(403, 4117);
    new.ask(&Request::retrieve("/cse/other").from("Cnew")).expect_refusal(403, 4106);
    new.ended();
    let mut new = tool.connect(gateway.port(), NEW1);
    new.ask(&Request::create_ae("new").from("Cnew")).expect_refusal(403, 4117);
    new.ask(&Request::create_ae("new").from("Canew")).expect(201, 2001);
}

/// What somebody else deletes frees nothing, wherever it is: an address that an AE once had may be
/// another's, and in each spelling it is the resource that counts.
#[test]
fn nobody_frees_what_is_anothers() {
    let gateway = with_new_credentials().start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    let short = serde_json::json!({ "m2m:ae": { "rn": "new", "api": "Nlight", "rr": false,
        "et": seconds_from_now(2) } });
    new.ask(&Request::create("/cse", 2, &short).from("Cnew")).expect(201, 2001);
    new.close();
    let mut other = Tool::OpenSsl.connect(gateway.port(), NEW2);
    // Its registration has gone by itself, and its name is to be had; the AE-ID is its own still.
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

/// A connection that breaks in the middle of a registration leaves its device where it would be
/// otherwise: it is who it registered as.
#[test]
fn a_registration_outlives_its_connection() {
    let upstream = Upstream::start(Reply::Held);
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
fn the_owner_sees_and_frees_what_was_bound() {
    let gateway = with_new_credentials().start();
    let folder = gateway.path("");
    assert!(saegis(&folder, &["ae-ids"]).expect(0).out.starts_with("CREDENTIAL-ID"));
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
    // The registration stands still, so its name is not to be had.
    new.ask(&Request::create_ae("again").from("Cnew")).expect_refusal(403, 4117);
    new.ask(&Request::create_ae("again").from("C")).expect(201, 2001);
    saegis(&folder, &["release-ae-id", "12-nobody@in.provider.com"]).expect(4);
    saegis(&folder, &["release-ae-id", "nobody"]).expect(4);
}

/// Some clients' test suites want another code.
#[test]
fn what_is_taken_is_answered_as_configured() {
    let gateway = with_new_credentials().with("registrar", "ae-id-taken-rsc = 4105").start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    new.ask(&Request::create_ae("new").from(OTHER)).expect_refusal(409, 4105);
    new.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
    new.ask(&Request::create_ae("again").from("C")).expect_refusal(409, 4105);
    let setup = Setup::new().with("registrar", "ae-id-taken-rsc = 4103");
    let ran = setup.run_to_its_end();
    assert!(ran.code == 2 && ran.err.contains("must be 4117 or 4105"), "{ran:?}");
}

fn an_ae_id_is_learnt_from_the_answer(tool: Tool) {
    let upstream = Upstream::start(Reply::answer(403, 4105, "{\"m2m:dbg\":\"taken\"}"));
    let gateway = with_new_credentials().upstream(upstream.port()).start();
    let mut first = tool.connect(gateway.port(), NEW1);
    let ask = |from: &str| Request::retrieve("/cse/x").from(from);
    // Before it registers it is nobody, and a refused registration makes it nobody else.
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
    let told = first.ask(&Request::create_ae("new").from("C")).expect_refusal(403, 4117);
    assert!(told.debug().contains("Cassigned"), "{told:?}");
    first.ask(&ask("Cassigned")).expect(200, 2000);

    // Another association can't take the name, even where the CSE behind would let it.
    let mut second = tool.connect(gateway.port(), NEW2);
    upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cassigned\"}}"));
    let before = upstream.requests().len();
    second.ask(&Request::create_ae("new").from("Cassigned")).expect_refusal(403, 4117);
    assert_eq!(upstream.requests().len(), before);
    second.ask(&Request::create_ae("new").from("C"));
    gateway.log().wait("association.ae-id-not-assigned");
    second.ask(&ask("Cassigned")).expect_refusal(403, 4106);
    // An answer that gives another name than the one asked for gives none.
    second.ask(&Request::create_ae("new").from("Cown")).expect(201, 2001);
    second.ask(&ask("Cown")).expect_refusal(403, 4106);
    // One that asks for its own name gets it.
    upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cown\"}}"));
    second.ask(&Request::create_ae("new").from("Cown")).expect(201, 2001);
    upstream.reply_with(Reply::answer(200, 2000, "{}"));
    second.ask(&ask("Cown")).expect(200, 2000);
    second.ask(&ask("Cassigned")).expect_refusal(403, 4106);
    first.ask(&ask("Cassigned")).expect(200, 2000);
}

/// What a row of the table names goes before what somebody has taken.
fn a_name_that_policy_gives_away_is_lost(tool: Tool) {
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

/// A credential that had got an AE-ID is who policy says, once it says.
#[test]
fn what_policy_names_goes_before_what_was_got() {
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

/// Also while the registrar has not answered yet.
#[test]
fn two_do_not_register_one_name_at_once() {
    let upstream = Upstream::start(Reply::Held);
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
    // When the first has gone, the name is its own still.
    first.close();
    gateway.log().wait("association.ended");
    let before = upstream.requests().len();
    second.ask(&Request::create_ae("second").from("Cone")).expect_refusal(403, 4117);
    assert_eq!(upstream.requests().len(), before);
}

/// Content beyond the bound is refused, and the association lives on.
#[test]
fn a_registration_of_a_mebibyte_is_refused() {
    let gateway = with_new_credentials().start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    let label = "x".repeat(1 << 20);
    let content = serde_json::json!({
        "m2m:ae": { "rn": "new", "api": "Nlight", "rr": false, "lbl": [label] }
    });
    new.ask(&Request::create("/cse", 2, &content).from("Cnew")).expect_refusal(400, 4000);
    new.ask(&Request::create_ae("new").from("Cnew")).expect(201, 2001);
}

/// As many AEs register as there are rows, each with an AE-ID that it is given: all are answered,
/// none is lost, and each is who it was told to be after a restart.
fn a_storm_of(count: usize) {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let row = |n: usize| format!(",1a{n:030x},storm{n}@in.provider.com\n");
    let table: String = (0..count).map(row).collect();
    let gateway =
        Setup::new().file("psk-lookup-table.csv", &format!("ae_id,kpsa,kpsa_id\n{table}")).start();
    let (next, given) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let each = |port: u16, work: &(dyn Fn(usize, &mut saegis_tests::Light) + Sync)| {
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
    each(gateway.port(), &|n, light| {
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
    let gateway = gateway.stop_and_start();
    each(gateway.port(), &|n, light| {
        let own = Request::retrieve(&format!("/cse/storm{n}")).from(&given[&n]);
        light.ask(&own).unwrap().expect(200, 2000);
    });
}

#[test]
fn a_storm_of_registrations_loses_none() {
    a_storm_of(1000);
}

#[test]
#[ignore = "takes minutes with a gateway for development; cargo xtask load runs it"]
fn load_of_ten_thousand_registrations() {
    a_storm_of(10_000);
}

/// The trail names an AE that comes back by the AE-ID that it has got.
#[test]
fn an_ae_that_comes_back_is_named_in_the_trail() {
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
    let gateway = gateway.stop_and_start();
    let _new = Tool::OpenSsl.connect(gateway.port(), NEW1);
    assert_eq!(gateway.log().wait("association.established").text("entity"), "AE Cnew");
}
