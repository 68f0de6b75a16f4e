//! Rules that apply at certain times and from certain addresses.

use std::net::IpAddr;

use saegis_onem2m::primitive::Operation;
use serde_json::{Value, json};

use super::policies::{STATE, govern, policy};
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, request, subscribe};

/// The state of light 1 is open to light 2 in these contexts, and always to light 1.
fn opened(contexts: Value) -> Bench {
    let bench = Bench::with_lights();
    let reply = policy(&bench, "open", privileges(contexts));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    bench
}

fn privileges(contexts: Value) -> Value {
    json!({"acr": [
        {"acor": [LIGHT1], "acop": 63},
        {"acor": [LIGHT2], "acop": 63, "acco": contexts},
    ]})
}

fn ask(
    bench: &Bench,
    operation: Operation,
    path: &str,
    content: Option<Value>,
    source: Option<&str>,
) -> Reply {
    let mut request = request(operation, path, Some(LIGHT2), content);
    request.source_address = source.map(|text| text.parse::<IpAddr>().unwrap());
    bench.send(&request)
}

fn retrieve(bench: &Bench, path: &str, source: Option<&str>) -> u16 {
    ask(bench, Operation::Retrieve, path, None, source).code
}

#[test]
fn rule_follows_time_window() {
    // At 09:30:00.
    let mut bench = opened(json!([{"actw": ["* 30-31 9 * * * *", "* * 22-6 * * * *"]}]));
    let codes = |bench: &Bench| [LIGHT1, LIGHT2].map(|who| bench.retrieve(who, STATE).code);
    assert_eq!(codes(&bench), [2000, 2000]);
    bench.pass(119);
    assert_eq!(codes(&bench), [2000, 2000]);
    bench.pass(1);
    assert_eq!(codes(&bench), [2000, 4103]);
    assert_eq!(bench.instance(LIGHT2, STATE, json!({"con": 1})).code, 4103);
    assert_eq!(bench.retrieve(LIGHT2, &format!("{STATE}?fu=1")).code, 4103);
    // At 22:00:00, and past midnight.
    bench.pass((12 * 60 + 28) * 60);
    assert_eq!(codes(&bench), [2000, 2000]);
    bench.pass(9 * 60 * 60 - 1);
    assert_eq!(codes(&bench), [2000, 2000]);
    bench.pass(1);
    assert_eq!(codes(&bench), [2000, 4103]);
    let reopened = bench.reopen();
    assert_eq!(codes(&reopened), [2000, 4103]);
}

#[test]
fn rule_may_be_limited_to_addresses() {
    let bench = opened(json!([{"acip": {"ipv4": ["10.0.0.0/8"], "ipv6": ["2001:db8::/32"]}}]));
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": 1})).code, 2001);
    for (source, code) in [
        (Some("10.1.2.3"), 2000),
        (Some("::ffff:10.1.2.3"), 2000),
        (Some("2001:db8::7"), 2000),
        (Some("11.1.2.3"), 4103),
        (Some("2001:db9::7"), 4103),
        (None, 4103),
    ] {
        let la = format!("{STATE}/la");
        let discovery = format!("{STATE}?fu=1");
        for path in [STATE, &la, &discovery] {
            assert_eq!(retrieve(&bench, path, source), code, "{path} {source:?}");
        }
        let change = Some(json!({"m2m:cnt": {"lbl": ["x"]}}));
        let updated = ask(&bench, Operation::Update, STATE, change, source).code;
        assert_eq!(updated, if code == 2000 { 2004 } else { 4103 }, "{source:?}");
        // A discovery finds the same resources that a retrieve may access.
        let found = ask(&bench, Operation::Retrieve, "/cse?fu=1&ty=3", None, source);
        let expected: &[&str] = match code {
            2000 => &["cse/light1/state", "cse/light2/state"],
            _ => &["cse/light2/state"],
        };
        assert_eq!(found.found(), expected, "{source:?}");
    }
    let deleted = ask(&bench, Operation::Delete, STATE, None, Some("10.1.2.3"));
    assert_eq!(deleted.code, 2002);
}

#[test]
fn rule_needs_one_complete_context() {
    // By day from one network, at night from any known address.
    let mut bench = opened(json!([
        {"actw": ["* * 8-19 * * * *"], "acip": {"ipv4": ["10.0.0.0/8"]}},
        {"actw": ["* * 20-7 * * * *"], "acip": {"ipv4": ["0.0.0.0/0"], "ipv6": ["::/0"]}},
    ]));
    let codes = |bench: &Bench| {
        [Some("10.1.2.3"), Some("11.1.2.3"), Some("::1"), None]
            .map(|source| retrieve(bench, STATE, source))
    };
    assert_eq!(codes(&bench), [2000, 4103, 4103, 4103]);
    bench.pass(12 * 60 * 60);
    assert_eq!(codes(&bench), [2000, 2000, 2000, 4103]);
    bench.pass(12 * 60 * 60);
    assert_eq!(codes(&bench), [2000, 4103, 4103, 4103]);
}

#[test]
fn policy_update_respects_address_context() {
    let bench = Bench::with_lights();
    let own = json!({"acr": [
        {"acor": [LIGHT2], "acop": 63, "acco": [{"acip": {"ipv4": ["10.1.2.3"]}}]},
    ]});
    let acp = json!({"m2m:acp": {"rn": "open", "pv": privileges(json!([{"actw": ["* * 9 * * * *"]}])),
        "pvs": own}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    for (source, code) in [(Some("10.1.2.4"), 4103), (None, 4103), (Some("10.1.2.3"), 2004)] {
        let change = Some(json!({"m2m:acp": {"lbl": ["x"]}}));
        let changed = ask(&bench, Operation::Update, "/cse/light1/open", change, source);
        assert_eq!(changed.code, code, "{source:?}");
        let change = Some(json!({"m2m:cnt": {"acpi": ["cse/light1/open"]}}));
        let governed = ask(&bench, Operation::Update, STATE, change, source);
        assert_eq!(governed.code, code, "{source:?}");
    }
}

#[test]
fn group_members_see_address_of_originator() {
    let bench = opened(json!([{"acip": {"ipv4": ["10.1.2.3"]}}]));
    let group = json!({"m2m:grp": {"rn": "group", "mnm": 2, "mid": ["cse/light1/state"]}});
    // The creator of a group must be able to retrieve its members.
    for (source, code) in [(None, 5105), (Some("10.1.2.4"), 5105), (Some("10.1.2.3"), 2001)] {
        let content = Some(group.clone());
        let mut request = request(Operation::Create, "/cse/light2", Some(LIGHT2), content);
        request.resource_type = Some(9);
        request.source_address = source.map(|text: &str| text.parse().unwrap());
        assert_eq!(bench.send(&request).code, code, "{source:?}");
    }
    for (source, code) in [(Some("10.1.2.3"), 2000), (Some("10.1.2.4"), 4103), (None, 4103)] {
        let reply = ask(&bench, Operation::Retrieve, "/cse/light2/group/fopt", None, source);
        assert_eq!(reply.code, 2000, "{}", reply.why());
        assert_eq!(reply.json["m2m:agr"]["m2m:rsp"][0]["rsc"], code, "{source:?}");
    }
    // The same applies to the group itself.
    let acp = json!({"m2m:acp": {"rn": "near", "pvs": {"acr": [{"acor": [LIGHT2], "acop": 63}]},
        "pv": {"acr": [{"acor": [LIGHT2], "acop": 63,
            "acco": [{"acip": {"ipv4": ["10.1.2.4"]}}]}]}}});
    assert_eq!(bench.create(Some(LIGHT2), "/cse/light2", 1, acp).code, 2001);
    let change = json!({"m2m:grp": {"acpi": ["cse/light2/near"]}});
    assert_eq!(bench.update(LIGHT2, "/cse/light2/group", change).code, 2004);
    for (source, code) in [(Some("10.1.2.3"), 4103), (None, 4103), (Some("10.1.2.4"), 2000)] {
        assert_eq!(retrieve(&bench, "/cse/light2/group/fopt", source), code, "{source:?}");
    }
}

#[test]
fn notification_ignores_address_context() {
    let subscribed = |contexts: Value| {
        let bench = opened(json!([{"actw": ["* * * * * * *"]}]));
        let sub = json!({"rn": "sub", "nu": ["http://10.1.2.3/x"], "enc": {"net": [3]}});
        let reply = agree(&bench, subscribe(&bench, LIGHT2, STATE, sub));
        assert_eq!(reply.code, 2001, "{}", reply.why());
        let change = json!({"m2m:acp": {"pv": privileges(contexts)}});
        assert_eq!(bench.update(LIGHT1, "/cse/light1/open", change).code, 2004);
        bench.instance(LIGHT1, STATE, json!({"con": 1})).told().len()
    };
    assert_eq!(subscribed(json!([{"actw": ["* * 9 * * * *"]}])), 1);
    assert_eq!(subscribed(json!([{"actw": ["* * 10 * * * *"]}])), 0);
    // The subscriber's present address is unknown at the time of a notification.
    assert_eq!(subscribed(json!([{"acip": {"ipv4": ["0.0.0.0/0"]}}])), 0);
}

#[test]
fn invalid_context_is_refused() {
    let bench = Bench::with_lights();
    for (contexts, code, why) in [
        (json!([{"actw": ["* * 8-17 * * *"]}]), 4000, "7"),
        (json!([{"actw": ["* * 8-24 * * * *"]}]), 4000, "hour"),
        (json!([{"actw": ["* * * * * 7 *"]}]), 4000, "day of the week"),
        (json!([{"actw": "* * * * * * *"}]), 4000, "acr"),
        (json!([{"acip": {"ipv4": ["10.0.0.0/33"]}}]), 4000, "ipv4"),
        (json!([{"acip": {"ipv6": ["10.0.0.1"]}}]), 4000, "ipv6"),
        (json!([{"acip": ["10.0.0.1"]}]), 4000, "acr"),
        (json!([]), 4000, "acco"),
        (json!([{}]), 4000, "actw"),
        (json!([{"aclr": {"accc": ["DE"]}}]), 5001, "aclr"),
        (json!([{"actw": ["* * * * * * *"]}, {"aclr": {"accc": ["DE"]}}]), 5001, "aclr"),
    ] {
        let reply = policy(&bench, "new", privileges(contexts.clone()));
        assert_eq!(
            (reply.code, reply.why().contains(why)),
            (code, true),
            "{contexts} {}",
            reply.why()
        );
    }
}
