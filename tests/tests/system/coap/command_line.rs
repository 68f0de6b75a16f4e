//! `saegis ae --binding coap`.

use saegis_tests::{Ae, BOUND, Gateway, LIGHT1, LIGHT2, Mark, Setup};
use serde_json::Value;

fn light(gateway: &Gateway) -> Ae<'_> {
    Ae::at(gateway.coap_port(), gateway, "Clight-AE1", LIGHT1, "light1")
}

#[test]
fn ae_uses_verbs_over_coap() {
    let gateway = Setup::new().with_coap().start();
    let ae = light(&gateway);
    let run = |verb: &[&str]| ae.run(&[&["--binding", "coap"], verb].concat());
    let registered = run(&["register"]).expect(0);
    assert!(registered.out.contains("DTLSv1.2"), "{registered:?}");
    run(&["create", "container", "lamp"]).expect(0);
    // The second one is sent and fetched in blocks.
    for value in ["on".to_string(), "x".repeat(20_000)] {
        run(&["send", "lamp", &value]).expect(0);
        let latest = run(&["latest", "lamp"]).expect(0);
        assert!(latest.out.trim_end().ends_with(&value), "{latest:?}");
    }
    let shown = ae.run_json(&["--binding", "coap", "show"]).expect(0);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["content"]["m2m:ae"]["rr"], true);
    // A refusal is the registrar's.
    run(&["create", "container", "lamp"]).expect(4);
    run(&["deregister"]).expect(0);
    // The registrar learns each end.
    let ended = gateway.log().all(Mark::START, "association.ended", 8);
    assert!(ended.iter().all(|event| event.text("why") == "closed"), "{ended:?}");
}

#[test]
fn wrong_key_over_coap_is_reported() {
    let gateway = Setup::new().with_coap().start();
    let (port, wrong) = (gateway.coap_port(), "00000000000000001111111111111111");
    let credential = saegis_tests::Credential { key: wrong, ..LIGHT2 };
    let ae = Ae::at(port, &gateway, "Clight-AE2", credential, "light2");
    let refused = ae.run(&["--binding", "coap", "register"]).expect(3);
    assert!(refused.err.contains("another Kpsa"), "{refused:?}");
}

#[test]
fn watch_prints_notifications_over_coap() {
    let gateway = Setup::new().with_coap().start();
    let ae = light(&gateway);
    let run = |verb: &[&str]| ae.run(&[&["--binding", "coap"], verb].concat());
    run(&["register"]).expect(0);
    run(&["create", "container", "lamp"]).expect(0);
    let mut watch = ae.start(&["--binding", "coap", "watch", "lamp"]);
    let printed = |line: &str| {
        let found = watch.out.wait(BOUND, |bytes, ended| {
            let text = String::from_utf8_lossy(bytes);
            let found = text.lines().any(|l| l.starts_with(line));
            (found || ended).then_some(found)
        });
        assert_eq!(found, Some(true), "no {line}: {}", watch.out.text());
    };
    printed("watching ");
    // The requests come over HTTP, so that the association of the watcher stays the last one.
    let sender = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1-over-http");
    let large = "y".repeat(5000);
    for value in ["on", "off", &large] {
        sender.run(&["send", "/mn-cse-123456/cse/light1/lamp", value]).expect(0);
        printed(value);
    }
    watch.signal("INT");
    assert!(watch.wait(BOUND).is_some_and(|status| status.success()), "{}", watch.err.text());
}
