//! The attributes that may be given, and those that the CSE assigns.

use saegis_onem2m::primitive::Operation;
use serde_json::{Value, json};

use super::policies::{govern, policy, rule};
use crate::Handled;
use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, agree, request, settings, subscribe};

const STATE: &str = "/cse/light1/state";
const ADMIN: &str = "Cadmin";

#[test]
fn content_is_returned_unchanged() {
    let bench = Bench::with_lights();
    let mut bytes = 0;
    for con in [
        json!({"temperature": 21.5, "on": true, "list": [1, {"a": null}], "cr": "Cother"}),
        json!([]),
        json!(["a", 1, false]),
        json!("21"),
        json!(""),
        json!(-7),
        json!(0.1 + 0.2),
        json!(8.41e21),
        json!(u64::MAX),
        json!(true),
    ] {
        let reply = bench.instance(LIGHT1, STATE, json!({ "con": con }));
        assert_eq!(reply.code, 2001, "{con} {}", reply.why());
        let size = con.as_str().map_or_else(|| con.to_string().len(), str::len);
        bytes += size;
        let latest = bench.retrieve(LIGHT1, "/cse/light1/state/la");
        let latest = latest.attributes();
        assert_eq!((&latest["con"], &latest["cs"]), (&con, &json!(size)), "{con}");
        assert_eq!(bench.retrieve(LIGHT1, STATE).attributes()["cbs"], bytes);
    }
    let bench = bench.reopen();
    let oldest = bench.retrieve(LIGHT1, "/cse/light1/state/ol?atrl=con");
    assert_eq!(oldest.attributes()["con"]["list"], json!([1, {"a": null}]));
    for bad in [json!({"con": null}), json!({}), json!({"con": {}, "cnf": "application/json"})] {
        assert_eq!(bench.instance(LIGHT1, STATE, bad.clone()).code, 4000, "{bad}");
    }
    // An object counts like a text of the same length.
    let mut small = settings();
    small.limits.max_content_bytes = 10;
    let bench = Bench::lights(small);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": {"a": 1234}})).code, 2001);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": {"a": 12345}})).code, 5207);
}

/// A number is stored as it was written, with any number of digits.
#[test]
fn number_keeps_all_digits() {
    let bench = Bench::with_lights();
    for number in [
        "0.30000000000000004",
        "9007199254740993",
        "5.0240000000000004e-3",
        "2.2250738585072014e-308",
    ] {
        let content = format!("{{\"m2m:cin\":{{\"con\":{number}}}}}");
        let mut create = request(Operation::Create, STATE, Some(LIGHT1), None);
        create.content = Some(saegis_onem2m::primitive::Content::parse(content.into()).unwrap());
        create.resource_type = Some(4);
        assert_eq!(bench.send(&create).code, 2001);
        let latest = bench.retrieve(LIGHT1, "/cse/light1/state/la");
        let given: f64 = number.parse().unwrap();
        let stored = latest.attributes()["con"].clone();
        assert_eq!(stored.as_f64().map(f64::to_bits), Some(given.to_bits()), "{number} {stored}");
    }
}

/// The content of an instance remains readable inside of other content.
#[test]
fn deeply_nested_content_is_notified() {
    let bench = Bench::with_lights();
    let channel = json!({"m2m:pch": {"rn": "pch"}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 15, channel).code, 2001);
    let sub = json!({"m2m:sub": {"nu": [LIGHT1], "enc": {"net": [3]}}});
    assert_eq!(bench.create(Some(LIGHT1), STATE, 23, sub).code, 2001);
    let group = json!({"m2m:grp": {"rn": "all", "mnm": 1, "mid": ["cse/light1"]}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 9, group).code, 2001);
    let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": nested(65)})).code, 4000);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": nested(64)})).code, 2001);
    let all = bench.retrieve(LIGHT1, "/cse/light1/all/fopt?rcn=4");
    let part = &all.json["m2m:agr"]["m2m:rsp"][0]["pc"]["m2m:ae"]["m2m:cnt"][0]["m2m:cin"][0];
    assert_eq!(part["con"], nested(64));
    let poll = request(Operation::Retrieve, "/cse/light1/pch/pcu", Some(LIGHT1), None);
    let Handled::Wait(poll) = bench.handle(&poll) else { panic!("it does not wait") };
    let mut poll = std::pin::pin!(poll);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(answer) = poll.as_mut().poll(&mut context) else {
        panic!("there is nothing to fetch");
    };
    let told: Value = serde_json::from_slice(&answer.response.content.unwrap()).unwrap();
    let told = &told["m2m:rqp"]["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"];
    assert_eq!(told["con"], nested(64));
}

#[test]
fn resources_below_csebase_expire() {
    let mut settings = Settings { administrators: vec![ADMIN.parse().unwrap()], ..settings() };
    settings.limits.max_lifetime = std::time::Duration::from_secs(86_400);
    settings.limits.lifetime = std::time::Duration::from_secs(3_600);
    let mut bench = Bench::lights(settings);
    assert_eq!(bench.register(ADMIN, "admin").code, 2001);
    let acp = json!({"pv": rule(&["all"], 63), "pvs": rule(&[ADMIN], 63)});
    for (ty, root, attributes) in [
        (3, "m2m:cnt", json!({"rn": "common"})),
        (9, "m2m:grp", json!({"mnm": 1, "mid": []})),
        (1, "m2m:acp", acp),
        (14, "m2m:nod", json!({"ni": "n"})),
        (23, "m2m:sub", json!({"nu": [ADMIN]})),
    ] {
        let reply = bench.create(Some(ADMIN), "/cse", ty, json!({ root: attributes }));
        assert_eq!(reply.code, 2001, "{root} {}", reply.why());
        assert_eq!(reply.attributes()["et"], "20261125T093000", "{root}");
    }
    // A resource below another one has its expiration time, and an AE that of a registration.
    let below = bench.container(ADMIN, "/cse/common", json!({}));
    assert_eq!(below.attributes()["et"], "20261125T093000");
    assert_eq!(bench.retrieve(LIGHT1, STATE).attributes()["et"], "20261124T103000");
    // With null, the CSE chooses the time.
    bench.pass(10);
    let update = |et: Value| {
        let reply = bench.update(ADMIN, "/cse/common", json!({"m2m:cnt": {"et": et}}));
        assert_eq!(reply.code, 2004, "{}", reply.why());
        reply.attributes()["et"].clone()
    };
    assert_eq!(update(json!("20261124T100000")), "20261124T100000");
    assert_eq!(update(json!(null)), "20261125T093010");
}

#[test]
fn subscription_attributes_have_defaults() {
    let bench = Bench::with_lights();
    let own = bench.create(Some(LIGHT1), STATE, 23, json!({"m2m:sub": {"nu": [LIGHT1]}}));
    assert_eq!(
        (own.code, &own.attributes()["nct"], own.attributes().get("cr")),
        (2001, &json!(1), None)
    );
    let asked = json!({"nu": [LIGHT1], "nct": 3, "enc": {"net": [3]}, "cr": null});
    let asked = bench.create(Some(LIGHT1), STATE, 23, json!({ "m2m:sub": asked }));
    assert_eq!(
        (&asked.attributes()["nct"], &asked.attributes()["cr"]),
        (&json!(3), &json!(LIGHT1))
    );
    // The originator is named if it lets others be notified.
    assert_eq!(policy(&bench, "open", rule(&[LIGHT1, LIGHT2], 63)).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    for (from, nu) in [(LIGHT1, json!(["http://a.b/"])), (LIGHT2, json!([LIGHT2, "http://a.b/"]))] {
        let reply = agree(&bench, subscribe(&bench, from, STATE, json!({ "nu": nu })));
        assert_eq!(reply.code, 2001, "{}", reply.why());
        assert_eq!(
            (&reply.attributes()["nct"], &reply.attributes()["cr"]),
            (&json!(1), &json!(from))
        );
    }
    bench.cse().store().assert_consistent();
}

#[test]
fn csebase_omits_unset_attributes() {
    let bench = Bench::with_lights();
    let cb = bench.retrieve(LIGHT1, "/cse").attributes().clone();
    assert_eq!((cb.get("rr"), cb.get("poa"), &cb["csz"]), (None, None, &json!(["json", "cbor"])));
    let points_of_access = vec!["https://gateway:8443".to_string()];
    let bench = bench.reopen_as(Settings { points_of_access, ..settings() }).unwrap();
    let cb = bench.retrieve(LIGHT1, "/cse").attributes().clone();
    assert_eq!(cb["poa"], json!(["https://gateway:8443"]));
}

#[test]
fn ae_may_name_its_node() {
    let bench = Bench::with_lights();
    let change =
        |value: Value| bench.update(LIGHT1, "/cse/light1", json!({"m2m:ae": {"nl": value}}));
    let reply = change(json!("/in-cse/nod-1"));
    assert_eq!((reply.code, &reply.attributes()["nl"]), (2004, &json!("/in-cse/nod-1")));
    assert_eq!(change(json!(["/in-cse/nod-1"])).code, 4000);
    assert_eq!(change(json!(null)).attributes().get("nl"), None);
    let ae = json!({"m2m:ae": {"api": "Nx", "rr": false, "nl": "cse/node"}});
    assert_eq!(bench.create(Some("Cthird"), "/cse", 2, ae).code, 2001);
}

#[test]
fn empty_list_or_invalid_label_is_refused() {
    let bench = Bench::with_lights();
    let ae = |attributes: Value| bench.update(LIGHT1, "/cse/light1", json!({"m2m:ae": attributes}));
    for name in ["lbl", "poa", "csz", "srv", "acpi"] {
        let reply = ae(json!({name: []}));
        assert_eq!(reply.code, 4000, "{name}");
        assert!(reply.why().contains("a list of 1 to"), "{}", reply.why());
    }
    for bad in ["", " a", "a ", "a  b", "a\tb", "a\nb", "a\u{7f}"] {
        assert_eq!(ae(json!({"lbl": ["x", bad]})).code, 4000, "{bad:?}");
    }
    for good in [json!({"lbl": ["room:1", "two words", "é"]}), json!({"csz": ["cbor", "json"]})] {
        assert_eq!(ae(good.clone()).code, 2004, "{good}");
    }
    let reply = ae(json!({"csz": ["json", "yaml"]}));
    assert_eq!(
        (reply.code, reply.why()),
        (4000, "the attribute csz must be a list of 1 to 64 serializations: xml, json or cbor")
    );
    for name in ["pch", "ntsr"] {
        assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": name})).code, 2001);
    }
}

/// Independently of policies, no other originator sees, changes or removes a polling channel.
#[test]
fn polling_channel_is_private_whatever_the_policy() {
    let bench = Bench::with_lights();
    assert_eq!(policy(&bench, "open", rule(&["all"], 63)).code, 2001);
    let change = json!({"m2m:ae": {"acpi": ["cse/light1/open"]}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1", change).code, 2004);
    let sub = json!({"nu": [LIGHT2], "enc": {"net": [3, 4]}});
    let change = json!({"m2m:ae": {"rr": true, "poa": ["http://a.b/"]}});
    assert_eq!(bench.update(LIGHT2, "/cse/light2", change).code, 2004);
    assert_eq!(agree(&bench, subscribe(&bench, LIGHT2, "/cse/light1", sub)).code, 2001);
    let channel = json!({"m2m:pch": {"rn": "pch", "acpi": ["cse/light1/open"], "rqag": false}});
    let made = bench.create(Some(LIGHT1), "/cse/light1", 15, channel);
    assert_eq!((made.code, made.told().len()), (2001, 0), "{}", made.why());
    assert_eq!(made.attributes()["rqag"], false);
    let ri = format!("/{}", made.attributes()["ri"].as_str().unwrap());
    for path in ["/cse/light1/pch", ri.as_str()] {
        for who in [LIGHT2, "/in-cse", "/in-cse/Cx"] {
            assert_eq!(bench.retrieve(who, "/cse/light1").code, 2000);
            assert_eq!(bench.retrieve(who, path).code, 4103, "{who}");
            let change = json!({"m2m:pch": {"lbl": ["x"]}});
            assert_eq!(bench.update(who, path, change).code, 4103, "{who}");
            let govern = json!({"m2m:pch": {"acpi": null}});
            assert_eq!(bench.update(who, path, govern).code, 4103, "{who}");
            assert_eq!(bench.delete(who, path).code, 4103, "{who}");
        }
    }
    // It is not visible in listings of its AE either.
    let shows = |who: &str, query: &str| {
        let reply = bench.retrieve(who, &format!("/cse/light1?{query}"));
        assert_eq!(reply.code, 2000, "{}", reply.why());
        reply.json.to_string().contains("pch")
    };
    for query in [
        "rcn=4",
        "rcn=5",
        "rcn=6",
        "rcn=8",
        "fu=1",
        "fu=1&rcn=6",
        "rcn=8&ty=15",
        "fu=1&ty=3&arp=../pch",
    ] {
        assert_eq!((shows(LIGHT1, query), shows(LIGHT2, query)), (true, false), "{query}");
    }
    let group = json!({"m2m:grp": {"rn": "all", "mnm": 1, "mid": ["cse/light1/pch"]}});
    assert_eq!(bench.create(Some(LIGHT2), "/cse/light2", 9, group.clone()).code, 5105);
    // A group of its own AE does not give access to it either.
    let reply = bench.create(Some(LIGHT1), "/cse/light1", 9, group);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let codes = |who| {
        let reply = bench.retrieve(who, "/cse/light1/all/fopt");
        reply.json["m2m:agr"]["m2m:rsp"][0]["rsc"].clone()
    };
    assert_eq!((codes(LIGHT1), codes(LIGHT2)), (json!(2000), json!(4103)));
    let gone = bench.delete(LIGHT1, "/cse/light1/pch");
    assert_eq!((gone.code, gone.told().len()), (2002, 0), "its end is not told to others");
}

#[test]
fn node_link_is_an_address() {
    let bench = Bench::with_lights();
    for (nl, code) in [(json!("cse/node"), 2004), (json!("a//b"), 4000), (json!(1), 4000)] {
        let reply = bench.update(LIGHT1, "/cse/light1", json!({"m2m:ae": {"nl": nl}}));
        assert_eq!(reply.code, code, "{nl} {}", reply.why());
    }
    let switch = |nl: &str| {
        let cnd = "org.onem2m.common.moduleclass.binarySwitch";
        json!({"cod:binSh": {"cnd": cnd, "state": true, "nl": nl}})
    };
    let created = bench.create(Some(LIGHT1), "/cse/light1", 28, switch("/mn-cse-123456/cse/node"));
    assert_eq!(
        (created.code, &created.attributes()["nl"]),
        (2001, &json!("/mn-cse-123456/cse/node"))
    );
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 28, switch("a b")).code, 4000);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1").attributes()["nl"], "cse/node");
    let none = json!({"m2m:ae": {"nl": null}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1", none).attributes()["nl"], json!(null));
}
