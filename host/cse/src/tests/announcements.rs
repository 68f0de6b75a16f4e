use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::id::AeIdStem;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, Reply, request, settings};
use crate::{Announcement, EmbeddedCse};

const MN: &str = "/mn-1";
const LABEL: &str = "Credential-ID:12-light@in.provider.com";

fn infrastructure() -> Settings {
    Settings { cse_type: 1, ..settings() }
}

/// Returns an IN-CSE with two registered MN-CSEs.
fn bench() -> Bench {
    let bench = Bench::lights(infrastructure());
    for (cse, name) in [(MN, "mn"), ("/mn-2", "other")] {
        register(&bench, cse, json!({ "rn": name }));
    }
    bench
}

fn register(bench: &Bench, cse: &str, extra: Value) {
    let mut csr = json!({"cb": format!("{cse}/cse"), "csi": cse, "rr": true});
    csr.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let reply = bench.create(Some(cse), "/-", 16, json!({ "m2m:csr": csr }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
}

fn content(extra: Value) -> Value {
    let mut aea = json!({"api": "Nlight", "lbl": [LABEL]});
    aea.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({ "m2m:aeA": aea })
}

fn announce(bench: &Bench, from: &str, path: &str, extra: Value) -> Reply {
    bench.create(Some(from), path, 10002, content(extra))
}

fn time(bench: &Bench) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(bench.now())
}

fn announced_at(bench: &Bench, stem: &str) -> Option<String> {
    let stem = AeIdStem::parse(stem).unwrap();
    let at = bench.cse().announced_at(&stem, time(bench)).unwrap();
    at.map(|cse| cse.to_string())
}

fn update(bench: &Bench, from: &str, path: &str, attributes: Value) -> Reply {
    bench.update(from, path, json!({ "m2m:aeA": attributes }))
}

#[test]
fn announced_ae_is_assigned_ae_id() {
    let bench = bench();
    let given = json!({"rn": "light", "lnk": "/mn-1/cse/light", "apn": "Light"});
    let reply = announce(&bench, "/mn-1/S", "/cse", given);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let stem = reply.attributes()["aei"].as_str().unwrap().to_owned();
    assert!(stem.starts_with('S') && AeIdStem::check(&stem).is_ok(), "{stem}");
    assert_eq!(
        reply.json,
        json!({"m2m:aeA": {
            "ty": 10002, "ri": format!("aeA-{stem}"), "rn": "light", "pi": "mn-cse-123456",
            "ct": "20261124T093000", "lt": "20261124T093000", "et": "20261224T093000",
            "api": "Nlight", "apn": "Light", "lbl": [LABEL], "lnk": "/mn-1/cse/light",
            "aei": stem,
        }})
    );
    assert_eq!(announced_at(&bench, &stem).as_deref(), Some(MN));
    // Each announcement gets another stem.
    let second = announce(&bench, "/mn-1/S", "/cse/mn", json!({}));
    assert_eq!(second.code, 2001, "{}", second.why());
    assert_ne!(second.attributes()["aei"], stem);
    // A generated name does not reveal the AE-ID.
    let name = second.attributes()["rn"].as_str().unwrap();
    assert!(!name.contains(second.attributes()["aei"].as_str().unwrap()), "{name}");
    let bench = bench.reopen();
    assert_eq!(announced_at(&bench, &stem).as_deref(), Some(MN));
    assert_eq!(announced_at(&bench, "Snobody"), None);
    assert_eq!(announced_at(&bench, LIGHT1), None);
    bench.cse().store().assert_consistent();
}

#[test]
fn requested_ae_id_is_announced() {
    let bench = bench();
    let reply = announce(&bench, "/mn-1/Slight", "/cse/mn", json!({"lbl": ["Credential-ID:"]}));
    assert_eq!((reply.code, &reply.attributes()["aei"]), (2001, &json!("Slight")));
    assert_eq!(reply.attributes()["pi"], "csr-mn-1");
    assert_eq!(reply.response.content_location.as_deref(), Some("/mn-cse-123456/aeA-Slight"));
    assert_eq!(announced_at(&bench, "Slight").as_deref(), Some(MN));
    // An AE is announced once, independently of the originator and the parent.
    for (from, path) in [
        ("/mn-1/Slight", "/cse/mn"),
        ("/mn-1/Slight", "/cse"),
        ("/mn-2/Slight", "/cse"),
        ("/mn-2/Slight", "/cse/other"),
    ] {
        let again = announce(&bench, from, path, json!({}));
        assert_eq!((again.code, again.why().contains("announced")), (4117, true), "{from} {path}");
    }
    assert_eq!(announced_at(&bench, "Slight").as_deref(), Some(MN));
    assert_eq!(bench.delete("/mn-1/Slight", "/aeA-Slight").code, 2002);
    assert_eq!(announced_at(&bench, "Slight"), None);
    assert_eq!(announce(&bench, "/mn-2/Slight", "/cse", json!({})).code, 2001);
    assert_eq!(announced_at(&bench, "Slight").as_deref(), Some("/mn-2"));
}

#[test]
fn announced_ae_id_is_unique_in_provider() {
    let bench = bench();
    assert_eq!(announce(&bench, "/mn-1/Slight", "/cse", json!({})).code, 2001);
    assert_eq!(bench.register("Shere", "shere").code, 2001);
    register(&bench, "/Scse", json!({}));
    // An announced AE-ID is not available to a local AE or a CSE.
    let reply = bench.register("Slight", "slight");
    assert_eq!((reply.code, reply.why()), (4117, "the originator is registered already"));
    let csr = json!({"m2m:csr": {"cb": "/Slight/cse", "csi": "/Slight", "rr": true}});
    assert_eq!(bench.create(Some("/Slight"), "/cse", 16, csr).code, 4005);
    // Not an AE-ID that is registered here, of a CSE, or of another CSE's address.
    assert_eq!(announce(&bench, "/mn-1/Shere", "/cse", json!({})).code, 4117);
    assert_eq!(announce(&bench, "/mn-1/Scse", "/cse", json!({})).code, 4105);
    assert_eq!(announced_at(&bench, "Shere"), None);
    // The setting for registering AEs does not apply to a CSE.
    let bench = Bench::new(Settings { ae_id_taken: Rsc::Conflict, ..infrastructure() });
    register(&bench, MN, json!({}));
    assert_eq!(announce(&bench, "/mn-1/Slight", "/cse", json!({})).code, 2001);
    assert_eq!(announce(&bench, "/mn-1/Slight", "/cse", json!({})).code, 4117);
    assert_eq!(bench.register("Slight", "slight").code, 4105);
    let named = Settings { csebase_name: "aeA-Slight".into(), ..infrastructure() };
    let bench = Bench::new(named);
    register(&bench, MN, json!({}));
    assert_eq!(announce(&bench, "/mn-1/Slight", "/-", json!({})).code, 4105);
}

#[test]
fn only_registered_cse_may_announce() {
    let mut bench = bench();
    for from in ["/mn-3/S", "/mn-3/Slight", "/mn-cse-123456/S", "/mn-cse-123456/Slight"] {
        let reply = announce(&bench, from, "/cse", json!({}));
        assert_eq!(
            (reply.code, reply.why().contains("must be registered")),
            (4103, true),
            "{from}"
        );
    }
    for from in [
        "S",
        "C",
        "Slight",
        LIGHT1,
        MN,
        "/Slight",
        "/mn-1/Clight",
        "/mn-1/C",
        "/mn-1/S/",
        "//in.provider.com/mn-1/S",
        "//in.provider.com/mn-1/Slight",
        "",
    ] {
        assert_eq!(announce(&bench, from, "/cse", json!({})).code, 4000, "{from}");
    }
    assert_eq!(bench.create(None, "/cse", 10002, content(json!({}))).code, 4000);
    // Not below another CSE's resource, and not below any resource.
    assert_eq!(announce(&bench, "/mn-1/S", "/cse/other", json!({})).code, 4103);
    assert_eq!(announce(&bench, "/mn-1/S", "/cse/light1", json!({})).code, 4108);
    assert_eq!(announce(&bench, "/mn-1/S", "/cse/light1/state/la", json!({})).code, 4005);
    assert_eq!(announce(&bench, "/mn-1/S", "/cse/nowhere", json!({})).code, 4004);
    // Not after the registration has ended.
    assert_eq!(bench.delete(MN, "/cse/mn").code, 2002);
    assert_eq!(announce(&bench, "/mn-1/S", "/cse", json!({})).code, 4103);
    register(&bench, MN, json!({"et": "20261124T093010"}));
    bench.pass(10);
    assert_eq!(announce(&bench, "/mn-1/S", "/cse", json!({})).code, 4103);
    let found = bench.retrieve(MN, "/cse?fu=1&ty=10002");
    assert_eq!(found.found(), Vec::<&str>::new());
}

#[test]
fn only_in_cse_accepts_announcements() {
    let bench = Bench::with_lights();
    register(&bench, MN, json!({"rn": "mn"}));
    for (from, path) in [("/mn-1/S", "/cse"), ("/mn-1/Slight", "/cse/mn"), ("/mn-3/S", "/cse")] {
        assert_eq!(announce(&bench, from, path, json!({})).code, 4005, "{from}");
    }
    assert_eq!(announced_at(&bench, "Slight"), None);
    let bench = Bench::lights(infrastructure());
    let types = bench.retrieve(LIGHT1, "/cse").attributes()["srt"].clone();
    assert!(types.as_array().unwrap().contains(&json!(10002)), "{types}");
}

#[test]
fn announcement_requires_checked_attributes() {
    let bench = bench();
    for (extra, code) in [
        (json!({"lbl": null}), 4000),
        (json!({"lbl": []}), 4000),
        (json!({"lbl": ["light"]}), 4000),
        (json!({"lbl": ["Credential-ID"]}), 4000),
        (json!({"lbl": ["credential-id:12-x"]}), 4000),
        (json!({"lbl": ["Credential-ID: 12-x"]}), 4000),
        (json!({"lbl": ["Credential-ID:x"]}), 4000),
        (json!({"lbl": ["Credential-ID:12-"]}), 4000),
        (json!({"lbl": ["Credential-ID:12-a b"]}), 4000),
        (json!({"lbl": ["Credential-ID:12-x", "Credential-ID:"]}), 4000),
        (json!({"lbl": LABEL}), 4000),
        (json!({"api": null}), 4000),
        (json!({"api": "light"}), 4000),
        (json!({"api": 1}), 4000),
        (json!({"aei": "Slight"}), 4000),
        (json!({"lnk": "cse/light1"}), 4000),
        (json!({"lnk": "/mn-2/cse/light"}), 4000),
        (json!({"lnk": "/mn-cse-123456/cse/light1"}), 4000),
        (json!({"lnk": "//other.com/mn-1/cse/light"}), 4000),
        (json!({"lnk": "http://10.0.0.1/cse/light"}), 4000),
        (json!({"lnk": 1}), 4000),
        (json!({"what": 1}), 4000),
        (json!({"rr": true}), 5001),
        (json!({"poa": []}), 5001),
        (json!({"daci": []}), 5001),
    ] {
        let reply = announce(&bench, "/mn-1/Slight", "/cse", extra.clone());
        assert_eq!(reply.code, code, "{extra} {}", reply.why());
        assert_eq!(announced_at(&bench, "Slight"), None, "{extra}");
    }
    assert_eq!(bench.create(Some("/mn-1/S"), "/cse", 10002, json!({"m2m:ae": {}})).code, 4000);
    for lnk in ["/mn-1/Slight", "/mn-1", "//in.provider.com/mn-1/cse/light"] {
        let reply = announce(&bench, "/mn-1/S", "/cse", json!({"lnk": lnk, "lbl": ["x", LABEL]}));
        assert_eq!(reply.code, 2001, "{lnk} {}", reply.why());
    }
    // The rules of an AE's App-ID apply.
    let with_release = |release: &str| {
        let content = content(json!({"api": "rlight"}));
        let mut request = request(Operation::Create, "/cse", Some("/mn-1/S"), Some(content));
        request.resource_type = Some(10002);
        request.release = Some(release.into());
        bench.send(&request).code
    };
    assert_eq!([with_release("3"), with_release("4")], [2001, 4000]);
}

#[test]
fn announcement_belongs_to_its_cse() {
    let mut bench = bench();
    assert_eq!(announce(&bench, "/mn-1/Slight", "/cse", json!({"rn": "light"})).code, 2001);
    let path = "/cse/light";
    let change = json!({"lnk": "/mn-1/cse/l", "lbl": ["Credential-ID:", "x"], "apn": "Light"});
    for own in [MN, "/mn-1/Slight", "//in.provider.com/mn-1"] {
        assert_eq!(bench.retrieve(own, path).code, 2000, "{own}");
        let reply = update(&bench, own, path, change.clone());
        assert_eq!(
            (reply.code, &reply.attributes()["lnk"]),
            (2004, &json!("/mn-1/cse/l")),
            "{own}"
        );
        assert_eq!(reply.attributes()["aei"], "Slight");
    }
    for (who, found) in [(MN, 1), ("/mn-2", 0), (LIGHT1, 0)] {
        assert_eq!(bench.retrieve(who, "/cse?fu=1&ty=10002").found().len(), found, "{who}");
    }
    for other in ["/mn-2", "/mn-2/Slight", "/mn-1/Sother", "/mn-1/Cx", LIGHT1, "/Slight", "Slight"]
    {
        assert_eq!(bench.retrieve(other, path).code, 4103, "{other}");
        assert_eq!(update(&bench, other, path, json!({"apn": "x"})).code, 4103, "{other}");
        assert_eq!(bench.delete(other, path).code, 4103, "{other}");
    }
    for none in ["/mn-1/S", "/mn-2/S"] {
        assert_eq!(bench.retrieve(none, path).code, 4000, "{none}");
        assert_eq!(bench.delete(none, path).code, 4000, "{none}");
    }
    for bad in [
        json!({"api": "Nother"}),
        json!({"api": null}),
        json!({"aei": "Sother"}),
        json!({"aei": null}),
        json!({"lbl": null}),
        json!({"lbl": ["light"]}),
        json!({"lbl": ["Credential-ID:x"]}),
        json!({"lnk": "/mn-2/cse/light"}),
        json!({"rn": "other"}),
        json!({"et": "20261124T092959"}),
    ] {
        assert_eq!(update(&bench, MN, path, bad.clone()).code, 4000, "{bad}");
    }
    assert_eq!(update(&bench, MN, path, json!({"lnk": null, "apn": null})).code, 2004);
    // It accepts only subscriptions as children.
    assert_eq!(bench.container(MN, path, json!({})).code, 4108);
    assert_eq!(update(&bench, MN, path, json!({"et": "20261124T093010"})).code, 2004);
    bench.pass(10);
    assert_eq!(announced_at(&bench, "Slight"), None);
    assert_eq!(bench.retrieve(MN, path).code, 4004);
    assert_eq!(bench.register("Slight", "slight").code, 2001);
    assert_eq!(announce(&bench, "/mn-1/Slight", "/cse", json!({})).code, 4117);
    bench.cse().store().assert_consistent();
}

#[test]
fn announcements_are_deleted_with_their_cse() {
    let mut bench = bench();
    assert_eq!(announce(&bench, "/mn-1/Sbelow", "/cse/mn", json!({})).code, 2001);
    assert_eq!(announce(&bench, "/mn-1/Sbeside", "/cse", json!({})).code, 2001);
    assert_eq!(bench.delete(MN, "/cse/mn").code, 2002);
    assert_eq!(announced_at(&bench, "Sbelow"), None);
    // An announcement outside of the registration has its own expiration time.
    assert_eq!(announced_at(&bench, "Sbeside").as_deref(), Some(MN));
    assert_eq!(announce(&bench, "/mn-2/Sbelow", "/cse/other", json!({})).code, 2001);
    let change = json!({"m2m:csr": {"et": "20261124T093010"}});
    assert_eq!(bench.update("/mn-2", "/cse/other", change).code, 2004);
    bench.pass(10);
    assert_eq!(announced_at(&bench, "Sbelow"), None);
    register(&bench, MN, json!({"rn": "mn"}));
    assert_eq!(announce(&bench, "/mn-1/Sbelow", "/cse/mn", json!({})).code, 2001);
    assert_eq!(announced_at(&bench, "Sbelow").as_deref(), Some(MN));
    bench.cse().store().assert_consistent();
}

fn create(from: Option<&str>, content: Value) -> RequestPrimitive {
    let mut request = request(Operation::Create, "/cse", from, Some(content));
    request.resource_type = Some(10002);
    request
}

#[test]
fn announcement_names_required_checks() {
    let asked = Announcement::of(&create(Some("/mn-1/S"), content(json!({})))).unwrap();
    let told = |a: &Announcement| {
        let text = |id: Option<String>| id.unwrap_or_else(|| "none".into());
        let stem = text(a.stem.as_ref().map(ToString::to_string));
        let credential = text(a.credential_id.as_ref().map(ToString::to_string));
        [a.cse.to_string(), stem, a.app_id.to_string(), credential]
    };
    assert_eq!(told(&asked), [MN, "none", "Nlight", "12-light@in.provider.com"]);
    let unsecured = content(json!({"lbl": ["x", "Credential-ID:"]}));
    let asked = Announcement::of(&create(Some("/mn-1/Slight"), unsecured)).unwrap();
    assert_eq!(told(&asked), [MN, "Slight", "Nlight", "none"]);
    // Other requests, and announcements that the CSE refuses because of their form.
    let bench = bench();
    for (from, extra) in [
        (None, json!({})),
        (Some(MN), json!({})),
        (Some("/mn-1/Clight"), json!({})),
        (Some("/Slight"), json!({})),
        (Some("//in.provider.com/mn-1/S"), json!({})),
        (Some("/mn-1/S"), json!({"lbl": []})),
        (Some("/mn-1/S"), json!({"lbl": ["Credential-ID:x"]})),
        (Some("/mn-1/S"), json!({"api": null})),
        (Some("/mn-1/S"), json!({"api": "light"})),
    ] {
        let request = create(from, content(extra.clone()));
        assert_eq!(Announcement::of(&request), None, "{from:?} {extra}");
        assert_eq!(bench.send(&request).code, 4000, "{from:?} {extra}");
    }
    let other_root = create(Some("/mn-1/S"), json!({"m2m:AEA": {"api": "Nx", "lbl": [LABEL]}}));
    assert_eq!(Announcement::of(&other_root), None);
    assert_eq!(bench.send(&other_root).code, 4000);
    for (operation, ty) in [(Operation::Create, 2), (Operation::Update, 10002)] {
        let mut request = create(Some("/mn-1/S"), content(json!({})));
        (request.operation, request.resource_type) = (operation, Some(ty));
        assert_eq!(Announcement::of(&request), None);
    }
}

#[test]
fn another_credential_has_to_be_asked_about_too() {
    let bench = bench();
    assert_eq!(announce(&bench, "/mn-1/Slight", "/cse", json!({"rn": "light"})).code, 2001);
    let asked = |path: &str, attributes: Value| {
        let content = Some(json!({ "m2m:aeA": attributes }));
        let request = request(Operation::Update, path, Some(MN), content);
        let cse: &EmbeddedCse = bench.cse();
        cse.announced_anew(&request, time(&bench)).unwrap()
    };
    let other = json!({"lbl": ["Credential-ID:12-other@in.provider.com"]});
    for path in ["/cse/light", "/aeA-Slight", "/~/mn-cse-123456/cse/light"] {
        let asked = asked(path, other.clone()).unwrap();
        assert_eq!(asked.cse.to_string(), MN);
        assert_eq!(asked.stem.unwrap().as_str(), "Slight");
        assert_eq!(asked.app_id.as_str(), "Nlight");
        assert_eq!(asked.credential_id.unwrap().to_string(), "12-other@in.provider.com");
    }
    let unsecured = asked("/cse/light", json!({"lbl": ["Credential-ID:"]})).unwrap();
    assert_eq!(unsecured.credential_id, None);
    for (path, attributes) in [
        ("/cse/light", json!({"apn": "x"})),
        ("/cse/light", json!({"lbl": null})),
        ("/cse/light", json!({"lbl": ["x"]})),
        ("/cse/mn", other.clone()),
        ("/cse/nowhere", other),
    ] {
        assert_eq!(asked(path, attributes.clone()), None, "{path} {attributes}");
    }
}

#[test]
fn announcement_through_group_is_refused() {
    let bench = bench();
    let group = json!({"m2m:grp": {"rn": "group", "mnm": 2, "mid": ["/mn-cse-123456/cse"]}});
    assert_eq!(bench.create(Some(MN), "/cse/mn", 9, group).code, 2001);
    for from in ["/mn-1/S", "/mn-1/Slight"] {
        assert_eq!(announce(&bench, from, "/cse/mn/group/fopt", json!({})).code, 4005, "{from}");
    }
    assert_eq!(announced_at(&bench, "Slight"), None);
}
