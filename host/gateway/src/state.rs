//! State that all connections share, and its initialization.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use saegis_cse::EmbeddedCse;
use saegis_handshake::{EngineError, certificate, psk};
use saegis_onem2m::id::AeIdStem;
use saegis_policy::{Certificates, Fault, Faults, Generation, Policy};

use crate::backend::embedded::EmbeddedBackend;
use crate::backend::maf::MafBackend;
use crate::backend::mef::MefBackend;
use crate::backend::remote::RemoteBackend;
use crate::backend::{Backend, Reachability};
use crate::binding::mqtt::clients::Clients;
use crate::config::{Config, Limits, Mqtt, Role};
use crate::low_priority::LowPriority;
use crate::maf_keys::fetcher::KeyFetcher;
use crate::notification::ae_channels::AeChannels;
use crate::notification::ae_connections::Aes;
use crate::notification::relay_address::RelayAddress;
use crate::notification::resolver::Targets;
use crate::notification::sender::Notifier;
use crate::peer_cse::PeerCses;
use crate::session::ae_id_store::AeIdStore;
use crate::session::durable_sessions::{self, DurableSessions};
use crate::session::registry::Associations;
use crate::session::response_memory::ResponseMemory;
use crate::session::usage::Usage;
use crate::subscription::source::ServiceSubscriptionSource;
use crate::telemetry::decision_log::Recording;
use crate::telemetry::generation_history::GenerationHistory;
use crate::telemetry::logging::LogOutputs;
use crate::telemetry::metrics::Metrics;

/// State that all connections share.
pub struct Gateway {
    /// The configuration.
    pub config: Config,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The last generations, in force or refused.
    pub generations: Arc<GenerationHistory>,
    /// The engine for pre-shared keys.
    pub psk: psk::Server,
    /// Engines for certificates, with the certificates that they were created from.
    certificates: Mutex<Option<(Arc<Certificates>, Arc<certificate::Server>)>>,
    /// Upstream or embedded CSE, or the MAF.
    pub backend: Backend,
    /// Peer CSEs.
    pub cses: Arc<PeerCses>,
    /// AEs that have connected.
    pub aes: Arc<Aes>,
    /// The connections that AEs keep open.
    pub ae_channels: Arc<AeChannels>,
    /// Sessions of MQTT clients that outlive their connections, if there is an MQTT listener.
    pub mqtt_sessions: Option<Arc<DurableSessions>>,
    /// The connected MQTT clients.
    pub mqtt_clients: Arc<Clients>,
    /// Keys of MAFs, if any are configured.
    pub maf_keys: Option<Arc<KeyFetcher>>,
    /// Active associations.
    pub associations: Arc<Associations>,
    /// Recent usage of each credential.
    pub usage: Arc<Usage>,
    /// Memory of large responses.
    pub response_memory: ResponseMemory,
    /// Source of the rules of the service subscription.
    pub rules: Arc<ServiceSubscriptionSource>,
    /// AE-IDs that registrations assigned to credentials.
    pub ae_ids: AeIdStore,
    /// Metrics.
    pub metrics: Metrics,
    /// Log and audit trails.
    pub outputs: LogOutputs,
    /// Address of the notification relay, once it listens.
    pub relay_address: Arc<OnceLock<RelayAddress>>,
    /// Threads for work that visits all rows of tables, which gives way to requests.
    pub background: LowPriority,
    /// Texts of the warnings about the generation in force that were logged.
    pub logged_warnings: Mutex<BTreeSet<String>>,
    stopping: AtomicBool,
    next_association: AtomicU64,
}

/// Whether a gateway should receive traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It should.
    Ready,
    /// It is stopping.
    Stopping,
    /// The store of the embedded CSE cannot be read or written.
    StoreFails,
    /// The CSE behind the gateway cannot be reached.
    UpstreamDown {
        /// The time since which this is so.
        since: SystemTime,
        /// Whether it should receive traffic anyway.
        is_ready: bool,
    },
    /// It works with an older policy than the one on disk.
    PolicyBehind {
        /// The time since which this is so.
        since: SystemTime,
        /// State of the policy on disk.
        how: &'static str,
        /// Whether it should receive traffic anyway.
        is_ready: bool,
    },
}

impl Gateway {
    /// Initializes a gateway: loads the policy and opens the store. Does not open a port.
    ///
    /// # Errors
    /// Returns all faults of the configuration and its parts.
    pub async fn open(
        file: &Path,
        config: Config,
        outputs: LogOutputs,
        recording: Option<&Recording>,
    ) -> Result<Self, Faults> {
        let own = |what: String| Faults(vec![Fault::of(file, what)]);
        let psk = psk::Server::new(&config.listen.suites)
            .map_err(|e| own(format!("listen.suites: {e}")))?;
        let psk = if config.role.maf().is_some() { psk.exporting() } else { psk };
        let metrics =
            Metrics::new(outputs.clone(), recording.map(|recording| recording.lost.clone()));
        let observer = Arc::new(metrics.calls());
        let maf_keys = KeyFetcher::new(&config);
        let mut settings = config.policy_settings(Some(observer));
        settings.maf_keys = maf_keys.clone().map(|keys| keys as Arc<dyn saegis_policy::MafKeys>);
        settings.recorder = recording.map(|recording| recording.recorder.clone());
        let policy = Policy::open(settings).await?;
        crate::config::check_means(&config.peer, &policy.current()).map_err(own)?;
        metrics.in_force(&policy.current());
        let bindings = open_bindings(&config)?;
        let policy = Arc::new(policy);
        if let Some(keys) = &maf_keys {
            keys.start(&policy);
        }
        let cses = Arc::new(PeerCses::new(&config, &policy));
        let timeout = Duration::from_secs(config.notifications.timeout_seconds);
        let targets = Targets::new(config.notifications.targets.clone());
        let suites = (config.listen.suites.clone(), config.coap.suites.clone());
        let aes = Aes::new(policy.clone(), bindings.clone(), targets.clone(), suites, timeout);
        let (ae_channels, mqtt_sessions) = open_channels(&config, &policy, &bindings, timeout)?;
        let notifier = {
            let (own, cses) = (config.cse.identity(), cses.clone());
            Notifier::new(own, targets, (aes.clone(), ae_channels.clone()), cses, timeout)
        };
        let usage = Arc::<Usage>::default();
        let parts = (notifier, usage.clone());
        let mut backend = open_backend(&config, &policy.current(), &bindings, parts, &metrics)?;
        if let (Backend::Embedded(embedded), Some(registrar)) = (&mut backend, cses.registrar()) {
            embedded.announce_to(registrar.clone());
        }
        let rules = ServiceSubscriptionSource::new(
            config.cse.cse_id.clone(),
            &config.service_subscription,
            backend.cse(),
            cses.registrar(),
        );
        Ok(Self {
            rules: Arc::new(rules),
            certificates: Mutex::default(),
            cses,
            aes,
            ae_channels,
            mqtt_sessions,
            mqtt_clients: Arc::default(),
            maf_keys,
            generations: GenerationHistory::starting_with(&policy.current()),
            policy,
            psk,
            backend,
            associations: Arc::new(Associations::new(config.limits.associations_per_credential)),
            usage,
            response_memory: response_memory(&config.limits),
            ae_ids: bindings,
            metrics,
            outputs,
            relay_address: Arc::default(),
            background: LowPriority::for_blocking_work("background", 1),
            logged_warnings: Mutex::default(),
            stopping: AtomicBool::new(false),
            config,
            next_association: AtomicU64::new(1),
        })
    }

    /// Returns the engines for certificates of a generation. Returns `None` if it has no
    /// certificate of its own.
    ///
    /// # Errors
    /// Fails if an engine rejects the content of the generation.
    pub fn certificate_engine(
        &self,
        generation: &Generation,
    ) -> Result<Option<Arc<certificate::Server>>, EngineError> {
        let Some(certificates) = generation.certificates().filter(|c| !c.own.is_empty()) else {
            return Ok(None);
        };
        let mut kept = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, engine)) = &*kept
            && Arc::ptr_eq(of, certificates)
        {
            return Ok(Some(engine.clone()));
        }
        let engine = certificate::Server::new(certificates.trust.clone(), &certificates.own)?;
        // Clients of a MAF may register a key that is exported from the session.
        let engine = if self.config.role.maf().is_some() {
            engine.exporting()
        } else if self.config.listen.resumption && self.config.role.is_cse() {
            engine.resuming()?
        } else {
            engine
        };
        let engine = Arc::new(engine);
        *kept = Some((certificates.clone(), engine.clone()));
        Ok(Some(engine))
    }

    /// Marks the gateway as stopping, and thereby not ready.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns whether it should receive traffic.
    pub fn readiness(&self) -> Readiness {
        if self.stopping.load(Ordering::Relaxed) {
            return Readiness::Stopping;
        }
        if self.backend.store_fails() {
            return Readiness::StoreFails;
        }
        let upstream = match self.backend.reachability() {
            Some(Reachability::Down { since, .. }) => {
                let upstream = self.config.upstream.as_ref();
                let is_ready = !upstream.is_some_and(|upstream| upstream.unready_when_down);
                Some(Readiness::UpstreamDown { since, is_ready })
            }
            _ => None,
        };
        let policy = self.policy.disk_state().behind().map(|(since, how)| {
            let is_ready = !self.config.policy.unready_when_outdated;
            Readiness::PolicyBehind { since, how, is_ready }
        });
        match (upstream, policy) {
            // The one for which it is not ready.
            (Some(Readiness::UpstreamDown { is_ready: true, .. }), Some(policy)) => policy,
            (Some(upstream), _) => upstream,
            (None, policy) => policy.unwrap_or(Readiness::Ready),
        }
    }

    /// Returns the number of the next association.
    pub fn next_association(&self) -> u64 {
        self.next_association.fetch_add(1, Ordering::Relaxed)
    }
}

/// Opens the backend.
fn open_backend(
    config: &Config,
    generation: &Generation,
    ae_ids: &AeIdStore,
    (notifier, usage): (Arc<Notifier>, Arc<Usage>),
    metrics: &Metrics,
) -> Result<Backend, Faults> {
    let upstream = match (&config.role, &config.upstream) {
        (Role::Maf(maf), _) => {
            return Ok(Backend::Maf(MafBackend::new(crate::backend::maf_store::open(maf)?)));
        }
        (Role::Mef(mef), _) => return Ok(Backend::Mef(MefBackend::open(mef)?)),
        (Role::Cse, upstream) => upstream,
    };
    if let Some(upstream) = upstream {
        let (url, cse) = (upstream.url.clone(), config.cse.cse_id.clone());
        let dropped = metrics.upstream_messages_dropped.clone();
        let (max, max_packet) = (config.limits.content_bytes, upstream.max_packet_bytes);
        return Ok(Backend::Remote(RemoteBackend::new(url, cse, max, max_packet, dropped)));
    }
    let cse = Arc::new(open_cse(config, ae_ids)?);
    let is_reserved = |stem: &AeIdStem| generation.reserves(stem) || config.cse.is_privileged(stem);
    ae_ids.reconcile(&cse, is_reserved).map_err(|e| {
        let what = format!("ae-ids.store: {e}");
        Faults(vec![Fault::of(&config.ae_ids.store, what)])
    })?;
    Ok(Backend::Embedded(EmbeddedBackend::new(cse, notifier, config.limits.requests(), usage)))
}

/// Returns the connections of AEs, with the sessions of MQTT clients and what waits for them.
fn open_channels(
    config: &Config,
    policy: &Arc<Policy>,
    ae_ids: &AeIdStore,
    timeout: Duration,
) -> Result<(Arc<AeChannels>, Option<Arc<DurableSessions>>), Faults> {
    let (sessions, waiting) = open_sessions(&config.mqtt)?.unzip();
    let retention = Duration::from_secs(config.notifications.retention_seconds);
    let (policy, own) = (policy.clone(), ae_ids.clone());
    let channels = AeChannels::new(policy, own, timeout, retention, sessions.clone());
    channels.restore(waiting.unwrap_or_default());
    let released = Arc::downgrade(&channels);
    ae_ids.on_free(move |credential, ae| {
        if let Some(channels) = released.upgrade() {
            channels.release(credential, ae);
        }
    });
    Ok((channels, sessions))
}

fn open_sessions(config: &Mqtt) -> Result<Option<durable_sessions::Opened>, Faults> {
    if config.listen.is_none() {
        return Ok(None);
    }
    let file = &config.store;
    let fault = |what: String| Faults(vec![Fault::of(file, what)]);
    make_folder(file).map_err(|e| fault(format!("cannot create its folder: {e}")))?;
    let opened = DurableSessions::open(file, config.session());
    opened.map(Some).map_err(|e| fault(format!("mqtt.store: {e}")))
}

fn response_memory(limits: &Limits) -> ResponseMemory {
    ResponseMemory::new(limits.response_bytes, limits.response_bytes_per_credential)
}

fn open_bindings(config: &Config) -> Result<AeIdStore, Faults> {
    let file = &config.ae_ids.store;
    let fault = |what: String| Faults(vec![Fault::of(file, what)]);
    make_folder(file).map_err(|e| fault(format!("cannot create its folder: {e}")))?;
    refuse_former_store(file, "bindings.redb")?;
    AeIdStore::open(file).map_err(|e| fault(format!("ae-ids.store: {e}")))
}

/// Refuses to start with an empty store if the folder has a store of an earlier version.
fn refuse_former_store(store: &Path, former_name: &str) -> Result<(), Faults> {
    let former = store.with_file_name(former_name);
    // A store that cannot be examined is refused when it is opened.
    if store.try_exists().unwrap_or(true) || !former.try_exists().unwrap_or(true) {
        return Ok(());
    }
    let what = format!(
        "does not exist, but {} of an earlier version does: rename that file, or move it away to \
         start without its content",
        saegis_policy::Shown(&former)
    );
    Err(Faults(vec![Fault::of(store, what)]))
}

fn make_folder(of: &Path) -> std::io::Result<()> {
    match of.parent() {
        Some(folder) => std::fs::create_dir_all(folder),
        None => Ok(()),
    }
}

fn open_cse(config: &Config, bindings: &AeIdStore) -> Result<EmbeddedCse, Faults> {
    let store = &config.cse.store;
    let fault = |what: String| Faults(vec![Fault::of(store, what)]);
    make_folder(store).map_err(|e| fault(format!("cannot create its folder: {e}")))?;
    refuse_former_store(store, "registrar.redb")?;
    let mut settings = config.cse.settings()?;
    let registrar = config.peer.iter().find(|peer| peer.register);
    settings.registrar = registrar.map(|peer| peer.cse_id.clone());
    // A store of an earlier version does not have the credentials of its AEs.
    let registrant =
        |stem: &str| Some(bindings.bound_to(&AeIdStem::parse(stem).ok()?)?.to_string());
    EmbeddedCse::open_knowing(store, settings, &registrant).map_err(|e| fault(e.to_string()))
}
