//! The command line's end.

mod report;

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

use crate::output::print;
use crate::table::table;

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

impl Command {
    fn into_request(self) -> (Args, Request) {
        match self {
            Self::Status(args) => (args, Request::Status),
            Self::Associations(args) => (args, Request::Associations),
            Self::Modules(args) => (args, Request::Modules),
            Self::Reload { accept_removals, args } => (args, Request::Reload { accept_removals }),
            Self::AeIds(args) => (args, Request::AeIds),
            Self::Peers(args) => (args, Request::Peers),
            Self::ReleaseAeId { credential_id, args } => {
                (args, Request::ReleaseAeId { credential_id })
            }
            Self::DeleteAe { ae_id, args } => (args, Request::DeleteAe { ae_id }),
            Self::EndAssociation { id, args } => (args, Request::EndAssociation { id }),
        }
    }
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
    let (args, request) = command.into_request();
    let config = Config::load(&args.config)?;
    let timeout = timeout(&config);
    let socket = config.admin.socket;
    let answer = ask(&socket, &request, timeout);
    let answer = answer.map_err(|error| AdminError::NoAnswer { socket, error })?;
    if as_json {
        print(&answer.to_string());
    }
    if let Ok(Failed { error }) = read(&answer) {
        return Err(AdminError::Failed(error));
    }
    let show = |lines: Vec<String>| {
        if !as_json {
            lines.iter().for_each(|line| print(line));
        }
    };
    match request {
        Request::Status => show(report::status(&answer)),
        Request::Associations => {
            let columns = ["id", "entity", "credential_id", "peer", "suite", "established"];
            show(table(answer.get("associations"), &columns));
        }
        Request::Modules => show(report::modules(&answer)),
        Request::Reload { .. } => {
            let (lines, failure) = report::reload(&read(&answer)?, &args.config);
            show(lines);
            failure.map_or(Ok(()), |why| Err(AdminError::Failed(why)))?;
        }
        Request::AeIds => {
            show(table(answer.get("ae_ids"), &["credential_id", "ae_id", "since"]));
        }
        Request::Peers => {
            let columns = ["cse_id", "address", "saef", "registration", "until", "why"];
            show(table(answer.get("peers"), &columns));
        }
        Request::ReleaseAeId { credential_id } => {
            if !read::<Released>(&answer)?.freed {
                let what = format!("{credential_id} has no AE-ID by registering");
                return Err(AdminError::Failed(what));
            }
            show(vec![report::released(&credential_id)]);
        }
        Request::DeleteAe { ae_id } => {
            let Deleted { deleted, freed } = read(&answer)?;
            if !deleted && freed.is_none() {
                return Err(AdminError::Failed(format!("there is no AE {ae_id}")));
            }
            let deleted = deleted.then(|| format!("the AE {ae_id} is deleted"));
            show(deleted.into_iter().chain(freed.as_deref().map(report::released)).collect());
        }
        Request::EndAssociation { id } => {
            if !read::<Ended>(&answer)?.ended {
                return Err(AdminError::Failed(format!("there is no association {id}")));
            }
            show(vec![format!("association {id} ends")]);
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
        ReloadOutcome::Refused => Reloaded::Refused(report::faults(&report)),
        ReloadOutcome::Unchanged | ReloadOutcome::InForce => Reloaded::InForce(report.generation),
    })
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
