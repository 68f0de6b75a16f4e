//! The command line's end.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use saegis_gateway::admin::protocol::{
    Deleted, Ended, Failed, MAX_LINE, Released, ReloadOutcome, ReloadReport, Request,
};
use saegis_gateway::config::Config;

/// Timeout for an answer. A reload of many rows takes a while, and one may be under way; the removal of an
/// AE waits for what is under way at the CSE.
fn timeout(config: &Config) -> Duration {
    Duration::from_secs(60 + 2 * config.policy.load_seconds + 3 * config.limits.upstream_seconds)
}

/// Which gateway.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration of the running gateway.
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

/// What can be asked of a running gateway.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show how the running gateway is.
    Status(Args),
    /// List the live associations of the running gateway.
    Associations(Args),
    /// List modules and tables that are in force in the running gateway.
    Modules(Args),
    /// Have the running gateway read policy files and modules again.
    Reload {
        /// Policy files that are gone are so on purpose: what they allowed ends.
        #[arg(long)]
        accept_removals: bool,
        #[command(flatten)]
        args: Args,
    },
    /// List the AE-IDs that credentials have got by registering.
    AeIds(Args),
    /// Release the AE-ID that a credential has got by registering, and end its associations.
    ReleaseAeId {
        /// Its Credential-ID, as `saegis ae-ids` shows it.
        credential_id: String,
        #[command(flatten)]
        args: Args,
    },
    /// Delete an AE with all that is below it, and free its AE-ID.
    DeleteAe {
        /// Its AE-ID-Stem, such as Clight-AE1.
        ae_id: String,
        #[command(flatten)]
        args: Args,
    },
    /// List the other CSEs that the running gateway goes to.
    Peers(Args),
    /// End a live association of the running gateway.
    EndAssociation {
        /// Its number, as `saegis associations` shows it.
        id: u64,
        #[command(flatten)]
        args: Args,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] saegis_policy::Faults),
    /// Nobody answers.
    #[error("no gateway answers at {}: {error}; is it running, and is this its owner?", saegis_policy::Shown(.socket))]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The gateway could not do it.
    #[error("{0}")]
    Failed(String),
}

impl AdminError {
    /// The process's exit code: 2 for what is wrong in files, 3 where nobody answers, 4 where the
    /// gateway could not do it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::NoAnswer { .. } => 3,
            Self::Failed(_) => 4,
        }
    }
}

/// Asks a running gateway, and prints its answer.
///
/// # Errors
/// Why there is none.
pub fn run(command: Command, as_json: bool) -> Result<(), AdminError> {
    let (args, request) = match command {
        Command::Status(args) => (args, Request::Status),
        Command::Associations(args) => (args, Request::Associations),
        Command::Modules(args) => (args, Request::Modules),
        Command::Reload { accept_removals, args } => (args, Request::Reload { accept_removals }),
        Command::AeIds(args) => (args, Request::AeIds),
        Command::Peers(args) => (args, Request::Peers),
        Command::ReleaseAeId { credential_id, args } => {
            (args, Request::ReleaseAeId { credential_id })
        }
        Command::DeleteAe { ae_id, args } => (args, Request::DeleteAe { ae_id }),
        Command::EndAssociation { id, args } => (args, Request::EndAssociation { id }),
    };
    let config = Config::load(&args.config)?;
    let timeout = timeout(&config);
    let socket = config.admin.socket;
    let answer = ask(&socket, &request, timeout);
    let answer = answer.map_err(|error| AdminError::NoAnswer { socket, error })?;
    if as_json {
        crate::output::print(&answer.to_string());
    }
    let print = |line: &str| {
        if !as_json {
            crate::output::print(line);
        }
    };
    if let Ok(Failed { error }) = read(&answer) {
        return Err(AdminError::Failed(error));
    }
    match request {
        Request::Status => {
            for (name, value) in answer.as_object().into_iter().flatten() {
                let name = name.replace('_', "-");
                let print = |value| print(&format!("{name:13} {}", text(value)));
                match value {
                    // Each may be long.
                    Value::Array(lines) => lines.iter().for_each(print),
                    value => print(value),
                }
            }
        }
        Request::Associations => {
            let columns = ["id", "entity", "credential_id", "peer", "suite", "established"];
            table(answer.get("associations"), &columns).iter().for_each(|line| print(line));
        }
        Request::Modules => {
            let generation = answer.get("generation").map(text).unwrap_or_default();
            print(&format!("generation {generation}"));
            let modules = ["name", "hooks", "capabilities", "signed_by", "sha256"];
            table(answer.get("modules"), &modules).iter().for_each(|line| print(line));
            if answer.get("shadows").and_then(Value::as_array).is_some_and(|all| !all.is_empty()) {
                let columns = [
                    "name",
                    "replaces",
                    "hooks",
                    "agreed",
                    "disagreed",
                    "not_compared",
                    "dropped",
                    "faults",
                ];
                print("shadows");
                table(answer.get("shadows"), &columns).iter().for_each(|line| print(line));
            }
            if answer.get("kept").and_then(Value::as_array).is_some_and(|all| !all.is_empty()) {
                print(&format!("kept: {}", answer.get("kept").map(text).unwrap_or_default()));
            }
            table(answer.get("tables"), &["name", "rows", "read_by"])
                .iter()
                .for_each(|line| print(line));
        }
        Request::Reload { .. } => {
            let report: ReloadReport = read(&answer)?;
            let generation = report.generation;
            if report.configuration_changed {
                let file = args.config.display();
                print(&format!(
                    "{file} has changed since the start; it counts from the next start"
                ));
            }
            match report.outcome {
                ReloadOutcome::Unchanged if report.recovered == Some(true) => print(&format!(
                    "what is on disk is good again: it is generation {generation}, which is in force"
                )),
                ReloadOutcome::Unchanged => {
                    print(&format!("nothing has changed since generation {generation}"))
                }
                ReloadOutcome::InForce => {
                    print(&format!("generation {generation} is in force"));
                    let missed = faults(&report);
                    if !missed.is_empty() {
                        return Err(AdminError::Failed(missed));
                    }
                }
                ReloadOutcome::Refused => {
                    let stays = format!("generation {generation} stays in force");
                    return Err(AdminError::Failed(format!("{}\n{stays}", faults(&report))));
                }
            }
        }
        Request::AeIds => {
            let columns = ["credential_id", "ae_id", "since"];
            table(answer.get("ae_ids"), &columns).iter().for_each(|line| print(line));
        }
        Request::Peers => {
            let columns = ["cse_id", "address", "saef", "registration", "until", "why"];
            table(answer.get("peers"), &columns).iter().for_each(|line| print(line));
        }
        Request::ReleaseAeId { credential_id } => {
            if !read::<Released>(&answer)?.freed {
                let what = format!("{credential_id} has no AE-ID by registering");
                return Err(AdminError::Failed(what));
            }
            print(&format!("{credential_id} has no AE-ID any more"));
        }
        Request::DeleteAe { ae_id } => {
            let Deleted { deleted, freed } = read(&answer)?;
            if !deleted && freed.is_none() {
                return Err(AdminError::Failed(format!("there is no AE {ae_id}")));
            }
            if deleted {
                print(&format!("the AE {ae_id} is deleted"));
            }
            if let Some(credential_id) = freed {
                print(&format!("{credential_id} has no AE-ID any more"));
            }
        }
        Request::EndAssociation { id } => {
            if !read::<Ended>(&answer)?.ended {
                return Err(AdminError::Failed(format!("there is no association {id}")));
            }
            print(&format!("association {id} ends"));
        }
    }
    Ok(())
}

/// What the running gateway made of a reload.
pub enum Reloaded {
    /// This generation is in force.
    InForce(u64),
    /// It refused what is on disk, for these reasons.
    Refused(String),
}

/// Has the running gateway read policy files and modules again.
///
/// # Errors
/// When none answers.
pub fn reload(config: &Config) -> io::Result<Reloaded> {
    let request = Request::Reload { accept_removals: false };
    let answer = ask(&config.admin.socket, &request, timeout(config))?;
    let report: ReloadReport = serde_json::from_value(answer)?;
    Ok(match report.outcome {
        ReloadOutcome::Refused => Reloaded::Refused(faults(&report)),
        ReloadOutcome::Unchanged | ReloadOutcome::InForce => Reloaded::InForce(report.generation),
    })
}

/// The faults of a reload, a line each.
fn faults(report: &ReloadReport) -> String {
    report.faults.as_deref().unwrap_or_default().join("\n")
}

/// Reads an answer as what its request is answered with.
fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, AdminError> {
    let read = T::deserialize(answer);
    read.map_err(|e| AdminError::Failed(format!("the gateway gave another answer: {e}")))
}

fn ask(socket: &std::path::Path, request: &Request, timeout: Duration) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// Rows of objects as lines, each column as wide as its widest cell.
pub fn table(rows: Option<&Value>, columns: &[&str]) -> Vec<String> {
    let rows = rows.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let head = columns.iter().map(|c| c.replace('_', "-").to_uppercase()).collect();
    let mut cells: Vec<Vec<String>> = vec![head];
    for row in rows {
        cells.push(columns.iter().map(|c| row.get(c).map(text).unwrap_or_default()).collect());
    }
    let width = |at: usize| {
        cells.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    cells.iter().map(line).collect()
}
