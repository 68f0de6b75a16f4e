//! Operations on a running gateway, for the clients of the admin socket and for the web page.

use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::timestamp;
use saegis_policy::{Changes, Fault, Faults, Generation, Reload, ReloadCause};
use tokio::sync::mpsc::UnboundedSender;

use super::protocol::{
    AeIdEntry, AeIdList, AssociationEntry, AssociationList, Ended, GenerationList,
    GenerationReport, LinkReport, LogLevelReport, PeerEntry, PeerList, Released, ReloadOutcome,
    ReloadReport, Request, RequestList, Response, SignedOut, StatusReport, TotalsReport, WebRole,
    WebSessionList,
};
use crate::admin::reloaded::Reloaded;
use crate::admin::rollout::{self, Installation};
use crate::admin::web_access::WebAccess;
use crate::admin::{ae_removal, backup, status};
use crate::peer_cse::{PeerCse, RegistrationState};
use crate::session::ae_id_store::Binding;
use crate::state::Gateway;
use crate::telemetry::{request_paths, warnings};

/// Operations on a running gateway.
pub struct Commands {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Receiver of the reloads that operators request.
    reloaded: UnboundedSender<Reload>,
    started: SystemTime,
    /// Links and sessions of the web page, if there is one.
    web: Option<Arc<WebAccess>>,
}

impl Commands {
    /// Creates the operations. Reloads are also sent to `reloaded`.
    pub fn new(
        gateway: Arc<Gateway>,
        reloaded: UnboundedSender<Reload>,
        web: Option<Arc<WebAccess>>,
    ) -> Self {
        Self { gateway, reloaded, started: SystemTime::now(), web }
    }

    /// Carries out a request of a user.
    pub async fn carry_out(&self, request: Request, uid: u32) -> Response {
        let gateway = &self.gateway;
        match request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Associations => Response::Associations(self.associations()),
            Request::Totals => Response::Totals(self.totals()),
            Request::Modules => Response::Modules(Box::new(self.modules())),
            Request::Generations => Response::Generations(self.generations()),
            Request::Requests { association, refused } => self.requests(association, refused),
            Request::RollOut { direction, module } => {
                let config = &gateway.config;
                match rollout::roll_out(config, direction, &module, self).await {
                    Ok(report) => Response::RolledOut(report),
                    Err(error) => Response::error(error.to_string()),
                }
            }
            Request::Reload { accept_removals, force } => {
                let cause = match (accept_removals, force) {
                    (false, false) => ReloadCause::Operator,
                    (removals, ends) => ReloadCause::Accepted { removals, ends },
                };
                Response::Reload(self.reload_for(cause).await)
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
            Request::Peers => Response::Peers(self.peers()),
            Request::Backup => back_up(gateway).await,
            Request::Link { role } => self.link(role, uid),
            Request::Sessions => match self.web_access() {
                Ok(web) => Response::Sessions(WebSessionList { sessions: web.sessions() }),
                Err(why) => Response::error(why),
            },
            Request::SignOut { id } => match self.web_access() {
                Ok(web) => Response::SignedOut(SignedOut { ended: web.end_named(id.as_deref()) }),
                Err(why) => Response::error(why),
            },
            Request::EndAssociation { id } => {
                Response::Ended(Ended { ended: gateway.associations.end(id).await })
            }
        }
    }

    async fn reload_for(&self, cause: ReloadCause) -> ReloadReport {
        let reload = self.gateway.policy.reload(cause).await;
        let report = report_of(&reload, &self.gateway);
        // The receiver lives as long as the gateway.
        let _ = self.reloaded.send(reload);
        report
    }

    /// Returns the state of the gateway.
    pub fn status(&self) -> StatusReport {
        status_of(&self.gateway, self.started)
    }

    /// Returns the active associations, by their numbers.
    pub fn associations(&self) -> AssociationList {
        let mut all = self.gateway.associations.all();
        all.sort_by_key(|live| live.association.id);
        let associations = all.iter().map(|live| association(&live.association)).collect();
        AssociationList { associations }
    }

    /// Returns the counters since the start.
    pub fn totals(&self) -> TotalsReport {
        let modules = self.gateway.policy.current().modules();
        let names = modules.iter().map(|module| module.name.as_str());
        self.gateway.metrics.totals(names)
    }

    /// Returns the peer CSEs.
    pub fn peers(&self) -> PeerList {
        PeerList { peers: self.gateway.cses.all().iter().map(|peer| peer_entry(peer)).collect() }
    }

    /// Returns the content of the generation in force.
    pub fn modules(&self) -> GenerationReport {
        let generation = self.gateway.policy.current();
        let mut report = status::report(&generation);
        for module in &mut report.modules {
            module.calls = self.gateway.metrics.call_times(&module.name);
            module.failures = self.gateway.metrics.failures(&module.name);
        }
        GenerationReport { generation: Some(generation.number), ..report }
    }

    /// Returns the last generations, in force or refused.
    pub fn generations(&self) -> GenerationList {
        GenerationList { generations: self.gateway.generations.entries() }
    }

    /// Returns the last requests, with the time of each step.
    fn requests(&self, association: Option<u64>, refused: bool) -> Response {
        let Some(mut requests) = request_paths::entries() else {
            return Response::error(
                "requests are recorded for the web page only; set admin.web.listen, and restart the \
                 gateway",
            );
        };
        requests.retain(|request| {
            association.is_none_or(|id| request.association == id)
                && (!refused || request.is_refused())
        });
        Response::Requests(RequestList { requests })
    }

    /// Returns the access to the web page, or the reason why there is none.
    fn web_access(&self) -> Result<&WebAccess, String> {
        self.web.as_deref().ok_or_else(|| {
            "the gateway has no web page; set admin.web.listen, and restart the gateway".into()
        })
    }

    /// Creates a link that opens the web page once.
    fn link(&self, role: WebRole, uid: u32) -> Response {
        match self.web_access().and_then(|web| web.new_link(role, uid)) {
            Ok(link) => Response::Link(LinkReport { link, role }),
            Err(why) => Response::error(why),
        }
    }
}

impl Installation for Commands {
    async fn generation_with(&self, changes: Changes) -> Result<Arc<Generation>, Faults> {
        self.gateway.policy.generation_with(changes).await
    }

    async fn reload(&self) -> std::io::Result<Reloaded> {
        Ok(self.reload_for(ReloadCause::Operator).await.into())
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
