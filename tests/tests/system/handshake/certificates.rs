//! Clients with certificates. Both engines accept each flavor, and bind it to the entity that the
//! certificate or the policy names.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use saegis_test_ca::{Name, Request as Certificate};
use saegis_tests::certificates::{
    CERTIFICATE_TABLE, GATEWAY_NAME, Identity, Pki, TlsProfile, credential, own,
    write_gateway_certificate,
};
use saegis_tests::{
    BOUND, Client, Event, Gateway, LIGHT2, Mark, Request, Response, Running, Tool, openssl,
    wait_until, with_each_client,
};
use serde_json::json;

with_each_client!(
    ae_id_certificate_is_bound_to_its_ae_id,
    cse_id_certificate_is_bound_to_its_cse_id,
    node_certificate_is_bound_to_entity_of_its_row,
    device_certificate_may_have_several_ae_ids,
    device_with_rule_is_assigned_ae_id,
    psk_and_certificate_clients_share_port,
);

/// Asserts the log line of the new association.
#[track_caller]
pub fn established(
    gateway: &Gateway,
    mark: Mark,
    profile: TlsProfile,
    credential_id: &str,
    entity: &str,
) -> Event {
    let event = gateway.log().wait_after(mark, "association.established");
    let fields = ["saef", "credential_id", "entity", "protocol", "suite"].map(|f| event.text(f));
    assert_eq!(fields, ["certificate", credential_id, entity, profile.protocol(), profile.suite()]);
    event
}

/// Connects with a certificate, and asserts the log line of the association.
#[track_caller]
fn connect_and_check(
    pki: &Pki,
    gateway: &Gateway,
    (tool, profile): (Tool, TlsProfile),
    identity: &Identity,
    (credential_id, entity): (&str, &str),
) -> Client {
    let mark = gateway.log().mark();
    let client = pki.connect(tool, gateway.port(), identity, profile);
    established(gateway, mark, profile, credential_id, entity);
    client
}

fn retrieve_missing(client: &mut Client, from: &str) -> Response {
    client.ask(&Request::retrieve("/cse/nothing").from(from))
}

/// Asserts that the client may use an AE-ID as its originator.
#[track_caller]
pub fn assert_accepted_as(client: &mut Client, from: &str) {
    retrieve_missing(client, from).expect_refusal(404, 4004);
}

#[track_caller]
pub fn assert_rejected_as(client: &mut Client, from: &str) {
    retrieve_missing(client, from).expect_refusal(403, 4106);
}

fn ae_id_certificate_is_bound_to_its_ae_id(tool: Tool) {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    for profile in TlsProfile::ALL {
        let mut light = connect_and_check(
            &pki,
            &gateway,
            (tool, profile),
            &light,
            (credential::AE, "AE Clight-AE1"),
        );
        assert_accepted_as(&mut light, "Clight-AE1");
        for other in ["Clight-AE2", "Sother", "C"] {
            assert_rejected_as(&mut light, other);
        }
        // An AE sends its stem and no other form.
        for other in ["/in-cse", "//in.provider.com/mn-cse-123456/Clight-AE1"] {
            retrieve_missing(&mut light, other).expect_refusal(400, 4000);
        }
        let other = Request::create_ae("other").from("Clight-AE2");
        light.ask(&other).expect_refusal(403, 4106);
        light.close();
    }
    let mut light = pki.connect(tool, gateway.port(), &light, TlsProfile::Mandated);
    light.ask(&Request::create_ae("light").from("Clight-AE1")).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light").from("Clight-AE1")).expect(200, 2000);
}

fn remote_cse(name: &str) -> Request {
    let content = json!({ "m2m:csr": {
        "rn": name, "cb": "/in-cse/cse", "csi": "/in-cse", "rr": true,
    }});
    Request::create("/cse", 16, &content).from("/in-cse")
}

fn cse_id_certificate_is_bound_to_its_cse_id(tool: Tool) {
    let pki = Pki::new();
    let peer = pki.identity(&pki.example.in_cse);
    let gateway = pki.setup().start();
    for profile in TlsProfile::ALL {
        let mut peer = connect_and_check(
            &pki,
            &gateway,
            (tool, profile),
            &peer,
            (credential::CSE, "CSE /in-cse"),
        );
        peer.ask(&remote_cse("peer")).expect(201, 2001);
        for from in ["/in-cse", "//in.provider.com/in-cse"] {
            assert_accepted_as(&mut peer, from);
        }
        // For the AEs behind the CSE, subject to access control.
        for from in ["/in-cse/Clamp", "//in.provider.com/in-cse/Clamp"] {
            assert_ne!(retrieve_missing(&mut peer, from).rsc(), Some(4106), "{from}");
        }
        for from in ["/mn-3", "/mn-3/Clamp", "Clight-AE1", "//other.org/in-cse"] {
            assert_rejected_as(&mut peer, from);
        }
        peer.ask(&Request::create_ae("lamp").from("/in-cse")).expect_refusal(405, 4005);
        peer.ask(&Request::delete("/cse/peer").from("/in-cse")).expect(200, 2002);
        peer.close();
    }
}

fn node_certificate_is_bound_to_entity_of_its_row(tool: Tool) {
    let pki = Pki::new();
    let node = pki.identity(&pki.example.node);
    let rows = format!("credential_id,ae_id,cse_id\n{},Cnode,\n", credential::NODE);
    let gateway = pki.setup().file("certificate-table.csv", &rows).start();
    for profile in TlsProfile::ALL {
        let mut node = connect_and_check(
            &pki,
            &gateway,
            (tool, profile),
            &node,
            (credential::NODE, "AE Cnode"),
        );
        assert_accepted_as(&mut node, "Cnode");
        assert_rejected_as(&mut node, "Cother");
        node.close();
    }
    let rows = format!("credential_id,ae_id,cse_id\n{},,/asn-1\n", credential::NODE);
    gateway.in_force_after(|g| g.replace(CERTIFICATE_TABLE, rows));
    for profile in TlsProfile::ALL {
        let mut node = connect_and_check(
            &pki,
            &gateway,
            (tool, profile),
            &node,
            (credential::NODE, "CSE /asn-1"),
        );
        assert_accepted_as(&mut node, "/asn-1");
        assert_rejected_as(&mut node, "Cnode");
        node.close();
    }
}

fn device_certificate_may_have_several_ae_ids(tool: Tool) {
    let pki = Pki::new();
    let device = pki.identity(&pki.example.device);
    let rows = format!("credential_id,ae_ids\n{},Cone Ctwo\n", credential::DEVICE);
    let gateway = pki.setup().file("certificate-table.csv", &rows).start();
    let entity = (credential::DEVICE, "AEs Cone Ctwo");
    for (nth, profile) in TlsProfile::ALL.into_iter().enumerate() {
        let mut device = connect_and_check(&pki, &gateway, (tool, profile), &device, entity);
        for stem in ["Cone", "Ctwo"] {
            let name = format!("{stem}-app");
            if nth == 0 {
                device.ask(&Request::create_ae(&name).from(stem)).expect(201, 2001);
            }
            let own = Request::retrieve(&format!("/cse/{name}")).from(stem);
            device.ask(&own).expect(200, 2000);
        }
        assert_rejected_as(&mut device, "Cthree");
        device.ask(&Request::create_ae("three").from("Cthree")).expect_refusal(403, 4106);
        device.close();
    }
}

/// Without a row, a rule of the service subscription allows the device to register an AE.
fn device_with_rule_is_assigned_ae_id(tool: Tool) {
    let rules = r#"
        [[node]]
        cse-id = "mn-cse-123456"
        rule-links = ["lamps"]
        [[rule]]
        name = "lamps"
        applicable-cred-ids = ["31-1.3.6.1.4.1.32473.1-*"]
        allowed-app-ids = ["Nlight"]
        allowed-aes = ["Clamp*", "Cother"]
    "#;
    for profile in TlsProfile::ALL {
        let pki = Pki::new();
        let device = pki.identity(&pki.example.device);
        let setup = pki.setup().file("service-subscription.toml", rules);
        let setup = setup.module("app-rules", "capabilities = [\"service-subscription\"]");
        let gateway = setup.start();
        let mut lamp = connect_and_check(
            &pki,
            &gateway,
            (tool, profile),
            &device,
            (credential::DEVICE, "an AE not yet known"),
        );
        assert_rejected_as(&mut lamp, "Clamp-1");
        lamp.ask(&Request::create_ae("lamp").from("Clight")).expect_refusal(403, 4126);
        lamp.ask(&Request::create_ae("lamp").from("Clamp-1")).expect(201, 2001);
        let learnt = gateway.log().wait("association.ae-id-assigned");
        assert_eq!(learnt.text("entity"), "AE Clamp-1");
        let own = Request::retrieve("/cse/lamp").from("Clamp-1");
        lamp.ask(&own).expect(200, 2000);
        lamp.close();
        // The assignment is permanent, for both engines.
        let gateway = gateway.restart();
        for profile in [TlsProfile::Tls13, TlsProfile::Mandated] {
            let mut lamp = pki.connect(tool, gateway.port(), &device, profile);
            lamp.ask(&own).expect(200, 2000);
            assert_rejected_as(&mut lamp, "Cother");
            let other = Request::create_ae("other").from("Cother");
            assert_ne!(lamp.ask(&other).rsc(), Some(2001));
            lamp.close();
        }
    }
}

fn psk_and_certificate_clients_share_port(tool: Tool) {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    let mut with_key = tool.connect(gateway.port(), LIGHT2);
    let mut certified =
        TlsProfile::ALL.map(|profile| pki.connect(tool, gateway.port(), &light, profile));
    let mut again = tool.connect(gateway.port(), LIGHT2);
    for client in &mut certified {
        assert_accepted_as(client, "Clight-AE1");
        assert_rejected_as(client, "Clight-AE2");
    }
    for client in [&mut with_key, &mut again] {
        assert_accepted_as(client, "Clight-AE2");
        assert_rejected_as(client, "Clight-AE1");
    }
    let all = gateway.log().all(Mark::START, "association.established", 6);
    let saefs: Vec<_> = all.iter().map(|event| event.text("saef")).collect();
    assert_eq!(saefs.iter().filter(|saef| *saef == "certificate").count(), 4, "{saefs:?}");
}

/// A client that offers both, such as gnutls-cli, is authenticated by its key.
#[test]
fn pre_shared_key_is_preferred_to_certificate() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let offers = ["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2:+PSK", "--insecure"];
    let client = Tool::GnuTls.try_with(gateway.port(), Some(LIGHT2), &offers);
    assert_accepted_as(&mut client.ok().unwrap(), "Clight-AE2");
    assert_eq!(gateway.log().wait("association.established").text("entity"), "AE Clight-AE2");
}

#[test]
fn curl_connects() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    let mut registering = pki.connect(Tool::OpenSsl, gateway.port(), &light, TlsProfile::Tls13);
    registering.ask(&Request::create_ae("light").from("Clight-AE1")).expect(201, 2001);
    registering.close();
    for profile in TlsProfile::ALL {
        let mark = gateway.log().mark();
        let own = pki.curl(gateway.port(), &light, profile, "Clight-AE1", "/cse/light").expect(0);
        assert!(own.out.contains("\"aei\":\"Clight-AE1\""), "{profile:?}: {own:?}");
        assert!(own.out.ends_with("\n200 2000"), "{profile:?}: {own:?}");
        established(&gateway, mark, profile, credential::AE, "AE Clight-AE1");
        let other = pki.curl(gateway.port(), &light, profile, "Clight-AE2", "/cse/light").expect(0);
        assert!(other.out.ends_with("\n403 4106"), "{profile:?}: {other:?}");
    }
}

#[test]
fn python_connects() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    for profile in TlsProfile::ALL {
        let mark = gateway.log().mark();
        let mut light = pki.python(gateway.port(), &light, profile).ok().unwrap();
        established(&gateway, mark, profile, credential::AE, "AE Clight-AE1");
        assert_accepted_as(&mut light, "Clight-AE1");
        assert_rejected_as(&mut light, "Clight-AE2");
        light.close();
    }
}

/// The client sends its intermediate certificates without the anchor.
#[test]
fn chain_with_intermediates_is_accepted() {
    let pki = Pki::new();
    let request = Certificate::new("Plant");
    let plant = pki.example.device_authority.sub_authority(&request).unwrap();
    let line = plant.sub_authority(&Certificate::new("Line")).unwrap();
    let kind = Name::device("0.2.481.1", "100.3030.10011");
    let issued = line.issue(&Certificate::new("").name(kind)).unwrap();
    let device = pki.identity(&issued);
    let rows = "credential_id,ae_id\n31-0.2.481.1.100.3030.10011,Cpump\n";
    let gateway = pki.setup().file("certificate-table.csv", rows).start();
    for tool in [Tool::OpenSsl, Tool::GnuTls] {
        for profile in TlsProfile::ALL {
            let mut pump = pki.connect(tool, gateway.port(), &device, profile);
            assert_accepted_as(&mut pump, "Cpump");
            pump.close();
        }
    }
}

/// The gateway presents the certificate of the requested server name, or the first one.
#[test]
fn certificate_is_selected_by_server_name() {
    let pki = Pki::new();
    let issue = |name: &str| {
        let request = Certificate::new(name).name(Name::dns(name));
        pki.example.cse_authority.issue(&request).unwrap()
    };
    let setup = pki.setup();
    let path = setup.path("policies/certificates.toml");
    let toml = fs::read_to_string(&path).unwrap();
    // The second entry.
    setup.write("policies/certificates.toml", (toml + &own("other")).as_bytes());
    write_gateway_certificate(&setup.path("policies"), "other", &issue("Other.in.provider.com"));
    let gateway = setup.start();
    let light = pki.identity(&pki.example.ae);
    let (certificate, key) = (light.certificate.to_str().unwrap(), light.key.to_str().unwrap());
    let (first, second) = ("mn-cse-123456", "Other.in.provider.com");
    for (asked, shown) in [
        (Some(GATEWAY_NAME), first),
        (Some("other.in.provider.com"), second),
        (Some("OTHER.IN.provider.com"), second),
        (Some("unknown.in.provider.com"), first),
        (Some("in.provider.com"), first),
        (None, first),
    ] {
        for profile in TlsProfile::ALL {
            let mut arguments = profile.offers(Tool::OpenSsl);
            match asked {
                Some(name) => arguments.extend(["-servername".into(), name.into()]),
                None => arguments.push("-noservername".into()),
            }
            arguments.extend(["-cert", certificate, "-key", key].map(Into::into));
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let client = Tool::OpenSsl.try_with(gateway.port(), None, &arguments);
            let mut client = client.ok().unwrap();
            assert_accepted_as(&mut client, "Clight-AE1");
            assert_eq!(
                client.session_line("Peer certificate: CN = "),
                shown,
                "{profile:?} {asked:?}"
            );
            client.close();
        }
    }
}

/// Returns a session of an OpenSSL server that has the gateway's certificate, since the gateway
/// issues none.
fn foreign_session(pki: &Pki, gateway: &Gateway, profile: TlsProfile) -> PathBuf {
    let files = ["policies/gw.pem", "policies/gw.key"].map(|file| gateway.path(file));
    let mut server = Command::new("openssl");
    server.args(["s_server", "-accept", "127.0.0.1:0", "-cipher", "ALL"]);
    let server = Running::start(server.arg("-cert").arg(&files[0]).arg("-key").arg(&files[1]));
    let address = server.out.wait(BOUND, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let (_, rest) = text.split_once("ACCEPT ")?;
        rest.split_once('\n').map(|(address, _)| address.to_string())
    });
    let (address, session) = (address.unwrap(), pki.write("session.pem", ""));
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &address, "-sess_out"]).arg(&session);
    let _client = Running::start(client.args(profile.offers(Tool::OpenSsl)));
    // In TLS 1.3 the ticket arrives after the handshake, and OpenSSL does not print a line.
    let what = format!("{profile:?}: a session");
    wait_until(&what, || !fs::read(&session).unwrap().is_empty());
    session
}

/// Without resumption, the gateway neither issues nor accepts tickets and sessions.
#[test]
fn certificate_session_is_not_resumed() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().with("listen", "resumption = false").start();
    let port = format!("127.0.0.1:{}", gateway.port());
    let files = [&light.certificate, &light.key].map(|path| path.to_str().unwrap());
    for profile in TlsProfile::ALL {
        let connect = |more: &[&str]| {
            let offers = profile.offers(Tool::OpenSsl);
            let offers: Vec<_> = offers.iter().map(String::as_str).collect();
            let common = ["s_client", "-connect", &port, "-cert", files[0], "-key", files[1]];
            openssl(&[&common[..], &offers, more].concat()).expect(0)
        };
        let session = pki.write("session.pem", "");
        connect(&["-sess_out", session.to_str().unwrap()]);
        assert!(fs::read(session).unwrap().is_empty(), "{profile:?}: there is a session");
        let again = connect(&["-reconnect"]);
        assert_eq!(again.out.matches("\nNew, TLSv1.").count(), 6, "{profile:?}: {again:?}");
        assert!(!again.out.contains("Reused"), "{profile:?}: {again:?}");
        let foreign = foreign_session(&pki, &gateway, profile);
        let offered = connect(&["-sess_in", foreign.to_str().unwrap()]);
        assert!(offered.out.contains("\nNew, TLSv1."), "{profile:?}: {offered:?}");
    }
}
