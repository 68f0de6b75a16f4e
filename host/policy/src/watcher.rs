//! Hot reload: a change on disk triggers a reload after a short delay.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::data::disk::{DiskState, Urgency, under_way};
use crate::data::fault::Faults;
use crate::policy::{Policy, Reload, ReloadCause};

/// Delay from the last change to a reload. Files that are written together become one generation,
/// and a file is not read while it is being written.
const SETTLE_TIME: Duration = Duration::from_millis(40);
/// Maximum delay of a reload by continuing changes.
const MAX_SETTLE_TIME: Duration = Duration::from_millis(400);

/// Interval of a check of the folders, independent of the watch. A watch can lose its folder, and a
/// rejected generation may be valid now.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Keeps the watch active until it is dropped.
pub struct Watcher {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the folders of `policy` and reloads it after changes. `report` receives each reload that
/// had an effect. If the system cannot provide a watch, this is logged, and the folders are only
/// polled. Must be called within a Tokio runtime.
pub fn watch(policy: Arc<Policy>, report: impl Fn(Reload) + Send + 'static) -> Watcher {
    let (changed, changes) = mpsc::channel(1);
    let settings = policy.settings();
    let folders = Folders {
        changed,
        notify: None,
        seen: [&settings.policies, &settings.modules].map(|folder| (folder.clone(), None)),
        next_try: Instant::now(),
        complained: false,
    };
    let folders = Arc::new(Mutex::new(folders));
    Watcher { task: tokio::spawn(reload_on(changes, folders, policy, report)) }
}

/// The watched folders. A watch belongs to the folder itself, not to its path: if another folder
/// replaces it, that one must be watched.
struct Folders {
    changed: mpsc::Sender<()>,
    notify: Option<RecommendedWatcher>,
    /// Each folder, with its identity at the start of its watch; `None` if it is not watched.
    seen: [(PathBuf, Option<Identity>); 2],
    /// Time of the next attempt after a failed watch.
    next_try: Instant,
    /// Whether the failure was logged.
    complained: bool,
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(folder: &Path) -> Option<Identity> {
    std::fs::metadata(folder).ok().map(|meta| (meta.dev(), meta.ino()))
}

impl Folders {
    /// Starts watches of folders without one, including replaced ones. Failed watches are retried.
    fn follow(&mut self) {
        let seen: Vec<_> = self.seen.iter().map(|(folder, _)| identity(folder)).collect();
        if self.seen.iter().zip(&seen).all(|((_, seen), now)| seen == now) {
            return;
        }
        if self.notify.is_none() {
            if Instant::now() < self.next_try {
                return;
            }
            match notify::recommended_watcher(handler(self.changed.clone())) {
                Ok(watcher) => self.notify = Some(watcher),
                Err(e) => return self.log_failure(&e),
            }
        }
        let Some(notify) = &mut self.notify else { return };
        let mut failed = None;
        for ((folder, seen), now) in self.seen.iter_mut().zip(seen) {
            if now != *seen {
                // It may have ended with the folder.
                let _ = notify.unwatch(folder);
                let watched = notify.watch(folder, RecursiveMode::NonRecursive);
                *seen = now.filter(|_| watched.is_ok());
                // A missing folder is reported by the code that loads it.
                failed = failed.or(watched.err().filter(|_| now.is_some()));
            }
        }
        match failed {
            Some(e) => self.log_failure(&e),
            None => self.complained = false,
        }
    }

    fn log_failure(&mut self, error: &notify::Error) {
        self.next_try = Instant::now() + WATCH_RETRY_INTERVAL;
        if std::mem::replace(&mut self.complained, true) {
            return;
        }
        let remedy = match &error.kind {
            notify::ErrorKind::Io(e) if e.raw_os_error() == Some(EMFILE) => {
                "; the limit of inotify instances of this user is reached: raise \
                 fs.inotify.max_user_instances"
            }
            notify::ErrorKind::MaxFilesWatch => {
                "; the limit of inotify watches of this user is reached: raise \
                 fs.inotify.max_user_watches"
            }
            _ => "",
        };
        let seconds = POLL_INTERVAL.as_secs();
        tracing::warn!(
            event = "policy.watch-failed",
            "cannot watch the policy folders: {error}; they are checked \
             every {seconds} s{remedy}"
        );
    }
}

/// `EMFILE` of errno(3): of inotify_init(2), the limit of instances of the user is reached.
const EMFILE: i32 = 24;

/// Interval between attempts after a failed watch.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Returns a handler that notifies `changed` of events of the system.
fn handler(changed: mpsc::Sender<()>) -> impl Fn(notify::Result<notify::Event>) {
    move |event| {
        let matters = match event {
            // Reading is not a change: otherwise each reload would cause the next one.
            Ok(event) => match event.kind {
                EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
                _ => true,
            },
            // Events were lost, so something has changed.
            Err(_) => true,
        };
        if matters {
            // If the channel is full, a reload is already pending.
            let _ = changed.try_send(());
        }
    }
}

async fn reload_on(
    mut changes: mpsc::Receiver<()>,
    folders: Arc<Mutex<Folders>>,
    policy: Arc<Policy>,
    report: impl Fn(Reload) + Send + 'static,
) {
    // Detects changes between the first generation and the watch.
    let mut seen = read_folder_state(&policy, &folders).await;
    let mut changed = true;
    // A file that was written after the artifacts were fetched may name a new artifact. Such a
    // rejection is not reported, but only once, so that continuous changes cannot hide it.
    let mut outdated_before = false;
    // Whether such a rejection is still to be reported if the next load has the same faults.
    let mut unreported = false;
    let mut fetching = Fetching::default();
    loop {
        if !changed {
            changed = match timeout(POLL_INTERVAL, changes.recv()).await {
                Ok(Some(())) => true,
                Ok(None) => return,
                Err(_) => false,
            };
        }
        if changed {
            let latest = Instant::now() + MAX_SETTLE_TIME;
            let quiet = || (Instant::now() + SETTLE_TIME).min(latest);
            while let Ok(Some(())) = timeout_at(quiet(), changes.recv()).await {
                if Instant::now() >= latest {
                    break;
                }
            }
        }
        let now = read_folder_state(&policy, &folders).await;
        // A rejected generation is retried: it may have failed for lack of file descriptors.
        let refused = match policy.disk_state() {
            DiskState::Refused { faults, .. } => Some(faults),
            DiskState::InForce | DiskState::Loading { .. } => None,
        };
        let cause = if changed { ReloadCause::Change } else { ReloadCause::Routine };
        // If the folders cannot be read, the load reports the reason.
        if !changed && refused.is_none() && now.is_some() && seen == now {
            continue;
        }
        seen = now;
        // A change during the wait for a registry must not wait for it: it may remove the need for
        // the registry.
        fetching = Fetching::resume(&policy, cause, fetching).await;
        changed = tokio::select! {
            () = fetching.work() => false,
            change = changes.recv() => change.is_some(),
        };
        if changed {
            continue;
        }
        fetching = Fetching::default();
        let configuration = policy.configuration_changed();
        let reload = policy.load(cause).await;
        if matches!(reload, Reload::Refused(_)) && !outdated_before {
            outdated_before = read_folder_state(&policy, &folders).await != seen;
            changed = outdated_before;
            if changed {
                unreported |= !is_known(&reload, refused.as_ref());
                continue;
            }
        } else {
            outdated_before = false;
        }
        match reload {
            reload if is_known(&reload, refused.as_ref()) && !unreported => {}
            Reload::Unchanged { recovered: false }
                if configuration == policy.configuration_changed() => {}
            reload => report(reload),
        }
        unreported = false;
    }
}

/// A fetch of artifacts.
#[derive(Default)]
struct Fetching {
    sources: Vec<String>,
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Fetching {
    /// Returns the fetch that the next generation needs. A former fetch of the same artifacts
    /// continues, so that further changes do not restart it without end.
    async fn resume(policy: &Arc<Policy>, cause: ReloadCause, former: Self) -> Self {
        let sources = policy.needed_artifacts(cause).await;
        if former.work.is_some() && former.sources == sources {
            return former;
        }
        let (policy, wanted) = (policy.clone(), sources.clone());
        let work = async move { policy.fetch_artifacts(wanted).await };
        Self { sources, work: Some(Box::pin(work)) }
    }

    async fn work(&mut self) {
        if let Some(work) = &mut self.work {
            work.await;
        }
    }
}

/// Returns whether a load was rejected for the same faults as the one before.
fn is_known(reload: &Reload, before: Option<&Faults>) -> bool {
    matches!(reload, Reload::Refused(faults) if before == Some(faults))
}

/// State of the files in the folders, and of the files that the settings name elsewhere, without
/// their content.
#[derive(PartialEq, Eq)]
struct FolderState(Vec<(PathBuf, Facts)>);

/// Inode, length and time of change; `None` if the file does not exist.
type Facts = Option<(u64, u64, SystemTime)>;

/// Reads the state of the folders by their paths. So a replaced folder or a changed link is
/// detected, although the watch still has the old folder. Returns `None` if the disk does not
/// respond.
async fn read_folder_state(
    policy: &Arc<Policy>,
    folders: &Arc<Mutex<Folders>>,
) -> Option<FolderState> {
    let (own, folders) = (policy.clone(), folders.clone());
    let facts = |path: &Path| {
        let meta = under_way(path, || std::fs::metadata(path)).ok();
        meta.and_then(|m| Some((m.ino(), m.len(), m.modified().ok()?)))
    };
    let now = move |_: &_| {
        // A thread that hangs holds the lock, and one is enough.
        if let Ok(mut folders) = folders.try_lock() {
            folders.follow();
        }
        let settings = own.settings();
        let mut files = Vec::new();
        for folder in [&settings.policies, &settings.modules] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let facts = facts(&path);
                files.push((path, facts));
            }
        }
        let configuration = settings.configuration.as_ref().map(|file| &file.path);
        for path in settings.grants.files().chain(configuration) {
            files.push((path.clone(), facts(path)));
        }
        files.sort();
        FolderState(files)
    };
    policy.threads().run(Urgency::Routine, now).await.ok()
}
