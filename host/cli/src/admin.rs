//! Subcommands that query or control a running gateway over its admin socket.

mod report;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use saegis_gateway::admin::protocol::{
    BackupReport, Ended, Failed, LogLevelReport, MAX_LINE, Released, ReloadReport, Request,
    SignedOut, WebRole,
};
use saegis_gateway::admin::reloaded::Reloaded;
use saegis_gateway::config::Config;

use crate::output::print;
use crate::table::table;

/// Timeout for a response. A reload of many rows takes time, and another reload may still be
/// running. The removal of an AE waits for pending requests at the CSE.
fn timeout(config: &Config) -> Duration {
    Duration::from_secs(60 + 2 * config.policy.load_seconds + 3 * config.limits.upstream_seconds)
}

/// Timeout for the copy of all stores.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);

/// Selects the gateway by its configuration.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration file of the running gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

/// Operations on a running gateway.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show the state of the running gateway
    Status(Args),
    /// List the active associations of the running gateway
    Associations(Args),
    /// List the modules and policy tables in force in the running gateway
    Modules(Args),
    /// List the last generations of the running gateway, with their changes or their faults
    Generations(Args),
    /// List the last requests of the running gateway, with the time of each step (admin.web.listen)
    Requests {
        /// Only those of this association, as printed by `saegis associations`
        #[arg(long)]
        association: Option<u64>,
        /// Only those that were refused
        #[arg(long)]
        refused: bool,
        #[command(flatten)]
        args: Args,
    },
    /// Reload the policy files and modules of the running gateway
    Reload {
        /// Accept that policy files were removed on purpose, and end what they allowed
        #[arg(long)]
        accept_removals: bool,
        /// Accept that the new generation ends more associations than policy.max-ended-associations
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        args: Args,
    },
    /// Show the filter of the log of the running gateway, or set it until the next start
    LogLevel {
        /// New filter, such as `debug` or `info,saegis_gateway=debug`
        #[arg(conflicts_with = "reset")]
        filter: Option<String>,
        /// Restore the filter of the start
        #[arg(long)]
        reset: bool,
        #[command(flatten)]
        args: Args,
    },
    /// List the AE-IDs that were assigned to credentials at registration
    AeIds(Args),
    /// Release the AE-ID that was assigned to a credential at registration, and end its
    /// associations
    ReleaseAeId {
        /// Credential-ID, as printed by `saegis ae-ids`
        credential_id: String,
        #[command(flatten)]
        args: Args,
    },
    /// Delete an AE and its child resources, and release its AE-ID
    DeleteAe {
        /// AE-ID-Stem, such as Clight-AE1
        ae_id: String,
        #[command(flatten)]
        args: Args,
    },
    /// List the peer CSEs of the running gateway
    Peers(Args),
    /// Open the web page of the running gateway, and end its sessions
    Admin {
        #[command(subcommand)]
        command: WebCommand,
    },
    /// End an active association of the running gateway
    EndAssociation {
        /// Number of the association, as printed by `saegis associations`
        id: u64,
        #[command(flatten)]
        args: Args,
    },
}

/// Commands about the web page.
#[derive(clap::Subcommand)]
pub enum WebCommand {
    /// Print a link that opens the web page once (admin.web.listen)
    Link {
        /// The session of the link can view everything and change nothing
        #[arg(long)]
        view: bool,
        #[command(flatten)]
        args: Args,
    },
    /// List the sessions of the web page
    Sessions(Args),
    /// End a session of the web page, or all sessions and links
    SignOut {
        /// Session, as printed by `saegis admin sessions` and in the audit trail
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        session: Option<String>,
        /// End all sessions, and the links that are not opened yet
        #[arg(long)]
        all: bool,
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
            Self::Generations(args) => (args, Request::Generations),
            Self::Requests { association, refused, args } => {
                (args, Request::Requests { association, refused })
            }
            Self::Reload { accept_removals, force, args } => {
                (args, Request::Reload { accept_removals, force })
            }
            Self::LogLevel { filter, reset, args } => (args, Request::LogLevel { filter, reset }),
            Self::AeIds(args) => (args, Request::AeIds),
            Self::Peers(args) => (args, Request::Peers),
            Self::ReleaseAeId { credential_id, args } => {
                (args, Request::ReleaseAeId { credential_id })
            }
            Self::Admin { command: WebCommand::Link { view, args } } => {
                let role = if view { WebRole::View } else { WebRole::Operate };
                (args, Request::Link { role })
            }
            Self::Admin { command: WebCommand::Sessions(args) } => (args, Request::Sessions),
            // clap requires a session or --all.
            Self::Admin { command: WebCommand::SignOut { session, all: _, args } } => {
                (args, Request::SignOut { id: session })
            }
            Self::DeleteAe { ae_id, args } => (args, Request::DeleteAe { ae_id }),
            Self::EndAssociation { id, args } => (args, Request::EndAssociation { id }),
        }
    }
}

/// Error of an admin command.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The configuration is invalid.
    #[error("{0}")]
    Config(#[from] saegis_policy::Faults),
    /// The socket does not answer.
    #[error(
        "no gateway answers at {}: {error}; is it running, is this its owner, and has the configuration its state-folder?",
        saegis_policy::Shown(.socket)
    )]
    NoAnswer {
        /// Path of the socket.
        socket: PathBuf,
        /// Cause.
        error: io::Error,
    },
    /// The gateway could not carry out the request.
    #[error("{0}")]
    Failed(String),
}

impl AdminError {
    /// Returns the exit code of the process: 2 for an invalid configuration, 3 if no gateway
    /// answers, 4 if the gateway could not carry out the request.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::NoAnswer { .. } => 3,
            Self::Failed(_) => 4,
        }
    }
}

/// Sends a request to a running gateway and prints the response.
///
/// # Errors
/// Fails if the gateway does not answer or cannot carry out the request.
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
        Request::Generations => show(report::generations(&read(&answer)?)),
        Request::Requests { .. } => show(report::requests(&read(&answer)?)),
        Request::Reload { .. } => {
            let (lines, failure) = report::reload(&read(&answer)?, &args.config);
            show(lines);
            failure.map_or(Ok(()), |why| Err(AdminError::Failed(why)))?;
        }
        Request::LogLevel { .. } => show(vec![read::<LogLevelReport>(&answer)?.filter]),
        Request::AeIds => {
            show(table(answer.get("ae_ids"), &["credential_id", "ae_id", "since"]));
        }
        Request::Peers => {
            let columns = ["cse_id", "address", "saef", "registration", "expires", "why"];
            show(table(answer.get("peers"), &columns));
        }
        Request::Link { .. } => show(report::link(&read(&answer)?)),
        Request::Sessions => {
            let columns = ["id", "role", "by", "opened", "expires"];
            show(table(answer.get("sessions"), &columns));
        }
        Request::SignOut { id } => {
            let ended = read::<SignedOut>(&answer)?.ended;
            show(report::signed_out(id.as_deref(), ended).map_err(AdminError::Failed)?);
        }
        // `saegis backup`, `saegis top` and the web page send them.
        Request::Backup | Request::Totals | Request::RollOut { .. } => {}
        Request::ReleaseAeId { credential_id } => {
            if !read::<Released>(&answer)?.released {
                let what = format!("{credential_id} has no AE-ID from a registration");
                return Err(AdminError::Failed(what));
            }
            show(vec![report::released(&credential_id)]);
        }
        Request::DeleteAe { ae_id } => {
            show(report::deleted(&ae_id, &read(&answer)?).map_err(AdminError::Failed)?);
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

/// Makes the running gateway reload its policy files and modules. With `force`, the new generation may
/// end any number of associations.
///
/// # Errors
/// Fails if no gateway answers.
pub fn reload(config: &Config, force: bool) -> io::Result<Reloaded> {
    let request = Request::Reload { accept_removals: false, force };
    let answer = ask(&config.admin.socket, &request, timeout(config))?;
    Ok(serde_json::from_value::<ReloadReport>(answer)?.into())
}

/// Has the running gateway copy its stores. Returns `None` if no gateway is running.
///
/// # Errors
/// Returns the reason if the stores could not be copied.
pub fn copy_stores(config: &Config) -> Result<Option<BackupReport>, String> {
    let answer = match ask(&config.admin.socket, &Request::Backup, BACKUP_TIMEOUT) {
        Ok(answer) => answer,
        Err(e)
            if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e.to_string()),
    };
    if let Ok(Failed { error }) = read(&answer) {
        return Err(error);
    }
    read(&answer).map(Some).map_err(|e| e.to_string())
}

/// Deserializes a response.
fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, AdminError> {
    let read = T::deserialize(answer);
    read.map_err(|e| AdminError::Failed(format!("the gateway sent an unexpected response: {e}")))
}

/// Queries a running gateway.
///
/// # Errors
/// Fails if no gateway answers, or its response is unexpected.
#[cfg(feature = "top")]
pub fn query<T: DeserializeOwned>(
    socket: &std::path::Path,
    request: &Request,
    timeout: Duration,
) -> Result<T, AdminError> {
    let answer = ask(socket, request, timeout);
    let answer = answer.map_err(|error| AdminError::NoAnswer { socket: socket.into(), error })?;
    if let Ok(Failed { error }) = read(&answer) {
        return Err(AdminError::Failed(error));
    }
    read(&answer)
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
