//! `saegis config`: the values in effect, and the schemas for editors.

use std::path::{Path, PathBuf};

use saegis_gateway::config::Config;
use saegis_policy::{Fault, Faults};
use serde_json::{Map, Value, json};

use crate::output::print;

const SCHEMA: &str = include_str!("../../../docs/src/schemas/saegis.schema.json");
const MANIFEST_SCHEMA: &str = include_str!("../../../docs/src/schemas/manifest.schema.json");

/// Arguments of `saegis config`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print the values of the configuration, without keys
    Show {
        /// Configuration of the gateway
        #[arg(long, default_value = "saegis.toml")]
        config: PathBuf,
        /// Include the defaults of options that are not set
        #[arg(long)]
        effective: bool,
    },
    /// Print the JSON Schema of saegis.toml, or of the manifests of modules
    Schema {
        /// Print the schema of manifests
        #[arg(long)]
        manifest: bool,
    },
}

/// Names of options with keys.
const KEYS: [&str; 3] = ["kpsa", "km", "kpm"];
const HIDDEN: &str = "(hidden)";

/// Runs a command.
///
/// # Errors
/// Returns the faults of the configuration.
pub fn run(args: &Args, as_json: bool) -> Result<u8, Faults> {
    match &args.command {
        Command::Schema { manifest } => {
            print(if *manifest { MANIFEST_SCHEMA } else { SCHEMA }.trim_end());
        }
        Command::Show { config, effective } => {
            let shown = show(config, *effective)?;
            if as_json {
                print(&shown.to_string());
            } else {
                let mut lines = Vec::new();
                toml_of("", &shown, &mut lines);
                lines.iter().for_each(|line| print(line));
            }
        }
    }
    Ok(0)
}

/// Returns the values of a configuration.
fn show(file: &Path, effective: bool) -> Result<Value, Faults> {
    let config = Config::load(file)?;
    let fault = |what: String| Faults(vec![Fault::of(file, what)]);
    let text = std::fs::read_to_string(file).map_err(|e| fault(format!("cannot be read: {e}")))?;
    let written: toml::Table = toml::from_str(&text).map_err(|e| fault(e.message().into()))?;
    let mut values = serde_json::to_value(written).map_err(|e| fault(e.to_string()))?;
    hide(&mut values);
    if effective {
        let schema: Value = serde_json::from_str(SCHEMA).map_err(|e| fault(e.to_string()))?;
        complete(&mut values, &schema);
        // It depends on the environment.
        let state = config.state_folder.unwrap_or_default();
        if let Some(entries) = values.as_object_mut() {
            entries.insert("state-folder".into(), json!(state.to_string_lossy()));
        }
    }
    Ok(values)
}

/// Replaces keys.
fn hide(values: &mut Value) {
    match values {
        Value::Object(entries) => {
            for (name, value) in entries {
                if KEYS.contains(&name.as_str()) {
                    *value = HIDDEN.into();
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// Adds the defaults of a schema to an object.
fn complete(values: &mut Value, schema: &Value) {
    let Some(values) = values.as_object_mut() else { return };
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(default) = of.get("default") {
            values.entry(name.clone()).or_insert_with(|| default.clone());
        } else if of["type"] == "object" && !of["properties"].is_null() {
            // A table with a required option exists only if it is written.
            if of["required"].is_null() {
                let inner = values.entry(name.clone()).or_insert_with(|| Map::new().into());
                complete(inner, of);
                if inner.as_object().is_some_and(Map::is_empty) {
                    values.remove(name);
                }
            } else if let Some(inner) = values.get_mut(name) {
                complete(inner, of);
            }
        } else if let Some(items) = values.get_mut(name).and_then(Value::as_array_mut) {
            items.iter_mut().for_each(|item| complete(item, &of["items"]));
        }
        if let Some(entries) = values.get_mut(name).and_then(Value::as_object_mut)
            && of["additionalProperties"].is_object()
        {
            entries.values_mut().for_each(|entry| complete(entry, &of["additionalProperties"]));
        }
    }
}

/// Adds the lines of an object as TOML: its values, and then its tables.
fn toml_of(path: &str, values: &Value, lines: &mut Vec<String>) {
    let entries = || values.as_object().into_iter().flatten();
    let is_tables = |value: &Value| {
        value.as_array().is_some_and(|all| all.first().is_some_and(Value::is_object))
    };
    for (name, value) in entries().filter(|(_, value)| !value.is_object() && !is_tables(value)) {
        // JSON and TOML write numbers, texts and lists alike.
        lines.push(format!("{} = {value}", key(name)));
    }
    for (name, value) in entries() {
        let inner = if path.is_empty() { key(name) } else { format!("{path}.{}", key(name)) };
        if value.is_object() {
            lines.push(format!("\n[{inner}]"));
            toml_of(&inner, value, lines);
        } else if is_tables(value) {
            for item in value.as_array().into_iter().flatten() {
                lines.push(format!("\n[[{inner}]]"));
                toml_of(&inner, item, lines);
            }
        }
    }
}

fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.chars().all(is_bare) { name.into() } else { format!("{name:?}") }
}
