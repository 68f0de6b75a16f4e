//! The import of resources that name others by resource-IDs, or each other in a circle.

use serde_json::{Value, json};

use super::tests::{ae, export, import, lights, reason, register};
use crate::EmbeddedCse;
use crate::InspectedResource;
use crate::testing::{Bench, LIGHT1, LIGHT2, settings};

/// Creates a resource, and returns its resource-ID.
fn create(bench: &Bench, from: &str, path: &str, ty: u16, content: Value) -> String {
    let reply = bench.create(Some(from), path, ty, content);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    reply.attributes()["ri"].as_str().unwrap().into()
}

fn policy(name: &str, originators: &[&str]) -> Value {
    json!({"m2m:acp": {"rn": name,
        "pv": {"acr": [{"acor": originators, "acop": 63}]},
        "pvs": {"acr": [{"acor": originators, "acop": 63}]}}})
}

fn group(name: &str, members: &[&str]) -> Value {
    json!({"m2m:grp": {"rn": name, "mnm": 9, "mid": members}})
}

fn find<'e>(all: &'e [InspectedResource], address: &str) -> &'e InspectedResource {
    all.iter().find(|found| found.address == address).unwrap()
}

fn attributes<'e>(all: &'e [InspectedResource], address: &str) -> &'e Value {
    find(all, address).representation.as_object().unwrap().values().next().unwrap()
}

fn assert_consistent(path: &std::path::Path) {
    EmbeddedCse::open(path, settings()).unwrap().store().assert_consistent();
}

#[test]
fn resource_ids_become_those_of_the_import() {
    let bench = lights(LIGHT2);
    let acp = create(&bench, LIGHT1, "/cse/light1", 1, policy("acp", &[LIGHT1, LIGHT2]));
    let acpi = ["", "/mn-cse-123456/", "//in.provider.com/mn-cse-123456/"];
    let acpi: Vec<_> = acpi.iter().map(|scope| format!("{scope}{acp}")).collect();
    let lamp = json!({"m2m:cnt": {"rn": "lamp", "acpi": acpi}});
    let lamp = create(&bench, LIGHT1, "/cse/light1", 3, lamp);
    create(&bench, LIGHT1, "/cse/light1/lamp", 3, json!({"m2m:cnt": {"rn": "inner"}}));
    let (latest, inner) = (format!("{lamp}/la"), format!("{lamp}/inner"));
    let members = [&latest, &inner, "cse/light1/state", LIGHT1];
    create(&bench, LIGHT1, "/cse/light1", 9, group("all", &members));
    let late = json!({"m2m:cnt": {"rn": "late"}});
    let late = create(&bench, LIGHT1, "/cse/light1", 3, late);
    let (_directory, path) = bench.stop();
    let exported = export(&path, "cse/light1");

    let (_directory, path) = lights(LIGHT2).stop();
    // The resources come in any order.
    let report = import(&path, exported.iter().rev());
    assert_eq!((report.created, report.omitted.len()), (5, 0), "{report:?}");
    let all = export(&path, "cse/light1");
    let ri = |address: &str| find(&all, address).ri.clone();
    assert_ne!((ri("cse/light1/acp"), ri("cse/light1/late")), (acp, late));
    let (acp, lamp) = (ri("cse/light1/acp"), ri("cse/light1/lamp"));
    let scoped = [
        acp.clone(),
        format!("/mn-cse-123456/{acp}"),
        format!("//in.provider.com/mn-cse-123456/{acp}"),
    ];
    assert_eq!(attributes(&all, "cse/light1/lamp")["acpi"], json!(scoped));
    let inner = ri("cse/light1/lamp/inner");
    let members = json!([format!("{lamp}/la"), inner, "cse/light1/state", LIGHT1]);
    assert_eq!(attributes(&all, "cse/light1/all")["mid"], members);
    assert_consistent(&path);
}

#[test]
fn resource_ids_outside_of_the_import_are_found() {
    let with_policy = |second: &str, owner: &str, name: &str| {
        let bench = lights(second);
        let acp = create(&bench, owner, &format!("/cse/{name}"), 1, policy("acp", &[LIGHT1]));
        (bench, acp)
    };
    let (bench, acp) = with_policy(LIGHT2, LIGHT2, "light2");
    let governed = json!({"m2m:cnt": {"rn": "governed", "acpi": [acp]}});
    create(&bench, LIGHT1, "/cse/light1", 3, governed);
    let (_directory, path) = bench.stop();
    let exported = export(&path, "cse/light1/governed");
    // The policy has another resource-ID.
    let (bench, acp) = with_policy(LIGHT2, LIGHT2, "light2");
    let (_directory, path) = bench.stop();
    assert_eq!(import(&path, &exported).created, 1);
    let all = export(&path, "cse/light1");
    assert_eq!(attributes(&all, "cse/light1/governed")["acpi"], json!([acp]));
    // That of another credential is another one, and so is one elsewhere.
    let (bench, _) = with_policy("Cother", LIGHT2, "light2");
    let (_directory, path) = bench.stop();
    assert!(reason(&import(&path, &exported)).contains("another holder"));
    let (bench, _) = with_policy(LIGHT2, LIGHT1, "light1");
    let (_directory, path) = bench.stop();
    assert!(reason(&import(&path, &exported)).contains("does not exist here"));
    // The AE that had the policy has another name now.
    let bench = Bench::new(settings());
    for (stem, name) in [(LIGHT1, "light1"), ("Cother", "light2"), (LIGHT2, "new")] {
        register(&bench, (stem, stem), 2, ae(name));
    }
    create(&bench, "Cother", "/cse/light2", 1, policy("acp", &["Cother"]));
    let (_directory, path) = bench.stop();
    assert!(reason(&import(&path, &exported)).contains("another holder"));
}

#[test]
fn addresses_without_rights_are_mapped() {
    let node = |bench: &Bench| {
        let csr = json!({"m2m:csr": {"rn": "mn", "cb": "/mn-1/cse", "rr": false}});
        register(bench, ("/mn-1", "mn"), 16, csr);
    };
    let bench = lights(LIGHT2);
    node(&bench);
    let nod = json!({"m2m:nod": {"rn": "node", "ni": "n1"}});
    let nod = create(&bench, "/mn-1", "/cse/mn", 14, nod);
    let linked = json!({"m2m:nod": {"rn": "other", "ni": "n2", "hsl": [nod, "cnt-gone"]}});
    create(&bench, "/mn-1", "/cse/mn", 14, linked);
    let (_directory, path) = bench.stop();
    let exported = export(&path, "cse/mn");
    let again = || {
        let bench = lights(LIGHT2);
        node(&bench);
        bench.stop()
    };
    let (_directory, path) = again();
    let report = import(&path, exported.iter().rev());
    assert_eq!((report.created, report.omitted.len()), (2, 0), "{report:?}");
    let all = export(&path, "cse/mn");
    let present = find(&all, "cse/mn/node").ri.clone();
    assert_eq!(attributes(&all, "cse/mn/other")["hsl"], json!([present, "cnt-gone"]));
    // Without the node, its address stays.
    let (_directory, path) = again();
    let report = import(&path, [find(&exported, "cse/mn/other")]);
    assert_eq!(report.created, 1, "{report:?}");
    let all = export(&path, "cse/mn");
    assert_eq!(attributes(&all, "cse/mn/other")["hsl"], json!([nod, "cnt-gone"]));
}

/// Returns a CSE with a policy that names a group, which the policy governs, a second group with the
/// first one as a member and the other way round, and a container that the policy governs.
fn with_circle(by_id: bool) -> Bench {
    let bench = lights(LIGHT2);
    // Light 1 must see the member of its group.
    let visible = create(&bench, LIGHT2, "/cse/light2", 1, policy("open", &[LIGHT1, LIGHT2]));
    let visible = json!({"m2m:ae": {"acpi": [visible]}});
    assert_eq!(bench.update(LIGHT2, "/cse/light2", visible).code, 2004);
    let name = |ri: &str, path: &str| if by_id { ri.to_owned() } else { path.to_owned() };
    let first = create(&bench, LIGHT1, "/cse/light1", 9, group("first", &[LIGHT2]));
    let first = name(&first, "cse/light1/first");
    let acp = create(&bench, LIGHT1, "/cse/light1", 1, policy("acp", &[LIGHT1, &first]));
    let acp = name(&acp, "cse/light1/acp");
    let second = create(&bench, LIGHT1, "/cse/light1", 9, group("second", &[&first]));
    let second = name(&second, "cse/light1/second");
    for change in [json!({"acpi": [acp]}), json!({"mid": [LIGHT2, second, first]})] {
        let reply = bench.update(LIGHT1, "/cse/light1/first", json!({ "m2m:grp": change }));
        assert_eq!(reply.code, 2004, "{}", reply.why());
    }
    let lamp = json!({"m2m:cnt": {"rn": "lamp", "acpi": [acp]}});
    create(&bench, LIGHT1, "/cse/light1", 3, lamp);
    bench
}

#[test]
fn circles_are_restored() {
    for by_id in [false, true] {
        let (_directory, path) = with_circle(by_id).stop();
        let exported = export(&path, "cse/light1");
        let (directory, path) = lights(LIGHT2).stop();
        let report = import(&path, &exported);
        assert_eq!((report.created, report.omitted.len()), (4, 0), "{report:?}");
        let all = export(&path, "cse/light1");
        let name = |path: &str| if by_id { find(&all, path).ri.clone() } else { path.into() };
        let (first, second) = (name("cse/light1/first"), name("cse/light1/second"));
        let policy = attributes(&all, "cse/light1/acp");
        for set in ["pv", "pvs"] {
            assert_eq!(policy[set]["acr"][0]["acor"], json!([LIGHT1, first]));
        }
        let group = attributes(&all, "cse/light1/first");
        assert_eq!(group["mid"], json!([LIGHT2, second, first]));
        assert_eq!(group["acpi"], json!([name("cse/light1/acp")]));
        assert_eq!(attributes(&all, "cse/light1/second")["mid"], json!([first]));
        assert_consistent(&path);
        // A member of the group has the rights again.
        let bench = Bench::at(directory, settings());
        assert_eq!(bench.retrieve(LIGHT2, "/cse/light1/lamp").code, 2000);
        assert_eq!(bench.retrieve("Cother", "/cse/light1/lamp").code, 4103);
    }
}

#[test]
fn circle_is_restored_completely_or_not_at_all() {
    let (_directory, path) = with_circle(true).stop();
    let exported = export(&path, "cse/light1");
    let without =
        |address: &'static str| exported.iter().filter(move |found| found.address != address);
    for (address, omitted) in [("cse/light1/acp", 3), ("cse/light1/second", 3)] {
        let (_directory, path) = lights(LIGHT2).stop();
        let report = import(&path, without(address));
        assert_eq!((report.created, report.omitted.len()), (0, omitted), "{report:?}");
        assert!(report.omitted[0].1.contains("does not exist here"), "{report:?}");
        assert_consistent(&path);
    }
    // Another AE is light 2 now, so the first group cannot be restored.
    let (_directory, path) = lights("Cother").stop();
    let report = import(&path, &exported);
    assert_eq!((report.created, report.omitted.len()), (0, 4), "{report:?}");
    // A resource of the circle that the CSE refuses.
    let (_directory, path) = lights(LIGHT2).stop();
    let operator = crate::Operator::open(&path, settings()).unwrap();
    let mut import = operator.import();
    for InspectedResource { address, representation, holders, .. } in &exported {
        let mut representation = representation.clone();
        if address == "cse/light1/second" {
            representation["m2m:grp"]["mnm"] = json!(0);
        }
        import.add(address, &representation, holders);
    }
    let report = import.finish();
    assert_eq!((report.created, report.omitted.len()), (0, 4), "{report:?}");
    let reasons = report.omitted.iter().filter(|(_, why)| why.contains("mnm"));
    assert!(reasons.count() >= 1, "{report:?}");
}
