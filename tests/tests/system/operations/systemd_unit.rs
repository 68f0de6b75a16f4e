//! The systemd unit. A gateway configured as its comment describes starts, and writes nothing next
//! to its configuration.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use saegis_tests::{LIGHT1, Reply, Request, Setup, Tool, Upstream, repository, saegis};

/// Returns the options that the comment lists.
fn listed() -> BTreeSet<String> {
    let unit = fs::read_to_string(repository().join("examples/systemd/saegis.service")).unwrap();
    let options = unit.lines().filter_map(|line| line.strip_prefix("#   "));
    options.map(|option| option.trim().into()).collect()
}

/// Returns the documented options with a default in the folder `state`, and these defaults.
fn documented() -> Vec<(String, String)> {
    let text =
        fs::read_to_string(repository().join("docs/src/reference/configuration.md")).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let option = cells.next()?.strip_suffix('`')?;
        let _kind = cells.next()?;
        let default = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        default.starts_with("state/").then(|| (option.to_string(), default.to_string()))
    };
    text.lines().filter_map(row).collect()
}

/// Adds the string literals of a source folder that start with `state/`.
fn defaults_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            defaults_in(&path, found);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let texts =
                text.split('"').skip(1).step_by(2).filter(|text| text.starts_with("state/"));
            found.extend(texts.map(Into::into));
        }
    }
}

#[test]
fn list_of_written_paths_is_complete() {
    let (listed, documented) = (listed(), documented());
    let mut in_sources = BTreeSet::new();
    defaults_in(&repository().join("host/gateway/src"), &mut in_sources);
    let defaults: BTreeSet<_> = documented.iter().map(|(_, default)| default.clone()).collect();
    assert!(in_sources.len() > 5, "{in_sources:?}");
    let missing: Vec<_> = in_sources.difference(&defaults).collect();
    assert!(missing.is_empty(), "docs/src/reference/configuration.md has no row for {missing:?}");
    // The options without a default are configured explicitly.
    let without = ["audit.file", "decisions.record"].map(String::from);
    let wanted: BTreeSet<_> = documented.into_iter().map(|(o, _)| o).chain(without).collect();
    assert_eq!(listed, wanted, "examples/systemd/saegis.service");
}

/// Returns a setup with the listed paths moved elsewhere, except for options of some tables.
fn with_listed_paths(mut setup: Setup, without: &[&str]) -> Setup {
    setup = setup.without_state();
    for option in listed() {
        let (table, key) = option.split_once('.').unwrap();
        if !without.contains(&table) {
            let path = setup.path(&format!("var/{option}"));
            setup = setup.with(table, &format!("{key} = \"{}\"", path.display()));
        }
    }
    setup
}

fn assert_writes_only_listed_paths(setup: Setup) {
    let folder = setup.path("");
    let mut gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1"));
    saegis(&folder, &["status"]).expect(0);
    gateway.stop();
    let names =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<_> = names.collect();
    assert_eq!(names, ["policies", "saegis.toml", "var"].map(String::from).into());
    let written = fs::read_dir(folder.join("var")).unwrap().count();
    assert!(written >= 5, "{written}");
}

#[test]
fn gateway_starts_with_documented_state_paths() {
    let setup = with_listed_paths(Setup::new(), &["upstream", "maf"]);
    assert_writes_only_listed_paths(setup);
}

#[test]
fn gateway_with_upstream_starts_with_state_paths() {
    let cse = Upstream::start(Reply::answer(200, 2000, "{}"));
    let setup =
        Setup::new().upstream(cse.port()).with("upstream", "notification-listen = \"localhost:0\"");
    assert_writes_only_listed_paths(with_listed_paths(setup, &["maf"]));
}
