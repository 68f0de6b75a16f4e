//! Server of the admin socket.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::timestamp;
use saegis_policy::{Fault, Reload, ReloadCause};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;

use super::protocol::{
    AeIdEntry, AeIdList, AssociationEntry, AssociationList, Ended, GenerationReport,
    LogLevelReport, MAX_LINE, PeerEntry, PeerList, Released, ReloadOutcome, ReloadReport, Request,
    Response, StatusReport,
};
use crate::admin::ae_removal;
use crate::admin::backup;
use crate::admin::status;
use crate::peer_cse::{PeerCse, RegistrationState};
use crate::session::ae_id_store::Binding;
use crate::state::Gateway;
use crate::telemetry::audit;
use crate::telemetry::warnings;

/// Timeout for the request of a client.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of the creation of the admin socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminSocketError {
    /// Another process answers at the socket.
    #[error("another gateway answers at {}", saegis_policy::Shown(.0))]
    InUse(PathBuf),
    /// A system call failed.
    #[error("cannot bind {}: {error}", saegis_policy::Shown(.path))]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// Cause.
        error: io::Error,
    },
}

/// Admin socket of a gateway. It is removed when this is dropped.
pub struct Admin {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Admin {
    /// Binds the socket and serves requests. Reloads that clients request are also sent to
    /// `reloaded`.
    ///
    /// # Errors
    /// Fails if the socket cannot be bound.
    pub fn listen(
        gateway: Arc<Gateway>,
        reloaded: UnboundedSender<Reload>,
    ) -> Result<Self, AdminSocketError> {
        let path = gateway.config.admin.socket.clone();
        let listener = bind(&path)?;
        // No other gateway uses the state folder, and no client has requested a backup yet.
        backup::remove_copies(&gateway.config);
        let started = SystemTime::now();
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (gateway, reloaded) = (gateway.clone(), reloaded.clone());
                        tokio::spawn(async move {
                            let served = serve(&gateway, &reloaded, started, stream);
                            // A client that closes its connection is not an error.
                            let _ = served.await;
                        });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Self { path, task })
    }
}

fn bind(path: &Path) -> Result<UnixListener, AdminSocketError> {
    let io = |error| AdminSocketError::Io { path: path.into(), error };
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    }
    // A socket that a killed gateway left behind is removed. One that is in use belongs to another
    // gateway.
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(AdminSocketError::InUse(path.into())),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            // Connecting to a plain file fails in the same way, but the file must not be removed.
            let meta = std::fs::symlink_metadata(path).map_err(io)?;
            if !meta.file_type().is_socket() {
                return Err(io(io::Error::other("the path exists and is not a socket")));
            }
            std::fs::remove_file(path).map_err(io)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(io)?;
    Ok(listener)
}

/// Returns whether a user is the one that runs the gateway, or root. The mode of the socket has the
/// same effect, but it is set shortly after the socket is created.
fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

async fn serve(
    gateway: &Arc<Gateway>,
    reloaded: &UnboundedSender<Reload>,
    started: SystemTime,
    mut stream: UnixStream,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if !is_owner(uid) {
        return Ok(());
    }
    let mut line = String::new();
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(4096));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            if let Some(command) = request.change() {
                audit::administered(&command, uid);
            }
            carry_out(gateway, reloaded, started, request).await
        }
        Err(e) => Response::error(format!("invalid request: {e}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    if text.len() as u64 >= MAX_LINE {
        text = serde_json::to_string(&Response::error("the response is too long"))?;
    }
    text.push('\n');
    tokio::time::timeout(REQUEST_TIMEOUT, writer.write_all(text.as_bytes())).await??;
    writer.shutdown().await
}

async fn carry_out(
    gateway: &Arc<Gateway>,
    reloaded: &UnboundedSender<Reload>,
    started: SystemTime,
    request: Request,
) -> Response {
    match request {
        Request::Status => Response::Status(Box::new(status_of(gateway, started))),
        Request::Associations => {
            let mut all = gateway.associations.all();
            all.sort_by_key(|live| live.association.id);
            let associations = all.iter().map(|live| association(&live.association)).collect();
            Response::Associations(AssociationList { associations })
        }
        Request::Totals => {
            let modules = gateway.policy.current().modules();
            let names = modules.iter().map(|module| module.name.as_str());
            Response::Totals(gateway.metrics.totals(names))
        }
        Request::Modules => {
            let generation = gateway.policy.current();
            let report = status::report(&generation);
            let generation = Some(generation.number);
            Response::Modules(Box::new(GenerationReport { generation, ..report }))
        }
        Request::Reload { accept_removals, force } => {
            let cause = match (accept_removals, force) {
                (false, false) => ReloadCause::Operator,
                (removals, ends) => ReloadCause::Accepted { removals, ends },
            };
            let reload = gateway.policy.reload(cause).await;
            let report = report_of(&reload, gateway);
            // The receiver lives as long as the gateway.
            let _ = reloaded.send(reload);
            Response::Reload(report)
        }
        Request::LogLevel { filter, reset } => log_level(gateway, filter.as_deref(), reset),
        Request::AeIds => {
            let entry = |(credential, binding): (CredentialId, Binding)| AeIdEntry {
                credential_id: credential.to_string(),
                ae_id: binding.stem.to_string(),
                since: timestamp::format(binding.since),
            };
            let ae_ids = gateway.ae_ids.all().into_iter().map(entry).collect();
            Response::AeIds(AeIdList { ae_ids })
        }
        Request::ReleaseAeId { credential_id } => release_ae_id(gateway, &credential_id).await,
        Request::DeleteAe { ae_id } => match ae_removal::delete_ae(gateway, &ae_id).await {
            Ok(deleted) => Response::Deleted(deleted),
            Err(why) => Response::error(why),
        },
        Request::Peers => {
            let peers = gateway.cses.all().iter().map(|peer| peer_entry(peer)).collect();
            Response::Peers(PeerList { peers })
        }
        Request::Backup => back_up(gateway).await,
        Request::EndAssociation { id } => {
            Response::Ended(Ended { ended: gateway.associations.end(id).await })
        }
    }
}

/// Returns the filter of the log, after it was set or reset.
fn log_level(gateway: &Gateway, filter: Option<&str>, reset: bool) -> Response {
    let set = match (filter, reset) {
        (None, false) => Ok(()),
        _ => gateway.outputs.set_filter(filter),
    };
    match set {
        Ok(()) => Response::LogLevel(LogLevelReport { filter: gateway.outputs.filter() }),
        Err(why) => Response::error(why),
    }
}

async fn back_up(gateway: &Arc<Gateway>) -> Response {
    let own = gateway.clone();
    match tokio::task::spawn_blocking(move || backup::copy_stores(&own.config)).await {
        Ok(Ok(report)) => Response::Backup(report),
        Ok(Err(why)) => Response::error(why),
        Err(_) => Response::error("the copy was interrupted"),
    }
}

fn status_of(gateway: &Gateway, started: SystemTime) -> StatusReport {
    let generation = gateway.policy.current();
    let mut heads = gateway.outputs.heads().into_iter();
    let (policy, policy_faults) = status::policy_on_disk(&gateway.policy);
    StatusReport {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        cse_id: gateway.config.cse.cse_id.to_string(),
        address: gateway.config.listen.address.to_string(),
        started: timestamp::format(started),
        generation: generation.number,
        associations: gateway.associations.all().len(),
        audit_head: heads.next().flatten(),
        refusals_head: heads.next().flatten(),
        warnings: warnings::of(&generation).iter().map(ToString::to_string).collect(),
        policy,
        policy_faults,
        configuration: status::configuration_on_disk(&gateway.policy),
        upstream: gateway.backend.reachability().map(|state| state.to_string()),
        peers: gateway.cses.all().iter().map(|peer| peer_state(peer)).collect(),
    }
}

fn association(association: &SecurityAssociation) -> AssociationEntry {
    AssociationEntry {
        id: association.id,
        saef: association.saef.to_string(),
        entity: association.entity().to_string(),
        credential_id: association.credential_id.to_string(),
        peer: association.peer.to_string(),
        protocol: association.protocol.into(),
        suite: association.suite.clone(),
        established: timestamp::format(association.established),
        expires: association.expires.map(timestamp::format),
    }
}

fn report_of(reload: &Reload, gateway: &Gateway) -> ReloadReport {
    let texts = |faults: &[Fault]| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    // Another reload may have been faster.
    let current = gateway.policy.current().number;
    let (outcome, generation, recovered, faults) = match reload {
        Reload::Unchanged { recovered } => {
            (ReloadOutcome::Unchanged, current, Some(*recovered), None)
        }
        Reload::InForce(next) => {
            (ReloadOutcome::InForce, next.number, None, Some(texts(next.missed())))
        }
        Reload::Refused(faults) => (ReloadOutcome::Refused, current, None, Some(texts(&faults.0))),
    };
    let configuration_changed = gateway.policy.configuration_changed().is_some();
    let changes = match reload {
        Reload::InForce(next) => next.difference().map(ToString::to_string),
        Reload::Unchanged { .. } | Reload::Refused(_) => None,
    };
    ReloadReport { outcome, generation, changes, recovered, faults, configuration_changed }
}

async fn release_ae_id(gateway: &Gateway, credential_id: &str) -> Response {
    let Ok(credential) = CredentialId::parse(credential_id) else {
        return Response::error(format!("{credential_id} is not a Credential-ID"));
    };
    let why = "the gateway's owner asked for it";
    let generation = gateway.policy.current();
    match gateway.associations.try_free(&gateway.ae_ids, &credential, &generation, why).await {
        Ok(released) => Response::Released(Released { released }),
        Err(error) => Response::error(error.to_string()),
    }
}

/// Returns the state of the registration with another CSE in one line.
fn peer_state(peer: &PeerCse) -> String {
    let PeerEntry { cse_id, registration, expires, why, .. } = peer_entry(peer);
    let expires = expires.map(|at| format!(" until {at}")).unwrap_or_default();
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let registration = if registration == "none" { "no registration" } else { &registration };
    format!("{cse_id} {registration}{expires}{why}")
}

fn peer_entry(peer: &PeerCse) -> PeerEntry {
    let (registration, expires, why) = match peer.registration.standing() {
        _ if !peer.peer.register => ("none", None, None),
        RegistrationState::Nothing => ("pending", None, None),
        RegistrationState::Until(at) => ("registered", Some(timestamp::format(at)), None),
        RegistrationState::Failed(why) => ("failed", None, Some(why)),
    };
    PeerEntry {
        cse_id: peer.peer.cse_id.to_string(),
        address: peer.peer.address.clone(),
        saef: if peer.peer.credential.is_some() { "psk" } else { "certificate" }.into(),
        registration: registration.into(),
        expires,
        why,
    }
}
