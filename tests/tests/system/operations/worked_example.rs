//! The worked example. Two lights register at the home gateway and store their state, with the
//! cipher suite that TS-0003 clause 10.2.2 mandates.

use saegis_tests::{Ae, Client, LIGHT1, LIGHT2, Offer, Request, Setup, Tool, with_each_client};

with_each_client!(light_registers_and_stores_its_state, two_lights_are_served_concurrently);

fn register(client: &mut Client, stem: &str, name: &str) {
    let response = client.ask(&Request::create_ae(name).from(stem)).expect(201, 2001);
    assert_eq!(response.header("content-location"), Some(&*format!("/mn-cse-123456/{stem}")));
    assert_eq!(response.json()["m2m:ae"]["aei"], stem);
}

fn send(client: &mut Client, stem: &str, container: &str, value: &str) {
    let request = Request::create_instance(container, value).from(stem);
    client.ask(&request).expect(201, 2001);
}

fn latest(client: &mut Client, stem: &str, container: &str) -> String {
    let request = Request::retrieve(&format!("{container}/la")).from(stem);
    let response = client.ask(&request).expect(200, 2000);
    response.json()["m2m:cin"]["con"].as_str().unwrap().to_string()
}

fn light_registers_and_stores_its_state(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light = tool.connect(gateway.port(), LIGHT1);

    let established = gateway.log().wait("association.established");
    assert_eq!(established.text("credential_id"), format!("12-{}", LIGHT1.identity));
    assert_eq!(established.text("protocol"), "TLSv1.2");
    assert_eq!(established.text("suite"), Offer::MANDATED.suite);
    match tool {
        Tool::OpenSsl => assert_eq!(light.described(), Offer::MANDATED.openssl),
        Tool::GnuTls => assert!(light.described().ends_with(Offer::MANDATED.described)),
    }

    register(&mut light, "Clight-AE1", "light1");
    let container = Request::create_container("/cse/light1", "lamp").from("Clight-AE1");
    let response = light.ask(&container).expect(201, 2001);
    assert_eq!(response.header("x-m2m-rvi"), Some("3"));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.json()["m2m:cnt"]["rn"], "lamp");

    for value in ["on", "off"] {
        send(&mut light, "Clight-AE1", "/cse/light1/lamp", value);
        assert_eq!(latest(&mut light, "Clight-AE1", "/cse/light1/lamp"), value);
    }
    let nothing = Request::retrieve("/cse/light1/fan").from("Clight-AE1");
    light.ask(&nothing).expect_refusal(404, 4004);
    light.ask(&Request::create_ae("again").from("Clight-AE1")).expect_refusal(403, 4117);
    light.ask(&Request::delete("/cse/light1").from("Clight-AE1")).expect(200, 2002);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect_refusal(404, 4004);

    light.close();
    assert_eq!(gateway.log().wait("association.ended").text("why"), "closed");
}

fn two_lights_are_served_concurrently(tool: Tool) {
    let gateway = Setup::new().start();
    let lights = [(LIGHT1, "Clight-AE1", "light1"), (LIGHT2, "Clight-AE2", "light2")];
    let mut clients = lights.map(|(credential, ..)| tool.connect(gateway.port(), credential));
    for (client, (_, stem, name)) in clients.iter_mut().zip(lights) {
        register(client, stem, name);
        let container = Request::create_container(&format!("/cse/{name}"), "lamp").from(stem);
        client.ask(&container).expect(201, 2001);
    }
    for round in 0..5 {
        // Both requests are pending before a response is read.
        for (client, (_, stem, name)) in clients.iter_mut().zip(lights) {
            let value = format!("{name} {round}");
            let request = Request::create_instance(&format!("/cse/{name}/lamp"), &value);
            client.send(&request.from(stem).bytes());
        }
        for client in &mut clients {
            client.read().expect(201, 2001);
        }
        for (client, (_, stem, name)) in clients.iter_mut().zip(lights) {
            let value = latest(client, stem, &format!("/cse/{name}/lamp"));
            assert_eq!(value, format!("{name} {round}"));
        }
    }
    // A light has no access to the resources of the other light.
    let other = Request::retrieve("/cse/light2/lamp/la").from("Clight-AE1");
    clients[0].ask(&other).expect_refusal(403, 4103);
}

#[test]
fn gateway_prints_what_it_serves() {
    let gateway = Setup::new().start();
    let printed = gateway.printed();
    for line in [
        "  CSE-ID      /mn-cse-123456",
        "  generation  1",
        "  module      originator-check: impersonation-check; no capabilities",
        "  module      psk-table: credential-lookup; may use policy-tables",
        "  table       psk-lookup-table: 2 rows",
    ] {
        assert!(printed.lines().any(|l| l == line), "{line:?} is not in\n{printed}");
    }
    // Keys of eight bytes work with a warning.
    assert_eq!(gateway.log().wait("policy.short-keys").number("keys"), 2);
}

#[test]
fn ae_command_registers_and_stores_state() {
    let gateway = Setup::new().start();
    let light = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1");
    for (verb, line) in [
        (&["register"][..], "registered as Clight-AE1: -/light1"),
        (&["create", "container", "lamp"], "created: -/light1/lamp"),
        (&["send", "lamp", "on"], "sent to -/light1/lamp: on"),
        (&["latest", "lamp"], "on"),
    ] {
        let ran = light.run(verb).expect(0);
        let lines: Vec<_> = ran.out.lines().collect();
        assert!(lines[0].starts_with("association: TLSv1.2 "), "{ran:?}");
        assert_eq!(lines[1..], [line], "{ran:?}");
    }
    let shown = light.run(&["show"]).expect(0).out;
    assert!(shown.contains("\"aei\": \"Clight-AE1\""), "{shown}");
    let shown = light.run(&["show", "cse/light1/lamp"]).expect(0).out;
    assert!(shown.contains("\"rn\": \"lamp\""), "{shown}");
    let refused = light.run(&["register"]).expect(4);
    assert!(refused.err.contains("refused with 4117"), "{refused:?}");
    light.run(&["deregister"]).expect(0);
    light.run(&["latest", "lamp"]).expect(4);
}

#[test]
fn ae_command_prints_address_of_its_help() {
    let gateway = Setup::new().start();
    let light = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1");
    light.run(&["register"]).expect(0);
    light.run(&["create", "container", "lamp"]).expect(0);
    let help = light.run(&["show", "--help"]).expect(0).out;
    assert!(help.contains("such as `-/light1/lamp`"), "{help}");
    let shown = light.run(&["show", "-/light1/lamp"]).expect(0).out;
    assert!(shown.contains("\"rn\": \"lamp\""), "{shown}");
}

#[test]
fn ae_command_prints_json() {
    let gateway = Setup::new().start();
    let light = Ae::new(&gateway, "Clight-AE2", LIGHT2, "light2");
    let output = light.run_json(&["register"]).expect(0).json();
    assert_eq!(output["rsc"], 2001);
    assert_eq!(output["content"]["m2m:ae"]["aei"], "Clight-AE2");
    assert_eq!(output["association"]["protocol"], "TLSv1.2");
    assert_eq!(output["association"]["cse_id"], "/mn-cse-123456");
    assert_eq!(output["association"]["kpsa_id"], LIGHT2.identity);
    light.run_json(&["create", "container", "lamp"]).expect(0);
    light.run_json(&["send", "lamp", "21.5"]).expect(0);
    let output = light.run_json(&["latest", "lamp"]).expect(0).json();
    assert_eq!(output["content"]["m2m:cin"]["con"], "21.5");
    let output = light.run_json(&["deregister"]).expect(0).json();
    assert_eq!(output["rsc"], 2002);
}

#[test]
fn ae_command_exit_code_names_failure() {
    let gateway = Setup::new().start();
    let wrong_key = saegis_tests::Credential { key: "1a2b3c4d5e6f7a8c", ..LIGHT1 };
    let ran = Ae::new(&gateway, "Clight-AE1", wrong_key, "wrong-key").run(&["register"]).expect(3);
    assert!(ran.err.contains("no association with /mn-cse-123456"), "{ran:?}");
    assert!(ran.out.is_empty(), "{ran:?}");
    // The right key with the AE-ID of another light.
    let impostor = Ae::new(&gateway, "Clight-AE2", LIGHT1, "impostor");
    let ran = impostor.run(&["register"]).expect(4);
    assert!(ran.err.contains("refused with 4106 ORIGINATOR_NOT_AUTHENTICATED"), "{ran:?}");
    let none = Ae::new(&gateway, "light", LIGHT1, "bad");
    let ran = none.run(&["register"]).expect(2);
    assert!(ran.err.contains("bad.toml:8:9: is not an AE-ID-Stem"), "{ran:?}");
}
