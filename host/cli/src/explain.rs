//! `saegis explain`: why a device could not connect, or why its request was refused, from the audit
//! trails and the policy files.

mod policy;

use std::path::PathBuf;

use saegis_gateway::admin::remedies;
use saegis_gateway::config::Config;
use serde_json::{Value, json};

use crate::output::print;
use crate::trail::{self, Filter, time};

/// Arguments of `saegis explain`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Number of refusals to explain, the last one first
    #[arg(long, default_value_t = 1)]
    last: usize,
}

/// Events that are refusals, or ends that policy caused.
const REFUSALS: [&str; 5] = [
    "handshake.refused",
    "request.refused",
    "association.revoked",
    "association.superseded",
    "association.ae-id-not-assigned",
];

/// Exit code if the trail has no such refusal.
const NONE: u8 = 1;

/// Explains the last refusals.
///
/// # Errors
/// Fails without a trail, or if its files cannot be read.
pub fn run(args: &Args, as_json: bool) -> Result<u8, String> {
    let config = Config::load(&args.config).map_err(|e| e.to_string())?;
    let files = trail::files(&config)?;
    let events = |most, names: &[&str]| {
        let selects = |event: &Value| {
            event.get("event").and_then(Value::as_str).is_some_and(|name| names.contains(&name))
                && args.filter.selects(event)
        };
        trail::events(&files, config.audit.retained_files, most, selects)
            .map_err(|e| format!("the audit trail cannot be read: {e}"))
    };
    let refusals = events(args.last.max(1), &REFUSALS)?;
    let connected = events(1, &["association.established"])?.pop();
    if refusals.is_empty() {
        return nothing(&config, args, connected.as_ref(), as_json);
    }
    let explained: Vec<_> =
        refusals.iter().rev().map(|event| explain(&config, event, connected.as_ref())).collect();
    if as_json {
        print(
            &json!({ "refusals": explained.iter().map(Explanation::json).collect::<Vec<_>>() })
                .to_string(),
        );
    } else {
        for (number, explanation) in explained.iter().enumerate() {
            if number > 0 {
                print("");
            }
            explanation.print();
        }
    }
    Ok(0)
}

/// An explained refusal.
struct Explanation {
    /// Time and kind of the event.
    what: String,
    /// The credential and the request.
    presented: Vec<String>,
    /// The decision and its source.
    decision: Vec<String>,
    /// Changes that would permit it.
    remedy: Vec<String>,
    event: Value,
}

impl Explanation {
    fn print(&self) {
        print(&self.what);
        for (title, lines) in [
            ("presented", &self.presented),
            ("decision", &self.decision),
            ("to change", &self.remedy),
        ] {
            for (number, line) in lines.iter().enumerate() {
                print(&format!("  {:10} {line}", if number == 0 { title } else { "" }));
            }
        }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "presented": self.presented,
            "decision": self.decision,
            "to_change": self.remedy,
            "event": self.event,
        })
    }
}

fn explain(config: &Config, event: &Value, connected: Option<&Value>) -> Explanation {
    let text = |name: &str| event.get(name).map(crate::table::text).filter(|text| text != "-");
    let name = text("event").unwrap_or_default();
    let peer = text("peer").map(|peer| format!(" of {peer}")).unwrap_or_default();
    let kind = match name.as_str() {
        "handshake.refused" => format!("handshake{peer} refused"),
        "request.refused" => "request refused".to_string(),
        "association.revoked" => "association ended by policy".into(),
        "association.superseded" => "association ended by a newer one".into(),
        _ => "registration without an AE-ID".into(),
    };
    let what = format!("{}  {kind}", time(event));
    let mut presented = Vec::new();
    for (field, words) in [
        ("identity", "identity"),
        ("subject", "certificate with the subject"),
        ("serial", "serial number"),
        ("credential_id", "Credential-ID"),
        ("entity", "entity of the association:"),
        ("operation", "operation"),
        ("to", "target"),
        ("from", "originator (From)"),
        ("app_id", "App-ID"),
    ] {
        presented.extend(text(field).filter(|t| !t.is_empty()).map(|t| format!("{words} {t}")));
    }
    if presented.is_empty() {
        presented.push("nothing that names a credential".into());
    }
    let why = text("why").or_else(|| text("message")).unwrap_or_default();
    let mut decision = vec![why.clone()];
    let cause = text("cause").or_else(|| text("rsc"));
    let (mut found, mut remedy) = policy::look(config, event, &why);
    decision.append(&mut found);
    let general = remedies::of(&name, cause.as_deref().unwrap_or_default());
    remedy.extend(general.map(Into::into));
    let later = connected.filter(|later| time(later) > time(event));
    if let Some(later) = later
        && name != "request.refused"
    {
        remedy.insert(0, format!("nothing: it has connected since, at {}", time(later)));
    }
    Explanation { what, presented, decision, remedy, event: event.clone() }
}

fn nothing(
    config: &Config,
    args: &Args,
    connected: Option<&Value>,
    as_json: bool,
) -> Result<u8, String> {
    let mut lines = vec!["the audit trail has no refusal for this".to_string()];
    match connected {
        Some(event) => lines.push(format!("the last association was established at {}", time(event))),
        None if args.filter.is_given() => lines.push(
            "it has no association either: look whether the device reaches the address and port of the \
             gateway, and whether its name is written as in its credential"
                .into(),
        ),
        None => {}
    }
    if let Some(identity) = args.filter.identity() {
        lines.extend(policy::rows_of(config, identity));
    }
    if as_json {
        print(&json!({ "refusals": [], "notes": lines }).to_string());
    } else {
        lines.iter().for_each(|line| print(line));
    }
    Ok(NONE)
}
