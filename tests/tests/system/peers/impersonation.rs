//! Repeated impersonation attempts of peers, while registrations change and allowances are cached.

use saegis_tests::{Credential, Gateway, LIGHT1, Request, Setup, Tool};
use serde_json::json;

use super::pair::{LIGHT, MN, Pair, Saef};

/// A CSE that registers at the home gateway, and the credential of the home gateway's registrar
/// CSE.
const ASN: Credential<'static> =
    Credential { identity: "asn@in.provider.com", key: "a10e0d0c0b0a09080706050403020100" };
const REGISTRAR: Credential<'static> =
    Credential { identity: "in@in.provider.com", key: "ff0e0d0c0b0a09080706050403020100" };

fn with_rows(setup: &Setup, rows: &str) {
    let table = std::fs::read_to_string(setup.table()).unwrap() + rows;
    setup.write("policies/psk-lookup-table.csv", table.as_bytes());
}

fn register(gateway: &Gateway, cse: &str, credential: Credential<'_>) -> saegis_tests::Client {
    let mut peer = Tool::OpenSsl.connect(gateway.port(), credential);
    let csr = json!({ "m2m:csr": {
        "rn": cse, "csi": format!("/{cse}"), "cb": format!("/{cse}/cse"), "rr": false,
    }});
    let base = Request::create("/cse", 16, &csr).from(&format!("/{cse}"));
    peer.ask(&base).expect(201, 2001);
    peer
}

#[test]
fn registrar_cse_cannot_impersonate_registrees() {
    let pair = Pair::new(Saef::Psk);
    with_rows(&pair.home, &format!(",asn,{},{}\n", ASN.key, ASN.identity));
    let (_infrastructure, home) = pair.start();
    let mut registrar = Tool::OpenSsl.connect(home.port(), REGISTRAR);
    let base = Request::retrieve("/cse").from("/asn");
    // An unknown CSE may be behind the registrar CSE, and the allowance is cached.
    registrar.ask(&base).expect(200, 2000);
    registrar.ask(&base).expect(200, 2000);
    let _asn = register(&home, "asn", ASN);
    for from in ["/asn", "/asn/Cx", "//in.provider.com/asn"] {
        for _ in 0..3 {
            registrar.ask(&Request::retrieve("/cse").from(from)).expect_refusal(403, 4106);
        }
    }
}

/// An S-type AE-ID names no CSE, but it is assigned all the same.
#[test]
fn cse_may_use_its_own_s_type_originators_only() {
    let pair = Pair::new(Saef::Psk);
    with_rows(
        &pair.home,
        &format!(",asn,{},{}\nSlight,,1a2b3c,s@in.provider.com\n", ASN.key, ASN.identity),
    );
    let (infrastructure, home) = pair.start();
    let mut asn = register(&home, "asn", ASN);
    // The table assigns this AE-ID, for local and forwarded requests.
    for to in ["/cse", "/~/in-cse/cse"] {
        for from in ["/Slight", "//in.provider.com/Slight"] {
            asn.ask(&Request::retrieve(to).from(from)).expect_refusal(403, 4106);
        }
    }
    // The IN-CSE accepts an announced AE-ID only from the CSE that announced it.
    let mn = Credential { identity: "mn@in.provider.com", key: "0f0e0d0c0b0a09080706050403020100" };
    let mut mn = Tool::OpenSsl.connect(infrastructure.port(), mn);
    mn.ask(&Request::retrieve("/cse").from("/Snobody")).expect_refusal(403, 4106);
    let announced = json!({ "m2m:aeA": { "api": "Nlight", "lbl": ["Credential-ID:12-s@x.y"] } });
    let announced = Request::create("/cse", 10002, &announced);
    mn.ask(&announced.from(&format!("/{MN}/Smine"))).expect(201, 2001);
    mn.ask(&Request::retrieve("/cse").from("/Smine")).expect(200, 2000);
    mn.ask(&Request::retrieve("/cse").from("/Sother")).expect_refusal(403, 4106);
}

#[test]
fn request_of_unregistered_ae_is_not_forwarded() {
    let (_infrastructure, home) = Pair::new(Saef::Psk).start();
    let mut light = Tool::GnuTls.connect(home.port(), LIGHT1);
    let base = Request::retrieve("/~/in-cse/cse").from(LIGHT);
    light.ask(&base).expect_refusal(403, 4106);
    light.ask(&Request::create_ae("light1").from(LIGHT)).expect(201, 2001);
    light.ask(&base).expect_refusal(403, 4103);
    light.ask(&Request::delete("/cse/light1").from(LIGHT)).expect(200, 2002);
    light.ask(&base).expect_refusal(403, 4106);
}
