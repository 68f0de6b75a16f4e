use serde_json::{Value, json};

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, settings};

fn ae(extra: Value) -> Value {
    let mut ae = json!({"api": "Nlight", "rr": true});
    ae.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({ "m2m:ae": ae })
}

#[test]
fn ae_registers_with_its_stem() {
    let bench = Bench::new(settings());
    let reply = bench.create(Some(LIGHT1), "/cse", 2, ae(json!({"rn": "light1", "lbl": ["a"]})));
    assert_eq!(reply.code, 2001);
    assert_eq!(
        reply.json,
        json!({"m2m:ae": {
            "rn": "light1", "ri": LIGHT1, "aei": LIGHT1, "pi": "mn-cse-123456", "ty": 2,
            "api": "Nlight", "rr": true, "lbl": ["a"],
            "ct": "20261124T093000", "lt": "20261124T093000", "et": "20261224T093000",
        }})
    );
    assert_eq!(reply.response.content_location.as_deref(), Some("/mn-cse-123456/Clight-AE1"));
    assert_eq!(reply.response.release.as_deref(), Some("3"));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1").json, reply.json);
    assert_eq!(bench.retrieve(LIGHT1, "/~/mn-cse-123456/Clight-AE1").json, reply.json);
}

#[test]
fn ae_id_is_assigned_on_request() {
    let bench = Bench::new(settings());
    for from in [None, Some("C")] {
        let reply = bench.create(from, "/-", 2, ae(json!({})));
        assert_eq!(reply.code, 2001, "{from:?}");
        let aei = reply.attributes()["aei"].as_str().unwrap();
        assert!(aei.starts_with('C') && aei.len() == 17, "{aei}");
        assert_eq!(reply.attributes()["ri"], aei);
        // The name does not reveal the AE-ID.
        assert!(!reply.attributes()["rn"].as_str().unwrap().contains(aei));
        assert_eq!(bench.retrieve(aei, &format!("/{aei}")).code, 2000);
    }
    let reply = bench.create(Some("S"), "/cse", 2, ae(json!({})));
    assert_eq!(reply.code, 5001, "{}", reply.why());
    // An AE-ID that was assigned before is as valid as any other.
    assert_eq!(bench.create(Some("Sgiven"), "/cse", 2, ae(json!({}))).code, 2001);

    let bench = Bench::new(Settings { cse_type: 1, ..settings() });
    let reply = bench.create(Some("S"), "/cse", 2, ae(json!({})));
    assert!(reply.attributes()["aei"].as_str().unwrap().starts_with('S'));
}

#[test]
fn ae_id_cannot_be_registered_twice() {
    let mut bench = Bench::with_lights();
    let again = bench.register(LIGHT1, "other");
    assert_eq!((again.code, again.why()), (4117, "the originator is registered already"));
    // A name is used once, by any originator.
    assert_eq!(bench.register("Cthird", "light1").code, 4105);
    // After a de-registration or an expiry it may register again, with an empty subtree.
    assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
    assert_eq!(bench.register(LIGHT1, "light1").code, 2001);
    bench.pass(31 * 24 * 3600);
    assert_eq!(bench.register(LIGHT2, "light2").code, 2001);
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light2/state").code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn taken_ae_id_is_answered_as_configured() {
    use saegis_onem2m::rsc::Rsc;
    for (ae_id_taken, code) in [(Rsc::OriginatorHasAlreadyRegistered, 4117), (Rsc::Conflict, 4105)]
    {
        let bench = Bench::lights(Settings { ae_id_taken, ..settings() });
        let again = bench.register(LIGHT1, "other");
        assert_eq!((again.code, again.why()), (code, "the originator is registered already"));
        assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
        assert_eq!(bench.register(LIGHT1, "other").code, 2001);
    }
}

#[test]
fn concurrent_registrations_admit_one() {
    let bench = Bench::new(settings());
    let bench = &bench;
    let codes: Vec<_> = std::thread::scope(|scope| {
        let names = ["a", "b", "c", "d", "e", "f"];
        let threads = names.map(|name| scope.spawn(move || bench.register(LIGHT1, name).code));
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|c| **c == 2001).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|c| **c == 4117).count(), 5, "{codes:?}");
    bench.cse().store().assert_consistent();
}

#[test]
fn non_ae_originator_cannot_register() {
    let bench = Bench::new(settings());
    for (from, code) in [
        ("/in-cse", 4005),
        ("//in.provider.com/in-cse", 4005),
        ("/mn-cse-123456/Clight", 4000),
        ("//in.provider.com/mn-cse-123456/Clight", 4000),
        ("/Slight", 4005),
        ("light", 4000),
        ("", 4000),
        ("Clight/x", 4000),
    ] {
        assert_eq!(bench.create(Some(from), "/cse", 2, ae(json!({}))).code, code, "{from}");
    }
    // A name that addresses the CSEBase cannot be an AE-ID.
    for own in ["Ccse", "Cname"] {
        let mut settings = Settings { csebase_name: "Cname".into(), ..settings() };
        settings.cse_id = "Ccse".parse().unwrap();
        let bench = Bench::new(settings);
        assert_eq!(bench.create(Some(own), "/-", 2, ae(json!({}))).code, 4105, "{own}");
    }
}

#[test]
fn ae_registration_requires_attributes() {
    let bench = Bench::with_lights();
    for (content, code) in [
        (json!({"m2m:ae": {"rr": true}}), 4000),
        (json!({"m2m:ae": {"api": "Nx"}}), 4000),
        (json!({"m2m:ae": {"api": "light", "rr": true}}), 4000),
        (ae(json!({"aei": "Cnew"})), 4000),
        (ae(json!({"mni": 1})), 4000),
        (ae(json!({"rn": "la"})), 4000),
        (ae(json!({"et": "20251124T093000"})), 4000),
        (ae(json!({"daci": ["/x"]})), 5001),
        (json!({"m2m:cnt": {}}), 4000),
        (json!({"m2m:ae": []}), 4000),
    ] {
        let reply = bench.create(Some("Cnew"), "/cse", 2, content.clone());
        assert_eq!(reply.code, code, "{content}");
        assert!(!reply.why().is_empty());
    }
    for place in ["/cse/light1", "/cse/light1/state"] {
        assert_eq!(bench.create(Some("Cnew"), place, 2, ae(json!({}))).code, 4108, "{place}");
    }
    assert_eq!(bench.create(Some("Cnew"), "/elsewhere", 2, ae(json!({}))).code, 4004);
    assert_eq!(bench.retrieve("Cnew", "/cse").code, 4103);
}

#[test]
fn lower_case_app_id_prefix_is_for_early_releases() {
    use crate::testing::request;
    use saegis_onem2m::primitive::Operation::Create;
    let bench = Bench::new(settings());
    for (release, code) in
        [(None, 2001), (Some("2a"), 2001), (Some("3"), 2001), (Some("4"), 4000), (Some("5"), 4000)]
    {
        let content = json!({"m2m:ae": {"api": "rlight", "rr": true}});
        let mut request = request(Create, "/cse", None, Some(content));
        request.resource_type = Some(2);
        request.release = release.map(Into::into);
        assert_eq!(bench.send(&request).code, code, "{release:?}");
    }
}

#[test]
fn ae_updates_and_deletes_registration() {
    let mut bench = Bench::with_lights();
    bench.pass(5);
    let change = json!({"m2m:ae": {"apn": "lamp", "rr": true, "srv": null, "lbl": ["x"]}});
    let reply = bench.update(LIGHT1, "/Clight-AE1", change);
    assert_eq!(reply.code, 2004);
    let ae = reply.attributes();
    assert_eq!((&ae["apn"], &ae["rr"], ae.get("srv")), (&json!("lamp"), &json!(true), None));
    assert_eq!(ae["lt"], "20261124T093005");
    assert_eq!(ae["ct"], "20261124T093000");
    let reply = bench.update(LIGHT1, "/cse/light1?rcn=9", json!({"m2m:ae": {"apn": "lamp"}}));
    assert_eq!(reply.attributes().get("apn"), None);
    assert_eq!(bench.update(LIGHT1, "/cse/light1?rcn=0", json!({"m2m:ae": {}})).json, Value::Null);
    for (attributes, code) in [
        (json!({"rr": null}), 4000),
        (json!({"api": "Nother"}), 4000),
        (json!({"rn": "other"}), 4000),
        (json!({"aei": "Cother"}), 4000),
        (json!({"daci": null}), 5001),
        (json!({"what": 1}), 4000),
    ] {
        let reply = bench.update(LIGHT1, "/cse/light1", json!({ "m2m:ae": attributes }));
        assert_eq!(reply.code, code, "{attributes}");
    }
    assert_eq!(bench.update(LIGHT2, "/cse/light1", json!({"m2m:ae": {}})).code, 4103);
    assert_eq!(bench.delete(LIGHT2, "/cse/light1").code, 4103);
    assert_eq!(bench.delete("/in-cse", "/cse/light1").code, 4103);
    let reply = bench.delete(LIGHT1, "/cse/light1?rcn=1");
    assert_eq!((reply.code, &reply.attributes()["apn"]), (2002, &json!("lamp")));
    assert_eq!(bench.retrieve(LIGHT2, "/Clight-AE1").code, 4004);
    assert_eq!(bench.retrieve(LIGHT1, "/cse").code, 4103);
}

#[test]
fn registration_expires() {
    let mut bench = Bench::with_lights();
    let et = |bench: &Bench, value: Value| {
        let reply = bench.update(LIGHT1, "/cse/light1", json!({"m2m:ae": {"et": value}}));
        reply.attributes()["et"].clone()
    };
    // The requested time is a hint, limited by the maximum.
    assert_eq!(et(&bench, json!("20270101T000000")), "20270101T000000");
    assert_eq!(et(&bench, json!("20990101T000000")), "20361121T093000");
    assert_eq!(et(&bench, json!(null)), "20261224T093000");
    assert_eq!(et(&bench, json!("20261124T093010")), "20261124T093010");
    // Resources below expire no later, which the response shows.
    let state = bench.retrieve(LIGHT1, "/cse/light1/state");
    assert_eq!(state.attributes()["et"], "20261124T093010");
    bench.pass(9);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1").code, 2000);
    bench.pass(1);
    for path in ["/cse/light1", "/Clight-AE1", "/cse/light1/state"] {
        assert_eq!(bench.retrieve(LIGHT2, path).code, 4004, "{path}");
    }
    assert_eq!(bench.retrieve(LIGHT1, "/cse").code, 4103);
    bench.cse().store().assert_consistent();
}

#[test]
fn csebase_can_be_retrieved() {
    let bench = Bench::with_lights();
    let reply = bench.retrieve(LIGHT1, "/cse");
    let cb = &reply.json["m2m:cb"];
    assert_eq!(
        (&cb["csi"], &cb["cst"], &cb["srt"], &cb["ri"], &cb["rn"], &cb["pi"], &cb["ty"]),
        (
            &json!("/mn-cse-123456"),
            &json!(2),
            &json!([
                1, 2, 3, 4, 5, 9, 10, 13, 14, 15, 16, 17, 18, 23, 28, 29, 30, 58, 10003, 10004,
                10005, 10028
            ]),
            &json!("mn-cse-123456"),
            &json!("cse"),
            &json!(""),
            &json!(5)
        )
    );
    assert_eq!(cb["srv"], json!(["2a", "3", "4", "5"]));
    assert_eq!(bench.retrieve("/in-cse", "/-").code, 2000);
    assert_eq!(bench.retrieve("/in-cse", "/cse/light1").code, 4103);
    assert_eq!(bench.update(LIGHT1, "/cse", json!({"m2m:cb": {}})).code, 4103);
    assert_eq!(bench.delete(LIGHT1, "/cse").code, 4103);
    assert_eq!(bench.container(LIGHT1, "/cse", json!({})).code, 4103);
    assert_eq!(bench.create(Some(LIGHT1), "/cse", 5, json!({"m2m:cb": {}})).code, 4103);
}
