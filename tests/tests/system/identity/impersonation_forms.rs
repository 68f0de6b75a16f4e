//! Forms of impersonation, as one table for all bindings. Each is refused with its status code and a
//! line of the audit trail, and nothing of it reaches the CSE.

use saegis_tests::{
    Association, Binding, Gateway, LIGHT1, Mark, Primitive, Reply, Setup, Upstream,
    with_each_binding,
};

with_each_binding!(
    originator_of_other_entity_is_refused,
    content_of_other_entity_is_refused,
    registration_of_other_entity_is_refused,
);

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

/// Originators of a request of light 1, with the status code of the refusal.
const ORIGINATORS: [(&str, u64); 24] = [
    (OTHER, 4106),
    ("Clight-AE3", 4106),
    ("Clight-AE", 4106),
    ("Clight-AE11", 4106),
    ("CLIGHT-AE1", 4106),
    ("C", 4106),
    ("S", 4106),
    ("clight-AE1x", 4000),
    ("/mn-cse-123456/Clight-AE1", 4000),
    ("/mn-cse-123456/Clight-AE2", 4000),
    ("//in.provider.com/mn-cse-123456/Clight-AE1", 4000),
    ("//in.provider.com/mn-cse-123456/Clight-AE2", 4000),
    ("/mn-cse-123456", 4000),
    ("//in.provider.com/mn-cse-123456", 4000),
    ("mn-cse-123456", 4000),
    ("/", 4000),
    ("//", 4000),
    ("", 4000),
    ("Clight-AE1/", 4000),
    ("Clight-AE1/x", 4000),
    ("C/light-AE1", 4000),
    ("Clight%2DAE1", 4000),
    ("\"Clight-AE1\"", 4000),
    ("Clight-AE1;x", 4000),
];

/// Originators that are lists, or have bytes beyond ASCII.
const MORE_ORIGINATORS: [&str; 4] = [
    "Clight-AE1, Clight-AE2",
    "Clight-AE1,Clight-AE2",
    "Clight-AE1 Clight-AE2",
    "Clight-AE1\u{e9}",
];

/// Operations in the name of light 2.
const OPERATIONS: [Primitive<'_>; 6] = [
    Primitive::create("cse/light2/lamp", 4, r#"{"m2m:cin":{"con":"off"}}"#),
    Primitive::retrieve("cse/light2/lamp"),
    Primitive::retrieve("/mn-cse-123456/cse/light2/lamp"),
    Primitive::update("cse/light2/lamp", r#"{"m2m:cnt":{"mni":1}}"#),
    Primitive::delete("cse/light2"),
    Primitive::notify("cse/light2", r#"{"m2m:sgn":{}}"#),
];

/// Contents that name another entity, or hide one.
const CONTENTS: [(Primitive<'_>, u64); 13] = [
    (container(r#"{"m2m:cnt":{"rn":"lamp","cr":"Clight-AE2"}}"#), 4106),
    (container(r#"{"m2m:cnt":{"rn":"lamp","cr":"/mn-cse-123456/Clight-AE2"}}"#), 4106),
    (container(r#"{"m2m:cnt":{"rn":"lamp","cr":"/mn-cse-123456/Clight-AE1"}}"#), 4106),
    // Twice, because parsers differ in the member that they use.
    (container(r#"{"m2m:cnt":{"cr":"Clight-AE1","cr":"Clight-AE2"}}"#), 4000),
    (container(r#"{"m2m:cnt":{"cr":"Clight-AE2","cr":"Clight-AE1"}}"#), 4000),
    (container(r#"{"m2m:cnt":{"cr":"Clight-AE1","\u0063r":"Clight-AE2"}}"#), 4000),
    (container(r#"{"m2m:cnt":{"\u0063r":"Clight-AE2","cr":"Clight-AE1"}}"#), 4000),
    (container(r#"{"m2m:cnt":{"cr":"Clight-AE1","CR":"Clight-AE2"}}"#), 4000),
    // An AE under the name of another type.
    (container(r#"{"m2m:ae":{"rn":"x","api":"Nx","rr":false}}"#), 4000),
    (Primitive::update("cse/light1", r#"{"m2m:ae":{"aei":"Clight-AE2"}}"#).from(OWN), 4106),
    // The gateway cannot see the originator of an end-to-end secured primitive.
    (Primitive::notify("cse", SECURED).from(OWN), 4111),
    (Primitive::notify("cse", r#"{"M2M:SECI":{"sit":4,"epo":"x.y.z"}}"#).from(OWN), 4000),
    (Primitive::notify("cse", SECURED).from(OTHER), 4106),
];

const SECURED: &str = r#"{"m2m:seci":{"sit":5,"epo":"eyJhbGciOiJkaXIifQ..x.y.z"}}"#;

const fn container(content: &str) -> Primitive<'_> {
    Primitive::create("cse/light1", 3, content).from(OWN)
}

const AE: Primitive<'_> =
    Primitive::create("cse", 2, r#"{"m2m:ae":{"rn":"x","api":"Nx","rr":false,"srv":["3"]}}"#);

const OTHER_AE_ID: &str =
    r#"{"m2m:ae":{"rn":"x","api":"Nx","rr":false,"srv":["3"],"aei":"Clight-AE2"}}"#;

/// Registrations of light 1 as another AE.
const REGISTRATIONS: [(Primitive<'_>, u64); 8] = [
    (AE.from(OTHER), 4106),
    (AE.from("Canything"), 4106),
    (AE.from("C"), 4106),
    (AE.from("S"), 4106),
    (AE, 4106),
    (AE.from("/mn-cse-123456/Cx"), 4000),
    (AE.from("/mn-cse-123456/Clight-AE2"), 4000),
    (Primitive::create("cse", 2, OTHER_AE_ID).from(OWN), 4106),
];

/// Members of a whole primitive in the place of `fr`.
const MEMBERS: [&str; 11] = [
    "",
    r#","fr":null"#,
    r#","fr":["Clight-AE1"]"#,
    r#","fr":{"x":"Clight-AE1"}"#,
    r#","fr":"Clight-AE1","fr":"Clight-AE2""#,
    r#","fr":"Clight-AE2","fr":"Clight-AE1""#,
    r#","fr":"Clight-AE1","\u0066r":"Clight-AE2""#,
    r#","fr":"Clight-AE1","FR":"Clight-AE2""#,
    r#","fr":"Clight-AE1","from":"Clight-AE2""#,
    r#","fr":"Clight-AE1","X-M2M-Origin":"Clight-AE2""#,
    r#","fr":"Clight-AE1","fc":{"atr":[{"nm":"fr","val":"Clight-AE2"}]}"#,
];

/// Light 1 at a gateway in front of a CSE.
struct Scene {
    cse: Upstream,
    gateway: Gateway,
    light: Association,
    /// Status codes of the refusals.
    refused: Vec<u64>,
}

impl Scene {
    fn new(binding: Binding) -> Self {
        let registered = r#"{"m2m:ae":{"aei":"Clight-AE1"}}"#;
        let cse = Upstream::start(Reply::answer(201, 2001, registered));
        let gateway = Setup::new().upstream(cse.port()).with_mqtt().with_coap().start();
        let light = binding.connect(&gateway, LIGHT1);
        Self { cse, gateway, light, refused: Vec::new() }
    }

    fn registered(binding: Binding) -> Self {
        let mut scene = Self::new(binding);
        scene.register();
        scene
    }

    fn register(&mut self) {
        self.light.expect(&AE.from(OWN), 2001);
        self.cse.reply_with(Reply::answer(200, 2000, r#"{"m2m:cnt":{}}"#));
    }

    #[track_caller]
    fn refused(&mut self, request: &Primitive<'_>, rsc: u64) {
        self.light.expect(request, rsc);
        self.refused.push(rsc);
    }

    /// Asserts that the association goes on, that the CSE got nothing but the registration and the
    /// last request, and that each refusal is in the audit trail.
    #[track_caller]
    fn end(mut self) {
        assert_eq!(self.cse.requests().len(), 1, "{}", self.cse.text());
        self.light.expect(&Primitive::retrieve("cse/light1").from(OWN), 2000);
        assert_eq!(self.cse.requests().len(), 2, "{}", self.cse.text());
        drop(self.light);
        // Repeated refusals are counted, and the counts are written at the end at the latest.
        self.gateway.stop();
        self.gateway.log().wait("gateway.stopped");
        let all = |event: &str| self.gateway.log().all(Mark::START, event, 0);
        for rsc in [4000, 4106, 4111] {
            let expected = self.refused.iter().filter(|code| **code == rsc).count() as u64;
            let single = all("request.refused").iter().filter(|e| e.number("rsc") == rsc).count();
            let of_rsc = |e: &&saegis_tests::Event| {
                e.text("of") == "request.refused" && e.text("cause") == rsc.to_string()
            };
            let repeated = all("audit.repeated");
            let more: u64 = repeated.iter().filter(of_rsc).map(|e| e.number("count")).sum();
            assert_eq!(single as u64 + more, expected, "lines with {rsc}");
        }
    }
}

fn originator_of_other_entity_is_refused(binding: Binding) {
    let mut scene = Scene::registered(binding);
    let retrieve = Primitive::retrieve("cse/light1");
    for (originator, rsc) in ORIGINATORS {
        scene.refused(&retrieve.from(originator), rsc);
    }
    let long = format!("C{}", "x".repeat(2000));
    for originator in MORE_ORIGINATORS.into_iter().chain([long.as_str()]) {
        scene.refused(&retrieve.from(originator), 4000);
    }
    // No originator at all.
    scene.refused(&retrieve, 4000);
    for operation in OPERATIONS {
        scene.refused(&operation.from(OTHER), 4106);
    }
    if binding.has_whole_primitives() {
        for member in MEMBERS {
            let text = format!(r#"{{"op":2,"to":"cse/light1","rqi":"r","rvi":"3"{member}}}"#);
            assert_eq!(scene.light.ask_text(&text)["rsc"], 4000, "{member}");
            scene.refused.push(4000);
        }
        for originator in ["Clight-AE1\0", "Clight-AE1\n", " Clight-AE1", "Clight-AE1 "] {
            scene.refused(&retrieve.from(originator), 4000);
        }
    }
    for (originator, _) in ORIGINATORS.into_iter().filter(|(_, rsc)| *rsc == 4106) {
        let fits = |e: &saegis_tests::Event| e.text("from") == originator;
        let logged = scene.gateway.log().wait_for(Mark::START, "request.refused", fits);
        assert_eq!(logged.text("credential_id"), format!("12-{}", LIGHT1.identity));
    }
    scene.end();
}

fn content_of_other_entity_is_refused(binding: Binding) {
    let mut scene = Scene::registered(binding);
    for (request, rsc) in CONTENTS {
        scene.refused(&request, rsc);
    }
    scene.end();
}

fn registration_of_other_entity_is_refused(binding: Binding) {
    let mut scene = Scene::new(binding);
    for (request, rsc) in REGISTRATIONS {
        scene.refused(&request, rsc);
    }
    assert!(scene.cse.requests().is_empty(), "{}", scene.cse.text());
    scene.register();
    scene.end();
}
