//! `saegis cse`: the resources of a stopped gateway.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use saegis_tests::{Gateway, LIGHT1, Light, Request, Setup, program, saegis};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";

/// Registers light 1, with a container that has one value.
fn light_with_lamp(gateway: &Gateway) -> Light {
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light1", "lamp").from(OWN);
    light.ask(&lamp).unwrap().expect(201, 2001);
    let on = Request::create_instance("/cse/light1/lamp", "on").from(OWN);
    light.ask(&on).unwrap().expect(201, 2001);
    light
}

#[test]
fn resources_of_stopped_gateway_are_printed() {
    let mut gateway = Setup::new().start();
    let light = light_with_lamp(&gateway);
    let folder = gateway.path("");
    let cse = |arguments: &[&str]| saegis(&folder, &[&["cse"], arguments].concat());
    // A running gateway has its store open.
    assert!(cse(&["tree"]).expect(2).err.contains("stop it first"));
    drop(light);
    gateway.stop();
    let tree = cse(&["tree"]).expect(0).out;
    for line in ["cse  m2m:cb  mn-cse-123456", "  light1  m2m:ae  Clight-AE1", "    lamp  m2m:cnt"]
    {
        assert!(tree.contains(line), "{tree}");
    }
    assert_eq!(cse(&["tree", "cse/light1", "--levels", "1"]).expect(0).out.lines().count(), 2);
    let latest: Value = cse(&["get", "cse/light1/lamp/la"]).expect(0).json();
    assert_eq!(latest["m2m:cin"]["con"], "on");
    let exported = cse(&["export"]).expect(0).out;
    assert_eq!(exported.lines().count(), tree.lines().count());
    cse(&["vacuum"]).expect(0);
    assert_eq!(cse(&["tree"]).expect(0).out, tree);
    cse(&["get", "cse/other"]).expect(2);
    // The gateway uses the store again.
    let gateway = gateway.start_in_same_folder();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::retrieve("/cse/light1/lamp/la").from(OWN)).unwrap().expect(200, 2000);
}

/// Runs `saegis cse` with an input.
fn cse_with(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program());
    command.arg("cse").args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    // It may refuse before it has read the input.
    let _ = running.stdin.take().unwrap().write_all(input.as_bytes());
    running.wait_with_output().unwrap()
}

#[test]
fn operator_changes_and_imports_resources() {
    let mut gateway = Setup::new().start();
    let light = light_with_lamp(&gateway);
    let folder = gateway.path("");
    let put = |arguments: &[&str], content: Value| {
        cse_with(&folder, &[&["put"], arguments].concat(), &content.to_string())
    };
    let label = json!({"m2m:cnt": {"lbl": ["room"]}});
    let refused = put(&["cse/light1/lamp"], label.clone());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"), "{refused:?}");
    drop(light);
    gateway.stop();
    let changed = put(&["cse/light1/lamp"], label);
    let changed: Value = serde_json::from_slice(&changed.stdout).unwrap();
    assert_eq!(changed["m2m:cnt"]["lbl"], json!(["room"]));
    let made = put(&["cse/light1", "--type", "3"], json!({"m2m:cnt": {"rn": "plug"}}));
    assert!(made.status.success(), "{made:?}");
    for (arguments, content) in [
        (["cse/light1/lamp"].as_slice(), json!({"m2m:cnt": {"lbl": 1}})),
        (&["cse/light1/other"], json!({"m2m:cnt": {}})),
        (&["cse", "--type", "2"], json!({"m2m:ae": {"api": "Nx", "rr": true}})),
    ] {
        assert_eq!(put(arguments, content).status.code(), Some(2), "{arguments:?}");
    }
    let exported = saegis(&folder, &["cse", "export"]).expect(0).out;

    // The AE loses its resources, registers again, and gets them back.
    let mut gateway = gateway.start_in_same_folder();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::delete("/cse/light1").from(OWN)).unwrap().expect(200, 2002);
    drop(light);
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    drop(light);
    gateway.stop();
    let imported = cse_with(&folder, &["import", "--json"], &exported);
    let result: Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!((&result["created"], &result["omitted"]), (&json!(3), &json!([])), "{imported:?}");
    assert!(imported.status.success());
    // The resources of an AE that another credential has registered, and an export without holders.
    let other = exported.replace("12-AE123456789012-Light@", "12-AE-other@");
    assert_ne!(other, exported);
    let lines = other.lines().filter(|line| line.contains("plug")).collect::<Vec<_>>().join("\n");
    let plug = lines
        .replace("cse/light1/plug", "cse/light1/plug2")
        .replace("\"rn\":\"plug\"", "\"rn\":\"plug2\"");
    let refused = cse_with(&folder, &["import", "--json"], &plug);
    let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused["created"], 0, "{refused}");
    let why = refused["omitted"][0]["why"].as_str().unwrap();
    assert!(why.contains("another holder"), "{why}");
    let without = plug.replace("\"holders\"", "\"none\"");
    let refused = cse_with(&folder, &["import", "--json"], &without);
    let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(refused["omitted"][0]["why"].as_str().unwrap().contains("holders"), "{refused}");
    let again = cse_with(&folder, &["import", "--json"], &exported);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["created"], 0);
    assert_eq!(cse_with(&folder, &["import"], "no line").status.code(), Some(2));
    let gateway = gateway.start_in_same_folder();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let lamp = light.ask(&Request::retrieve("/cse/light1/lamp").from(OWN)).unwrap();
    assert_eq!(lamp.expect(200, 2000).json()["m2m:cnt"]["lbl"], json!(["room"]));
    let latest = light.ask(&Request::retrieve("/cse/light1/lamp/la").from(OWN)).unwrap();
    assert_eq!(latest.expect(200, 2000).json()["m2m:cin"]["con"], "on");
    light.ask(&Request::retrieve("/cse/light1/plug").from(OWN)).unwrap().expect(200, 2000);
}

/// Creates a resource below the light, and returns its resource-ID.
fn create(light: &mut Light, ty: u16, content: &Value) -> String {
    let created = light.ask(&Request::create("/cse/light1", ty, content).from(OWN)).unwrap();
    let created = created.expect(201, 2001).json();
    let attributes = created.as_object().unwrap().values().next().unwrap();
    attributes["ri"].as_str().unwrap().to_owned()
}

/// A policy names a group by its resource-ID, and governs it.
#[test]
fn import_restores_circle_of_resource_ids() {
    let mut gateway = Setup::new().start();
    let mut light = light_with_lamp(&gateway);
    let family = json!({"m2m:grp": {"rn": "family", "mnm": 3, "mid": [OWN, "cse/light1/lamp/la"]}});
    let family = create(&mut light, 9, &family);
    let rules = json!({"acr": [{"acor": [OWN, family], "acop": 63}]});
    let policy = json!({"m2m:acp": {"rn": "policy", "pv": rules, "pvs": rules}});
    let policy = create(&mut light, 1, &policy);
    let governed = json!({"m2m:grp": {"acpi": [policy]}});
    let update = Request::update("/cse/light1/family", &governed).from(OWN);
    light.ask(&update).unwrap().expect(200, 2004);
    let plug = json!({"m2m:cnt": {"rn": "plug", "acpi": [format!("/mn-cse-123456/{policy}")]}});
    create(&mut light, 3, &plug);
    drop(light);
    gateway.stop();
    let folder = gateway.path("");
    let exported = saegis(&folder, &["cse", "export"]).expect(0).out;

    let mut gateway = gateway.start_in_same_folder();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::delete("/cse/light1").from(OWN)).unwrap().expect(200, 2002);
    drop(light);
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    drop(light);
    gateway.stop();
    // Without the group, nothing of the circle is created.
    let lines = |without: &str| {
        let lines = exported.lines().filter(|line| !line.contains(without));
        lines.collect::<Vec<_>>().join("\n")
    };
    let partial = lines("\"cse/light1/family\",\"holders\"");
    assert_ne!(partial.lines().count(), exported.lines().count());
    let imported = cse_with(&folder, &["import", "--json"], &partial);
    assert_eq!(imported.status.code(), Some(1), "{imported:?}");
    let result: Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!(result["created"], 2, "{result}");
    let why = result["omitted"][0]["why"].as_str().unwrap();
    assert!(why.contains("does not exist here"), "{why}");
    let imported = cse_with(&folder, &["import", "--json"], &exported);
    let result: Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!((&result["created"], &result["omitted"]), (&json!(3), &json!([])), "{imported:?}");

    let gateway = gateway.start_in_same_folder();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut retrieve = |path: &str| {
        let found = light.ask(&Request::retrieve(path).from(OWN)).unwrap();
        let found = found.expect(200, 2000).json();
        found.as_object().unwrap().values().next().unwrap().clone()
    };
    let (family, policy) = (retrieve("/cse/light1/family"), retrieve("/cse/light1/policy"));
    assert_eq!(policy["pv"]["acr"][0]["acor"], json!([OWN, family["ri"]]));
    assert_eq!(family["acpi"], json!([policy["ri"]]));
    assert_eq!(family["mid"], json!([OWN, "cse/light1/lamp/la"]));
    let scoped = format!("/mn-cse-123456/{}", policy["ri"].as_str().unwrap());
    assert_eq!(retrieve("/cse/light1/plug")["acpi"], json!([scoped]));
}
