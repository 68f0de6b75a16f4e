//! MQTT clients of other projects: `paho-mqtt` of Python and MQTT.js of JavaScript.

use saegis_tests::certificates::{GATEWAY_NAME, Pki, credential};
use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Script, Setup};
use serde_json::{Value, json};

fn with_key(gateway: &Gateway, kind: &str, credential: Credential<'_>) -> Value {
    json!({"binding": "mqtt", "port": gateway.mqtt_port(), "type": kind,
        "identity": credential.identity, "key": credential.key,
        "credential": format!("12-{}", credential.identity)})
}

#[test]
fn mqtt_lights_in_two_languages_use_keys() {
    let gateway = Setup::new().with_mqtt().start();
    for script in Script::all() {
        for kind in ["json", "cbor"] {
            let seen = script.assert_works(&with_key(&gateway, kind, LIGHT1));
            assert_eq!(seen["protocol"], "TLSv1.2", "{seen}");
            assert_eq!(seen["suite"], "PSK-AES128-CBC-SHA256", "{seen}");
        }
    }
}

#[test]
fn mqtt_lights_in_two_languages_use_certificates() {
    let pki = Pki::new();
    let gateway = pki.setup().with_mqtt().start();
    let light = pki.identity(&pki.example.ae);
    for script in Script::all() {
        let settings = json!({"binding": "mqtt", "port": gateway.mqtt_port(),
            "server_name": GATEWAY_NAME, "anchor": pki.anchor(), "chain": light.chain,
            "private_key": light.key, "credential": credential::AE.replace('/', ":")});
        let seen = script.assert_works(&settings);
        assert_eq!(seen["protocol"], "TLSv1.3", "{seen}");
    }
}

/// The Client Identifier of these lights is that of light 1.
#[test]
fn mqtt_lights_with_other_credentials_are_refused() {
    let gateway = Setup::new().with_mqtt().start();
    let wrong = Credential { key: "1a2b3c4d5e6f7a8c", ..LIGHT1 };
    for script in Script::all() {
        let mark = gateway.log().mark();
        let refused = script.run(&with_key(&gateway, "json", wrong)).expect(1);
        assert!(refused.out.is_empty(), "{refused:?}");
        gateway.handshake_refused(mark);
        let refused = script.run(&with_key(&gateway, "json", LIGHT2)).expect(1);
        assert!(refused.err.to_lowercase().contains("identifier"), "{refused:?}");
    }
}
