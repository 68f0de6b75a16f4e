//! The policy: the generation in force, reloads, and the state of the folders on disk.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::data::disk::{DiskState, DiskThreads, Urgency};
use crate::data::excerpt;
use crate::data::fault::{Fault, Faults};
use crate::decision::shadow_queue::ShadowQueue;
use crate::generation::builder::{self, Mode};
use crate::generation::generation::Generation;
use crate::generation::oci_artifacts;
use crate::generation::settings::{Changes, Settings};
use crate::sandbox::engine::Sandbox;

/// Result of a reload.
pub enum Reload {
    /// The files have not changed.
    Unchanged {
        /// Whether the previous files on disk had been rejected.
        recovered: bool,
    },
    /// The next generation is in force. It may have the former content of missing files.
    InForce(Arc<Generation>),
    /// The next generation was rejected; the last one stays in force.
    Refused(Faults),
}

/// Reason of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadCause {
    /// A periodic check of the folders.
    Routine,
    /// A file has changed.
    Change,
    /// A request of the operator.
    Operator,
    /// A request of the operator, who accepts more than usual.
    Accepted {
        /// Policy files were removed on purpose.
        removals: bool,
        /// The generation may end any number of associations.
        ends: bool,
    },
}

/// The future of [`Guard::check`].
pub type Guarding<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Check of a valid generation before it comes into force.
pub trait Guard: Send + Sync {
    /// Checks a generation. Returns the reason if it must not come into force.
    fn check<'a>(&'a self, next: &'a Arc<Generation>) -> Guarding<'a>;
}

/// The policy: the generation in force, and the means to load the next one.
pub struct Policy {
    settings: Settings,
    sandbox: Arc<Sandbox>,
    /// Queue of decisions for shadows.
    queue: ShadowQueue,
    threads: DiskThreads,
    current: ArcSwap<Generation>,
    /// Check of generations before they come into force.
    guard: OnceLock<Arc<dyn Guard>>,
    on_disk: Mutex<OnDisk>,
    /// Serializes builds, so that generations follow one another.
    building: tokio::sync::Mutex<()>,
}

/// Known state of the files on disk.
struct OnDisk {
    state: DiskState,
    /// The time since which the configuration differs from that at the start.
    configuration_changed: Option<SystemTime>,
}

impl Policy {
    /// Loads the first generation. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Returns all faults of modules and policy files.
    pub async fn open(settings: Settings) -> Result<Self, Faults> {
        let modules = settings.modules.clone();
        let no_engine = |what: String| Faults(vec![Fault::of(&modules, what)]);
        let sandbox = Sandbox::new(
            &settings.limits,
            &settings.grants,
            settings.code_cache.as_deref(),
            settings.observer.clone(),
        )
        .map_err(|e| {
            let remedy = if settings.limits.pool {
                "; where addresses are limited (ulimit -v, vm.overcommit_memory=2), set modules.pool = false"
            } else {
                ""
            };
            no_engine(format!("cannot create the sandbox: {e:#}{remedy}"))
        })?;
        let sandbox = Arc::new(sandbox);
        let threads = DiskThreads::new(settings.limits.load_time);
        oci_artifacts::obtain(&settings, &threads, Urgency::Operator).await;
        let queue = ShadowQueue::start();
        // There is no earlier generation whose files could be missing.
        let mode = Mode { urgency: Urgency::Operator, accept_removals: true };
        let first = builder::build(&settings, &sandbox, &queue, &threads, None, mode).await;
        Ok(Self {
            settings,
            sandbox,
            queue,
            threads,
            current: ArcSwap::from_pointee(first.generation?),
            guard: OnceLock::new(),
            on_disk: Mutex::new(OnDisk { state: DiskState::InForce, configuration_changed: None }),
            building: tokio::sync::Mutex::new(()),
        })
    }

    /// Sets the check of generations before they come into force. A later call has no effect.
    pub fn set_guard(&self, guard: Arc<dyn Guard>) {
        // There is one caller.
        let _ = self.guard.set(guard);
    }

    /// Returns the generation in force. Use a single one for a whole handshake or request.
    #[must_use]
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Returns the settings that it was opened with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the state of the files on disk, compared with the generation in force.
    #[must_use]
    pub fn disk_state(&self) -> DiskState {
        self.on_disk().state.clone()
    }

    /// Returns since when the configuration is known to differ from that at the start. The change
    /// applies from the next start.
    #[must_use]
    pub fn configuration_changed(&self) -> Option<SystemTime> {
        self.on_disk().configuration_changed
    }

    fn on_disk(&self) -> MutexGuard<'_, OnDisk> {
        self.on_disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of threads that read policy files, including those blocked by a file
    /// system.
    #[must_use]
    pub fn busy_threads(&self) -> usize {
        self.threads.busy()
    }

    pub(crate) fn threads(&self) -> &DiskThreads {
        &self.threads
    }

    /// Fetches the artifacts that the next generation needs from registries, as far as possible.
    /// This may take long.
    async fn obtain(&self, cause: ReloadCause) {
        oci_artifacts::obtain(&self.settings, &self.threads, cause.urgency()).await;
    }

    /// Returns the artifacts that the next generation needs.
    pub(crate) async fn needed_artifacts(&self, cause: ReloadCause) -> Vec<String> {
        oci_artifacts::needed(&self.settings, &self.threads, cause.urgency()).await
    }

    /// Fetches artifacts from registries, as far as possible. This may take long, and may be canceled
    /// at any time.
    pub(crate) async fn fetch_artifacts(&self, sources: Vec<String>) {
        oci_artifacts::fetch(&self.settings, sources).await;
    }

    /// Removes artifacts that have been unused for long. Should be called periodically.
    pub async fn tidy(&self) {
        oci_artifacts::tidy(&self.settings, &self.threads, &self.current()).await;
    }

    /// Obtains the artifacts that the files on disk name, then loads the next generation.
    pub async fn reload(&self, cause: ReloadCause) -> Reload {
        // Before the lock: a slow registry must not delay a reload that does not need it.
        self.obtain(cause).await;
        self.load(cause).await
    }

    /// Builds the next generation from the files on disk, and puts it in force if it is valid.
    /// Artifacts are not fetched: [`Policy::obtain`] does that. Returns within a time limit even if
    /// the disk does not respond.
    pub(crate) async fn load(&self, cause: ReloadCause) -> Reload {
        let _one_at_a_time = self.building.lock().await;
        let last = self.current();
        let before = self.disk_state();
        if before == DiskState::InForce {
            self.on_disk().state = DiskState::Loading { since: SystemTime::now() };
        }
        let (accept_removals, accept_ends) = match cause {
            ReloadCause::Accepted { removals, ends } => (removals, ends),
            ReloadCause::Routine | ReloadCause::Change | ReloadCause::Operator => (false, false),
        };
        let mode = Mode { urgency: cause.urgency(), accept_removals };
        let Self { settings, sandbox, queue, threads, .. } = self;
        let found = builder::build(settings, sandbox, queue, threads, Some(&last), mode).await;
        let reload = match found.generation {
            Err(faults) => Reload::Refused(faults),
            // The content of missing files was taken over, and nothing else has changed.
            Ok(next) if builder::same(&next, &last) && !next.missed.is_empty() => {
                Reload::Refused(Faults(next.missed))
            }
            Ok(next) if builder::same(&next, &last) => {
                Reload::Unchanged { recovered: matches!(before, DiskState::Refused { .. }) }
            }
            Ok(next) => {
                let next = Arc::new(next);
                let guard = self.guard.get().filter(|_| !accept_ends);
                let refused = match guard {
                    Some(guard) => guard.check(&next).await.err(),
                    None => None,
                };
                match refused {
                    Some(why) => {
                        Reload::Refused(Faults(vec![Fault::of(&self.settings.policies, why)]))
                    }
                    None => {
                        self.put_in_force(&last, &next);
                        Reload::InForce(next)
                    }
                }
            }
        };
        self.note(&reload, before, found.configuration_changed);
        reload
    }

    /// Builds the generation of the files on disk with changes, and does not put it in force.
    ///
    /// # Errors
    /// Returns all faults of that generation.
    pub async fn generation_with(&self, changes: Changes) -> Result<Arc<Generation>, Faults> {
        let _one_at_a_time = self.building.lock().await;
        let settings = Settings { changes, ..self.settings.clone() };
        let last = self.current();
        let mode = Mode { urgency: Urgency::Operator, accept_removals: false };
        let Self { sandbox, queue, threads, .. } = self;
        let found = builder::build(&settings, sandbox, queue, threads, Some(&last), mode).await;
        found.generation.map(Arc::new)
    }

    /// Reads the lines of faults from their files, without keys. A line that cannot be read is `None`.
    /// Returns within a time limit even if the disk does not respond.
    pub async fn lines_of(&self, faults: Vec<Fault>) -> Vec<Option<String>> {
        let read = move |_: &_| faults.iter().map(excerpt::line_of).collect();
        self.threads.run(Urgency::Routine, read).await.unwrap_or_default()
    }

    fn put_in_force(&self, last: &Generation, next: &Arc<Generation>) {
        // Their slots belong to the next generation.
        last.modules
            .iter()
            .filter_map(|i| i.instances.as_ref())
            .for_each(|instances| instances.end());
        self.current.store(next.clone());
    }

    /// Stores the state of the files on disk after a load.
    fn note(&self, reload: &Reload, before: DiskState, configuration_changed: Option<bool>) {
        let mut on_disk = self.on_disk();
        let faults = match reload {
            Reload::Refused(faults) => faults.0.clone(),
            Reload::InForce(next) => next.missed.clone(),
            Reload::Unchanged { .. } => Vec::new(),
        };
        on_disk.state = match (faults.is_empty(), before) {
            (true, _) => DiskState::InForce,
            (false, DiskState::Refused { since, .. }) => {
                DiskState::Refused { since, faults: Faults(faults) }
            }
            (false, _) => DiskState::Refused { since: SystemTime::now(), faults: Faults(faults) },
        };
        match configuration_changed {
            Some(true) => {
                on_disk.configuration_changed.get_or_insert_with(SystemTime::now);
            }
            Some(false) => on_disk.configuration_changed = None,
            None => {}
        }
    }
}

impl ReloadCause {
    fn urgency(self) -> Urgency {
        match self {
            Self::Routine => Urgency::Routine,
            Self::Change => Urgency::Change,
            Self::Operator | Self::Accepted { .. } => Urgency::Operator,
        }
    }
}
