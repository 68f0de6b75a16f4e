//! `saegis ae` over WebSocket and MQTT.

use saegis_tests::{Ae, BOUND, CommandOutput, Credential, Gateway, LIGHT1, LIGHT2, Setup};

#[derive(Clone, Copy)]
enum Binding {
    WebSocket,
    Mqtt,
}

/// An AE with the name of light 1.
struct Light1<'a> {
    ae: Ae<'a>,
    binding: &'static str,
}

impl<'a> Light1<'a> {
    fn new(gateway: &'a Gateway, binding: Binding, credential: Credential<'_>) -> Self {
        let (port, binding) = match binding {
            Binding::WebSocket => (gateway.port(), "websocket"),
            Binding::Mqtt => (gateway.mqtt_port(), "mqtt"),
        };
        Self { ae: Ae::at(port, gateway, "Clight-AE1", credential, "light1"), binding }
    }

    fn run(&self, verb: &[&str]) -> CommandOutput {
        self.ae.run(&[&["--binding", self.binding], verb].concat())
    }
}

fn verbs_work(binding: Binding) {
    let gateway = Setup::new().with_mqtt().start();
    let light = Light1::new(&gateway, binding, LIGHT1);
    light.run(&["register"]).expect(0);
    light.run(&["create", "container", "lamp"]).expect(0);
    light.run(&["send", "lamp", "on"]).expect(0);
    let latest = light.run(&["latest", "lamp"]).expect(0);
    assert!(latest.out.trim_end().ends_with("on"), "{latest:?}");
    let shown = light.run(&["--json", "show"]).expect(0).json();
    // It can be notified over its connection.
    assert_eq!(shown["content"]["m2m:ae"]["rr"], true);
    // A refusal is the registrar's.
    light.run(&["create", "container", "lamp"]).expect(4);
    light.run(&["deregister"]).expect(0);
}

/// The AE sends its values over HTTP.
fn watch_works_until_interrupted(binding: Binding) {
    let gateway = Setup::new().with_mqtt().start();
    let light = Light1::new(&gateway, binding, LIGHT1);
    light.run(&["register"]).expect(0);
    light.run(&["create", "container", "lamp"]).expect(0);
    let mut watch = light.ae.start(&["--binding", light.binding, "watch", "lamp"]);
    let printed = |line: &str| {
        let found = watch.out.wait(BOUND, |bytes, ended| {
            let text = String::from_utf8_lossy(bytes);
            let found = text.lines().any(|l| l.starts_with(line));
            (found || ended).then_some(found)
        });
        let (out, err) = (watch.out.text(), watch.err.text());
        assert_eq!(found, Some(true), "no {line}: {out}{err}");
    };
    printed("watching ");
    let http = Ae::new(&gateway, "Clight-AE1", LIGHT1, "http");
    for value in ["on", "off"] {
        http.run(&["send", "/mn-cse-123456/cse/light1/lamp", value]).expect(0);
        printed(value);
    }
    watch.signal("INT");
    assert!(watch.wait(BOUND).is_some_and(|status| status.success()), "{}", watch.err.text());
}

/// An interrupt that arrives together with a notification ends the command. Which of the two it takes
/// first is random.
fn interrupt_beside_notification_ends_watch(binding: Binding) {
    let gateway = Setup::new().with_mqtt().start();
    let light = Light1::new(&gateway, binding, LIGHT1);
    light.run(&["register"]).expect(0);
    light.run(&["create", "container", "lamp"]).expect(0);
    for _ in 0..8 {
        let mut watch = light.ae.start(&["--binding", light.binding, "watch", "lamp"]);
        let watches = watch.out.wait(BOUND, |bytes, ended| {
            let is_watching = String::from_utf8_lossy(bytes).contains("watching ");
            (ended || is_watching).then_some(is_watching)
        });
        assert_eq!(watches, Some(true), "{}", watch.err.text());
        watch.signal("STOP");
        gateway.switch_light1("on");
        watch.signal("INT");
        watch.signal("CONT");
        let status = watch.wait(BOUND);
        watch.err.wait(BOUND, |_, ended| ended.then_some(()));
        assert!(status.is_some_and(|s| s.success()), "{status:?}: {}", watch.err.text());
    }
}

/// The MQTT server refuses the Client Identifier. Over WebSocket the registration is refused.
fn credential_of_another_ae_is_refused(binding: Binding) {
    let gateway = Setup::new().with_mqtt().start();
    let refused = Light1::new(&gateway, binding, LIGHT2).run(&["register"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let own = Light1::new(&gateway, binding, LIGHT1);
    own.run(&["show"]).expect(4);
    own.run(&["register"]).expect(0);
}

mod websocket {
    use super::{
        Binding, credential_of_another_ae_is_refused, interrupt_beside_notification_ends_watch,
        verbs_work, watch_works_until_interrupted,
    };

    #[test]
    fn ae_uses_verbs_over_websocket() {
        verbs_work(Binding::WebSocket);
    }

    #[test]
    fn watch_over_websocket_prints_notifications() {
        watch_works_until_interrupted(Binding::WebSocket);
    }

    #[test]
    fn interrupt_beside_notification_ends_watch_over_websocket() {
        interrupt_beside_notification_ends_watch(Binding::WebSocket);
    }

    #[test]
    fn other_credential_is_refused_over_websocket() {
        credential_of_another_ae_is_refused(Binding::WebSocket);
    }
}

mod mqtt {
    use super::{
        Binding, credential_of_another_ae_is_refused, interrupt_beside_notification_ends_watch,
        verbs_work, watch_works_until_interrupted,
    };

    #[test]
    fn ae_uses_verbs_over_mqtt() {
        verbs_work(Binding::Mqtt);
    }

    #[test]
    fn watch_over_mqtt_prints_notifications() {
        watch_works_until_interrupted(Binding::Mqtt);
    }

    #[test]
    fn interrupt_beside_notification_ends_watch_over_mqtt() {
        interrupt_beside_notification_ends_watch(Binding::Mqtt);
    }

    #[test]
    fn other_credential_is_refused_over_mqtt() {
        credential_of_another_ae_is_refused(Binding::Mqtt);
    }
}

#[test]
fn watch_needs_a_binding_with_requests_to_aes() {
    let gateway = Setup::new().start();
    let ae = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1");
    let refused = ae.run(&["watch", "lamp"]).expect(2);
    assert!(refused.err.contains("--binding websocket"), "{refused:?}");
}
