//! Hot reload: changes on disk lead to a reload, a short while after the last of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::generation::{Policy, Reload};

/// How long after the last change a reload starts: several files that are written together make
/// one generation, and a file that is being written is not read half.
const QUIET: Duration = Duration::from_millis(40);
/// How long changes that go on can put a reload off.
const PATIENCE: Duration = Duration::from_millis(400);

/// Keeps the watch alive; dropping it ends the watch.
pub struct Watcher {
    _notify: RecommendedWatcher,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A folder that can't be watched.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be watched for changes: {error}", .folder.display())]
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
    let mut notify = notify::recommended_watcher(handler).map_err(error(&settings.policies))?;
    for folder in [&settings.policies, &settings.modules] {
        notify.watch(folder, RecursiveMode::NonRecursive).map_err(error(folder))?;
    }
    let task = tokio::spawn(reload_on(changes, policy, report));
    Ok(Watcher { _notify: notify, task })
}

async fn reload_on(
    mut changes: mpsc::Receiver<()>,
    policy: Arc<Policy>,
    report: impl Fn(Reload) + Send + 'static,
) {
    while changes.recv().await.is_some() {
        let latest = Instant::now() + PATIENCE;
        let quiet = || (Instant::now() + QUIET).min(latest);
        while let Ok(Some(())) = timeout_at(quiet(), changes.recv()).await {
            if Instant::now() >= latest {
                break;
            }
        }
        match policy.reload().await {
            Reload::Unchanged => {}
            other => report(other),
        }
    }
}
