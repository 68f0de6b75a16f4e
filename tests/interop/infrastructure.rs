//! ACME as the IN-CSE behind a gateway. A home gateway registers with it over TLS, with CSE-ID
//! certificates on both sides.

use std::fs;

use saegis_tests::certificates::GATEWAY_NAME;
use saegis_tests::{
    Client, Credential, Gateway, LIGHT1, Request, Response, Tool, saegis, wait_until,
};
use serde_json::{Value, json};

use crate::acme::{ADMINISTRATOR, Acme};
use crate::lights::create_ae;
use crate::pair::{LIGHT, MN, PHONE, Pair, Saef};

/// A credential of the home gateway without an AE-ID.
const NEW: Credential<'static> =
    Credential { identity: "new@in.provider.com", key: "5f0e0d0c0b0a09080706050403020100" };

/// AE-ID-Stem of the phone.
const STEM: &str = "Cphone";
/// The home gateway's CSE-ID as an originator.
const HOME: &str = "/mn-cse-123456";
/// The light's AE-ID outside of the home gateway.
const LIGHT_BEYOND: &str = "/mn-cse-123456/Clight-AE1";
/// Domain name in the certificate of the IN-CSE.
const IN_NAME: &str = "in-cse.in.provider.com";

/// ACME, the gateway in front of it, and the home gateway.
struct Deployment {
    acme: Acme,
    infrastructure: Gateway,
    home: Gateway,
}

impl Deployment {
    fn start() -> Self {
        let acme = Acme::start_in_cse();
        let Pair { infrastructure, home, .. } = Pair::new(Saef::Certificates);
        let infrastructure = infrastructure.upstream(acme.port()).start();
        let home = home.start();
        home.log().wait("peer.registered");
        Self { acme, infrastructure, home }
    }

    /// Returns the home gateway's registration at ACME.
    fn remote_cse(&self) -> Value {
        self.acme.resource(&format!("cse/{MN}"))["m2m:csr"].take()
    }

    /// Returns the expiry of the registration as the home gateway reports it.
    fn until(&self) -> Option<String> {
        let peers = saegis(&self.home.path(""), &["peers", "--json"]).expect(0).json();
        let peer = &peers["peers"][0];
        (peer["registration"] == "registered")
            .then(|| peer["expires"].as_str().unwrap().to_string())
    }

    /// Connects to the IN-CSE with the home gateway's certificate.
    fn as_home(&self) -> Client {
        with_certificate_of(&self.home, self.infrastructure.port(), IN_NAME)
    }

    /// Connects to the home gateway with the IN-CSE's certificate.
    fn as_infrastructure(&self) -> Client {
        with_certificate_of(&self.infrastructure, self.home.port(), GATEWAY_NAME)
    }

    /// Registers the phone at ACME with a container that the light may use.
    fn phone(&self) -> Client {
        let mut phone = Tool::GnuTls.connect(self.infrastructure.port(), PHONE);
        let ae = phone.ask(&create_ae("phone").from(STEM)).expect(201, 2001).json();
        assert_eq!(ae["m2m:ae"]["aei"], STEM);
        open(&mut phone, STEM, "/cse/phone", LIGHT_BEYOND);
        phone
    }

    /// Registers the light at home with a container that the phone may use.
    fn light(&self) -> Client {
        let mut light = Tool::OpenSsl.connect(self.home.port(), LIGHT1);
        light.ask(&create_ae("light1").from(LIGHT)).expect(201, 2001);
        open(&mut light, LIGHT, "/cse/light1", "/in-cse/Cphone");
        light
    }
}

/// Creates a container in which another AE may create and retrieve instances, with the value `on`.
pub fn open(client: &mut Client, own: &str, ae: &str, other: &str) {
    let everything = json!([{ "acor": [own], "acop": 63 }]);
    let privileges = json!([{ "acor": [own], "acop": 63 }, { "acor": [other], "acop": 3 }]);
    let policy = json!({ "m2m:acp": {
        "rn": "policy", "pv": { "acr": privileges }, "pvs": { "acr": everything },
    }});
    let policy = client.ask(&Request::create(ae, 1, &policy).from(own)).expect(201, 2001).json();
    let lamp = json!({ "m2m:cnt": { "rn": "lamp", "acpi": [policy["m2m:acp"]["ri"]] } });
    client.ask(&Request::create(ae, 3, &lamp).from(own)).expect(201, 2001);
    let lamp = format!("{ae}/lamp");
    client.ask(&Request::create_instance(&lamp, "on").from(own)).expect(201, 2001);
}

/// Connects with the certificate of a gateway.
fn with_certificate_of(gateway: &Gateway, port: u16, name: &str) -> Client {
    let path = |file: &str| gateway.path(file).to_str().unwrap().to_string();
    let (anchor, own) = (path("policies/cse-ca.pem"), path("policies/own.pem"));
    let key = path("policies/own.key");
    let arguments = [
        ["-cert", &own],
        ["-key", &key],
        ["-CAfile", &anchor],
        ["-verify", "5"],
        ["-servername", name],
        ["-verify_hostname", name],
    ];
    let mut arguments = arguments.concat();
    arguments.extend(["-nocommands", "-verify_return_error"]);
    Tool::OpenSsl.try_with(port, None, &arguments).unwrap()
}

/// Returns the value of a content instance in a response.
#[track_caller]
pub fn value(answer: Response) -> Value {
    answer.expect(200, 2000).json()["m2m:cin"]["con"].take()
}

/// Returns a create request for the `<remoteCSE>` of a CSE.
fn create_remote_cse(id: &str) -> Request {
    let content = json!({ "csi": id, "cb": format!("{id}/cse"), "rr": false, "srv": ["3"] });
    Request::create("/cse", 16, &json!({ "m2m:csr": content }))
}

#[test]
fn home_gateway_registers_with_acme() {
    let both = Deployment::start();
    let established = both.infrastructure.log().wait("association.established");
    assert_eq!(established.text("saef"), "certificate");
    assert_eq!(established.text("entity"), "CSE /mn-cse-123456");
    let registered = both.remote_cse();
    for (attribute, value) in [
        ("csi", json!(HOME)),
        ("cb", json!("/mn-cse-123456/cse")),
        ("cst", json!(2)),
        ("rr", json!(true)),
        ("poa", json!([format!("https://127.0.0.1:{}", both.home.port())])),
        ("et", json!(both.until().unwrap())),
    ] {
        assert_eq!(registered[attribute], value, "{attribute}: {registered}");
    }
    // The home gateway can retrieve its registration and the CSEBase. Other originators cannot.
    let own = Request::retrieve(&format!("/cse/{MN}"));
    let mut home = both.as_home();
    let seen = home.ask(&own.clone().from(HOME)).expect(200, 2000).json();
    assert_eq!(seen["m2m:csr"]["ri"], registered["ri"]);
    let base = home.ask(&Request::retrieve("/cse").from(HOME)).expect(200, 2000).json();
    assert_eq!(base["m2m:cb"]["csi"], "/in-cse");
    let mut phone = both.phone();
    phone.ask(&own.clone().from(STEM)).expect(403, 4103);
    let mut light = both.light();
    for path in [format!("/~/in-cse/cse/{MN}"), "/~/in-cse/cse".into()] {
        light.ask(&Request::retrieve(&path).from(LIGHT)).expect(403, 4103);
    }
    phone.ask(&Request::delete(&format!("/cse/{MN}")).from(STEM)).expect(403, 4103);
    assert_eq!(both.remote_cse()["ri"], registered["ri"]);
}

#[test]
fn registration_at_acme_is_renewed() {
    let both = Deployment::start();
    let first = both.remote_cse();
    let until = both.until().unwrap();
    assert_eq!(first["et"], until);
    wait_until("renewed", || both.until().is_some_and(|now| now > until));
    let renewed = both.remote_cse();
    assert_eq!(renewed["et"], both.until().unwrap());
    // The registration was updated, not created again.
    assert_eq!(renewed["ct"], first["ct"]);
    // ACME forgets a stopped home gateway after the expiry.
    let Deployment { acme, infrastructure: _infrastructure, home } = both;
    drop(home);
    wait_until("ended", || !acme.tree().contains("m2m:csr"));
}

#[test]
fn registration_lost_by_acme_is_renewed() {
    let mut both = Deployment::start();
    let path = both.acme.at(&format!("cse/{MN}"));
    let first = both.remote_cse();
    // Deleted by the administrator.
    both.acme.ask(&Request::delete(&path).from(ADMINISTRATOR)).expect(200, 2002);
    let asked = Request::retrieve(&path).from(ADMINISTRATOR);
    wait_until("registered again", || both.acme.ask(&asked).rsc() == Some(2000));
    let second = both.remote_cse();
    assert!(second["ct"].as_str() > first["ct"].as_str(), "{second}");
    // ACME refuses a second registration.
    let again = both.as_home().ask(&create_remote_cse(HOME).from(HOME)).expect(409, 4105);
    assert!(again.text().contains("already exists"), "{}", again.text());
    // A restarted home gateway finds its registration and renews it.
    both.home = both.home.restart();
    both.home.log().wait("peer.registered");
    assert_eq!(both.remote_cse()["ct"], second["ct"]);
    assert_eq!(both.remote_cse()["et"], both.until().unwrap());
    // ACME keeps its resources in memory only.
    both.acme = Acme::start_in_cse_at(both.acme.kill());
    wait_until("registered again", || both.acme.ask(&asked).rsc() == Some(2000));
    assert_eq!(both.remote_cse()["csi"], HOME);
    let mut light = both.light();
    light.ask(&Request::retrieve("/~/in-cse/cse/none").from(LIGHT)).expect(404, 4004);
}

#[test]
fn acme_that_asks_at_home_ends_the_registration() {
    let lines = [("checkLiveliness=false", "checkLiveliness=true\ncheckInterval=1")];
    let acme = Acme::start_in_cse_with(&lines);
    let Pair { infrastructure, home, .. } = Pair::new(Saef::Certificates);
    let _infrastructure = infrastructure.upstream(acme.port()).start();
    let home = home.start();
    home.log().wait("peer.registered");
    // ACME connects without a certificate, and is refused.
    let refused = home.log().wait("handshake.refused");
    assert_eq!(refused.text("why"), "the peer presented no certificate");
    wait_until("ended", || !acme.tree().contains("m2m:csr"));
    // The home gateway registers again at its next renewal.
    wait_until("registered again", || acme.tree().contains("m2m:csr"));
}

#[test]
fn phone_at_acme_reads_and_writes_at_home() {
    let both = Deployment::start();
    let (mut light, mut phone) = (both.light(), both.phone());
    let lamp = format!("/~/{MN}/cse/light1/lamp");
    let latest = Request::retrieve(&format!("{lamp}/la"));
    assert_eq!(value(phone.ask(&latest.clone().from(STEM))), "on");
    phone.ask(&Request::create_instance(&lamp, "off").from(STEM)).expect(201, 2001);
    let own = Request::retrieve("/cse/light1/lamp/la").from(LIGHT);
    assert_eq!(value(light.ask(&own)), "off");
    let absolute = format!("/_/in.provider.com/{MN}/cse/light1/lamp/la");
    assert_eq!(value(phone.ask(&Request::retrieve(&absolute).from(STEM))), "off");
    // The home gateway refuses a request without permission, and ACME is not contacted.
    let container = Request::create_container(&format!("/~/{MN}/cse/light1"), "mine");
    phone.ask(&container.from(STEM)).expect_refusal(403, 4103);
    phone.ask(&Request::delete(&lamp).from(STEM)).expect_refusal(403, 4103);
    phone.ask(&Request::retrieve(&format!("/~/{MN}/cse/none")).from(STEM)).expect(404, 4004);
    let ae = json!({ "m2m:ae": { "rn": "phone2", "api": "Nx", "rr": false, "srv": ["3"] } });
    let elsewhere = Request::create(&format!("/~/{MN}/cse"), 2, &ae).from(STEM);
    phone.ask(&elsewhere).expect_refusal(405, 4005);
    // The phone's identity at ACME is unchanged.
    assert_eq!(value(phone.ask(&Request::retrieve("/cse/phone/lamp/la").from(STEM))), "on");
}

#[test]
fn light_at_home_reads_and_writes_at_acme() {
    let both = Deployment::start();
    let (mut light, mut phone) = (both.light(), both.phone());
    let lamp = "/~/in-cse/cse/phone/lamp";
    let latest = Request::retrieve(&format!("{lamp}/la"));
    assert_eq!(value(light.ask(&latest.clone().from(LIGHT))), "on");
    light.ask(&Request::create_instance(lamp, "off").from(LIGHT)).expect(201, 2001);
    assert_eq!(value(phone.ask(&Request::retrieve("/cse/phone/lamp/la").from(STEM))), "off");
    // ACME knows the originator.
    let container = json!({ "m2m:cnt": { "rn": "den", "cr": null } });
    let policy = json!({ "m2m:acp": { "pv": { "acr": [
        { "acor": [STEM], "acop": 63 }, { "acor": [LIGHT_BEYOND], "acop": 63 },
    ]}}});
    phone.ask(&Request::update("/cse/phone/policy", &policy).from(STEM)).expect(200, 2004);
    light.ask(&Request::create(lamp, 3, &container).from(LIGHT)).expect(201, 2001);
    assert_eq!(both.acme.resource("cse/phone/lamp/den")["m2m:cnt"]["cr"], LIGHT_BEYOND);
    // ACME refuses a request without permission.
    light.ask(&Request::delete("/~/in-cse/cse/phone").from(LIGHT)).expect(403, 4103);
    light.ask(&Request::retrieve("/~/in-cse/cse/none").from(LIGHT)).expect(404, 4004);
}

#[test]
fn impersonation_across_acme_is_refused() {
    let both = Deployment::start();
    let (mut light, mut phone) = (both.light(), both.phone());
    let state = || (both.acme.tree(), both.acme.resource("cse/phone/lamp")["m2m:cnt"].take());
    let before = state();
    let at_home = format!("/~/{MN}/cse/light1/lamp");
    let at_acme = "/~/in-cse/cse/phone/lamp";
    let wishes = |from: &str, lamp: &str| {
        [
            Request::retrieve(&format!("{lamp}/la")).from(from),
            Request::create_instance(lamp, "stolen").from(from),
            Request::delete(lamp).from(from),
        ]
    };
    let refused = |client: &mut Client, lamp: &str, originators: &[&str], status, rsc| {
        for from in originators {
            for wish in wishes(from, lamp) {
                client.ask(&wish).expect_refusal(status, rsc);
            }
        }
    };
    // The phone, at ACME and at home.
    let stems = [LIGHT, "Cother", ADMINISTRATOR, "C", "S"];
    let paths = ["/in-cse/Cphone", LIGHT_BEYOND, HOME, "/in-cse", "//in.provider.com/in-cse"];
    for lamp in [at_home.as_str(), at_acme] {
        refused(&mut phone, lamp, &stems, 403, 4106);
        refused(&mut phone, lamp, &paths, 400, 4000);
    }
    // The light, at home and at ACME.
    let stems = [STEM, "Cother", ADMINISTRATOR];
    for lamp in [at_home.as_str(), at_acme] {
        refused(&mut light, lamp, &stems, 403, 4106);
        refused(&mut light, lamp, &paths, 400, 4000);
    }
    // The home gateway's certificate, with the originators of the phone, ACME and its
    // administrator.
    let mut home = both.as_home();
    let beyond = ["/in-cse/Cphone", STEM, "/in-cse", ADMINISTRATOR, "/in-cse/CAdmin", "/mn-2/Ca"];
    refused(&mut home, at_acme, &beyond, 403, 4106);
    let absolute = ["//in.provider.com/in-cse", "//other.org/mn-cse-123456"];
    refused(&mut home, at_acme, &absolute, 403, 4106);
    // Registration as another CSE is refused, and so is registration of an AE as a CSE.
    for (from, named) in [("/mn-2", "/mn-2"), (HOME, "/mn-2"), ("/in-cse", "/in-cse")] {
        home.ask(&create_remote_cse(named).from(from)).expect_refusal(403, 4106);
    }
    phone.ask(&create_remote_cse(HOME).from(HOME)).expect_refusal(403, 4107);
    let registration = Request::delete(&format!("/~/in-cse/cse/{MN}"));
    phone.ask(&registration.clone().from(HOME)).expect_refusal(400, 4000);
    light.ask(&registration.clone().from(HOME)).expect_refusal(400, 4000);
    // The home gateway may forward originators at home, which have their own permissions.
    assert_eq!(value(home.ask(&wishes(LIGHT_BEYOND, at_acme)[0])), "on");
    home.ask(&wishes("/mn-cse-123456/CAdmin", at_acme)[0]).expect(403, 4103);
    home.ask(&create_ae("light1").from(LIGHT_BEYOND)).expect_refusal(405, 4005);
    // The IN-CSE's certificate, with the originators of the light and of the home gateway.
    let mut infrastructure = both.as_infrastructure();
    let lamp = "/cse/light1/lamp";
    refused(&mut infrastructure, lamp, &[LIGHT_BEYOND, HOME, LIGHT, "C", "S"], 403, 4106);
    assert_eq!(value(infrastructure.ask(&wishes("/in-cse/Cphone", lamp)[0])), "on");
    infrastructure.ask(&wishes("/in-cse", lamp)[0]).expect_refusal(403, 4103);
    assert_eq!(state(), before);
    assert_eq!(value(light.ask(&wishes(LIGHT, lamp)[0])), "on");
    // ACME itself accepts each of these originators.
    for from in ["/in-cse", ADMINISTRATOR, LIGHT_BEYOND, STEM, "/in-cse/Cphone"] {
        assert_eq!(value(both.acme.ask(&wishes(from, at_acme)[0])), "on", "{from}");
    }
    both.acme
        .ask(&Request::delete(&both.acme.at(&format!("cse/{MN}"))).from(HOME))
        .expect(200, 2002);
}

/// ACME sends notifications for AEs at home directly to the point of access in the `<remoteCSE>`.
/// It has no certificate, and is refused.
#[test]
fn acme_does_not_reach_home_by_itself() {
    let both = Deployment::start();
    let (_light, mut phone) = (both.light(), both.phone());
    let mark = both.home.log().mark();
    let content = json!({ "rn": "sub", "nu": [LIGHT_BEYOND], "enc": { "net": [3] } });
    let subscribe = Request::create("/cse/phone/lamp", 23, &json!({ "m2m:sub": content }));
    phone.ask(&subscribe.from(STEM)).expect(500, 5204);
    let refused = both.home.handshake_refused(mark);
    assert_eq!(refused.text("why"), "the peer presented no certificate");
    // Requests that the gateway forwards are not sent that way.
    let latest = Request::retrieve(&format!("/~/{MN}/cse/light1/lamp/la")).from(STEM);
    assert_eq!(value(phone.ask(&latest)), "on");
    let mark = both.home.log().mark();
    both.acme.ask(&latest).expect(404, 5103);
    both.home.handshake_refused(mark);
}

/// ACME accepts the announcement of an AE at home without assigning an AE-ID, so the registration
/// fails.
#[test]
fn acme_assigns_no_ae_id_of_the_service_provider() {
    let acme = Acme::start_in_cse();
    let Pair { infrastructure, home, .. } = Pair::new(Saef::Certificates);
    let _infrastructure = infrastructure.upstream(acme.port()).start();
    let row = format!(",,{},{}\n", NEW.key, NEW.identity);
    let table = fs::read_to_string(home.table()).unwrap() + &row;
    let home = home.file("psk-lookup-table.csv", &table).start();
    home.log().wait("peer.registered");
    let mut light = Tool::OpenSsl.connect(home.port(), NEW);
    light.ask(&create_ae("light").from("S")).expect_refusal(500, 5000);
    light.ask(&create_ae("light").from("Slight")).expect_refusal(403, 4103);
    // The failed registration leaves no resource at home, where the AE is assigned a C-type AE-ID.
    let ae = light.ask(&create_ae("light").from("C")).expect(201, 2001).json();
    assert!(ae["m2m:ae"]["aei"].as_str().unwrap().starts_with('C'), "{ae}");
}

#[test]
fn acme_refuses_unlisted_cse() {
    let lines = [("allowedCSROriginators=/mn-cse-123456", "allowedCSROriginators=/mn-2")];
    let acme = Acme::start_in_cse_with(&lines);
    let Pair { infrastructure, home, .. } = Pair::new(Saef::Certificates);
    let _infrastructure = infrastructure.upstream(acme.port()).start();
    let home = home.start();
    let failed = home.log().wait("peer.registration-failed");
    assert!(failed.message().contains("4103"), "{failed:?}");
    assert!(!acme.tree().contains("m2m:csr"), "{}", acme.tree());
}

/// ACME hosts the announcements of the home gateway, below a `<CSEBaseAnnc>`.
#[test]
fn resources_are_announced_to_acme() {
    let deployment = Deployment::start();
    let mut light = deployment.light();
    let lamp = json!({"m2m:cnt": {
        "rn": "bulb", "lbl": ["bulb"], "at": ["/in-cse"], "aa": ["mni"], "mni": 5,
    }});
    let lamp = light.ask(&Request::create("/cse/light1", 3, &lamp).from(LIGHT));
    let lamp = lamp.expect(201, 2001).json()["m2m:cnt"].clone();
    let at = lamp["at"][0].as_str().unwrap_or_else(|| panic!("no address: {lamp}"));
    let address = at.strip_prefix("/in-cse/").unwrap();
    let link = format!("{HOME}/{}", lamp["ri"].as_str().unwrap());
    let announced = deployment.acme.resource(address)["m2m:cntA"].take();
    assert_eq!((&announced["lnk"], &announced["mni"]), (&json!(link), &json!(5)), "{announced}");
    let value = json!({"m2m:cin": {"con": "on", "at": ["/in-cse"], "aa": ["con"]}});
    let value = light.ask(&Request::create("/cse/light1/bulb", 4, &value).from(LIGHT));
    let value = value.expect(201, 2001).json()["m2m:cin"].clone();
    let copy = value["at"][0].as_str().unwrap_or_else(|| panic!("no address: {value}"));
    let copy = deployment.acme.resource(copy.strip_prefix("/in-cse/").unwrap());
    assert_eq!(copy["m2m:cinA"]["con"], "on", "{copy}");
    let change = json!({"m2m:cnt": {"lbl": ["lamp"]}});
    light.ask(&Request::update("/cse/light1/bulb", &change).from(LIGHT)).expect(200, 2004);
    wait_until("the labels are announced", || {
        deployment.acme.resource(address)["m2m:cntA"]["lbl"] == json!(["lamp"])
    });
    light.ask(&Request::delete("/cse/light1/bulb").from(LIGHT)).expect(200, 2002);
    wait_until("the announcement is gone", || {
        let retrieve = Request::retrieve(&deployment.acme.at(address)).from(ADMINISTRATOR);
        deployment.acme.ask(&retrieve).rsc() == Some(4004)
    });
}
