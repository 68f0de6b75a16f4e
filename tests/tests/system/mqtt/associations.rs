//! MQTT over associations of each framework: pre-shared keys, certificates, and keys of a MAF in
//! [`crate::maf`].

use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use saegis_test_ca::{Authority, Name, Request as Certificate, Validity};
use saegis_tests::certificates::{Identity, Pki, TlsProfile};
use saegis_tests::{BOUND, Credential, Gateway, LIGHT1, LIGHT2, Light, Mqtt, Setup, mqtt};
use serde_json::json;

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
