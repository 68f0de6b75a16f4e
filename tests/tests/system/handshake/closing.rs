//! The end of associations. A complete request is executed and answered, an incomplete one is not
//! executed, and a response is not lost at the close.

use std::net::TcpStream;

use saegis_tests::certificates::{Identity, Pki, TlsProfile};
use saegis_tests::{
    BOUND, Gateway, LIGHT1, Light, Mark, Offer, Reply, Request, Setup, Tool, Upstream,
};
use serde_json::json;

const OWN: &str = "Clight-AE1";

/// A gateway for keys and certificates with a registered light 1.
struct Scene {
    gateway: Gateway,
    identity: Identity,
    _pki: Pki,
}

/// The credentials of light 1: its key, or its certificate with each profile.
const PROFILES: [Option<TlsProfile>; 4] =
    [None, Some(TlsProfile::Tls13), Some(TlsProfile::Tls12), Some(TlsProfile::Mandated)];

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

    fn light(&self, profile: Option<TlsProfile>) -> Light {
        let socket = TcpStream::connect(("127.0.0.1", self.gateway.port())).unwrap();
        let connected = match profile {
            None => Light::over(socket, LIGHT1, BOUND),
            Some(profile) => Light::with_certificate(socket, &self.identity, profile, BOUND),
        };
        connected.unwrap_or_else(|e| panic!("{profile:?}: {e}"))
    }

    /// Returns whether a container of that name exists.
    fn has(&self, name: &str) -> bool {
        let own = Request::retrieve(&format!("/cse/light1/{name}")).from(OWN);
        self.light(None).ask(&own).unwrap().rsc() == Some(2000)
    }
}

fn container(name: &str) -> Request {
    Request::create_container("/cse/light1", name).from(OWN)
}

/// The client sends FIN after a request, with or without close_notify.
#[test]
fn request_of_half_closed_client_is_answered() {
    let scene = Scene::with_a_container();
    for profile in PROFILES {
        for nth in 0..20 {
            let name = format!(
                "c{nth}-{}",
                profile.map_or("key".into(), |profile| format!("{profile:?}"))
            );
            let mut light = scene.light(profile);
            light.send(&container(&name).bytes()).unwrap();
            if nth % 4 == 3 {
                light.close_notify().unwrap();
            }
            light.half_close().unwrap();
            let answer = light.read().unwrap_or_else(|e| panic!("{name}: {e}"));
            answer.expect(201, 2001);
            assert!(scene.has(&name), "{name}");
        }
        // hyper passes on a request without content before it reads further.
        for _ in 0..5 {
            let mut light = scene.light(profile);
            let own = Request::retrieve("/cse/light1").from(OWN);
            light.send(&own.bytes()).unwrap();
            light.half_close().unwrap();
            light.read().unwrap_or_else(|e| panic!("{profile:?}: {e}")).expect(200, 2000);
        }
    }
}

/// The gateway does not execute an incomplete request, wherever it ends.
#[test]
fn incomplete_request_is_not_executed() {
    let scene = Scene::with_a_container();
    for profile in PROFILES {
        let name =
            format!("half-{}", profile.map_or("key".into(), |profile| format!("{profile:?}")));
        let whole = container(&name).bytes();
        for length in [1, 40, whole.len() - 30, whole.len() - 1] {
            let mut light = scene.light(profile);
            light.send(&whole[..length]).unwrap();
            light.half_close().unwrap();
            match light.read() {
                Ok(answer) => assert_eq!(answer.status(), 400, "{profile:?} {length} {answer:?}"),
                Err(_) => continue,
            }
        }
        assert!(!scene.has(&name), "{name}");
    }
}

/// A half-closed peer cannot be distinguished from one that is gone, so the gateway closes the
/// connection soon.
#[test]
fn half_closed_association_ends_soon() {
    let upstream = Upstream::start(Reply::Pending);
    let scene = Scene::start(|setup| {
        setup.upstream(upstream.port()).with("limits", "upstream-seconds = 600")
    });
    for profile in PROFILES {
        let mark = scene.gateway.log().mark();
        let mut light = scene.light(profile);
        light.send(&Request::retrieve("/cse/x").from(OWN).bytes()).unwrap();
        light.half_close().unwrap();
        let ended = scene.gateway.log().wait_after(mark, "association.ended");
        assert_eq!(ended.text("why"), "closed", "{profile:?}");
        assert!(light.read().is_err(), "{profile:?}");
    }
}

/// With `Connection: close`, the response always arrives before close_notify.
#[test]
fn response_is_sent_before_close_notify() {
    let scene = Scene::with_a_container();
    let request = |nth: usize| {
        let request = match nth % 3 {
            0 => Request::retrieve("/cse/light1/lamp").from(OWN),
            1 => Request::create_instance("/cse/light1/lamp", "on").from(OWN),
            _ => Request::update("/cse/light1/lamp", &json!({"m2m:cnt": {"lbl": ["x"]}})).from(OWN),
        };
        request.header("Connection", "close")
    };
    for profile in PROFILES {
        for nth in 0..60 {
            let mut light = scene.light(profile);
            let answer =
                light.ask(&request(nth)).unwrap_or_else(|e| panic!("{profile:?} {nth}: {e}"));
            assert!(answer.status() < 300, "{profile:?} {answer:?}");
            light.ended().unwrap_or_else(|e| panic!("{profile:?} {nth}: {e}"));
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
