//! Every operation, successful and refused.

use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::CseId;
use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive};
use saegis_onem2m::target::Target;

use crate::client::{
    Changes, Client, KeyTerms, Terms, read_deleted, read_registered_key, read_registration,
    read_updated_client, read_updated_key,
};
use crate::clients::MAX_REGISTRATIONS;
use crate::testing::*;
use crate::{KeyOrigin, KeyRegistration, SweepOutcome};

#[test]
fn client_manages_its_registration() {
    let bench = Bench::new();
    let light = client(LIGHT);
    let labeled = Terms { labels: vec!["hall".into()], ..terms(100) };
    let answer = bench.ask(LIGHT, None, &light.register("1", &labeled).unwrap(), 0);
    let made = read_registration(&answer).unwrap();
    assert_eq!((made.client.as_str(), made.expires), (LIGHT, at(100)));
    assert_eq!((made.labels.clone(), made.assigned_key_id.clone()), (vec!["hall".into()], None));
    assert_eq!(made.admin_fqdn, "in.provider.com");
    let location = answer.content_location.unwrap();
    assert_eq!(location, format!("//{FQDN}/maf/{}", made.id));
    assert_eq!(Target::from_address(&location).unwrap().resource, made.id);
    assert_eq!((answer.request_id, answer.release), ("1".into(), Some("3".into())));

    assert_eq!(bench.code_and_text(LIGHT, &light.register("2", &labeled).unwrap(), 1).0, 4117);
    let answer = bench.ask(LIGHT, None, &light.retrieve("3", &made.id).unwrap(), 1);
    assert_eq!(read_registration(&answer).unwrap(), made);
    // Another client does not see the registration.
    bench.registered(OTHER, 100);
    for request in [
        client(OTHER).retrieve("4", &made.id),
        client(OTHER).deregister("4", &made.id),
        client(OTHER).update(
            "4",
            &made.id,
            &Changes { expires: Some(at(9)), labels: None, targets: None },
        ),
    ] {
        assert_eq!(bench.code_and_text(OTHER, &request.unwrap(), 1).0, 4004);
    }

    // The lifetime is limited from the update on. The response has only what was asked for.
    let changes = Changes { expires: Some(at(5000)), ..Changes::default() };
    let answer = bench.ask(LIGHT, None, &light.update("5", &made.id, &changes).unwrap(), 10);
    let updated = read_updated_client(&answer).unwrap();
    assert_eq!((updated.expires, updated.labels), (Some(at(1010)), None));
    let changes = Changes { labels: Some(vec![]), ..Changes::default() };
    let answer = bench.ask(LIGHT, None, &light.update("5", &made.id, &changes).unwrap(), 10);
    assert_eq!(code_and_text(&answer), (2004, r#"{"sec:mafClientReg":{"lbl":[]}}"#.into()));
    let past = Changes { expires: Some(at(10)), labels: None, targets: None };
    assert_eq!(
        bench.code_and_text(LIGHT, &light.update("6", &made.id, &past).unwrap(), 10).0,
        4000
    );
    assert_eq!(
        bench
            .code_and_text(LIGHT, &light.update("6", &made.id, &Changes::default()).unwrap(), 10)
            .0,
        4000
    );

    let gone = bench.ask(LIGHT, None, &light.deregister("7", &made.id).unwrap(), 20);
    assert_eq!(read_deleted(&gone), Ok(()));
    assert_eq!(bench.code_and_text(LIGHT, &light.retrieve("8", &made.id).unwrap(), 20).0, 4103);
    bench.registered(LIGHT, 100);
}

#[test]
fn unregistered_client_may_only_register() {
    let bench = Bench::new();
    bench.registered(LIGHT, 400);
    let key = bench.key(LIGHT, OTHER, 7, 400).relative_key_id;
    let expired = bench.registered(GATEWAY, 50);
    let changes = Changes { expires: Some(at(300)), labels: None, targets: None };
    // A client that never registered, and one whose registration has expired.
    for (who, now) in [(OTHER, 1), (GATEWAY, 50)] {
        let it = client(who);
        for request in [
            it.retrieve("1", &expired),
            it.update("1", &expired, &changes),
            it.deregister("1", &expired),
            Ok(give(who, LIGHT, 1, 300)),
            Ok(export(who, LIGHT, 300)),
            it.retrieve_key("1", &key),
            it.retrieve_key("1", "unknown"),
            it.update_key("1", &key, &changes),
            it.deregister_key("1", &key),
        ] {
            assert_eq!(bench.code_and_text(who, &request.unwrap(), now).0, 4103, "{who}");
        }
    }
    // It may register again then.
    let again =
        bench.code_and_text(GATEWAY, &client(GATEWAY).register("2", &terms(100)).unwrap(), 50);
    assert_eq!(again.0, 2001);
}

#[test]
fn only_target_may_retrieve_key() {
    let bench = Bench::new();
    for who in [LIGHT, GATEWAY, OTHER] {
        bench.registered(who, 400);
    }
    let made = bench.key(LIGHT, GATEWAY, 7, 100);
    assert_eq!((made.suid, made.expires, made.source.as_str()), (32, at(100), LIGHT));
    assert_eq!(made.targets, [id(GATEWAY)]);
    assert_eq!(made.relative_key_id.len(), 32);
    let fetched = bench.fetch(GATEWAY, &made.relative_key_id, 99).ok().unwrap();
    assert_eq!(fetched.key.expose(), key_of(7));
    assert_eq!((fetched.suid, fetched.expires, fetched.source.as_str()), (32, at(100), LIGHT));
    assert_eq!(fetched.admin_fqdn, "in.provider.com");

    // Unknown, expired and removed keys, and those of other clients, even the caller's own: all are
    // alike.
    let removed = bench.key(LIGHT, GATEWAY, 8, 100).relative_key_id;
    let gone = bench.code_and_text(LIGHT, &client(LIGHT).deregister_key("d", &removed).unwrap(), 1);
    assert_eq!(gone, (2002, String::new()));
    let foreign = bench.key(OTHER, LIGHT, 9, 100).relative_key_id;
    let all: Vec<_> = [
        (GATEWAY, "0123456789ABCDEF0123456789ABCDEF", 1),
        (GATEWAY, "x", 1),
        (GATEWAY, &removed, 1),
        (GATEWAY, &foreign, 1),
        (GATEWAY, &made.relative_key_id, 100),
        (OTHER, &made.relative_key_id, 1),
        (LIGHT, &made.relative_key_id, 1),
    ]
    .map(|(who, key, now)| bench.fetch(who, key, now).err().unwrap())
    .into();
    assert_eq!(all[0].0, 4004);
    assert!(all.iter().all(|reply| *reply == all[0]), "{all:?}");
    // A source that is also a target may retrieve it.
    let own = bench.key(LIGHT, LIGHT, 3, 100).relative_key_id;
    assert!(bench.fetch(LIGHT, &own, 1).is_ok());
}

#[test]
fn esprim_key_has_suid_and_one_target() {
    let bench = Bench::new();
    bench.registered(LIGHT, 400);
    bench.registered(GATEWAY, 400);
    let made = |suid, targets: &[&str]| {
        let key = PresharedKey::new(&[key_of(5), key_of(6)].concat()).unwrap();
        let request = client(LIGHT).register_key("1", &key_terms(suid, targets, 100), Some(&key));
        bench.ask(LIGHT, None, &request.unwrap(), 0)
    };
    let key = read_registered_key(&made(33, &[GATEWAY]), None).unwrap();
    let fetched = bench.fetch(GATEWAY, &key.relative_key_id, 1).ok().unwrap();
    assert_eq!((fetched.suid, fetched.key.expose().len()), (33, 64));
    for suid in [32, 33] {
        for targets in [&[][..], &[GATEWAY, OTHER]] {
            let (rsc, why) = code_and_text(&made(suid, targets));
            assert_eq!(rsc, 4000, "{suid} {targets:?}");
            assert!(why.contains("exactly one target"), "{why}");
        }
    }
    // Data keys may have many targets, or none yet.
    assert_eq!(made(34, &[GATEWAY, OTHER]).rsc.code(), 2001);
    assert_eq!(made(35, &[]).rsc.code(), 2001);
    for suid in [0, 12, 22, 30, 31, 36, 42, 255] {
        assert_eq!(made(suid, &[GATEWAY]).rsc.code(), 4000, "{suid}");
    }
}

#[test]
fn session_exports_one_key() {
    let bench = Bench::new();
    let light = bench.registered(LIGHT, 400);
    bench.registered(GATEWAY, 400);
    let request = export(LIGHT, GATEWAY, 100);
    let (rsc, why) = bench.code_and_text(LIGHT, &request, 0);
    assert_eq!(rsc, 4107);
    assert!(why.contains("extended master secret"), "{why}");

    let one = session(0xa1);
    let made = read_registered_key(&bench.ask(LIGHT, Some(&one), &request, 0), Some(&one)).unwrap();
    assert_eq!(made.relative_key_id, one.relative_key_id());
    let fetched = bench.fetch(GATEWAY, &made.relative_key_id, 1).ok().unwrap();
    assert_eq!(fetched.key.expose(), one.key().unwrap().expose());

    // Not again, not for another target, and not after a de-registration in between.
    let other = export(LIGHT, OTHER, 90);
    let again = |bench: &Bench, now| bench.ask(LIGHT, Some(&one), &other, now).rsc.code();
    assert_eq!(again(&bench, 1), 4105);
    let remove = client(LIGHT).deregister_key("d", &made.relative_key_id).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &remove, 1).0, 2002);
    assert!(bench.fetch(GATEWAY, &made.relative_key_id, 1).is_err());
    assert_eq!(again(&bench, 2), 4105);
    assert_eq!(bench.code_and_text(LIGHT, &remove, 2).0, 4004);
    let leave = client(LIGHT).deregister("l", &light).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &leave, 2).0, 2002);
    bench.registered(LIGHT, 400);
    assert_eq!(again(&bench, 3), 4105);
    // A given key belongs to no session, and another session has another key.
    assert_eq!(bench.ask(LIGHT, Some(&one), &give(LIGHT, GATEWAY, 1, 90), 3).rsc.code(), 2001);
    assert_eq!(bench.ask(LIGHT, Some(&session(0xa2)), &other, 3).rsc.code(), 2001);
    // No client holds the first key after its end.
    assert_eq!(bench.ask(LIGHT, Some(&one), &export(LIGHT, OTHER, 200), 100).rsc.code(), 2001);
}

#[test]
fn only_source_may_update_or_delete_key() {
    let bench = Bench::new();
    let [light, ..] = [LIGHT, GATEWAY, OTHER].map(|who| bench.registered(who, 400));
    let key = bench.key(LIGHT, GATEWAY, 7, 100).relative_key_id;
    let longer =
        Changes { expires: Some(at(200)), labels: Some(vec!["x".into()]), ..Changes::default() };
    let mut replies = Vec::new();
    for who in [GATEWAY, OTHER] {
        for request in
            [client(who).update_key("1", &key, &longer), client(who).deregister_key("1", &key)]
        {
            replies.push(bench.code_and_text(who, &request.unwrap(), 1));
        }
    }
    replies.push(bench.code_and_text(
        OTHER,
        &client(OTHER).update_key("1", "unknown", &longer).unwrap(),
        1,
    ));
    replies.push(bench.fetch(OTHER, "unknown", 1).err().unwrap());
    assert_eq!(replies[0].0, 4004);
    assert!(replies.iter().all(|t| *t == replies[0]), "{replies:?}");

    let update = |changes: &Changes, now| {
        let request = client(LIGHT).update_key("2", &key, changes).unwrap();
        read_updated_key(&bench.ask(LIGHT, None, &request, now))
    };
    let updated = update(&longer, 1).unwrap();
    assert_eq!((updated.expires, updated.labels), (Some(at(200)), Some(vec!["x".into()])));
    assert_eq!(updated.targets, None);
    // Neither beyond the registration of its source, nor beyond its maximum lifetime since
    // registration.
    let far = Changes { expires: Some(at(9000)), labels: None, targets: None };
    assert_eq!(update(&far, 1).unwrap().expires, Some(at(400)));
    let extend = client(LIGHT).update("3", &light, &far).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &extend, 2).0, 2004);
    assert_eq!(update(&far, 3).unwrap().expires, Some(at(500)));
    assert!(update(&Changes { expires: Some(at(3)), labels: None, targets: None }, 3).is_err());
    assert!(update(&far, 500).is_err());

    // The single target, the purpose and the key are unchanged.
    let mut request = client(LIGHT).update_key("4", &key, &longer).unwrap();
    for content in [
        r#"{"sec:symmKeyReg":{"tgids":["//in.provider.com/Sother"]}}"#,
        r#"{"sec:symmKeyReg":{"suid":33,"et":"20270115T080500"}}"#,
        r#"{"sec:symmKeyReg":{"keyValue":"00"}}"#,
        r#"{"sec:mafClientReg":{"lbl":["x"]}}"#,
        r#"{"sec:symmKeyReg":{}}"#,
    ] {
        request.content = Some(Content::parse(content.into()).unwrap());
        assert_eq!(bench.code_and_text(LIGHT, &request, 4).0, 4000, "{content}");
    }
    request.content = Some(Content::parse(r#"{"sec:symmKeyReg":{"lbl":null}}"#.into()).unwrap());
    assert_eq!(bench.code_and_text(LIGHT, &request, 4).0, 2004);
}

#[test]
fn key_ends_with_registration_of_source() {
    let bench = Bench::new();
    let light = bench.registered(LIGHT, 100);
    bench.registered(GATEWAY, 400);
    let key = bench.key(LIGHT, GATEWAY, 7, 300);
    assert_eq!(key.expires, at(100));
    let sooner = Changes { expires: Some(at(50)), labels: None, targets: None };
    assert_eq!(
        bench.code_and_text(LIGHT, &client(LIGHT).update("1", &light, &sooner).unwrap(), 1).0,
        2004
    );
    let fetch = |now| bench.fetch(GATEWAY, &key.relative_key_id, now);
    assert_eq!(fetch(49).ok().unwrap().expires, at(50));
    assert!(fetch(50).is_err());
    // After a new registration before the sweep, the key is still invalid.
    let again = client(LIGHT).register("2", &terms(400)).unwrap();
    let light = read_registration(&bench.ask(LIGHT, None, &again, 60)).unwrap().id;
    assert!(fetch(61).is_err());
    let other = bench.key(LIGHT, GATEWAY, 7, 300).relative_key_id;
    assert_eq!(
        bench.code_and_text(LIGHT, &client(LIGHT).deregister("3", &light).unwrap(), 62).0,
        2002
    );
    assert!(bench.fetch(GATEWAY, &other, 63).is_err());
}

#[test]
fn registrations_and_lifetimes_are_limited() {
    let bench = Bench::new();
    let [light, ..] = [LIGHT, GATEWAY, OTHER].map(|who| bench.registered(who, 9000));
    let longest = client(LIGHT).retrieve("1", &light).unwrap();
    let answer = read_registration(&bench.ask(LIGHT, None, &longest, 1)).unwrap();
    assert_eq!(answer.expires, at(1000));
    assert_eq!(bench.key(LIGHT, GATEWAY, 1, 9000).expires, at(500));
    bench.registered("//in.provider.com/Sfourth", 100);
    let fifth = "//in.provider.com/Sfifth";
    let full = bench.code_and_text(fifth, &client(fifth).register("1", &terms(9)).unwrap(), 0);
    assert_eq!(full.0, 5207);
    for n in 0..3 {
        bench.key(LIGHT, GATEWAY, n, 90);
    }
    assert_eq!(bench.code_and_text(LIGHT, &give(LIGHT, GATEWAY, 4, 90), 0).0, 5207);
    bench.key(OTHER, GATEWAY, 5, 90);
    bench.key(OTHER, GATEWAY, 6, 90);
    assert_eq!(bench.code_and_text(OTHER, &give(OTHER, GATEWAY, 7, 90), 0).0, 5207);
    // The sweep frees space.
    assert_eq!(bench.maf.sweep(at(89)).unwrap(), SweepOutcome::default());
    assert_eq!(bench.maf.sweep(at(90)).unwrap(), SweepOutcome { removed: 5, more: false });
    assert_eq!(bench.code_and_text(OTHER, &give(OTHER, GATEWAY, 7, 190), 90).0, 2001);
    assert_eq!(bench.maf.sweep(at(100)).unwrap(), SweepOutcome { removed: 1, more: false });
    assert_eq!(
        bench.code_and_text(fifth, &client(fifth).register("1", &terms(900)).unwrap(), 100).0,
        2001
    );
    // Nothing is left at the end.
    while bench.maf.sweep(at(1_000_000)).unwrap().more {}
    assert_eq!(bench.maf.sweep(at(1_000_000)).unwrap(), SweepOutcome::default());
    assert!(!bench.maf.store_fails());
}

#[test]
fn expired_entries_are_removed_in_parts() {
    let bench = Bench::with(roomy(1000));
    bench.registered(LIGHT, 9000);
    for n in 0..300 {
        bench.key(LIGHT, GATEWAY, 1, 10 + n % 7);
    }
    let first = bench.maf.sweep(at(100)).unwrap();
    assert_eq!(first, SweepOutcome { removed: 256, more: true });
    assert_eq!(bench.maf.sweep(at(100)).unwrap(), SweepOutcome { removed: 44, more: false });
}

#[test]
fn originator_must_be_caller() {
    let bench = Bench::new();
    let good = client(LIGHT).register("1", &terms(100)).unwrap();
    for from in [
        None,
        Some(""),
        Some("Clight"),
        Some("/mn-1/Clight"),
        Some(OTHER),
        Some("//IN.provider.com/mn-1/Clight"),
    ] {
        let request = saegis_onem2m::primitive::RequestPrimitive {
            from: from.map(Into::into),
            ..good.clone()
        };
        assert_eq!(bench.code_and_text(LIGHT, &request, 0).0, 4106, "{from:?}");
    }
    assert_eq!(bench.code_and_text(OTHER, &good, 0).0, 4106);
}

#[test]
fn invalid_maf_request_is_refused() {
    let bench = Bench::new();
    let light = bench.registered(LIGHT, 400);
    let good = client(LIGHT).retrieve("1", &light).unwrap();
    let with = |change: &dyn Fn(&mut saegis_onem2m::primitive::RequestPrimitive)| {
        let mut request = good.clone();
        change(&mut request);
        bench.code_and_text(LIGHT, &request, 10).0
    };
    let path = |p: &str| {
        let to = Target::from_path(p).unwrap();
        with(&|r| r.to = to.clone())
    };
    for base in ["/~/maf", "/_/maf.provider.com/maf", "/maf", "/_/MAF.provider.com/maf"] {
        assert_eq!(path(&format!("{base}/{light}")), 2000, "{base}");
    }
    for base in ["/~/mef", "/_/maf.other.com/maf", "", "/~/maf/x", "/x"] {
        assert_eq!(path(&format!("{base}/{light}")), 4004, "{base}");
    }
    for other in [format!("/~/maf/{light}/x"), "/~/maf/~x".into(), "/~/maf/own".into()] {
        assert_eq!(path(&other), 4004, "{other}");
    }
    for base in ["/~/maf", "/maf", "/~/maf/-", "/maf/-"] {
        assert_eq!(path(base), 4005, "{base}");
    }
    assert_eq!(with(&|r| r.operation = Operation::Notify), 4005);
    assert_eq!(with(&|r| r.operation = Operation::Create), 4005);
    assert_eq!(with(&|r| r.release = Some("1".into())), 4001);
    assert_eq!(with(&|r| r.release = None), 2000);
    assert_eq!(with(&|r| r.options.push(("rcn".into(), vec!["1".into()]))), 4000);
    assert_eq!(with(&|r| r.parameters.set(Parameter::ResponseTargets, "x")), 5001);
    assert_eq!(
        with(&|r| r.parameters.set(Parameter::OriginatingTimestamp, "20270115T080000")),
        2000
    );
    for (left, rsc) in [
        ("1000", 2000),
        ("0", 4008),
        ("-1000", 4008),
        ("x", 4000),
        ("20260101T000000", 4008),
        ("20280101T000000", 2000),
    ] {
        assert_eq!(with(&|r| r.parameters.set(Parameter::RequestExpiration, left)), rsc, "{left}");
    }
    // Faults in the content of a create.
    let create = |ty: Option<u16>, content: Option<&str>| {
        let mut request = client(OTHER).register("1", &terms(100)).unwrap();
        request.resource_type = ty;
        request.content = content.map(|c| Content::parse(c.to_owned().into()).unwrap());
        bench.code_and_text(OTHER, &request, 10).0
    };
    let whole = r#"{"sec:mafClientReg":{"et":"20280101T000000","adfq":"a.b"}}"#;
    assert_eq!(create(Some(2), Some(whole)), 4108);
    assert_eq!(create(None, Some(whole)), 4108);
    for content in [
        r#"{"sec:symmKeyReg":{"et":"20280101T000000","adfq":"a.b"}}"#,
        r#"{"sec:mafClientReg":{"et":"20280101T000000"}}"#,
        r#"{"sec:mafClientReg":{"adfq":"a.b"}}"#,
        r#"{"sec:mafClientReg":{"et":"20200101T000000","adfq":"a.b"}}"#,
        r#"{"sec:mafClientReg":{"et":"20280101T000000","adfq":"a.b","mcid":"//a.b/c"}}"#,
        r#"{"sec:mafClientReg":{"et":"20280101T000000","adfq":"a.b","lbl":null}}"#,
    ] {
        assert_eq!(create(Some(61001), Some(content)), 4000, "{content}");
    }
    assert_eq!(create(Some(61001), None), 4000);
    assert_eq!(create(Some(61001), Some(whole)), 2001);
}

#[test]
fn policy_sees_executed_registration() {
    let bench = Bench::new();
    bench.registered(LIGHT, 400);
    let asks = |request: &RequestPrimitive| bench.maf.asks(&id(LIGHT), request, at(0));
    let asked = asks(&give(LIGHT, GATEWAY, 1, 90)).unwrap();
    assert_eq!((asked.suid, asked.targets), (32, vec![id(GATEWAY)]));
    assert_eq!(asked.origin, KeyOrigin::Request);
    assert_eq!((asked.expires, asked.admin_fqdn.as_str()), (at(90), "in.provider.com"));
    assert_eq!(asks(&export(LIGHT, GATEWAY, 90)).unwrap().origin, KeyOrigin::Session);
    for other in [
        client(LIGHT).register("1", &terms(9)),
        client(LIGHT).retrieve_key("1", "A"),
        client(LIGHT).register_key("1", &key_terms(32, &[], 9), None),
        client(LIGHT).register_key("1", &key_terms(31, &[GATEWAY], 9), None),
        client(LIGHT).deregister_key("1", "A"),
        client(LIGHT).update_key("1", "A", &other_targets(&[OTHER])),
    ] {
        assert_eq!(asks(&other.unwrap()), None);
    }
}

fn other_targets(targets: &[&str]) -> Changes {
    Changes { targets: Some(targets.iter().map(|t| id(t)).collect()), ..Changes::default() }
}

#[test]
fn targets_of_data_key_can_change() {
    let bench = Bench::new();
    for who in [LIGHT, GATEWAY, OTHER] {
        bench.registered(who, 400);
    }
    let key = PresharedKey::new(&key_of(5)).unwrap();
    let terms = key_terms(34, &[GATEWAY], 100);
    let request = client(LIGHT).register_key("1", &terms, Some(&key)).unwrap();
    let made = read_registered_key(&bench.ask(LIGHT, None, &request, 0), None).unwrap();
    let change = client(LIGHT).update_key("2", &made.relative_key_id, &other_targets(&[OTHER]));
    let change = change.unwrap();
    // Policy decides on what the key will be, and only for its source.
    let asked = bench.maf.asks(&id(LIGHT), &change, at(1)).unwrap();
    assert_eq!((asked.suid, asked.targets, asked.origin), (34, vec![id(OTHER)], KeyOrigin::Stored));
    assert_eq!((asked.expires, asked.admin_fqdn.as_str()), (at(100), "in.provider.com"));
    assert_eq!(bench.maf.asks(&id(OTHER), &change, at(1)), None);
    assert_eq!(bench.maf.asks(&id(LIGHT), &change, at(100)), None);

    let updated = read_updated_key(&bench.ask(LIGHT, None, &change, 1)).unwrap();
    assert_eq!(updated.targets, Some(vec![id(OTHER)]));
    assert_eq!((updated.expires, updated.labels), (None, None));
    assert!(bench.fetch(OTHER, &made.relative_key_id, 2).is_ok());
    assert_eq!(bench.fetch(GATEWAY, &made.relative_key_id, 2).err().unwrap().0, 4004);
    // A former target of an association's key has the key.
    for suid in [32, 33] {
        let terms = key_terms(suid, &[GATEWAY], 100);
        let request = client(LIGHT).register_key("3", &terms, Some(&key)).unwrap();
        let made = read_registered_key(&bench.ask(LIGHT, None, &request, 0), None).unwrap();
        let change = client(LIGHT).update_key("4", &made.relative_key_id, &other_targets(&[OTHER]));
        let (rsc, why) = bench.code_and_text(LIGHT, &change.unwrap(), 1);
        assert_eq!(rsc, 4000);
        assert!(why.contains("former target has the key"), "{why}");
        assert_eq!(bench.fetch(OTHER, &made.relative_key_id, 2).err().unwrap().0, 4004);
        assert!(bench.fetch(GATEWAY, &made.relative_key_id, 2).is_ok());
    }
}

/// Policy is asked before the request is handled. A key that is registered in between, or that another
/// update changes, is not what policy has decided on.
#[test]
fn registration_that_policy_did_not_see_is_refused() {
    let bench = Bench::new();
    for who in [LIGHT, GATEWAY, OTHER] {
        bench.registered(who, 400);
    }
    let handle = |request: &RequestPrimitive, exported, allowed: Option<&KeyRegistration>| {
        let answer = bench.maf.handle(&caller(LIGHT, exported), request, allowed, at(1));
        answer.rsc.code()
    };
    let one = session(0xa1);
    let relative = one.relative_key_id();
    let change = client(LIGHT).update_key("1", &relative, &other_targets(&[OTHER])).unwrap();
    // The source knows the identifier of its session's key before the key is registered.
    assert_eq!(bench.maf.asks(&id(LIGHT), &change, at(1)), None);
    let request = client(LIGHT).register_key("2", &key_terms(34, &[GATEWAY], 100), None).unwrap();
    assert_eq!(bench.ask(LIGHT, Some(&one), &request, 1).rsc.code(), 2001);
    assert_eq!(handle(&change, None, None), 4105);
    assert_eq!(bench.fetch(OTHER, &relative, 2).err().unwrap().0, 4004);
    // Another registration than the allowed one.
    let asked = bench.maf.asks(&id(LIGHT), &change, at(1)).unwrap();
    let mut other = asked.clone();
    other.targets = vec![id(GATEWAY)];
    assert_eq!(handle(&change, None, Some(&other)), 4105);
    assert_eq!(handle(&change, None, Some(&asked)), 2004);
    // Without a decision no key is registered.
    let new = give(LIGHT, GATEWAY, 1, 90);
    assert_eq!(handle(&new, None, None), 4105);
    assert_eq!(handle(&new, None, Some(&asked)), 4105);
    let asked = bench.maf.asks(&id(LIGHT), &new, at(1));
    assert_eq!(handle(&new, None, asked.as_ref()), 2001);
}

#[test]
fn client_registers_for_each_stakeholder() {
    let bench = Bench::new();
    let of = |admin: &str, until| Terms::until(at(until), admin);
    bench.registered(GATEWAY, 900);
    let first = bench.registered_for(LIGHT, &of("in.provider.com", 400));
    let second = bench.registered_for(LIGHT, &of("other.example.com", 200));
    assert_ne!(first, second);
    // One for each, whatever the case of its name.
    let again = client(LIGHT).register("1", &of("IN.provider.com", 90)).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &again, 1).0, 4117);
    let key_for = |admin: &str, until| {
        let key = PresharedKey::new(&key_of(5)).unwrap();
        let terms = KeyTerms { terms: of(admin, until), ..key_terms(32, &[GATEWAY], until) };
        let request = client(LIGHT).register_key("2", &terms, Some(&key)).unwrap();
        bench.ask(LIGHT, None, &request, 1)
    };
    let read = |answer| read_registered_key(&answer, None).unwrap();
    // A key needs the registration for its stakeholder, and ends with it.
    let (rsc, why) = code_and_text(&key_for("third.example.com", 300));
    assert_eq!(rsc, 4103);
    assert!(why.contains("adminFQDN"), "{why}");
    let mine = read(key_for("in.provider.com", 300));
    let other = read(key_for("other.example.com", 300));
    assert_eq!((mine.expires, other.expires), (at(300), at(200)));
    assert!(bench.fetch(GATEWAY, &other.relative_key_id, 199).is_ok());
    assert!(bench.fetch(GATEWAY, &other.relative_key_id, 200).is_err());
    while bench.maf.sweep(at(200)).unwrap().more {}
    assert!(bench.fetch(GATEWAY, &mine.relative_key_id, 200).is_ok());
    let gone = client(LIGHT).retrieve("3", &second).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &gone, 200).0, 4004);
    // The end of one registration leaves the keys of another.
    let second = client(LIGHT).register("4", &of("other.example.com", 400)).unwrap();
    let second = read_registration(&bench.ask(LIGHT, None, &second, 201)).unwrap().id;
    let leave = client(LIGHT).deregister("5", &second).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &leave, 202).0, 2002);
    assert!(bench.fetch(GATEWAY, &mine.relative_key_id, 203).is_ok());
    let leave = client(LIGHT).deregister("6", &first).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &leave, 204).0, 2002);
    assert!(bench.fetch(GATEWAY, &mine.relative_key_id, 205).is_err());
}

#[test]
fn registrations_of_client_are_limited() {
    let bench = Bench::new();
    let ask = |n: usize, now| {
        let terms = Terms::until(at(now + 100), &format!("s{n}.example.com"));
        bench.code_and_text(LIGHT, &client(LIGHT).register("1", &terms).unwrap(), now).0
    };
    for n in 0..MAX_REGISTRATIONS {
        assert_eq!(ask(n, 0), 2001);
    }
    assert_eq!(ask(MAX_REGISTRATIONS, 0), 5207);
    // Expired ones do not count.
    assert_eq!(ask(MAX_REGISTRATIONS, 100), 2001);
}

#[test]
fn base_is_a_setting() {
    let base = CseId::parse("security").unwrap();
    let mut settings = settings();
    settings.base = base.clone();
    let bench = Bench::with(settings);
    let light = Client::new(id(LIGHT), FQDN, base).unwrap();
    let answer = bench.ask(LIGHT, None, &light.register("1", &terms(100)).unwrap(), 0);
    let made = read_registration(&answer).unwrap();
    assert_eq!(answer.content_location, Some(format!("//{FQDN}/security/{}", made.id)));
    assert_eq!(bench.code_and_text(LIGHT, &light.retrieve("2", &made.id).unwrap(), 1).0, 2000);
    let other = client(LIGHT).retrieve("3", &made.id).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &other, 1).0, 4004);
}

#[test]
fn confirmed_entries_survive_restart() {
    let bench = Bench::new();
    bench.registered(LIGHT, 400);
    bench.registered(GATEWAY, 400);
    let one = session(0x77);
    let key = bench.key(LIGHT, GATEWAY, 7, 100).relative_key_id;
    assert_eq!(bench.ask(LIGHT, Some(&one), &export(LIGHT, GATEWAY, 90), 1).rsc.code(), 2001);
    let bench = bench.restarted();
    assert_eq!(bench.fetch(GATEWAY, &key, 2).ok().unwrap().key.expose(), key_of(7));
    assert_eq!(bench.ask(LIGHT, Some(&one), &export(LIGHT, GATEWAY, 90), 3).rsc.code(), 4105);
    assert_eq!(
        bench.code_and_text(LIGHT, &client(LIGHT).deregister_key("d", &key).unwrap(), 4).0,
        2002
    );
    let bench = bench.restarted();
    assert!(bench.fetch(GATEWAY, &key, 5).is_err());
}
