//! The same requests to the embedded CSE, to ACME behind the gateway, and to ACME alone.
//! docs/src/explanation/conformance.md explains the differences.

use saegis_tests::{LIGHT1, Light, Request, Response, Setup};
use serde_json::json;

use crate::acme::Acme;
use crate::lights::create_ae;

const OWN: &str = "Clight-AE1";
const BASE: &str = "/~/mn-cse-123456/cse";

/// A request of an AE, and its Response Status Codes from the embedded CSE, from ACME behind the
/// gateway, and from ACME alone.
struct Behavior {
    what: &'static str,
    request: fn() -> Request,
    codes: [u16; 3],
}

fn below(path: &str) -> String {
    format!("{BASE}/{path}")
}

fn ae(api: &str, name: &str) -> Request {
    let content = json!({ "m2m:ae": { "rn": name, "api": api, "rr": false, "srv": ["3"] } });
    Request::create(BASE, 2, &content)
}

/// The order matters, because later requests depend on earlier ones.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn behaviors() -> Vec<Behavior> {
    let row = |what, codes, request| Behavior { what, request, codes };
    vec![
        row("a request before the registration", [4004, 4004, 4004], || {
            Request::retrieve(&below("light1")).from(OWN)
        }),
        row("an App-ID that starts with neither R nor N", [4000, 4000, 4000], || {
            ae("light", "light1").from(OWN)
        }),
        row("a registration without From, of an AE that has an AE-ID", [4106, 4106, 2001], || {
            ae("Nlight", "nobody")
        }),
        row("a registration as another AE", [4106, 4106, 2001], || {
            ae("Nlight", "other").from("Clight-AE2")
        }),
        row("a registration", [2001, 2001, 2001], || create_ae("light1").from(OWN)),
        row("the same again", [4117, 4117, 4117], || create_ae("again").from(OWN)),
        row("no From", [4000, 4000, 4000], || Request::retrieve(&below("light1"))),
        row("From as SP-relative AE-ID, from an AE", [4000, 4000, 2000], || {
            Request::retrieve(&below("light1")).from("/mn-cse-123456/Clight-AE1")
        }),
        row("From as absolute AE-ID, from an AE", [4000, 4000, 2000], || {
            Request::retrieve(&below("light1")).from("//in.provider.com/mn-cse-123456/Clight-AE1")
        }),
        row("From of another AE", [4106, 4106, 2000], || {
            Request::retrieve(&below("other")).from("Clight-AE2")
        }),
        row("From of nobody", [4106, 4106, 4103], || {
            Request::retrieve(&below("light1")).from("Cnobody")
        }),
        row("no request identifier", [4000, 4000, 4000], || {
            Request::retrieve(&below("light1")).from(OWN).without("X-M2M-RI")
        }),
        row("a release version that there is not", [4001, 4001, 4001], || {
            Request::retrieve(&below("light1"))
                .from(OWN)
                .without("X-M2M-RVI")
                .header("X-M2M-RVI", "99")
        }),
        row("what is there", [2000, 2000, 2000], || Request::retrieve(&below("light1")).from(OWN)),
        row("what is not there", [4004, 4004, 4004], || {
            Request::retrieve(&below("light1/none")).from(OWN)
        }),
        row("a container", [2001, 2001, 2001], || {
            Request::create_container(&below("light1"), "lamp").from(OWN)
        }),
        row("a container of a name that is taken", [4105, 4105, 4105], || {
            Request::create_container(&below("light1"), "lamp").from(OWN)
        }),
        row("a content instance", [2001, 2001, 2001], || {
            Request::create_instance(&below("light1/lamp"), "on").from(OWN)
        }),
        row("the latest", [2000, 2000, 2000], || {
            Request::retrieve(&below("light1/lamp/la")).from(OWN)
        }),
        row("a content instance is changed", [4005, 4005, 4005], || {
            let change = json!({ "m2m:cin": { "lbl": ["x"] } });
            Request::update(&below("light1/lamp/la"), &change).from(OWN)
        }),
        row("a content instance below an AE", [4108, 4108, 4108], || {
            Request::create_instance(&below("light1"), "on").from(OWN)
        }),
        row("an attribute that there is not", [4000, 4000, 4000], || {
            Request::update(&below("light1/lamp"), &json!({ "m2m:cnt": { "color": 1 } })).from(OWN)
        }),
        row("a label", [2004, 2004, 2004], || {
            Request::update(&below("light1/lamp"), &json!({ "m2m:cnt": { "lbl": ["x"] } }))
                .from(OWN)
        }),
        row("what has that label", [2000, 2000, 2000], || {
            Request::retrieve(&format!("{}?fu=1&lbl=x", below("light1"))).from(OWN)
        }),
        row("the CSEBase is deleted", [4103, 4005, 4005], || Request::delete(BASE).from(OWN)),
        row("a container is deleted", [2002, 2002, 2002], || {
            Request::delete(&below("light1/lamp")).from(OWN)
        }),
        row("the AE is deleted", [2002, 2002, 2002], || {
            Request::delete(&below("light1")).from(OWN)
        }),
        row("it is gone", [4004, 4004, 4004], || Request::retrieve(&below("light1")).from(OWN)),
    ]
}

/// Sends all requests to one of the three, and reports differences.
fn go_through(profile: usize, mut ask: impl FnMut(&Request) -> Response) {
    let mut otherwise = Vec::new();
    for behavior in behaviors() {
        let response = ask(&(behavior.request)());
        let (got, wanted) = (response.rsc(), behavior.codes[profile]);
        if got != Some(wanted) {
            otherwise.push(format!(
                "{}: {got:?}, not {wanted}: {}",
                behavior.what,
                response.text()
            ));
        }
    }
    assert!(otherwise.is_empty(), "\n{}", otherwise.join("\n"));
}

fn through_a_gateway(profile: usize, setup: Setup) {
    let gateway = setup.start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    go_through(profile, |request| light.exchange(request).unwrap());
}

#[test]
fn embedded_cse_gives_expected_responses() {
    through_a_gateway(0, Setup::new());
}

#[test]
fn acme_behind_the_gateway() {
    let acme = Acme::start();
    through_a_gateway(1, Setup::new().upstream(acme.port()));
}

#[test]
fn acme_alone() {
    let acme = Acme::start();
    go_through(2, |request| acme.ask(request));
}
