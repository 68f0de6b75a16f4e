//! Hot reload: a change on disk leads to a reload, a short while after the last one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::data::disk::{DiskState, Urgency, under_way};
use crate::policy::{Policy, Reload, ReloadCause};

/// How long after the last change a reload starts: several files that are written together make
/// one generation, and a file that is being written is not read half.
const SETTLE_TIME: Duration = Duration::from_millis(40);
/// How long changes that go on can put a reload off.
const MAX_SETTLE_TIME: Duration = Duration::from_millis(400);

/// How often the folders are looked at, whether the watch tells of a change or not: a watch can
/// lose its folder, and what was refused for want of something may do now.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Keeps the watch alive; dropping it ends the watch.
pub struct Watcher {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the folders of `policy` and reloads it after changes. `report` is told of each reload
/// that did something. Where the system has no watch to give, that is logged, and the folders are
/// looked at all the same. To be called within a Tokio runtime.
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

/// The folders that are watched. A watch is of the folder itself, not of its name: where another
/// has taken its place, that one is to be watched.
struct Folders {
    changed: mpsc::Sender<()>,
    notify: Option<RecommendedWatcher>,
    /// Each with what it was when its watch began; nothing, where it is not watched.
    seen: [(PathBuf, Option<Identity>); 2],
    /// When a watch that could not be had is asked for again.
    next_try: Instant,
    /// Whether that was logged.
    complained: bool,
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(folder: &Path) -> Option<Identity> {
    std::fs::metadata(folder).ok().map(|meta| (meta.dev(), meta.ino()))
}

impl Folders {
    /// Watches what is not watched yet, also what has taken the place of a folder. What can't be
    /// watched is tried again.
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
                // That a folder is not there is told by whoever loads it.
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
                "; this user has as many inotify instances as it may: raise \
                 fs.inotify.max_user_instances"
            }
            notify::ErrorKind::MaxFilesWatch => {
                "; this user has as many inotify watches as it may: raise \
                 fs.inotify.max_user_watches"
            }
            _ => "",
        };
        let seconds = POLL_INTERVAL.as_secs();
        tracing::warn!(
            event = "policy.watch-failed",
            "changes of policy files are not told by the system ({error}), so the folders are looked \
             at every {seconds} s{remedy}"
        );
    }
}

/// `EMFILE` of errno(3): of inotify_init(2), that the user has as many instances as it may.
const EMFILE: i32 = 24;

/// How often a watch is asked for again that could not be had.
const WATCH_RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Tells `changed` of what the system tells.
fn handler(changed: mpsc::Sender<()>) -> impl Fn(notify::Result<notify::Event>) {
    move |event| {
        let matters = match event {
            // Reading is no change: our own reads would call for the next reload.
            Ok(event) => match event.kind {
                EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
                _ => true,
            },
            // Events were lost: something has changed.
            Err(_) => true,
        };
        if matters {
            // When there is one in the channel already, the reload is under way.
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
    // What changed between the first generation and the watch is not missed.
    let mut seen = look(&policy, &folders).await;
    let mut changed = true;
    // A file written after the artifacts were obtained can name one that is not here yet. Such a
    // refusal is not reported, but at most once, so that steady changes cannot hide it.
    let mut outdated_before = false;
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
        let now = look(&policy, &folders).await;
        // A refused generation is tried again: what was missing may have been descriptors.
        let refused = match policy.disk_state() {
            DiskState::Refused { faults, .. } => Some(faults),
            DiskState::InForce | DiskState::Loading { .. } => None,
        };
        let cause = if changed { ReloadCause::Change } else { ReloadCause::Routine };
        // Where nothing can be seen, whoever loads it says why not.
        if !changed && refused.is_none() && now.is_some() && seen == now {
            continue;
        }
        seen = now;
        // What changes while a registry is waited for is not to wait for it: it may be the very
        // change that does without.
        changed = tokio::select! {
            () = policy.obtain(cause) => false,
            change = changes.recv() => change.is_some(),
        };
        if changed {
            continue;
        }
        let configuration = policy.configuration_changed();
        let reload = policy.load(cause).await;
        if matches!(reload, Reload::Refused(_)) && !outdated_before {
            outdated_before = look(&policy, &folders).await != seen;
            changed = outdated_before;
            if changed {
                continue;
            }
        } else {
            outdated_before = false;
        }
        match reload {
            Reload::Refused(faults) if refused.as_ref() == Some(&faults) => {}
            Reload::Unchanged { recovered: false }
                if configuration == policy.configuration_changed() => {}
            reload => report(reload),
        }
    }
}

/// What a look at the folders shows of their files, and of those that the settings name beside them,
/// without reading them.
#[derive(PartialEq, Eq)]
struct Look(Vec<(PathBuf, Facts)>);

/// Inode, length and time of change; none where there is no file behind the name.
type Facts = Option<(u64, u64, SystemTime)>;

/// Looks at the folders by their paths, so that a folder that was replaced, or a link that was
/// turned elsewhere, is seen, where the watch still has the old one. Nothing, where the disk does not
/// answer.
async fn look(policy: &Arc<Policy>, folders: &Arc<Mutex<Folders>>) -> Option<Look> {
    let (own, folders) = (policy.clone(), folders.clone());
    let facts = |path: &Path| {
        let meta = under_way(path, || std::fs::metadata(path)).ok();
        meta.and_then(|m| Some((m.ino(), m.len(), m.modified().ok()?)))
    };
    let now = move |_: &_| {
        // A thread that hangs has it, and one is enough.
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
        Look(files)
    };
    policy.threads().run(Urgency::Routine, now).await.ok()
}
