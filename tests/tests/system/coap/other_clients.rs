//! CoAP clients of other projects besides libcoap: aiocoap with tinydtls, Mbed TLS 3.5, and
//! python-mbedtls. TD_M2M_SE_01 with the suite for constrained devices, and its negative twins.

use std::fs;

use saegis_tests::{
    CoapMessage, Credential, DtlsLibrary, Gateway, LIGHT1, LIGHT2, Mark, Setup, aiocoap, repository,
};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const CSE: &str = "~/mn-cse-123456/cse";
const SUITE: &str = "TLS_PSK_WITH_AES_128_CCM_8";

/// A light whose identity is short enough for tinydtls, which has 32 bytes for it.
const SHORT: Credential<'static> =
    Credential { identity: "AE3-Light@in.provider.com", key: "00112233445566778899aabbccddeeff" };

fn start() -> Gateway {
    let setup = Setup::new().with_coap().with("coap", &format!("suites = [\"{SUITE}\"]"));
    let setup = setup.with("limits", "handshake-seconds = 2").with_metrics();
    let mut table = fs::read_to_string(setup.table()).unwrap();
    table.push_str(&format!("Clight-AE3,{},{}\n", SHORT.key, SHORT.identity));
    let rules =
        fs::read_to_string(repository().join("policies/service-subscription.toml")).unwrap();
    let setup = setup.file("service-subscription.toml", &rules);
    let setup = setup.module("app-rules", "capabilities = [\"service-subscription\"]");
    setup.file("psk-lookup-table.csv", &table).start()
}

/// Registers, writes and reads in blocks, and is refused another originator and another App-ID.
#[test]
fn light_of_aiocoap_works() {
    let gateway = start();
    let light = |credential: Credential<'_>, seconds: u8| {
        aiocoap(&json!({"port": gateway.coap_port(), "from": "Clight-AE3", "timeout": seconds,
            "identity": credential.identity, "key": credential.key}))
    };
    let Some(ran) = light(SHORT, 15) else { return };
    let seen = ran.expect(0).json();
    assert_eq!(seen, json!({"registered": "Clight-AE3", "values": [true, true]}));
    let established = gateway.log().wait("association.established");
    assert_eq!(established.text("suite"), SUITE);
    for (credential, cause) in [
        (Credential { key: LIGHT1.key, ..SHORT }, "wrong-key"),
        (Credential { identity: "nobody@in.provider.com", ..SHORT }, "unknown-identity"),
    ] {
        let mark = gateway.log().mark();
        let refused = light(credential, 4).unwrap().expect(1);
        assert!(refused.out.is_empty(), "{refused:?}");
        assert_eq!(gateway.handshake_refused(mark).text("cause"), cause);
    }
}

#[test]
fn lights_of_mbedtls_work() {
    for library in DtlsLibrary::ALL {
        let gateway = start();
        let Some(connected) = library.connect(gateway.coap_port(), LIGHT1) else { continue };
        let mut light = connected.unwrap_or_else(|e| panic!("{library:?}: {e}"));
        let established = gateway.log().wait("association.established");
        assert_eq!(established.text("suite"), SUITE);
        let ae = |app: &str| json!({"m2m:ae": {"rn": "light1", "api": app, "rr": false}});
        light.ask(&CoapMessage::create(CSE, OWN, 2, &ae("Nother"))).expect(0x83, 4126);
        light.ask(&CoapMessage::create(CSE, OWN, 2, &ae("Nlight"))).expect(0x41, 2001);
        let (own, lamp) = (format!("{CSE}/light1"), format!("{CSE}/light1/lamp"));
        let cnt = json!({"m2m:cnt": {"rn": "lamp"}});
        light.ask(&CoapMessage::create(&own, OWN, 3, &cnt)).expect(0x41, 2001);
        let cin = json!({"m2m:cin": {"con": "on"}});
        light.ask(&CoapMessage::create(&lamp, OWN, 4, &cin)).expect(0x41, 2001);
        let latest = light.ask(&CoapMessage::retrieve(&format!("{lamp}/la"), OWN));
        assert_eq!(latest.expect(0x45, 2000).json()["m2m:cin"]["con"], "on");
        light.ask(&CoapMessage::retrieve(&own, "Clight-AE2")).expect(0x83, 4106);
        // Only the client of Mbed TLS 3 offers a Connection ID, which the gateway declines.
        let offered = gateway.monitor("/metrics").value("saegis_connection_ids_offered_total");
        assert_eq!(offered > 0.0, library == DtlsLibrary::MbedTls);
    }
}

#[test]
fn wrong_key_and_unknown_identity_get_no_association_with_mbedtls() {
    let gateway = start();
    let wrong = Credential { key: LIGHT2.key, ..LIGHT1 };
    let unknown = Credential { identity: "nobody@in.provider.com", ..LIGHT1 };
    for library in DtlsLibrary::ALL {
        for (credential, cause) in [(wrong, "wrong-key"), (unknown, "unknown-identity")] {
            let mark = gateway.log().mark();
            let Some(refused) = library.connect(gateway.coap_port(), credential) else { continue };
            assert!(refused.is_err(), "{library:?}");
            assert_eq!(gateway.handshake_refused(mark).text("cause"), cause);
        }
    }
    assert!(gateway.log().all(Mark::START, "association.established", 0).is_empty());
}
