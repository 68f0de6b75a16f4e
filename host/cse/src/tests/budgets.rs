//! The limits of a request, the reasons for which it stops, and the quota of an AE.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::Operation;
use serde_json::{Value, json};

use crate::store::{StoreError, Writer};
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, listed, request, settings};
use crate::{Authority, Handled, RequestBudget, SWEEP_BATCH};

const MEMBERS: usize = 40;

fn budget(authority: &Arc<Authority>, steps: u64) -> RequestBudget {
    RequestBudget::new(authority.clone(), Instant::now() + Duration::from_secs(600), steps)
}

/// Light 1 with a group of containers, each with an instance.
fn bench() -> Bench {
    let bench = Bench::with_lights();
    let mut members = Vec::new();
    for n in 0..MEMBERS {
        let name = format!("c{n}");
        assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": name})).code, 2001);
        members.push(format!("cse/light1/c{n}"));
    }
    let group = json!({"m2m:grp": {"rn": "all", "mnm": MEMBERS, "mid": members}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 9, group).code, 2001);
    bench
}

fn write_to_all(bench: &Bench, budget: &RequestBudget) -> Reply {
    let content = Some(json!({"m2m:cin": {"con": "on"}}));
    let mut create = request(Operation::Create, "/cse/light1/all/fopt", Some(LIGHT1), content);
    create.resource_type = Some(4);
    to_its_end(bench, bench.cse().handle(&create, budget, bench.time()))
}

fn to_its_end(bench: &Bench, mut handled: Handled) -> Reply {
    loop {
        match handled {
            Handled::Done(answer) => return Reply::of(answer),
            Handled::Continue(work) => handled = bench.cse().proceed(*work, bench.time()),
            other => panic!("{other:?}"),
        }
    }
}

fn instances(bench: &Bench) -> u64 {
    let count = |n| {
        let reply = bench.retrieve(LIGHT1, &format!("/cse/light1/c{n}"));
        reply.attributes()["cni"].as_u64().unwrap()
    };
    (0..MEMBERS).map(count).sum()
}

#[test]
fn group_request_has_one_budget() {
    let bench = bench();
    let authority = Arc::default();
    let find = |steps| {
        let path = "/cse/light1/all/fopt?fu=1";
        let find = request(Operation::Retrieve, path, Some(LIGHT1), None);
        to_its_end(&bench, bench.cse().handle(&find, &budget(&authority, steps), bench.time()))
    };
    let enough = find(2000);
    assert_eq!(enough.code, 2000, "{}", enough.why());
    let too_few = find(200);
    assert_eq!(too_few.code, 5207);
    assert!(too_few.why().contains("exceeds its work limit"), "{}", too_few.why());
    // The response has the executed changes, and the members that were not reached.
    let reply = write_to_all(&bench, &budget(&authority, 300));
    assert_eq!(reply.code, 2000);
    let parts = reply.json["m2m:agr"]["m2m:rsp"].as_array().unwrap();
    assert_eq!(parts.len(), MEMBERS);
    let done = parts.iter().take_while(|part| part["rsc"] == 2001).count();
    assert!(done > 0 && done < MEMBERS, "{done}");
    assert!(parts[done..].iter().all(|part| part["rsc"] == 5207));
    assert_eq!(instances(&bench), u64::try_from(done).unwrap());
    // A request without any change is refused.
    let late = budget(&authority, 300).with_deadline(Instant::now());
    let late = write_to_all(&bench, &late);
    assert_eq!(late.code, 5207);
    assert!(late.why().contains("exceeds its time limit"), "{}", late.why());
}

#[test]
fn canceled_request_changes_nothing() {
    let bench = bench();
    let authority = Arc::new(Authority::default());
    let canceled = budget(&authority, 20_000);
    canceled.cancel();
    assert_eq!(write_to_all(&bench, &canceled).code, 5207);
    authority.end();
    let reply = write_to_all(&bench, &budget(&authority, 20_000));
    assert_eq!(reply.code, 4106);
    assert_eq!(instances(&bench), 0);
    // Neither is a failure of the store.
    assert!(!bench.cse().store_fails());
    assert_eq!(write_to_all(&bench, &bench.budget()).code, 2000);
    assert_eq!(instances(&bench), u64::try_from(MEMBERS).unwrap());
}

#[test]
fn group_request_stops_between_members() {
    let bench = bench();
    let authority = Arc::new(Authority::default());
    for end in [true, false] {
        let content = Some(json!({"m2m:cin": {"con": "on"}}));
        let mut create = request(Operation::Create, "/cse/light1/all/fopt", Some(LIGHT1), content);
        create.resource_type = Some(4);
        let other = Arc::default();
        let budget = budget(if end { &authority } else { &other }, 20_000);
        let before = instances(&bench);
        let begun = bench.cse().handle(&create, &budget, bench.time());
        let Handled::Continue(work) = begun else { panic!("it has no turns: {begun:?}") };
        let until_then = instances(&bench);
        assert!(until_then > before && until_then < before + 40);
        if end {
            authority.end();
        } else {
            drop(budget.cancel_on_drop());
        }
        to_its_end(&bench, Handled::Continue(work));
        assert_eq!(instances(&bench), until_then);
    }
}

/// Each turn is executed at its own time.
#[test]
fn members_have_the_time_of_their_turns() {
    let mut bench = bench();
    let content = Some(json!({"m2m:cin": {"con": "on"}}));
    let mut create = request(Operation::Create, "/cse/light1/all/fopt", Some(LIGHT1), content);
    create.resource_type = Some(4);
    let mut handled = bench.cse().handle(&create, &bench.budget(), bench.time());
    let mut turns = 1;
    while let Handled::Continue(work) = handled {
        bench.pass(60);
        turns += 1;
        handled = bench.cse().proceed(*work, bench.time());
    }
    let last = bench.retrieve(LIGHT1, "/cse/light1/c39/la");
    let first = bench.retrieve(LIGHT1, "/cse/light1/c0/la");
    assert!(turns > 1);
    assert_ne!(last.attributes()["ct"], first.attributes()["ct"]);
}

/// Puts copies of light 1's container `state`, which are open to others, into its subtree.
fn many_containers(bench: &Bench, count: u64, more: &Value) {
    let make = |writer: &mut Writer<'_>| {
        let state = writer.read().named(LIGHT1, "state")?.unwrap();
        let mut container = writer.read().get(&state)?.unwrap();
        container.attributes.extend(more.as_object().unwrap().clone());
        for n in 1..=count {
            container.ri = format!("cnt-{n}");
            container.name.clone_from(&container.ri);
            container.sequence = n;
            writer.put(&container)?;
        }
        crate::access::decision::mark_ancestors(writer, &container)
    };
    bench.cse().store().write(&RequestBudget::unlimited(), make).unwrap();
}

#[test]
fn foreign_subtree_is_limited_to_its_allowance() {
    let own = ["cse/light2", "cse/light2/state"];
    let dangling: Vec<_> = (0..16).map(|n| format!("cse/light1/nothing/{n}")).collect();
    let open = json!({"cr": LIGHT2, "acpi": ["cse/light1/acp"]});
    for more in [json!({"acpi": dangling}), open] {
        let bench = Bench::with_lights();
        let all = |who: &[&str]| json!({"acr": [{"acor": who, "acop": 63}]});
        let acp = json!({"m2m:acp": {"rn": "acp", "pv": all(&["all"]), "pvs": all(&[LIGHT1])}});
        assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
        many_containers(&bench, 19_000, &more);
        let found = bench.retrieve(LIGHT2, "/cse?fu=1&cty=none");
        assert_eq!(found.code, 2000, "{}", found.why());
        assert_eq!(
            listed(&found.response.parameters),
            [(Parameter::ContentStatus, "1".to_string())]
        );
        let found = bench.retrieve(LIGHT2, "/cse?fu=1&ofst=1000");
        assert_eq!(found.code, 2000);
        let found = bench.retrieve(LIGHT2, "/cse?fu=1&ty=2");
        assert_eq!(found.found(), [own[0]]);
        let found = bench.retrieve(LIGHT2, "/cse/light2?fu=1");
        assert_eq!(found.found(), [own[1]]);
        assert_eq!(listed(&found.response.parameters), []);
        // A walk that starts there has the whole budget for it.
        let there = bench.retrieve(LIGHT2, "/cse/light1?fu=1");
        assert_eq!(there.code, 4103);
        let below = bench.retrieve(LIGHT1, "/cse/light1?fu=1&lim=1");
        assert_eq!(below.found().len(), 1);
    }
}

/// Creates an AE with an open policy, and containers with many labels.
fn large_registree(bench: &Bench, ri: &str, containers: usize) {
    assert_eq!(bench.register(ri, ri).code, 2001);
    let open = |who: &[&str]| json!({"acr": [{"acor": who, "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": open(&["all"]), "pvs": open(&[ri])}});
    assert_eq!(bench.create(Some(ri), &format!("/cse/{ri}"), 1, acp).code, 2001);
    let labels: Vec<_> = (0..64).map(|n| format!("{n:0250}")).collect();
    let first = json!({"rn": "c0", "lbl": labels, "acpi": [format!("cse/{ri}/acp")]});
    assert_eq!(bench.container(ri, &format!("/cse/{ri}"), first).code, 2001);
    let make = |writer: &mut Writer<'_>| {
        let first = writer.read().named(ri, "c0")?.unwrap();
        let mut container = writer.read().get(&first)?.unwrap();
        for n in 1..containers {
            container.ri = format!("{ri}-{n}");
            container.name = format!("c{n}");
            container.sequence = u64::try_from(n).unwrap();
            writer.put(&container)?;
        }
        Ok::<_, StoreError>(())
    };
    bench.cse().store().write(&RequestBudget::unlimited(), make).unwrap();
}

/// Independently of the number of large subtrees, the originator's own subtree is complete, and
/// small subtrees of others are found.
#[test]
fn large_foreign_subtrees_do_not_hide_small_one() {
    const LARGE: usize = 150;
    let bench = Bench::with_lights();
    let large: Vec<_> = (0..6).map(|n| format!("Clarge{n}")).collect();
    for ri in &large {
        large_registree(&bench, ri, LARGE);
    }
    large_registree(&bench, "Csmall", 2);
    assert_eq!(bench.register("Clast", "last").code, 2001);
    assert_eq!(bench.container("Clast", "/cse/last", json!({"rn": "own"})).code, 2001);
    let discover = |steps, path: &str| {
        let budget = budget(&Arc::default(), steps);
        let find = request(Operation::Retrieve, path, Some("Clast"), None);
        to_its_end(&bench, bench.cse().handle(&find, &budget, bench.time()))
    };
    // Enough steps for all subtrees, and too few for those.
    for (steps, is_partial) in [(20_000, false), (4_000, true), (1_000, true)] {
        let found = discover(steps, "/cse?fu=1&ty=3");
        assert_eq!(found.code, 2000, "{}", found.why());
        let of = |name: &str| {
            let start = format!("cse/{name}/");
            found.found().iter().filter(|path| path.starts_with(&start)).count()
        };
        assert_eq!((of("last"), of("Csmall")), (1, 2), "{steps}");
        for ri in &large {
            let all = of(ri);
            assert!(all > 3 && (all == LARGE) != is_partial, "{steps}: {all} of {ri}");
        }
        let marks: &[_] =
            if is_partial { &[(Parameter::ContentStatus, "1".to_string())] } else { &[] };
        assert_eq!(listed(&found.response.parameters), marks, "{steps}");
    }
    // A result behind a relative path counts for the owner of its start.
    let found = discover(1_000, "/cse?fu=1&ty=3&arp=la");
    assert_eq!(found.code, 2000, "{}", found.why());
    // All members of a group share the same steps.
    let members: Vec<_> = ["", "/mn-cse-123456/", "//in.provider.com/mn-cse-123456/"]
        .map(|start| format!("{start}cse"))
        .into();
    let group = json!({"m2m:grp": {"rn": "all", "mnm": 3, "mid": members}});
    let made = bench.create(Some("Clast"), "/cse/last", 9, group);
    assert_eq!(made.code, 2001, "{}", made.why());
    let found = discover(4_000, "/cse/last/all/fopt?fu=1&ty=3");
    assert_eq!(found.code, 2000, "{}", found.why());
    let parts: Vec<_> = found.json["m2m:agr"]["m2m:rsp"].as_array().unwrap().iter().collect();
    let counts: Vec<_> =
        parts.iter().map(|part| part["pc"]["m2m:uril"].as_array().unwrap().len()).collect();
    assert!(counts[0] > 200 && counts[1] < counts[0] / 2, "{counts:?}");
    for part in parts {
        assert_eq!(part["cnst"], 1);
        let found = part["pc"]["m2m:uril"].as_array().unwrap();
        assert!(found.iter().any(|uri| uri.as_str().unwrap().ends_with("last/own")));
    }
}

#[test]
fn equal_paths_are_followed_once() {
    let bench = Bench::with_lights();
    many_containers(&bench, 5_000, &json!({}));
    let found = bench.retrieve(LIGHT1, "/cse/light1?fu=1&ty=3&arp=..");
    assert_eq!(found.code, 2000, "{}", found.why());
    assert_eq!(found.found(), ["cse/light1"]);
    // Each relative path leads to a different address.
    let found = bench.retrieve(LIGHT1, "/cse/light1?fu=1&ty=3&arp=nothing");
    assert_eq!(found.code, 5207);
}

#[test]
fn others_write_while_a_large_subtree_is_deleted() {
    let mut limits = settings();
    limits.limits.max_instances = 30_000;
    let bench = Bench::lights(limits);
    let count = 20 * SWEEP_BATCH;
    bench.fill(LIGHT1, "/cse/light1/state", u64::try_from(count).unwrap());
    let (deleted, meanwhile) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            assert_eq!(bench.delete(LIGHT1, "/cse/light1/state").code, 2002);
            deleted.store(true, Ordering::SeqCst);
        });
        while !deleted.load(Ordering::SeqCst) {
            let own = bench.instance(LIGHT2, "/cse/light2/state", json!({"con": 1}));
            assert_eq!(own.code, 2001);
            meanwhile.fetch_add(1, Ordering::SeqCst);
        }
    });
    // In turns, with a tolerance of one at each end.
    assert!(meanwhile.load(Ordering::SeqCst) >= 10, "{meanwhile:?}");
    bench.cse().store().assert_consistent();
    while bench.sweep() > 0 {}
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": "state"})).code, 2001);
}

/// Deletes light 1 with a large subtree, and stops before the removal.
fn half_deleted(bench: &Bench) {
    let count = 4 * SWEEP_BATCH;
    bench.fill(LIGHT1, "/cse/light1/state", u64::try_from(count).unwrap());
    let half = |writer: &mut Writer<'_>| writer.detach(LIGHT1);
    bench.cse().store().write(&RequestBudget::unlimited(), half).unwrap();
}

fn roomy() -> Bench {
    let mut limits = settings();
    limits.limits.max_instances = 30_000;
    Bench::lights(limits)
}

#[test]
fn partially_deleted_subtree_is_not_found() {
    let bench = roomy();
    half_deleted(&bench);
    for path in ["/cse/light1", "/Clight-AE1", "/cse/light1/state", "/cse/light1/state/la"] {
        assert_eq!(bench.retrieve(LIGHT2, path).code, 4004, "{path}");
    }
    let instance = bench.snapshot().read().named(LIGHT1, "state").unwrap().unwrap();
    assert_eq!(bench.retrieve(LIGHT1, &format!("/{instance}")).code, 4004);
    assert_eq!(bench.retrieve(LIGHT2, "/cse?fu=1").found(), ["cse/light2", "cse/light2/state"]);
    bench.cse().store().assert_consistent();
    // Also after a restart.
    let bench = bench.reopen();
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1").code, 4004);
    let mut batches = 0;
    while bench.sweep() > 0 {
        batches += 1;
    }
    assert!(batches >= 4);
    assert_eq!(bench.snapshot().read().count().unwrap(), 3);
    bench.cse().store().assert_consistent();
}

#[test]
fn ae_may_register_during_its_deletion() {
    let bench = roomy();
    half_deleted(&bench);
    assert_eq!(bench.register(LIGHT1, "light1").code, 2001);
    bench.cse().store().assert_consistent();
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?fu=1").found(), Vec::<&str>::new());
    assert_eq!(bench.snapshot().read().count().unwrap(), 4);
    // If the request must stop, only the former state remains.
    half_deleted_again(&bench);
    let stopped = bench.budget();
    stopped.cancel();
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": false}});
    let mut create = request(Operation::Create, "/cse", Some(LIGHT1), Some(ae));
    create.resource_type = Some(2);
    to_its_end(&bench, bench.cse().handle(&create, &stopped, bench.time()));
    bench.cse().store().assert_consistent();
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1").code, 4004);
    assert_eq!(bench.register(LIGHT1, "light1").code, 2001);
}

fn half_deleted_again(bench: &Bench) {
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": "state"})).code, 2001);
    half_deleted(bench);
}

/// Remains of other deletions are left to the sweeps.
#[test]
fn deletion_removes_only_its_own_subtree() {
    let bench = roomy();
    half_deleted(&bench);
    let before = bench.snapshot().read().count().unwrap();
    assert_eq!(bench.delete(LIGHT2, "/cse/light2/state").code, 2002);
    assert_eq!(bench.snapshot().read().count().unwrap(), before - 1);
    while bench.sweep() > 0 {}
    assert_eq!(bench.snapshot().read().count().unwrap(), 2);
    bench.cse().store().assert_consistent();
}

#[test]
fn name_of_deleted_resource_is_free_at_once() {
    let bench = roomy();
    let count = u64::try_from(4 * SWEEP_BATCH).unwrap();
    bench.fill(LIGHT1, "/cse/light1/state", count);
    let canceled = bench.budget();
    let delete = request(Operation::Delete, "/cse/light1/state", Some(LIGHT1), None);
    let reply = bench.cse().handle(&delete, &canceled, bench.time());
    assert_eq!(to_its_end(&bench, reply).code, 2002);
    let put = |writer: &mut Writer<'_>| writer.detach(LIGHT2).map(|()| 0_u64);
    bench.cse().store().write::<_, StoreError>(&RequestBudget::unlimited(), put).unwrap();
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": "state"})).code, 2001);
    assert_eq!(bench.instance(LIGHT1, "/cse/light1/state", json!({"con": 1})).code, 2001);
    while bench.sweep() > 0 {}
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state").attributes()["cni"], 1);
    bench.cse().store().assert_consistent();
}

#[test]
fn resource_quota_of_registree_is_enforced() {
    let mut limits = settings();
    limits.limits.max_resources_per_registree = 4;
    let bench = Bench::lights(limits.clone());
    let container = |name: &str| bench.container(LIGHT1, "/cse/light1", json!({"rn": name}));
    assert_eq!(container("a").code, 2001);
    assert_eq!(container("b").code, 2001);
    let refused = container("c");
    assert_eq!(refused.code, 5207);
    assert!(refused.why().contains("maximum number of resources"), "{}", refused.why());
    assert_eq!(bench.container(LIGHT2, "/cse/light2", json!({"rn": "c"})).code, 2001);
    // A change that does not increase the usage is allowed.
    assert_eq!(
        bench.update(LIGHT1, "/cse/light1/a", json!({"m2m:cnt": {"lbl": ["x"]}})).code,
        2004
    );
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/a").code, 2002);
    assert_eq!(container("c").code, 2001);
    bench.cse().store().assert_consistent();
    // An owner above a reduced quota may decrease its usage.
    limits.limits.max_resources_per_registree = 2;
    let bench = bench.reopen_as(limits).unwrap();
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({})).code, 5207);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/c").code, 2002);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/b").code, 2002);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state").code, 2002);
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({})).code, 2001);
}

#[test]
fn byte_quota_counts_all_stored_values() {
    let mut limits = settings();
    limits.limits.max_bytes_per_registree = 20_000;
    let bench = Bench::lights(limits);
    let text = "x".repeat(8_000);
    let instance = || bench.instance(LIGHT1, "/cse/light1/state", json!({"con": text}));
    assert_eq!(instance().code, 2001);
    assert_eq!(instance().code, 2001);
    let refused = instance();
    assert_eq!(refused.code, 5207);
    assert!(refused.why().contains("maximum number of bytes"), "{}", refused.why());
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state").attributes()["cni"], 2);
    let labels: Vec<_> = (0..20).map(|n| format!("{n}{}", "x".repeat(200))).collect();
    let labels = json!({"m2m:cnt": {"lbl": labels}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/state", labels).code, 5207);
    assert_eq!(
        bench.update(LIGHT1, "/cse/light1/state", json!({"m2m:cnt": {"mni": 2}})).code,
        2004
    );
    // The oldest instance is removed, which frees space.
    assert_eq!(instance().code, 2001);
    bench.cse().store().assert_consistent();
}

/// A store from a version without counters is counted when it is opened.
#[test]
fn existing_resources_are_counted_at_open() {
    let bench = Bench::with_lights();
    let forget = |writer: &mut Writer<'_>| writer.forget_usage();
    bench.cse().store().write(&RequestBudget::unlimited(), forget).unwrap();
    let bench = bench.reopen();
    bench.cse().store().assert_consistent();
}
