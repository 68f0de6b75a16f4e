//! `saegis ae --binding websocket`.

use saegis_tests::{Ae, BOUND, LIGHT1, Setup};
use serde_json::Value;

#[test]
fn ae_uses_verbs_over_websocket() {
    let gateway = Setup::new().start();
    let ae = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1");
    let run = |verb: &[&str]| ae.run(&[&["--binding", "websocket"], verb].concat());
    run(&["register"]).expect(0);
    run(&["create", "container", "lamp"]).expect(0);
    run(&["send", "lamp", "on"]).expect(0);
    let latest = run(&["latest", "lamp"]).expect(0);
    assert!(latest.out.trim_end().ends_with("on"), "{latest:?}");
    let shown = ae.run_json(&["--binding", "websocket", "show"]).expect(0);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    // It can be notified over its connection.
    assert_eq!(shown["content"]["m2m:ae"]["rr"], true);
    // A refusal is the registrar's.
    run(&["create", "container", "lamp"]).expect(4);
    run(&["deregister"]).expect(0);
}

#[test]
fn watch_prints_notifications_until_interrupted() {
    let gateway = Setup::new().start();
    let ae = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1");
    ae.run(&["--binding", "websocket", "register"]).expect(0);
    ae.run(&["create", "container", "lamp"]).expect(0);
    let mut watch = ae.start(&["--binding", "websocket", "watch", "lamp"]);
    let printed = |line: &str| {
        let found = watch.out.wait(BOUND, |bytes, ended| {
            let text = String::from_utf8_lossy(bytes);
            let found = text.lines().any(|l| l.starts_with(line));
            (found || ended).then_some(found)
        });
        assert_eq!(found, Some(true), "no {line}: {}", watch.out.text());
    };
    printed("watching ");
    for value in ["on", "off"] {
        ae.run(&["send", "lamp", value]).expect(0);
        printed(value);
    }
    watch.signal("INT");
    assert!(watch.wait(BOUND).is_some_and(|status| status.success()), "{}", watch.err.text());
}

#[test]
fn watch_needs_websocket() {
    let gateway = Setup::new().start();
    let ae = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1");
    let refused = ae.run(&["watch", "lamp"]).expect(2);
    assert!(refused.err.contains("--binding websocket"), "{refused:?}");
}
