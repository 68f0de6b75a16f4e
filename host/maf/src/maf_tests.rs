//! Every operation, successful and refused.

use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{Content, Operation};
use saegis_onem2m::target::Target;

use crate::client::{Changes, Client, Terms, read_deleted, read_registered_key, read_registration};
use crate::testing::*;
use crate::{Maf, SweepOutcome, names};

const OWN: &str = names::OWN_REGISTRATION;

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
    for name in [OWN, &made.id] {
        let answer = bench.ask(LIGHT, None, &light.retrieve("3", name).unwrap(), 1);
        assert_eq!(read_registration(&answer).unwrap(), made);
    }
    // Another client does not see the registration.
    bench.registered(OTHER, 100);
    for request in [
        client(OTHER).retrieve("4", &made.id),
        client(OTHER).deregister("4", &made.id),
        client(OTHER).update("4", &made.id, &Changes { expires: Some(at(9)), labels: None }),
    ] {
        assert_eq!(bench.code_and_text(OTHER, &request.unwrap(), 1).0, 4004);
    }

    // The lifetime is limited from the update on.
    let changes = Changes { expires: Some(at(5000)), labels: Some(vec![]) };
    let answer = bench.ask(LIGHT, None, &light.update("5", OWN, &changes).unwrap(), 10);
    let updated = read_registration(&answer).unwrap();
    assert_eq!((updated.expires, updated.labels.len()), (at(1010), 0));
    let past = Changes { expires: Some(at(10)), labels: None };
    assert_eq!(bench.code_and_text(LIGHT, &light.update("6", OWN, &past).unwrap(), 10).0, 4000);
    assert_eq!(
        bench.code_and_text(LIGHT, &light.update("6", OWN, &Changes::default()).unwrap(), 10).0,
        4000
    );

    let gone = bench.ask(LIGHT, None, &light.deregister("7", OWN).unwrap(), 20);
    assert_eq!(read_deleted(&gone), Ok(()));
    assert_eq!(bench.code_and_text(LIGHT, &light.retrieve("8", OWN).unwrap(), 20).0, 4103);
    bench.registered(LIGHT, 100);
}

#[test]
fn unregistered_client_may_only_register() {
    let bench = Bench::new();
    bench.registered(LIGHT, 400);
    let key = bench.key(LIGHT, OTHER, 7, 400).relative_key_id;
    bench.registered(GATEWAY, 50);
    let changes = Changes { expires: Some(at(300)), labels: None };
    // A client that never registered, and one whose registration has expired.
    for (who, now) in [(OTHER, 1), (GATEWAY, 50)] {
        let it = client(who);
        for request in [
            it.retrieve("1", OWN),
            it.update("1", OWN, &changes),
            it.deregister("1", OWN),
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
    bench.registered(LIGHT, 400);
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
    let leave = client(LIGHT).deregister("l", OWN).unwrap();
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
    for who in [LIGHT, GATEWAY, OTHER] {
        bench.registered(who, 400);
    }
    let key = bench.key(LIGHT, GATEWAY, 7, 100).relative_key_id;
    let longer = Changes { expires: Some(at(200)), labels: Some(vec!["x".into()]) };
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
        read_registered_key(&bench.ask(LIGHT, None, &request, now), None)
    };
    let updated = update(&longer, 1).unwrap();
    assert_eq!((updated.expires, updated.labels), (at(200), vec!["x".into()]));
    // Neither beyond the registration of its source, nor beyond its maximum lifetime since
    // registration.
    let far = Changes { expires: Some(at(9000)), labels: None };
    assert_eq!(update(&far, 1).unwrap().expires, at(400));
    let extend = client(LIGHT).update("3", OWN, &far).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &extend, 2).0, 2004);
    assert_eq!(update(&far, 3).unwrap().expires, at(500));
    assert!(update(&Changes { expires: Some(at(3)), labels: None }, 3).is_err());
    assert!(update(&far, 500).is_err());

    // Targets and purpose are unchanged.
    let mut request = client(LIGHT).update_key("4", &key, &longer).unwrap();
    for content in [
        r#"{"maf:keyReg":{"tgids":["//in.provider.com/Sother"]}}"#,
        r#"{"maf:keyReg":{"suid":33,"et":"20270115T080500"}}"#,
        r#"{"maf:keyReg":{"kval":"00"}}"#,
        r#"{"maf:clientReg":{"lbl":["x"]}}"#,
        r#"{"maf:keyReg":{}}"#,
    ] {
        request.content = Some(Content::parse(content.into()).unwrap());
        assert_eq!(bench.code_and_text(LIGHT, &request, 4).0, 4000, "{content}");
    }
    request.content = Some(Content::parse(r#"{"maf:keyReg":{"lbl":null}}"#.into()).unwrap());
    assert_eq!(bench.code_and_text(LIGHT, &request, 4).0, 2004);
}

#[test]
fn key_ends_with_registration_of_source() {
    let bench = Bench::new();
    bench.registered(LIGHT, 100);
    bench.registered(GATEWAY, 400);
    let key = bench.key(LIGHT, GATEWAY, 7, 300);
    assert_eq!(key.expires, at(100));
    let sooner = Changes { expires: Some(at(50)), labels: None };
    assert_eq!(
        bench.code_and_text(LIGHT, &client(LIGHT).update("1", OWN, &sooner).unwrap(), 1).0,
        2004
    );
    let fetch = |now| bench.fetch(GATEWAY, &key.relative_key_id, now);
    assert_eq!(fetch(49).ok().unwrap().expires, at(50));
    assert!(fetch(50).is_err());
    // After a new registration before the sweep, the key is still invalid.
    let again = client(LIGHT).register("2", &terms(400)).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &again, 60).0, 2001);
    assert!(fetch(61).is_err());
    let other = bench.key(LIGHT, GATEWAY, 7, 300).relative_key_id;
    assert_eq!(
        bench.code_and_text(LIGHT, &client(LIGHT).deregister("3", OWN).unwrap(), 62).0,
        2002
    );
    assert!(bench.fetch(GATEWAY, &other, 63).is_err());
}

#[test]
fn registrations_and_lifetimes_are_limited() {
    let bench = Bench::new();
    for who in [LIGHT, GATEWAY, OTHER] {
        bench.registered(who, 9000);
    }
    let longest = client(LIGHT).retrieve("1", OWN).unwrap();
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
    bench.registered(LIGHT, 400);
    let good = client(LIGHT).retrieve("1", OWN).unwrap();
    let with = |change: &dyn Fn(&mut saegis_onem2m::primitive::RequestPrimitive)| {
        let mut request = good.clone();
        change(&mut request);
        bench.code_and_text(LIGHT, &request, 10).0
    };
    let path = |p: &str| {
        let to = Target::from_path(p).unwrap();
        with(&|r| r.to = to.clone())
    };
    for path_of_ours in
        ["/~/maf/own", "/_/maf.provider.com/maf/own", "/maf/own", "/_/MAF.provider.com/maf/own"]
    {
        assert_eq!(path(path_of_ours), 2000, "{path_of_ours}");
    }
    for other in
        ["/~/mef/own", "/_/maf.other.com/maf/own", "/own", "/~/maf/own/x", "/x/own", "/~/maf/~x"]
    {
        assert_eq!(path(other), 4004, "{other}");
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
    let whole = r#"{"maf:clientReg":{"et":"20280101T000000","adfq":"a.b"}}"#;
    assert_eq!(create(Some(2), Some(whole)), 4108);
    assert_eq!(create(None, Some(whole)), 4108);
    for content in [
        r#"{"maf:keyReg":{"et":"20280101T000000","adfq":"a.b"}}"#,
        r#"{"maf:clientReg":{"et":"20280101T000000"}}"#,
        r#"{"maf:clientReg":{"adfq":"a.b"}}"#,
        r#"{"maf:clientReg":{"et":"20200101T000000","adfq":"a.b"}}"#,
        r#"{"maf:clientReg":{"et":"20280101T000000","adfq":"a.b","mcid":"//a.b/c"}}"#,
        r#"{"maf:clientReg":{"et":"20280101T000000","adfq":"a.b","lbl":null}}"#,
    ] {
        assert_eq!(create(Some(61001), Some(content)), 4000, "{content}");
    }
    assert_eq!(create(Some(61001), None), 4000);
    assert_eq!(create(Some(61001), Some(whole)), 2001);
}

#[test]
fn policy_sees_executed_registration() {
    let asked = Maf::asks(&give(LIGHT, GATEWAY, 1, 90)).unwrap();
    assert_eq!((asked.suid, asked.targets, asked.gives_key), (32, vec![id(GATEWAY)], true));
    assert_eq!((asked.expires, asked.admin_fqdn.as_str()), (at(90), "in.provider.com"));
    assert!(!Maf::asks(&export(LIGHT, GATEWAY, 90)).unwrap().gives_key);
    for other in [
        client(LIGHT).register("1", &terms(9)),
        client(LIGHT).retrieve_key("1", "A"),
        client(LIGHT).register_key("1", &key_terms(32, &[], 9), None),
        client(LIGHT).register_key("1", &key_terms(31, &[GATEWAY], 9), None),
        Client::new(id(LIGHT), FQDN).unwrap().deregister_key("1", "A"),
    ] {
        assert_eq!(Maf::asks(&other.unwrap()), None);
    }
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
