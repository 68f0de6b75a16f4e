//! Event names. Programs of operators rely on them, so changes must be deliberate.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use saegis_tests::repository;

/// All names, one a line. Each change of a name must be repeated there.
const NAMES: &str = include_str!("event_names.txt");

/// Text before an event name in the sources.
const PREFIXES: [&str; 3] = ["event = \"", "failed: \"", "resumed: \""];

#[test]
fn event_names_match_list() {
    let listed: Vec<_> = NAMES.lines().map(String::from).collect();
    let in_sources: Vec<_> = names_in_sources().into_iter().collect();
    assert_eq!(in_sources, listed, "tests/tests/system/operations/event_names.txt");
}

#[test]
fn documented_events_match_sources() {
    let page = "docs/src/reference/events.md";
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let (tables, _) = text.split_once("\n## Causes").unwrap();
    let rows = tables.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|line| line.split(" | ").next());
    let documented: BTreeSet<_> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(String::from).collect();
    assert_eq!(documented, names_in_sources(), "{page}");
}

#[test]
fn documented_causes_match_sources() {
    for page in ["docs/src/reference/events.md", "docs/src/how-to/refused-device.md"] {
        let text = fs::read_to_string(repository().join(page)).unwrap();
        let (_, table) = text.split_once("\n| cause | ").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let cells = rows.filter_map(|line| line.split(" | ").next());
        let documented: BTreeSet<_> =
            cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(String::from).collect();
        assert_eq!(documented, causes_in_sources(), "{page}");
    }
}

/// Returns the causes of refused handshakes.
fn causes_in_sources() -> BTreeSet<String> {
    let read = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
    let mut causes = BTreeSet::new();
    for file in [
        "host/handshake/src/refusal.rs",
        "host/handshake/src/proxy_header.rs",
        "host/gateway/src/listener/peer_limits.rs",
        "host/gateway/src/session/revalidation.rs",
    ] {
        let text = read(file);
        let (_, text) = text.split_once("fn cause(").unwrap();
        let (function, _) = text.split_once("\n    }\n").unwrap();
        causes.extend(function.split('"').skip(1).step_by(2).map(String::from));
    }
    for file in ["connection.rs", "load_balancers.rs", "datagrams/association.rs"] {
        for call in read(&format!("host/gateway/src/server/{file}")).split("refused(").skip(1) {
            let arguments = call.split(';').next().unwrap_or_default();
            causes.extend(arguments.split('"').nth(1).map(String::from));
        }
    }
    causes
}

/// Each log call names its event.
#[test]
fn log_calls_name_their_event() {
    let mut without = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for level in ["error", "warn", "info", "debug"] {
            for call in text.split(&format!("tracing::{level}!(")).skip(1) {
                let arguments = call.split(';').next().unwrap_or_default();
                if !arguments.contains("event = ") {
                    without.push((file.clone(), arguments.to_string()));
                }
            }
        }
    }
    assert!(without.is_empty(), "{without:#?}");
}

fn names_in_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for prefix in PREFIXES {
            let found = text.split(prefix).skip(1).filter_map(|rest| rest.split('"').next());
            names.extend(found.filter(|name| is_name(name)).map(String::from));
        }
    }
    names
}

fn is_name(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|b| b.is_ascii_lowercase() || b"-.".contains(&b))
}

/// Returns the source files of the gateway's crates, without tests.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repository().join("host")).unwrap() {
        collect(&entry.unwrap().path().join("src"), &mut found);
    }
    assert!(found.len() > 100, "{found:?}");
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            collect(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}
