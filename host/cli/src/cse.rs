//! `saegis cse`: the resources of the embedded CSE while the gateway does not run.

use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};

use saegis_cse::{ImportReport, InspectedResource, Inspection, Operator};
use saegis_gateway::config::Config;
use saegis_policy::{Fault, Faults};
use serde_json::{Value, json};

use crate::output::print;

/// Arguments of `saegis cse`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Print the tree of resources, one a line
    Tree {
        #[command(flatten)]
        start: Start,
        /// Maximum level below the start
        #[arg(long)]
        levels: Option<usize>,
    },
    /// Print the representation of a resource in JSON
    Get(Start),
    /// Print a resource and all below it in JSON, one a line
    Export(Start),
    /// Change a resource, or create one below it; the representation comes from the standard input
    ///
    /// The checks are those of a request, but no privilege is needed. No notification is sent.
    #[command(verbatim_doc_comment)]
    Put {
        #[command(flatten)]
        start: Start,
        /// Number of the resource type to create below the address, such as 3 for a container
        #[arg(long = "type", value_name = "NUMBER")]
        ty: Option<u16>,
    },
    /// Create the resources of an export that do not exist; the export comes from the standard input
    ///
    /// The AEs must have registered again before, with the same credentials. A resource is omitted if
    /// it, or an AE or a resource that it names, belongs to another AE or credential here. The
    /// resources get other resource-IDs and times. Their addresses with resource-IDs are adapted.
    #[command(verbatim_doc_comment)]
    Import {
        /// Configuration of the gateway
        #[arg(long, default_value = "saegis.toml")]
        config: PathBuf,
    },
    /// Make the file of the store smaller
    Vacuum {
        /// Configuration of the gateway
        #[arg(long, default_value = "saegis.toml")]
        config: PathBuf,
    },
}

#[derive(clap::Args)]
struct Start {
    /// Address of a resource, such as `cse/light1` or a resource-ID; by default the CSEBase
    #[arg(default_value = "-")]
    address: String,
    /// Configuration of the gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

impl Start {
    /// Visits the resources up to a level below the start.
    fn visit(&self, levels: usize, visit: &mut dyn FnMut(InspectedResource)) -> Result<(), Faults> {
        let cse = Config::load(&self.config)?.cse;
        let fault = |what: String| Faults(vec![Fault::of(&cse.store, what)]);
        let opened = Inspection::open(&cse.store, cse.settings()?);
        let inspection = opened.map_err(|e| fault(e.to_string()))?;
        inspection.visit(&self.address, levels, visit).map_err(|e| fault(e.to_string()))
    }
}

/// Runs a verb and returns the exit code of the process.
///
/// # Errors
/// Fails if the store cannot be read, or has no such resource.
pub fn run(args: Args, as_json: bool) -> Result<u8, Faults> {
    match args.verb {
        Verb::Tree { start, levels } => {
            start.visit(levels.unwrap_or(usize::MAX), &mut |found| {
                let InspectedResource { level, name, root, ri, address, .. } = found;
                print(&match as_json {
                    true => json!({ "address": address, "root": root, "ri": ri }).to_string(),
                    false => format!("{:indent$}{name}  {root}  {ri}", "", indent = 2 * level),
                });
            })?
        }
        Verb::Get(start) => start.visit(0, &mut |found| {
            print(&match as_json {
                true => found.representation.to_string(),
                false => format!("{:#}", found.representation),
            });
        })?,
        Verb::Export(start) => start.visit(usize::MAX, &mut |found| {
            let InspectedResource { address, representation, holders, .. } = found;
            let line = json!({
                "address": address, "representation": representation, "holders": holders,
            });
            print(&line.to_string());
        })?,
        Verb::Put { start, ty } => {
            let (operator, fault) = operator(&start.config)?;
            let text = io::read_to_string(io::stdin()).map_err(|e| fault(e.to_string()))?;
            let content: Value = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
            let changed = match ty {
                Some(ty) => operator.create(&start.address, ty, &content),
                None => operator.update(&start.address, &content),
            };
            let changed = changed.map_err(|e| fault(e.to_string()))?;
            print(&if as_json { changed.to_string() } else { format!("{changed:#}") });
        }
        Verb::Import { config } => return import(&config, as_json),
        Verb::Vacuum { config } => {
            let store = Config::load(&config)?.cse.store;
            let compacted = saegis_cse::compact(&store);
            let smaller = compacted.map_err(|e| Faults(vec![Fault::of(&store, e.to_string())]))?;
            print(&match as_json {
                true => json!({ "smaller": smaller }).to_string(),
                false if smaller => "the file of the store has become smaller".into(),
                false => "the file of the store had no free space to return".into(),
            });
        }
    }
    Ok(0)
}

/// Opens the store for changes. Also returns the function that creates a fault of the store.
fn operator(config: &Path) -> Result<(Operator, impl Fn(String) -> Faults), Faults> {
    let cse = Config::load(config)?.cse;
    let (settings, store) = (cse.settings()?, cse.store);
    let opened = Operator::open(&store, settings);
    let fault = move |what: String| Faults(vec![Fault::of(&store, what)]);
    Ok((opened.map_err(|e| fault(e.to_string()))?, fault))
}

/// Creates the resources of an export. Those that are refused are reported, and the others created.
fn import(config: &Path, as_json: bool) -> Result<u8, Faults> {
    let (operator, fault) = operator(config)?;
    let mut import = operator.import();
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|e| fault(e.to_string()))?;
        let entry: Value = serde_json::from_str(&line).map_err(|e| fault(e.to_string()))?;
        let address = entry.get("address").and_then(Value::as_str).unwrap_or_default();
        let representation = entry.get("representation").unwrap_or(&Value::Null);
        import.add(address, representation, entry.get("holders").unwrap_or(&Value::Null));
    }
    let ImportReport { created, existing, omitted, .. } = import.finish();
    if as_json {
        let omitted: Vec<_> = omitted
            .iter()
            .map(|(address, why)| json!({ "address": address, "why": why }))
            .collect();
        let result = json!({ "created": created, "existing": existing, "omitted": omitted });
        print(&result.to_string());
    } else {
        for (address, why) in &omitted {
            print(&format!("omitted {address}: {why}"));
        }
        print(&format!("{created} resources created, {existing} exist"));
    }
    Ok(u8::from(!omitted.is_empty()))
}
