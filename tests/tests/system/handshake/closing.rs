//! How associations end: a request that has come whole is carried out and answered, or neither, and an
//! answer is not lost at a close.

use std::net::TcpStream;

use saegis_tests::certificates::{Identity, Pki, Way};
use saegis_tests::{
    BOUND, Gateway, LIGHT1, Light, Mark, Offer, Reply, Request, Setup, Tool, Upstream,
};
use serde_json::json;

const OWN: &str = "Clight-AE1";

/// A gateway that takes keys and certificates, at which light 1 has registered.
struct Scene {
    gateway: Gateway,
    identity: Identity,
    _pki: Pki,
}

/// How light 1 comes: with its key, or with a certificate by one of the engines.
const WAYS: [Option<Way>; 4] = [None, Some(Way::Tls13), Some(Way::Tls12), Some(Way::Mandated)];

impl Scene {
    fn start(setup: impl FnOnce(Setup) -> Setup) -> Self {
        let pki = Pki::new();
        let identity = pki.identity(&pki.example.ae);
        let gateway = setup(pki.setup()).start();
        Self { gateway, identity, _pki: pki }
    }

    fn with_a_container() -> Self {
        let scene = Self::start(|setup| setup);
        let mut light = scene.light(None);
        light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
        let container = Request::create_container("/cse/light1", "lamp").from(OWN);
        light.ask(&container).unwrap().expect(201, 2001);
        scene
    }

    fn light(&self, way: Option<Way>) -> Light {
        let socket = TcpStream::connect(("127.0.0.1", self.gateway.port())).unwrap();
        let connected = match way {
            None => Light::over(socket, LIGHT1, BOUND),
            Some(way) => Light::with_certificate(socket, &self.identity, way, BOUND),
        };
        connected.unwrap_or_else(|e| panic!("{way:?}: {e}"))
    }

    /// Whether a container of that name is there.
    fn has(&self, name: &str) -> bool {
        let own = Request::retrieve(&format!("/cse/light1/{name}")).from(OWN);
        self.light(None).ask(&own).unwrap().rsc() == Some(2000)
    }
}

fn container(name: &str) -> Request {
    Request::create_container("/cse/light1", name).from(OWN)
}

/// FIN, with close_notify before it or without, right behind a request.
#[test]
fn a_request_is_answered_to_who_has_closed_its_end() {
    let scene = Scene::with_a_container();
    for way in WAYS {
        for nth in 0..20 {
            let name = format!("c{nth}-{}", way.map_or("key".into(), |way| format!("{way:?}")));
            let mut light = scene.light(way);
            light.send(&container(&name).bytes()).unwrap();
            if nth % 4 == 3 {
                light.close_notify().unwrap();
            }
            light.half_close().unwrap();
            let answer = light.read().unwrap_or_else(|e| panic!("{name}: {e}"));
            answer.expect(201, 2001);
            assert!(scene.has(&name), "{name}");
        }
        // Without content, which hyper hands on before it looks for more.
        for _ in 0..5 {
            let mut light = scene.light(way);
            let own = Request::retrieve("/cse/light1").from(OWN);
            light.send(&own.bytes()).unwrap();
            light.half_close().unwrap();
            light.read().unwrap_or_else(|e| panic!("{way:?}: {e}")).expect(200, 2000);
        }
    }
}

/// What has not come whole is not carried out, wherever it ends.
#[test]
fn half_a_request_is_carried_out_by_nobody() {
    let scene = Scene::with_a_container();
    for way in WAYS {
        let name = format!("half-{}", way.map_or("key".into(), |way| format!("{way:?}")));
        let whole = container(&name).bytes();
        for length in [1, 40, whole.len() - 30, whole.len() - 1] {
            let mut light = scene.light(way);
            light.send(&whole[..length]).unwrap();
            light.half_close().unwrap();
            match light.read() {
                Ok(answer) => assert_eq!(answer.status(), 400, "{way:?} {length} {answer:?}"),
                Err(_) => continue,
            }
        }
        assert!(!scene.has(&name), "{name}");
    }
}

/// Nobody can tell a peer that waits from one that is gone, so it does not wait for long.
#[test]
fn half_closed_peer_is_waited_for_briefly() {
    let upstream = Upstream::start(Reply::Held);
    let scene = Scene::start(|setup| {
        setup.upstream(upstream.port()).with("limits", "upstream-seconds = 600")
    });
    for way in WAYS {
        let mark = scene.gateway.log().mark();
        let mut light = scene.light(way);
        light.send(&Request::retrieve("/cse/x").from(OWN).bytes()).unwrap();
        light.half_close().unwrap();
        let ended = scene.gateway.log().wait_after(mark, "association.ended");
        assert_eq!(ended.text("why"), "closed", "{way:?}");
        assert!(light.read().is_err(), "{way:?}");
    }
}

/// `Connection: close`: the answer comes before close_notify, every time.
#[test]
fn an_answer_comes_before_the_close() {
    let scene = Scene::with_a_container();
    let request = |nth: usize| {
        let request = match nth % 3 {
            0 => Request::retrieve("/cse/light1/lamp").from(OWN),
            1 => Request::create_instance("/cse/light1/lamp", "on").from(OWN),
            _ => Request::update("/cse/light1/lamp", &json!({"m2m:cnt": {"lbl": ["x"]}})).from(OWN),
        };
        request.header("Connection", "close")
    };
    for way in WAYS {
        for nth in 0..60 {
            let mut light = scene.light(way);
            let answer = light.ask(&request(nth)).unwrap_or_else(|e| panic!("{way:?} {nth}: {e}"));
            assert!(answer.status() < 300, "{way:?} {answer:?}");
            light.ended().unwrap_or_else(|e| panic!("{way:?} {nth}: {e}"));
        }
    }
    for tool in [Tool::OpenSsl, Tool::GnuTls] {
        for offer in [Offer::MANDATED, Offer::GCM] {
            for nth in 0..5 {
                let connected = tool.try_connect(scene.gateway.port(), LIGHT1, offer);
                let mut light = connected.unwrap_or_else(|e| panic!("{tool:?}: {e:?}"));
                assert!(light.ask(&request(nth)).status() < 300);
                assert_eq!(light.ended().find("HTTP/"), None);
            }
        }
    }
    let refused = scene.gateway.log().all(Mark::START, "request.refused", 0);
    assert!(refused.is_empty(), "{refused:?}");
}
