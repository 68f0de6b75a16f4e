//! Hot reload: changes on disk lead to a reload, a short while after the last of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::fault::Faults;
use crate::generation::{Policy, Reload};
use crate::shown::Shown;

/// How long after the last change a reload starts: several files that are written together make
/// one generation, and a file that is being written is not read half.
const QUIET: Duration = Duration::from_millis(40);
/// How long changes that go on can put a reload off.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often the folders are looked at, whether the watch tells of a change or not: a watch can
/// lose its folder, and what was refused for want of something may do now.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Keeps the watch alive; dropping it ends the watch.
pub struct Watcher {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A folder that can't be watched.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be watched for changes: {error}", Shown(.folder))]
pub struct WatchError {
    folder: PathBuf,
    error: notify::Error,
}

/// Watches the folders of `policy` and reloads it after changes. `report` is told of each reload
/// that did something. To be called within a Tokio runtime.
///
/// # Errors
/// When a folder can't be watched.
pub fn watch(
    policy: Arc<Policy>,
    report: impl Fn(Reload) + Send + 'static,
) -> Result<Watcher, WatchError> {
    let (changed, changes) = mpsc::channel(1);
    let handler = move |event: notify::Result<notify::Event>| {
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
    };
    let settings = policy.settings();
    let error = |folder: &PathBuf| {
        let folder = folder.clone();
        move |error| WatchError { folder, error }
    };
    let notify = notify::recommended_watcher(handler).map_err(error(&settings.policies))?;
    let mut folders = Folders { notify, seen: Vec::new() };
    for folder in [&settings.policies, &settings.modules] {
        folders.add(folder).map_err(error(folder))?;
    }
    let task = tokio::spawn(reload_on(changes, folders, policy, report));
    Ok(Watcher { task })
}

/// The folders that are watched. A watch is of the folder itself, not of its name: where another
/// has taken its place, that one is to be watched.
struct Folders {
    notify: RecommendedWatcher,
    /// Each with what it was when its watch began; nothing, where it has gone since.
    seen: Vec<(PathBuf, Option<Identity>)>,
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(folder: &Path) -> Option<Identity> {
    std::fs::metadata(folder).ok().map(|meta| (meta.dev(), meta.ino()))
}

impl Folders {
    fn add(&mut self, folder: &Path) -> notify::Result<()> {
        let identity = identity(folder);
        self.notify.watch(folder, RecursiveMode::NonRecursive)?;
        self.seen.push((folder.into(), identity));
        Ok(())
    }

    /// Watches what has taken the place of a folder. What can't be watched is tried again.
    fn follow(&mut self) {
        for (folder, seen) in &mut self.seen {
            let now = identity(folder);
            if now != *seen {
                // It may have ended with the folder.
                let _ = self.notify.unwatch(folder);
                let watched = self.notify.watch(folder, RecursiveMode::NonRecursive);
                *seen = now.filter(|_| watched.is_ok());
            }
        }
    }
}

async fn reload_on(
    mut changes: mpsc::Receiver<()>,
    mut folders: Folders,
    policy: Arc<Policy>,
    report: impl Fn(Reload) + Send + 'static,
) {
    // What changed between the first generation and the watch is not missed.
    let mut seen = None;
    let mut refused: Option<Faults> = None;
    let mut changed_meanwhile = false;
    loop {
        let told = changed_meanwhile
            || match timeout(LOOK_EVERY, changes.recv()).await {
                Ok(Some(())) => true,
                Ok(None) => return,
                Err(_) => false,
            };
        folders.follow();
        // A refused generation is tried again: what was missing may have been descriptors.
        if !told && refused.is_none() && seen == Some(look(policy.clone()).await) {
            continue;
        }
        if told {
            let latest = Instant::now() + PATIENCE;
            let quiet = || (Instant::now() + QUIET).min(latest);
            while let Ok(Some(())) = timeout_at(quiet(), changes.recv()).await {
                if Instant::now() >= latest {
                    break;
                }
            }
        }
        seen = Some(look(policy.clone()).await);
        // What changes while a registry is waited for is not to wait for it: it may be the very
        // change that does without.
        changed_meanwhile = tokio::select! {
            () = policy.obtain() => false,
            change = changes.recv() => change.is_some(),
        };
        if changed_meanwhile {
            continue;
        }
        match policy.reload().await {
            Reload::Unchanged => refused = None,
            Reload::Refused(faults) if refused.as_ref() == Some(&faults) => {}
            Reload::Refused(faults) => {
                refused = Some(faults.clone());
                report(Reload::Refused(faults));
            }
            good @ Reload::InForce(_) => {
                refused = None;
                report(good);
            }
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
/// turned elsewhere, is seen, where the watch still has the old one.
async fn look(policy: Arc<Policy>) -> Look {
    let facts = |path: &Path| {
        let meta = std::fs::metadata(path).ok();
        meta.and_then(|m| Some((m.ino(), m.len(), m.modified().ok()?)))
    };
    let now = move || {
        let settings = policy.settings();
        let mut files = Vec::new();
        for folder in [&settings.policies, &settings.modules] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let facts = facts(&path);
                files.push((path, facts));
            }
        }
        for path in settings.grants.files() {
            files.push((path.clone(), facts(path)));
        }
        files.sort();
        Look(files)
    };
    tokio::task::spawn_blocking(now).await.unwrap_or(Look(Vec::new()))
}
