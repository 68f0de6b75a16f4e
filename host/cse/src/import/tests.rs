//! The holders of the names in imported resources.

use std::path::Path;

use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{AssociationCredential, Operation};
use serde_json::{Value, json};

use crate::budget::RequestBudget;
use crate::settings::Settings;
use crate::store::Writer;
use crate::testing::{Bench, LIGHT1, LIGHT2, request, settings};
use crate::{ImportReport, InspectedResource, Inspection, Operator};

/// Returns the resources of a stopped CSE from an address on.
pub(super) fn export(path: &Path, from: &str) -> Vec<InspectedResource> {
    let mut exported = Vec::new();
    let inspection = Inspection::open(path, settings()).unwrap();
    inspection.visit(from, usize::MAX, &mut |found| exported.push(found)).unwrap();
    exported
}

/// Imports resources into a stopped CSE.
pub(super) fn import<'a>(
    path: &Path,
    exported: impl IntoIterator<Item = &'a InspectedResource>,
) -> ImportReport {
    let operator = Operator::open(path, settings()).unwrap();
    let mut import = operator.import();
    for found in exported {
        import.add(&found.address, &found.representation, &found.holders);
    }
    import.finish()
}

/// Returns the reason why the only resource of an import was omitted.
pub(super) fn reason(report: &ImportReport) -> String {
    assert_eq!((report.created, report.omitted.len()), (0, 1), "{report:?}");
    report.omitted[0].1.clone()
}

/// Registers an AE or a CSE with a credential.
pub(super) fn register(bench: &Bench, (from, credential): (&str, &str), ty: u16, content: Value) {
    let mut register = request(Operation::Create, "/cse", Some(from), Some(content));
    register.resource_type = Some(ty);
    let id = CredentialId::parse(&format!("12-{credential}")).unwrap();
    register.credential = Some(AssociationCredential { id, learns_ae_id: false });
    let reply = bench.send(&register);
    assert_eq!(reply.code, 2001, "{}", reply.why());
}

pub(super) fn ae(name: &str) -> Value {
    json!({"m2m:ae": {"rn": name, "api": "Nlight", "rr": false, "srv": ["3"]}})
}

/// Returns a CSE with two lights, each with a container. Another credential has registered light 2
/// if `second` is not its AE-ID.
pub(super) fn lights(second: &str) -> Bench {
    let bench = Bench::new(settings());
    for (stem, id, name) in [(LIGHT1, LIGHT1, "light1"), (LIGHT2, second, "light2")] {
        register(&bench, (stem, id), 2, ae(name));
        let reply = bench.container(stem, &format!("/cse/{name}"), json!({"rn": "state"}));
        assert_eq!(reply.code, 2001);
    }
    bench
}

#[test]
fn exported_resources_are_restored() {
    let bench = lights(LIGHT2);
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": {"acr": [
        {"acor": [LIGHT2], "acop": 2}, {"acor": [LIGHT1], "acop": 63}]}, "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]}}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let cnt = json!({"rn": "lamp", "acpi": ["cse/light1/acp"], "mni": 5, "cr": null});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", cnt).code, 2001);
    let instance = json!({"rn": "one", "con": {"on": true}, "lbl": ["x"]});
    assert_eq!(bench.instance(LIGHT1, "/cse/light1/lamp", instance).code, 2001);
    let (_directory, path) = bench.stop();
    let exported = export(&path, "cse");

    // Another CSE, at which the AEs have registered again.
    let bench = lights(LIGHT2);
    let (_directory, path) = bench.stop();
    let report = import(&path, &exported);
    assert_eq!((report.created, report.existing), (3, exported.len() - 3), "{report:?}");
    let again = export(&path, "cse");
    let addresses = |all: &[InspectedResource]| {
        all.iter().map(|found| found.address.clone()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(&again), addresses(&exported));
    let of = |all: &[InspectedResource], name: &str| {
        let found = all.iter().find(|found| found.address.ends_with(name)).unwrap();
        found.representation.clone()
    };
    assert_eq!(of(&again, "/one")["m2m:cin"]["con"], json!({"on": true}));
    assert_eq!(of(&again, "/lamp")["m2m:cnt"]["acpi"], json!(["cse/light1/acp"]));
    let bench = crate::EmbeddedCse::open(&path, settings()).unwrap();
    bench.store().assert_consistent();
}

#[test]
fn names_with_other_holders_are_not_restored() {
    let bench = lights(LIGHT2);
    let policy = |names: &[&str]| json!({"acr": [{"acor": names, "acop": 2}, {"acor": [LIGHT1], "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": policy(&[LIGHT2]), "pvs": policy(&["Cnew"])}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let governed = json!({"rn": "governed", "acpi": ["cse/light1/acp"]});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", governed).code, 2001);
    let dangling = json!({"rn": "dangling", "acpi": ["cse/light2/acp"]});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", dangling).code, 2001);
    let (_directory, path) = bench.stop();
    let exported = export(&path, "cse/light1");
    let find = |name: &str| exported.iter().find(|found| found.name == name).unwrap();
    let holders = &find("acp").holders;
    let own = json!({"owner": LIGHT1, "registrant": format!("12-{LIGHT1}")});
    assert_eq!((&holders["own"], &holders["parent"]), (&own, &own));
    assert_eq!(
        holders["aes"],
        json!({ LIGHT1: format!("12-{LIGHT1}"), LIGHT2: format!("12-{LIGHT2}"), "Cnew": null })
    );
    let governing = &find("governed").holders["addresses"]["acpi"]["cse/light1/acp"];
    assert_eq!(*governing, json!({"path": "cse/light1/acp", "holder": own}));
    let dangling = &find("dangling").holders["addresses"]["acpi"];
    assert_eq!(*dangling, json!({"cse/light2/acp": null}));

    // Another credential has registered light 2, and somebody has the name that was free.
    let bench = lights("Cother");
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": policy(&[LIGHT1]), "pvs": policy(&[LIGHT1])}});
    assert_eq!(bench.create(Some(LIGHT2), "/cse/light2", 1, acp.clone()).code, 2001);
    let (_directory, path) = bench.stop();
    let restore = |name: &str, holders: &Value| {
        let operator = Operator::open(&path, settings()).unwrap();
        let mut import = operator.import();
        import.add(&find(name).address, &find(name).representation, holders);
        import.finish()
    };
    for name in ["acp", "dangling"] {
        let refused = reason(&restore(name, &find(name).holders));
        assert!(refused.contains("holder"), "{refused}");
    }
    for holders in [Value::Null, json!({}), json!({ LIGHT1: format!("12-{LIGHT1}") })] {
        let refused = reason(&restore("governed", &holders));
        assert!(refused.contains("holders"), "{refused}");
    }
    // A policy that does not exist yet may be restored before.
    let missing = reason(&restore("governed", &find("governed").holders));
    assert!(missing.contains("does not exist here"), "{missing}");
    Operator::open(&path, settings()).unwrap().create("cse/light1", 1, &acp).unwrap();
    assert_eq!(restore("governed", &find("governed").holders).created, 1);
}

/// The AE that registers first after a loss can take the resource name of another one.
#[test]
fn taken_resource_names_are_not_restored() {
    let bench = lights(LIGHT2);
    let policy = |stem: &str| {
        json!({"m2m:acp": {"rn": "acp",
        "pv": {"acr": [{"acor": [stem], "acop": 63}]},
        "pvs": {"acr": [{"acor": [stem], "acop": 63}]}}})
    };
    assert_eq!(bench.create(Some(LIGHT2), "/cse/light2", 1, policy(LIGHT2)).code, 2001);
    let governed = json!({"rn": "governed", "acpi": ["cse/light2/acp"]});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", governed).code, 2001);
    let secret = json!({"con": "secret", "rn": "secret"});
    assert_eq!(bench.instance(LIGHT2, "/cse/light2/state", secret).code, 2001);
    let (_directory, path) = bench.stop();
    let exported = export(&path, "cse");

    // Light 2 registers again with its credential, but its name is that of another AE.
    let bench = Bench::new(settings());
    for (stem, name) in [(LIGHT1, "light1"), ("Cother", "light2"), (LIGHT2, "light2-new")] {
        register(&bench, (stem, stem), 2, ae(name));
    }
    assert_eq!(bench.create(Some("Cother"), "/cse/light2", 1, policy("Cother")).code, 2001);
    let state = bench.container("Cother", "/cse/light2", json!({"rn": "state"}));
    assert_eq!(state.code, 2001);
    let (_directory, path) = bench.stop();
    for (name, address) in [
        ("governed", "cse/light1/governed"),
        ("state", "cse/light2/state-2"),
        ("secret", "cse/light2/state/secret"),
    ] {
        let mut of_name = exported.iter().filter(|found| found.name == name);
        let found = of_name.rfind(|found| found.address.contains("light2") || name != "state");
        let found = found.unwrap();
        let operator = Operator::open(&path, settings()).unwrap();
        let mut import = operator.import();
        import.add(address, &found.representation, &found.holders);
        let refused = reason(&import.finish());
        assert!(refused.contains("another holder"), "{name}: {refused}");
    }
}

/// Resources below a CSE belong to its registration as well.
#[test]
fn resources_of_another_cse_are_not_restored() {
    let registered = |credential: &str| {
        let bench = Bench::new(Settings { cse_type: 1, ..settings() });
        let csr = json!({"m2m:csr": {"rn": "mn", "cb": "/mn-1/cse", "rr": false}});
        register(&bench, ("/mn-1", credential), 16, csr);
        bench
    };
    let bench = registered("one");
    let state = bench.container("/mn-1", "/cse/mn", json!({"rn": "state"}));
    assert_eq!(state.code, 2001, "{}", state.why());
    let (_directory, path) = bench.stop();
    let exported = export(&path, "cse/mn/state");
    for (credential, is_restored) in [("one", true), ("two", false)] {
        let (_directory, path) = registered(credential).stop();
        let report = import(&path, &exported);
        match is_restored {
            true => assert_eq!(report.created, 1),
            false => assert!(reason(&report).contains("another holder")),
        }
    }
}

const ADMIN: &str = "Cadmin";

/// Returns a CSE at which the lights may create resources below the `<CSEBase>`.
fn open_to_lights() -> Bench {
    let bench = Bench::new(Settings {
        administrators: vec![ADMIN.parse().unwrap()],
        csebase_policies: vec!["cse/admin/visitors".into()],
        ..settings()
    });
    for (stem, name) in [(ADMIN, "admin"), (LIGHT1, "light1"), (LIGHT2, "light2")] {
        register(&bench, (stem, stem), 2, ae(name));
    }
    let rules = json!({"acr": [{"acor": ["all"], "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "visitors", "pv": rules, "pvs": rules}});
    assert_eq!(bench.create(Some(ADMIN), "/cse/admin", 1, acp).code, 2001);
    bench
}

/// Creates a policy without an owner, which grants everything to its creator.
fn create_shared_policy(bench: &Bench, creator: &str) {
    let rules = json!({"acr": [{"acor": [creator], "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "shared", "pv": rules, "pvs": rules}});
    let reply = bench.create(Some(creator), "/cse", 1, acp);
    assert_eq!(reply.code, 2001, "{}", reply.why());
}

/// An AE that may create resources below the `<CSEBase>` can take the name of one.
#[test]
fn taken_names_without_owner_give_no_rights() {
    let bench = open_to_lights();
    create_shared_policy(&bench, LIGHT1);
    let governed = json!({"rn": "governed", "acpi": ["cse/shared"]});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", governed).code, 2001);
    assert_eq!(bench.container(LIGHT1, "/cse", json!({"rn": "common"})).code, 2001);
    let below = json!({"rn": "below", "cr": null});
    let below = bench.container(ADMIN, "/cse/common", below);
    assert_eq!(below.code, 2001, "{}", below.why());
    let (_directory, path) = bench.stop();
    let all = export(&path, "cse");
    let find = |name: &str| all.iter().find(|found| found.name == name).unwrap();
    let creator = |id: &str| json!({"id": id, "registrant": format!("12-{id}")});
    let below = &find("below").holders["own"];
    assert_eq!(below["creators"], json!([creator(LIGHT1), creator(ADMIN)]));

    // The other light takes the names.
    let bench = open_to_lights();
    create_shared_policy(&bench, LIGHT2);
    assert_eq!(bench.container(LIGHT2, "/cse", json!({"rn": "common"})).code, 2001);
    let (_directory, path) = bench.stop();
    for name in ["shared", "governed", "common", "below"] {
        let why = reason(&import(&path, [find(name)]));
        assert!(why.contains("another holder"), "{name}: {why}");
    }

    // Nobody has the names: the creators of the restored resources are the former ones.
    let (_directory, path) = open_to_lights().stop();
    let report = import(&path, &all);
    assert_eq!((report.created, report.omitted.len()), (4, 0), "{report:?}");
    assert_eq!(find("below").holders["own"], export(&path, "cse/common/below")[0].holders["own"]);
    let report = import(&path, &all);
    assert_eq!((report.created, report.existing), (0, all.len()), "{report:?}");
}

/// A resource from before creators were stored is only the same in the same store.
#[test]
fn unknown_creator_is_that_of_one_resource() {
    let stored = |bench: &Bench| {
        assert_eq!(bench.container(LIGHT1, "/cse", json!({"rn": "common"})).code, 2001);
        let forget = |writer: &mut Writer<'_>| {
            let ri = writer.read().named("mn-cse-123456", "common")?.unwrap();
            let mut record = writer.read().get(&ri)?.unwrap();
            record.creator = None;
            writer.put(&record)
        };
        bench.cse().store().write(&RequestBudget::unlimited(), forget).unwrap();
    };
    let bench = open_to_lights();
    stored(&bench);
    let (_directory, path) = bench.stop();
    let all = export(&path, "cse/common");
    assert_eq!(import(&path, &all).existing, 1);
    let bench = open_to_lights();
    stored(&bench);
    let (_directory, other) = bench.stop();
    assert!(reason(&import(&other, &all)).contains("another holder"));
}

/// The `<AEAnnc>` of an AE belongs to its CSE, but its registrant is the credential of the AE.
#[test]
fn children_of_announced_aes_are_restored() {
    let announced = |credential: &str| {
        let bench = Bench::new(Settings { cse_type: 1, ..settings() });
        register(&bench, (LIGHT1, LIGHT1), 2, ae("light1"));
        let csr = json!({"m2m:csr": {"rn": "mn", "cb": "/mn-1/cse", "rr": false}});
        register(&bench, ("/mn-1", "mn"), 16, csr);
        let rules = json!({"acr": [{"acor": [LIGHT1], "acop": 63}]});
        let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules, "pvs": rules}});
        assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
        let aea = json!({"m2m:aeA": {"rn": "lamp", "api": "Nlight",
            "lbl": [format!("Credential-ID:12-{credential}")],
            "acpi": ["/mn-cse-123456/cse/light1/acp"]}});
        let reply = bench.create(Some("/mn-1/Slamp"), "/cse/mn", 10002, aea);
        assert_eq!(reply.code, 2001, "{}", reply.why());
        bench
    };
    let bench = announced("lamp");
    let sub = json!({"m2m:sub": {"rn": "sub", "nu": [LIGHT1]}});
    let reply = bench.create(Some(LIGHT1), "/cse/mn/lamp", 23, sub);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let (_directory, path) = bench.stop();
    let all = export(&path, "cse/mn/lamp/sub");
    for (credential, is_restored) in [("lamp", true), ("other", false)] {
        let (_directory, path) = announced(credential).stop();
        let report = import(&path, &all);
        match is_restored {
            true => assert_eq!(report.created, 1, "{report:?}"),
            false => assert!(reason(&report).contains("another holder")),
        }
    }
}

/// A subscription belongs to its subscriber, who can be another AE than the owner of the resource.
#[test]
fn subscriptions_are_those_of_their_subscribers() {
    let bench = lights(LIGHT2);
    let rules = json!({"acr": [{"acor": [LIGHT1, LIGHT2], "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules, "pvs": rules}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let shared = json!({"rn": "shared", "acpi": ["cse/light1/acp"]});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", shared).code, 2001);
    let sub = json!({"m2m:sub": {"rn": "sub", "nu": [LIGHT2]}});
    let reply = bench.create(Some(LIGHT2), "/cse/light1/shared", 23, sub);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let (_directory, path) = bench.stop();
    let all = export(&path, "cse/light1");
    let (_directory, path) = lights(LIGHT2).stop();
    let report = import(&path, &all);
    assert_eq!((report.created, report.omitted.len()), (3, 0), "{report:?}");
    let again = export(&path, "cse/light1/shared/sub");
    let subscriber = json!({"id": LIGHT2, "registrant": format!("12-{LIGHT2}")});
    assert_eq!(again[0].holders["subscriber"], subscriber);
    // Another credential has registered light 2.
    let (_directory, path) = lights("Cother").stop();
    let report = import(&path, &all);
    assert_eq!((report.created, report.omitted.len()), (0, 3), "{report:?}");
}
