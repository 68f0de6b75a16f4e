//! Groups as originators of access control rules.

use serde_json::{Value, json};

use super::names::{HUB, STATE, WAYS, hub, leave, register};
use super::policies::{govern, policy, rule};
use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, settings};

const GROUP: &str = "cse/light1/guests";

/// Lets light 1 retrieve an AE, so that it can be a member of its group.
fn open_ae(bench: &Bench, stem: &str, name: &str) {
    let path = format!("/cse/{name}");
    let rules = json!({"acr": [{"acor": [stem], "acop": 63}, {"acor": [LIGHT1], "acop": 2}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules, "pvs": rule(&[stem], 63)}});
    assert_eq!(bench.create(Some(stem), &path, 1, acp).code, 2001);
    let open = json!({"m2m:ae": {"acpi": [format!("cse/{name}/acp")]}});
    assert_eq!(bench.update(stem, &path, open).code, 2004);
}

fn group(bench: &Bench, members: &[&str]) -> Reply {
    let grp = json!({"m2m:grp": {"rn": "guests", "mnm": 8, "mid": members}});
    bench.create(Some(LIGHT1), "/cse/light1", 9, grp)
}

fn members(bench: &Bench, members: &[&str]) {
    let change = json!({"m2m:grp": {"mid": members}});
    let reply = bench.update(LIGHT1, "/cse/light1/guests", change);
    assert_eq!(reply.code, 2004, "{}", reply.why());
}

/// Returns a CSE on which the members of a group, light 2, may retrieve the state of light 1.
fn bench(settings: Settings, entry: &str) -> Bench {
    let bench = Bench::lights(settings);
    open_ae(&bench, LIGHT2, "light2");
    let reply = group(&bench, &["cse/light2"]);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let reply = policy(&bench, "open", rule(&[entry], 2));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    bench
}

fn retrieve(bench: &Bench, who: &str) -> u16 {
    bench.retrieve(who, STATE).code
}

#[test]
fn members_of_group_have_its_privileges() {
    for entry in [GROUP, "-/light1/guests", "/mn-cse-123456/cse/light1/guests"] {
        let bench = bench(settings(), entry);
        let shown = bench.retrieve(LIGHT1, "/cse/light1/open");
        assert_eq!(shown.attributes()["pv"]["acr"][0]["acor"][0], entry);
        assert_eq!(retrieve(&bench, LIGHT2), 2000, "{entry}");
        assert_eq!(bench.instance(LIGHT2, STATE, json!({"con": 1})).code, 4103);
        for other in [LIGHT1, "/in-cse", "Cnobody", "/mn-cse-123456/Clight-AE2"] {
            assert_eq!(retrieve(&bench, other), 4103, "{entry} {other}");
        }
        let bench = bench.reopen();
        assert_eq!(retrieve(&bench, LIGHT2), 2000);
        // A change of the group is effective at once.
        members(&bench, &[]);
        assert_eq!(retrieve(&bench, LIGHT2), 4103);
        members(&bench, &["Clight-AE2"]);
        assert_eq!(retrieve(&bench, LIGHT2), 2000);
        bench.cse().store().assert_consistent();
    }
}

#[test]
fn group_by_its_resource_id() {
    let bench = bench(settings(), GROUP);
    let ri = bench.retrieve(LIGHT1, "/cse/light1/guests").attributes()["ri"].clone();
    for entry in
        [ri.as_str().unwrap().to_owned(), format!("/mn-cse-123456/{}", ri.as_str().unwrap())]
    {
        let change = json!({"m2m:acp": {"pv": rule(&["Cother", &entry], 2)}});
        assert_eq!(bench.update(LIGHT1, "/cse/light1/open", change).code, 2004, "{entry}");
        assert_eq!(retrieve(&bench, LIGHT2), 2000, "{entry}");
    }
}

#[test]
fn deleted_group_grants_nothing() {
    let bench = bench(settings(), GROUP);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/guests").code, 2002);
    assert_eq!(retrieve(&bench, LIGHT2), 4103);
    // Nor does another group or resource with its name.
    assert_eq!(group(&bench, &["cse/light2"]).code, 2001);
    assert_eq!(retrieve(&bench, LIGHT2), 4103);
    let again = json!({"m2m:acp": {"pv": rule(&[GROUP], 2)}});
    let reply = bench.update(LIGHT1, "/cse/light1/open", again.clone());
    assert_eq!((reply.code, reply.why().contains("remove it")), (4000, true), "{}", reply.why());
    // An update of other attributes retains the meaning.
    let label = json!({"m2m:acp": {"lbl": ["x"]}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/open", label).code, 2004);
    assert_eq!(retrieve(&bench, LIGHT2), 4103);
    let none = json!({"m2m:acp": {"pv": rule(&[LIGHT1], 2)}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/open", none).code, 2004);
    assert_eq!(bench.update(LIGHT1, "/cse/light1/open", again).code, 2004);
    assert_eq!(retrieve(&bench, LIGHT2), 2000);
}

#[test]
fn expired_group_grants_nothing() {
    let mut bench = bench(settings(), GROUP);
    let soon = json!({"m2m:grp": {"et": crate::record::timestamp(bench.now() + 5)}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/guests", soon).code, 2004);
    assert_eq!(retrieve(&bench, LIGHT2), 2000);
    bench.pass(10);
    assert_eq!(retrieve(&bench, LIGHT2), 4103);
}

#[test]
fn reused_name_of_member_inherits_nothing() {
    for how in WAYS {
        for member in ["cse/hub", HUB] {
            let mut bench = bench(settings(), GROUP);
            hub(&bench, "one");
            open_ae(&bench, HUB, "hub");
            members(&bench, &[member]);
            assert_eq!(retrieve(&bench, HUB), 2000);
            leave(&mut bench, how);
            assert_eq!(retrieve(&bench, HUB), 4103);
            hub(&bench, "two");
            assert_eq!(retrieve(&bench, HUB), 4103, "{how} {member}");
            // Another AE at the structured address of the former one.
            assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
            assert_eq!(register(&bench, "Cevil", "hub", "three").code, 2001);
            assert_eq!(retrieve(&bench, "Cevil"), 4103, "{how} {member}");
            assert_eq!(bench.delete("Cevil", "/cse/hub").code, 2002);
            // The same credential is the same AE.
            hub(&bench, "one");
            assert_eq!(retrieve(&bench, HUB), 2000, "{how} {member}");
        }
    }
}

/// The text of a member at another CSE does not name a registrant.
#[test]
fn member_elsewhere_is_no_ae_that_registers_here() {
    let bench = bench(settings(), GROUP);
    for member in ["/Slamp", "//in.provider.com/Slamp"] {
        members(&bench, &[member]);
        assert_eq!(register(&bench, "Slamp", "lamp", "one").code, 2001, "{member}");
        assert_eq!(retrieve(&bench, "Slamp"), 4103, "{member}");
        assert_eq!(bench.delete("Slamp", "/cse/lamp").code, 2002);
    }
}

#[test]
fn group_must_be_visible() {
    let bench = Bench::with_lights();
    open_ae(&bench, LIGHT2, "light2");
    assert_eq!(group(&bench, &["cse/light2"]).code, 2001);
    let acp =
        |entry: &str| json!({"m2m:acp": {"pv": rule(&[entry], 2), "pvs": rule(&[LIGHT2], 63)}});
    // A group of another AE, and one that does not exist, are refused alike.
    let hidden = bench.create(Some(LIGHT2), "/cse/light2", 1, acp(GROUP));
    let none = bench.create(Some(LIGHT2), "/cse/light2", 1, acp("cse/light1/nobody"));
    assert_eq!((hidden.code, none.code), (4000, 4000));
    assert_eq!(hidden.why().replace(GROUP, ""), none.why().replace("cse/light1/nobody", ""));
    for wrong in ["cse/light1/state", "cse/light1/guests/fopt", "/in-cse/grp", "light"] {
        let reply = policy(&bench, "new", rule(&[wrong], 2));
        assert_eq!(reply.code, 4000, "{wrong}: {}", reply.why());
    }
    let many = vec![GROUP; 17];
    assert_eq!(policy(&bench, "new", rule(&many, 2)).code, 4000);
    assert_eq!(policy(&bench, "new", rule(&many[1..], 2)).code, 2001);
}

#[test]
fn group_in_group_is_not_followed() {
    let bench = bench(settings(), GROUP);
    let inner = json!({"m2m:grp": {"rn": "inner", "mnm": 8, "mid": ["cse/light2"]}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 9, inner).code, 2001);
    members(&bench, &["cse/light1/inner"]);
    assert_eq!(retrieve(&bench, LIGHT2), 4103);
    // Neither is a resource of an AE the AE itself.
    let rules = json!({"acr": [{"acor": [LIGHT2], "acop": 63}, {"acor": [LIGHT1], "acop": 2}]});
    let acp = json!({"m2m:acp": {"rn": "more", "pv": rules, "pvs": rule(&[LIGHT2], 63)}});
    assert_eq!(bench.create(Some(LIGHT2), "/cse/light2", 1, acp).code, 2001);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light2/state").code, 2000);
    members(&bench, &["cse/light2/state"]);
    assert_eq!(retrieve(&bench, LIGHT2), 4103);
}

#[test]
fn cses_and_remote_aes_are_members() {
    let bench = bench(settings(), GROUP);
    let csr = |cse: &str| -> Value {
        json!({"m2m:csr": {"rn": "asn", "cb": format!("{cse}/cse"), "csi": cse, "rr": true}})
    };
    assert_eq!(bench.create(Some("/asn-1"), "/cse", 16, csr("/asn-1")).code, 2001);
    let rules = json!({"acr": [{"acor": ["/asn-1"], "acop": 63}, {"acor": [LIGHT1], "acop": 2}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules, "pvs": rule(&["/asn-1"], 63)}});
    assert_eq!(bench.create(Some("/asn-1"), "/cse/asn", 1, acp).code, 2001);
    let open = json!({"m2m:csr": {"acpi": ["cse/asn/acp"]}});
    assert_eq!(bench.update("/asn-1", "/cse/asn", open).code, 2004);
    members(&bench, &["cse/asn", "/in-cse/Capp"]);
    for (who, code) in [
        ("/asn-1", 2000),
        ("/asn-2", 4103),
        ("/asn-1/Cx", 4103),
        ("/in-cse/Capp", 2000),
        ("/in-cse/Cother", 4103),
        ("//in.provider.com/in-cse/Capp", 2000),
        ("//other.com/in-cse/Capp", 4103),
        ("/in-cse", 4103),
        (LIGHT2, 4103),
    ] {
        assert_eq!(retrieve(&bench, who), code, "{who}");
    }
    assert_eq!(bench.delete("/asn-1", "/cse/asn").code, 2002);
    assert_eq!(retrieve(&bench, "/asn-1"), 4103);
}

#[test]
fn group_may_change_policy_by_self_privileges() {
    let bench = bench(settings(), GROUP);
    let acp = json!({"m2m:acp": {"rn": "shared", "pv": rule(&[LIGHT1], 63),
        "pvs": json!({"acr": [{"acor": [LIGHT1, GROUP], "acop": 63}]})}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let change = json!({"m2m:acp": {"lbl": ["x"]}});
    assert_eq!(bench.update(LIGHT2, "/cse/light1/shared", change.clone()).code, 2004);
    members(&bench, &[]);
    assert_eq!(bench.update(LIGHT2, "/cse/light1/shared", change).code, 4103);
}
