//! The systemd unit. A gateway with the state folder of the unit starts, and writes nothing next to its
//! configuration.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use saegis_tests::{
    LIGHT1, Reply, Request, Running, Setup, Tool, Upstream, repository, saegis, wait_until,
};

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
fn default_of_each_written_path_is_in_state_folder() {
    let documented = documented();
    let mut in_sources = BTreeSet::new();
    defaults_in(&repository().join("host/gateway/src"), &mut in_sources);
    let defaults: BTreeSet<_> = documented.iter().map(|(_, default)| default.clone()).collect();
    assert!(in_sources.len() > 5, "{in_sources:?}");
    let missing: Vec<_> = in_sources.difference(&defaults).collect();
    assert!(missing.is_empty(), "docs/src/reference/configuration.md has no row for {missing:?}");
}

/// Returns a setup whose files are in the folder that systemd would name.
fn with_state_directory(setup: Setup) -> Setup {
    let variable = format!("STATE_DIRECTORY={}", setup.path("var").display());
    let setup = setup.without_state().started_through(&["env", &variable]);
    setup
        .with("audit", "file = \"state/audit.jsonl\"")
        .with("decisions", "record = \"state/decisions.jsonl\"")
}

fn assert_writes_only_state_folder(setup: Setup) {
    let folder = setup.path("");
    let socket = setup.path("var/admin.sock");
    let mut gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1"));
    // A command of the operator has no such variable.
    let none = saegis(&folder, &["status"]).expect(3);
    assert!(none.err.contains("state-folder"), "{none:?}");
    assert!(socket.exists());
    gateway.stop();
    let names =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<_> = names.collect();
    assert_eq!(names, ["policies", "saegis.toml", "var"].map(String::from).into());
    let written = fs::read_dir(folder.join("var")).unwrap().count();
    assert!(written >= 5, "{written}");
}

#[test]
fn gateway_writes_only_state_folder() {
    assert_writes_only_state_folder(with_state_directory(Setup::new()));
}

#[test]
fn gateway_with_upstream_writes_only_state_folder() {
    let cse = Upstream::start(Reply::answer(200, 2000, "{}"));
    let setup =
        Setup::new().upstream(cse.port()).with("upstream", "notification-listen = \"localhost:0\"");
    assert_writes_only_state_folder(with_state_directory(setup));
}

/// The option takes precedence over the variable, and is the same for commands.
#[test]
fn state_folder_is_an_option() {
    let setup = Setup::new().without_state();
    let text = setup.configuration();
    let text = fs::read_to_string(text).unwrap();
    setup.write("other.toml", format!("state-folder = \"data\"\n{text}").as_bytes());
    let folder = setup.path("");
    let mut command = std::process::Command::new(saegis_tests::program());
    command.args(["run", "--config", "other.toml"]).current_dir(&folder);
    command.env("STATE_DIRECTORY", folder.join("var"));
    let running = Running::start(&mut command);
    wait_until("the socket is there", || folder.join("data/admin.sock").exists());
    saegis(&folder, &["status", "--config", "other.toml"]).expect(0);
    running.signal("TERM");
    assert!(!folder.join("state").exists() && !folder.join("var").exists());
}

/// The unit needs no paths in the configuration.
#[test]
fn unit_names_state_directory() {
    let unit = fs::read_to_string(repository().join("examples/systemd/saegis.service")).unwrap();
    assert!(unit.contains("\nStateDirectory=saegis\n"), "{unit}");
}

/// The exposure that systemd computes from the unit, from 0 to 10, is at most 1.5.
#[test]
fn service_is_confined() {
    let unit = repository().join("examples/systemd/saegis.service");
    let mut analyze = std::process::Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold=15"]).arg(unit);
    // Not every machine has systemd.
    if let Ok(output) = analyze.output() {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("Overall exposure level"), "{text}");
    }
}
