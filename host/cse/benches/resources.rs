//! Cost of requests to the embedded CSE with 100,000 resources in one subtree: discoveries that find
//! ten of them by label, type and creation time, the creation of an instance, and a compaction after
//! most of them are deleted.
//!
//! The store is in memory, so that the figures are those of the processor.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark stops at what is wrong"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use saegis_cse::{Authority, EmbeddedCse, Handled, RequestBudget, Settings};
use saegis_onem2m::http::read_query;
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::target::Target;

/// Number of containers, each with as many instances.
const CONTAINERS: usize = 100;
const INSTANCES: usize = 1000;

/// Number of instances with the label that is searched for.
const FOUND: usize = 10;

const AE: &str = "Clight";

fn request(operation: Operation, path: &str, content: Option<(u16, String)>) -> RequestPrimitive {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (ty, content) = content.unzip();
    RequestPrimitive {
        operation,
        to: Target::from_path(path).expect("a path"),
        from: Some(AE.into()),
        request_id: "1".into(),
        release: Some("3".into()),
        resource_type: ty,
        content: content.map(|text| Content::parse(text.into()).expect("JSON")),
        options: read_query(query).expect("a query"),
        parameters: Default::default(),
        source_address: None,
        credential: None,
        roles: Vec::new(),
        tokens: Vec::new(),
    }
}

fn handle(cse: &EmbeddedCse, request: &RequestPrimitive) -> ResponsePrimitive {
    let deadline = Instant::now() + Duration::from_secs(600);
    let budget = RequestBudget::new(Arc::new(Authority::default()), deadline, 50_000);
    match cse.handle(request, &budget, SystemTime::now()) {
        Handled::Done(answer) => answer.response,
        other => panic!("it is not answered: {other:?}"),
    }
}

fn create(cse: &EmbeddedCse, parent: &str, ty: u16, content: String) -> serde_json::Value {
    let created = handle(cse, &request(Operation::Create, parent, Some((ty, content))));
    assert_eq!(created.rsc.code(), 2001, "{:?}", created.content);
    serde_json::from_slice(&created.content.expect("a content")).expect("JSON")
}

/// Returns the number of addresses that a discovery finds.
fn found(cse: &EmbeddedCse, discovery: &RequestPrimitive) -> usize {
    let found = handle(cse, discovery);
    let content = found.content.expect("a list");
    let list: serde_json::Value = serde_json::from_slice(&content).expect("JSON");
    list["m2m:uril"].as_array().map_or(0, Vec::len)
}

/// Returns a CSE with the resources of one AE.
fn filled(folder: &Path) -> EmbeddedCse {
    let mut settings = Settings::new(CseId::parse("cse-1").expect("a CSE-ID"), "cse");
    settings.limits.max_resources_per_registree = 1_000_000;
    settings.limits.max_bytes_per_registree = 1 << 30;
    settings.limits.max_instances = 1_000_000;
    let cse = EmbeddedCse::open(&folder.join("cse.redb"), settings).expect("a store");
    create(&cse, "/cse", 2, r#"{"m2m:ae":{"rn":"ae","api":"Nlight","rr":false}}"#.into());
    let every = CONTAINERS * INSTANCES / FOUND;
    for container in 0..CONTAINERS {
        create(&cse, "/cse/ae", 3, format!(r#"{{"m2m:cnt":{{"rn":"c{container}"}}}}"#));
        for n in 0..INSTANCES {
            let label = match (container * INSTANCES + n) % every {
                0 => r#","lbl":["wanted"]"#,
                _ => "",
            };
            let instance = format!(r#"{{"m2m:cin":{{"con":{n}{label}}}}}"#);
            create(&cse, &format!("/cse/ae/c{container}"), 4, instance);
        }
    }
    cse
}

/// Returns the resident memory of this process, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() >> 10
}

/// Repetitions of each request.
const ROUNDS: usize = 200;

/// Prints the median and the maximum time of some work.
fn measure(name: &str, mut work: impl FnMut(usize)) {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|n| {
            let begun = Instant::now();
            work(n);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    println!("{name}: median {:.3} ms, maximum {:.3} ms", at(ROUNDS / 2), at(ROUNDS - 1));
}

fn main() {
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = memory.expect("a folder");
    let cse = filled(folder.path());
    let before = resident();
    // Created later than the others, and of another type.
    std::thread::sleep(Duration::from_secs(2));
    let mut since = String::new();
    for n in 0..FOUND {
        let group = format!(r#"{{"m2m:grp":{{"rn":"g{n}","mnm":1,"mid":["cse/ae"]}}}}"#);
        let group = create(&cse, "/cse/ae", 9, group);
        if since.is_empty() {
            since = group["m2m:grp"]["ct"].as_str().expect("a time").into();
        }
    }
    for (name, filter) in [
        ("label", "lbl=wanted".to_owned()),
        ("type", "ty=9".to_owned()),
        ("creation time", format!("cra={since}")),
        ("type and attribute", "ty=9&mnm=1".to_owned()),
    ] {
        let discovery = request(Operation::Retrieve, &format!("/cse/ae?fu=1&{filter}"), None);
        measure(&format!("discovery of 10 in 100,000 resources by {name}"), |_| {
            assert_eq!(found(&cse, &discovery), FOUND);
        });
    }
    measure("creation of an instance beside 100,000 resources", |n| {
        create(&cse, "/cse/ae/c0", 4, format!(r#"{{"m2m:cin":{{"con":{n}}}}}"#));
    });
    println!("resident memory: {before} MiB before, {} MiB afterwards", resident());
    for container in CONTAINERS / 10..CONTAINERS {
        handle(&cse, &request(Operation::Delete, &format!("/cse/ae/c{container}"), None));
    }
    while cse.sweep(SystemTime::now()).expect("a store") > 0 {}
    let done = cse.compact().expect("a store").expect("the file is large");
    println!(
        "compaction of {} to {} KiB: {:.1} ms",
        done.before >> 10,
        done.after >> 10,
        done.duration.as_secs_f64() * 1000.0
    );
}
