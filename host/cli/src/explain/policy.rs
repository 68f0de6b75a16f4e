//! The policy on disk about a refused credential or registration, with file and line.

use std::path::Path;

use saegis_gateway::config::Config;
use saegis_onem2m::app_rule::allows_ae;
use saegis_onem2m::timestamp;
use saegis_onem2m::wildcard::fits;
use saegis_policy::{Shown, read_file};
use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table};

/// Maximum size of a file that is searched, in bytes.
const MAX_FILE: u64 = 1 << 30;
const RULES: &str = "service-subscription.toml";
/// Entry for a device that requests no AE-ID.
const ANY_AE: &str = "C*";

/// Returns the findings about a refusal, and changes that would permit it.
pub fn look(config: &Config, event: &Value, why: &str) -> (Vec<String>, Vec<String>) {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let (mut found, mut remedy) = (Vec::new(), Vec::new());
    if let Some(module) = module_in(why) {
        let file = config.modules.folder.join(format!("{module}.wasm"));
        found.push(format!("module {module}, {}", Shown(&file)));
    }
    if let Some(identity) = text("identity") {
        found.extend(rows_of(config, identity));
    }
    let rsc = event.get("rsc").and_then(Value::as_u64);
    if let (Some(4126), Some(credential)) = (rsc, text("credential_id")) {
        let asked = Asked {
            credential,
            app_id: text("app_id").unwrap_or_default(),
            from: text("from").filter(|from| !from.is_empty()),
        };
        rules(config, &asked, &mut found, &mut remedy);
    }
    if let (Some(4106), Some(entity), Some(from)) = (rsc, text("entity"), text("from"))
        && let Some(own) = entity.strip_prefix("AE ")
        && own != from
    {
        remedy.push(format!("let the device write {own} in X-M2M-Origin, instead of {from}"));
    }
    (found, remedy)
}

/// Returns the module that a reason names: `module psk-table rejected it: …`.
fn module_in(why: &str) -> Option<&str> {
    let (_, rest) = why.split_once("module ")?;
    rest.split([' ', ',', ':']).next().filter(|name| !name.is_empty())
}

/// Returns the rows that name an identity, in all tables of the policy folder, and their states.
pub fn rows_of(config: &Config, identity: &str) -> Vec<String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(&config.policy.folder).into_iter().flatten().flatten();
    let mut tables: Vec<_> = entries.map(|entry| entry.path()).collect();
    tables.retain(|path| path.extension().is_some_and(|end| end == "csv"));
    tables.sort();
    for table in tables {
        found.extend(rows_in(&table, identity));
    }
    if found.is_empty() {
        let folder = Shown(&config.policy.folder);
        found.push(format!("no table in {folder} has a row for {identity}"));
    }
    found
}

fn rows_in(table: &Path, identity: &str) -> Vec<String> {
    let Ok(bytes) = read_file(table, MAX_FILE) else {
        return vec![format!("{} cannot be read", Shown(table))];
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines = || (1..).zip(text.lines());
    let mut records = lines().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let Some((_, header)) = records.next() else { return Vec::new() };
    let columns: Vec<_> = header.split(',').map(str::trim).collect();
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let ids = ["kpsa_id", "ke_id", "km_id", "credential_id", "ae_id"].map(column);
    let cell = |line: &str, at: Option<usize>| {
        Some(line.split(',').nth(at?)?.trim().trim_matches('"').to_string())
    };
    let names = |line: &str| {
        ids.iter().any(|at| {
            cell(line, *at)
                .is_some_and(|cell| cell == identity || cell.strip_prefix('C') == Some(identity))
        })
    };
    let mut found = Vec::new();
    for (number, line) in records.filter(|(_, line)| names(line)) {
        let ends = cell(line, column("expires")).filter(|at| !at.is_empty());
        let over =
            |at: &String| timestamp::parse(at).is_ok_and(|at| at <= std::time::SystemTime::now());
        let state = match ends {
            Some(at) if over(&at) => format!("expired at {at}"),
            Some(at) => format!("valid until {at}"),
            None => "without an end".into(),
        };
        found.push(format!("{}:{number} has it now: {state}", Shown(table)));
    }
    let disabled = lines()
        .filter(|(_, line)| line.strip_prefix('#').is_some_and(|rest| names(rest.trim_start())));
    for (number, _) in disabled {
        found.push(format!("{}:{number} has it as a comment, so it is disabled", Shown(table)));
    }
    found
}

/// A registration.
struct Asked<'a> {
    credential: &'a str,
    app_id: &'a str,
    from: Option<&'a str>,
}

/// Adds, for each rule that is near, the list that does not match.
fn rules(config: &Config, asked: &Asked<'_>, found: &mut Vec<String>, remedy: &mut Vec<String>) {
    let file = config.policy.folder.join(RULES);
    let Ok(bytes) = read_file(&file, MAX_FILE) else { return };
    let text = String::from_utf8_lossy(&bytes);
    let Ok(document) = text.parse::<DocumentMut>() else { return };
    let Some(all) = document.get("rule").and_then(Item::as_array_of_tables) else {
        found.push(format!("{} has no rule", Shown(&file)));
        return;
    };
    let mut is_near = false;
    for rule in all {
        let has = |key: &str, matches: &dyn Fn(&str) -> bool| texts(rule, key).any(matches);
        let lists = [
            (
                has("applicable-cred-ids", &|p| fits(p, asked.credential)),
                "applicable-cred-ids",
                asked.credential,
            ),
            (has("allowed-app-ids", &|p| fits(p, asked.app_id)), "allowed-app-ids", asked.app_id),
            (
                has("allowed-aes", &|p| allows_ae(p, asked.from)),
                "allowed-aes",
                asked.from.unwrap_or(ANY_AE),
            ),
        ];
        let missing: Vec<_> = lists.iter().filter(|(matches, _, _)| !matches).collect();
        let name = rule.get("name").and_then(Item::as_str).unwrap_or_default();
        let line = line_of(&text, name);
        if let [(_, list, value)] = missing[..] {
            is_near = true;
            found.push(format!("{}:{line} the rule {name} lacks {value} in {list}", Shown(&file)));
            remedy.extend(addition(value, list, name));
        } else if missing.is_empty() {
            is_near = true;
            found.push(format!("{}:{line} the rule {name} permits it now", Shown(&file)));
        }
    }
    if !is_near {
        let Asked { credential, app_id, from } = asked;
        let from = from.unwrap_or("none");
        found.push(format!(
            "no rule in {} matches two of: {credential}, App-ID {app_id}, AE-ID {from}",
            Shown(&file)
        ));
    }
}

/// Returns the addition of a value to a rule. The value is that of a device: as a pattern, or with
/// quotes, it would permit more than this device.
fn addition(value: &str, list: &str, rule: &str) -> Option<String> {
    let is_exact = !value.contains(|c: char| matches!(c, '*' | '"' | '\\') || c.is_control());
    let is_safe = is_exact || (value == ANY_AE && list == "allowed-aes");
    is_safe.then(|| format!("add \"{value}\" to {list} of the rule {rule}"))
}

fn texts<'t>(rule: &'t Table, key: &str) -> impl Iterator<Item = &'t str> {
    let list = rule.get(key).and_then(Item::as_array);
    list.into_iter().flatten().filter_map(|entry| entry.as_str())
}

/// Returns the number of the line that names a rule.
fn line_of(text: &str, name: &str) -> usize {
    let is_it = |line: &str| {
        let value = line.trim_start().strip_prefix("name").map(str::trim_start);
        let value = value.and_then(|rest| rest.strip_prefix('=')).map(str::trim_start);
        value.is_some_and(|value| value.split(['"', '\'']).nth(1) == Some(name))
    };
    text.lines().position(is_it).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_devices_are_not_proposed_as_patterns() {
        let added = addition("Nlight", "allowed-app-ids", "lights");
        assert_eq!(added.as_deref(), Some("add \"Nlight\" to allowed-app-ids of the rule lights"));
        assert!(addition(ANY_AE, "allowed-aes", "lights").is_some());
        for value in ["N*", "C*", "Na\", \"N*", "N\\u002a", "N\n"] {
            assert_eq!(addition(value, "allowed-app-ids", "lights"), None, "{value:?}");
        }
    }
}
