//! MQTT over associations of each framework: pre-shared keys, certificates, and keys of a MAF in
//! [`crate::maf`].

use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use saegis_test_ca::{Authority, Name, Request as Certificate, Validity};
use saegis_tests::certificates::{Identity, Pki, TlsProfile, credential};
use saegis_tests::{BOUND, Credential, Gateway, LIGHT1, LIGHT2, Light, Mqtt, Setup, mqtt};
use serde_json::{Value, json};

const PROFILES: [TlsProfile; 3] = [TlsProfile::Tls13, TlsProfile::Tls12, TlsProfile::Mandated];

fn connect(gateway: &Gateway, identity: &Identity, profile: TlsProfile) -> std::io::Result<Light> {
    let socket = TcpStream::connect(("127.0.0.1", gateway.mqtt_port()))?;
    Light::with_certificate(socket, identity, profile, BOUND)
}

/// Sends a CONNECT, and returns the code of the CONNACK.
fn connack(light: &mut Mqtt, client_id: &str) -> u8 {
    light.send(&mqtt::connect(client_id, 2, 60));
    let (first, rest) = light.read().expect("a CONNACK");
    assert_eq!(first, 0x20);
    rest[1]
}

#[test]
fn certificate_of_ae_authenticates_its_client() {
    let pki = Pki::new();
    let identity = pki.identity(&pki.example.ae);
    let gateway = pki.setup().with_mqtt().start();
    for profile in PROFILES {
        let mark = gateway.log().mark();
        let mut light = Mqtt::over(connect(&gateway, &identity, profile).expect("it is accepted"));
        let established = gateway.log().wait_after(mark, "association.established");
        assert_eq!(established.text("entity"), "AE Clight-AE1");
        assert_eq!(connack(&mut light, "A::Clight-AE1"), 0);
        assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE1/#"), 1);
        // The certificate names one AE, and its topics are the only ones.
        assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE2/#"), 0x80);
        let own = "/oneM2M/req/Clight-AE1/mn-cse-123456/json";
        light.expect(own, json!({"op": 2, "to": "cse/none", "fr": "Clight-AE1"}), 4004);
        light.expect(own, json!({"op": 2, "to": "cse/none", "fr": "Clight-AE2"}), 4106);
        light.disconnect();
        let other = connect(&gateway, &identity, profile).expect("it is accepted");
        assert_eq!(connack(&mut Mqtt::over(other), "A::Clight-AE2"), 2);
    }
}

#[test]
fn requests_arrive_in_topic_of_their_ae() {
    let pki = Pki::new();
    let rows = format!("credential_id,ae_ids\n{},Cone Ctwo\n", credential::DEVICE);
    let gateway = pki.setup().with_mqtt().file("certificate-table.csv", &rows).start();
    let identity = pki.identity(&pki.example.device);
    let light = connect(&gateway, &identity, TlsProfile::Tls13).expect("it is accepted");
    let mut device = Mqtt::over(light);
    assert_eq!(connack(&mut device, "A::Cone"), 0);
    for filter in ["/oneM2M/resp/Cone/#", "/oneM2M/resp/Ctwo/#", "/oneM2M/req/+/Cone/#"] {
        assert_eq!(device.subscribe(filter), 1, "{filter}");
    }
    let request = |ae: &str, to: &str, ty: u8, pc: Value| json!({"op": 1, "to": to, "fr": ae, "ty": ty, "pc": pc});
    let topic = |ae: &str| format!("/oneM2M/req/{ae}/mn-cse-123456/json");
    for (ae, name) in [("Cone", "one"), ("Ctwo", "two")] {
        let told = json!({"m2m:sub": {"rn": "told", "nu": [ae], "enc": {"net": [3]}}});
        let entity = json!({"m2m:ae": {"rn": name, "api": "Nlight", "rr": true, "srv": ["3"]}});
        let (own, lamp) = (format!("cse/{name}"), format!("cse/{name}/lamp"));
        for (to, ty, pc) in
            [("cse", 2, entity), (&*own, 3, json!({"m2m:cnt": {"rn": "lamp"}})), (&*lamp, 23, told)]
        {
            device.expect(&topic(ae), request(ae, to, ty, pc), 2001);
        }
    }
    let value = |value: &str| json!({"m2m:cin": {"con": value}});
    device.expect(&topic("Ctwo"), request("Ctwo", "cse/two/lamp", 4, value("2")), 2001);
    device.publish(
        &topic("Cone"),
        &json!({"op": 1, "to": "cse/one/lamp", "fr": "Cone", "ty": 4, "pc": value("1"),
            "rqi": "one", "rvi": "3"}),
    );
    // The response, and the notification for the first AE. That for the other one waits until it
    // subscribes.
    let expect_notification = |device: &mut Mqtt, ae: &str, value: &str| {
        let (topic, request) = loop {
            let (topic, message) = device.message();
            if message["op"] == 5 {
                break (topic, message);
            }
            assert_eq!(message["rsc"], 2001, "{message}");
        };
        assert_eq!(topic, format!("/oneM2M/req/mn-cse-123456/{ae}/json"));
        assert_eq!(request["to"], ae);
        assert_eq!(request["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], value);
        let response = json!({"rsc": 2000, "rqi": request["rqi"], "rvi": "3", "fr": ae});
        device.publish(&format!("/oneM2M/resp/mn-cse-123456/{ae}/json"), &response);
    };
    expect_notification(&mut device, "Cone", "1");
    assert_eq!(device.subscribe("/oneM2M/req/+/Ctwo/#"), 1);
    expect_notification(&mut device, "Ctwo", "2");
}

/// The end of an MQTT connection before its CONNECT shows no reason to the client.
#[test]
fn invalid_certificate_gets_no_mqtt_session() {
    let pki = Pki::new();
    let gateway = pki.setup().with_mqtt().start();
    let light =
        || Certificate::new("light").name(Name::uri("//in.provider.com/mn-cse-123456/Clight-AE1"));
    let hour = Duration::from_secs(3600);
    let past = Validity { from: SystemTime::now() - 2 * hour, until: SystemTime::now() - hour };
    let strangers = Authority::new(&Certificate::new("strangers")).unwrap();
    for (what, issued) in [
        ("of another authority", strangers.issue(&light())),
        ("expired", pki.example.ae_authority.issue(&light().valid(past))),
        ("without an entity", pki.example.ae_authority.issue(&Certificate::new("light"))),
    ] {
        let identity = pki.identity(&issued.unwrap());
        for profile in PROFILES {
            let mark = gateway.log().mark();
            // A TLS 1.3 client learns it after its own flight.
            if let Ok(light) = connect(&gateway, &identity, profile) {
                let mut light = Mqtt::over(light);
                light.try_send(&mqtt::connect("A::Clight-AE1", 2, 60));
                assert_eq!(light.read(), None, "{what} {profile:?}");
            }
            gateway.handshake_refused(mark);
        }
    }
}

#[test]
fn invalid_key_gets_no_mqtt_session() {
    let gateway = Setup::new().with_mqtt().start();
    let port = gateway.mqtt_port();
    let wrong = Credential { key: LIGHT2.key, ..LIGHT1 };
    let unknown = Credential { identity: "AE999-Light@in.provider.com", ..LIGHT1 };
    let mut alerts = Vec::new();
    for credential in [wrong, unknown] {
        let mark = gateway.log().mark();
        alerts.push(Light::connect(port, credential).err().expect("it is refused").to_string());
        gateway.handshake_refused(mark);
    }
    assert_eq!(alerts[0], alerts[1]);
    // Without TLS there is no answer.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.set_read_timeout(Some(BOUND)).unwrap();
    std::io::Write::write_all(&mut plain, &mqtt::connect("A::Clight-AE1", 2, 60)).unwrap();
    let mut read = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut read);
    assert!(read.first().is_none_or(|first| *first != 0x20), "{read:?}");
}
