//! The unit for systemd: whoever follows its comment has a gateway that starts, and writes nothing where
//! its configuration is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use saegis_tests::{LIGHT1, Reply, Request, Setup, Tool, Upstream, repository, saegis};

/// The options that the comment lists.
fn listed() -> BTreeSet<String> {
    let unit = fs::read_to_string(repository().join("examples/systemd/saegis.service")).unwrap();
    let options = unit.lines().filter_map(|line| line.strip_prefix("#   "));
    options.map(|option| option.trim().into()).collect()
}

/// The options of the documentation whose default is in the folder `state`, with that default.
fn documented() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join("docs/src/operations.md")).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let option = cells.next()?.strip_suffix('`')?;
        let default = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        default.starts_with("state/").then(|| (option.to_string(), default.to_string()))
    };
    text.lines().filter_map(row).collect()
}

/// Adds the texts that start like that in a folder of sources.
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
fn the_list_of_what_is_written_is_complete() {
    let (listed, documented) = (listed(), documented());
    let mut in_sources = BTreeSet::new();
    defaults_in(&repository().join("host/gateway/src"), &mut in_sources);
    let defaults: BTreeSet<_> = documented.iter().map(|(_, default)| default.clone()).collect();
    assert!(in_sources.len() > 5, "{in_sources:?}");
    let missing: Vec<_> = in_sources.difference(&defaults).collect();
    assert!(missing.is_empty(), "docs/src/operations.md has no row for {missing:?}");
    // Those without a default are written where they are said to be.
    let without = ["audit.file", "decisions.record"].map(String::from);
    let wanted: BTreeSet<_> = documented.into_iter().map(|(o, _)| o).chain(without).collect();
    assert_eq!(listed, wanted, "examples/systemd/saegis.service");
}

/// A setup in which what the comment lists is elsewhere, but for the options of some tables.
fn following_the_comment(mut setup: Setup, without: &[&str]) -> Setup {
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

fn starts_and_writes_nothing_else(setup: Setup) {
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
    let setup = following_the_comment(Setup::new(), &["upstream", "maf"]);
    starts_and_writes_nothing_else(setup);
}

#[test]
fn also_in_front_of_another_cse() {
    let cse = Upstream::start(Reply::answer(200, 2000, "{}"));
    let setup =
        Setup::new().upstream(cse.port()).with("upstream", "notification-listen = \"localhost:0\"");
    starts_and_writes_nothing_else(following_the_comment(setup, &["maf"]));
}
