//! WebSocket clients of other projects: `websockets` of Python and `ws` of JavaScript.

use saegis_tests::certificates::{GATEWAY_NAME, Pki};
use saegis_tests::{Credential, Gateway, LIGHT1, Script, Setup};
use serde_json::{Value, json};

fn with_key(gateway: &Gateway, subprotocol: &str, credential: Credential<'_>) -> Value {
    json!({"binding": "websocket", "port": gateway.port(), "subprotocol": subprotocol,
        "identity": credential.identity, "key": credential.key})
}

#[test]
fn lights_in_python_and_javascript_use_keys() {
    let gateway = Setup::new().start();
    for script in Script::all() {
        for subprotocol in ["oneM2M.json", "oneM2M.cbor", "oneM2M.R2.0.json"] {
            let seen = script.assert_works(&with_key(&gateway, subprotocol, LIGHT1));
            assert_eq!(seen["protocol"], "TLSv1.2", "{seen}");
            assert_eq!(seen["suite"], "PSK-AES128-CBC-SHA256", "{seen}");
        }
    }
}

#[test]
fn lights_in_python_and_javascript_use_certificates() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let light = pki.identity(&pki.example.ae);
    for script in Script::all() {
        for subprotocol in ["oneM2M.json", "oneM2M.cbor"] {
            let settings = json!({"binding": "websocket", "port": gateway.port(),
                "subprotocol": subprotocol, "server_name": GATEWAY_NAME, "anchor": pki.anchor(),
                "chain": light.chain, "private_key": light.key});
            let seen = script.assert_works(&settings);
            assert_eq!(seen["protocol"], "TLSv1.3", "{seen}");
        }
    }
}

#[test]
fn lights_with_wrong_key_are_refused() {
    let gateway = Setup::new().start();
    let wrong = Credential { key: "1a2b3c4d5e6f7a8c", ..LIGHT1 };
    for script in Script::all() {
        let mark = gateway.log().mark();
        let refused = script.run(&with_key(&gateway, "oneM2M.json", wrong)).expect(1);
        assert!(refused.out.is_empty(), "{refused:?}");
        gateway.handshake_refused(mark);
    }
}

#[test]
fn lights_with_unknown_subprotocol_are_refused() {
    let gateway = Setup::new().start();
    for script in Script::all() {
        let refused = script.run(&with_key(&gateway, "oneM2M.xml", LIGHT1)).expect(1);
        assert!(refused.err.contains("400"), "{refused:?}");
    }
}
