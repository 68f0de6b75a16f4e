//! Promotion and rollback of modules: change one line of a manifest, and thereby activate one new
//! generation.
//!
//! A module that replaces another leaves the files of the other in the folder: they are the former
//! version. So a promotion and a rollback each change one small file, which is replaced atomically.
//! `saegis module` and the web page share this code.

mod error;
pub mod manifest;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use saegis_policy::{Changes, Fault, Faults, Generation, read_file};

use self::manifest::MAX_MANIFEST;
use super::protocol::{Direction, RolloutReport};
use super::reloaded::Reloaded;
use crate::config::Config;
use crate::replaced_file::{lock, replace};

pub use error::RolloutError;

/// A gateway whose modules are rolled out.
pub trait Installation: Sync {
    /// Builds the generation of the files on disk with changes, and does not put it in force.
    fn generation_with(
        &self,
        changes: Changes,
    ) -> impl Future<Output = Result<Arc<Generation>, Faults>> + Send;

    /// Makes the running gateway reload its policy. Fails with [`ErrorKind::NotFound`] or
    /// [`ErrorKind::ConnectionRefused`] if no gateway is running.
    fn reload(&self) -> impl Future<Output = io::Result<Reloaded>> + Send;
}

/// Promotes a shadow, or reactivates the module that it replaced.
///
/// # Errors
/// Fails if nothing was changed, except for [`RolloutError::NotRestored`].
pub async fn roll_out(
    config: &Config,
    direction: Direction,
    name: &str,
    on: &impl Installation,
) -> Result<RolloutReport, RolloutError> {
    let folder = &config.modules.folder;
    let _alone = locked(folder)?;
    let now = on.generation_with(Changes::default()).await.map_err(RolloutError::Invalid)?;
    check(direction, name, &now, folder)?;
    let file = folder.join(format!("{name}.toml"));
    let text = text_of(&file)?;
    if direction == Direction::RollBack {
        check_rollback(name, &text, &now)?;
    }
    // If the mode were stored outside the signed manifest, write access to it would activate a
    // module that was signed only as a shadow.
    if config.modules.require_signature.is_some() {
        let (name, mode) = (name.into(), direction.mode());
        return Err(RolloutError::Signed { file, name, mode });
    }
    let changed = match direction {
        Direction::Promote => manifest::in_force(&text),
        Direction::RollBack => manifest::shadow(&text),
    };
    let changed =
        changed.map_err(|e| RolloutError::Invalid(Fault::of(&file, e.to_string()).into()))?;
    // The change is first tried in memory: an invalid policy is never written to disk.
    let manifests = [(name.to_string(), changed.clone())].into();
    let changes = Changes { manifests, ..Changes::default() };
    let next = on.generation_with(changes).await.map_err(RolloutError::Invalid)?;
    write(&file, changed)
        .await
        .map_err(|error| RolloutError::NotWritten { file: file.clone(), error })?;
    let generation = match on.reload().await {
        Ok(Reloaded::InForce(generation)) => Some(generation),
        Ok(Reloaded::Refused(faults)) => {
            if let Err(error) = write(&file, text).await {
                return Err(RolloutError::NotRestored { faults, file, error });
            }
            // The gateway watches its folders anyway. The request makes sure that it has reloaded
            // before this returns.
            let _ = on.reload().await;
            return Err(RolloutError::Refused(faults));
        }
        // Without a running gateway, it comes into force at the next start.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            None
        }
        Err(error) => {
            let faults = error.to_string();
            if let Err(error) = write(&file, text).await {
                return Err(RolloutError::NotRestored { faults, file, error });
            }
            return Err(RolloutError::ReloadFailed { socket: config.admin.socket.clone(), error });
        }
    };
    Ok(report(name, direction, &next, generation))
}

/// Reports the result. `next` is the generation with the change.
fn report(
    name: &str,
    direction: Direction,
    next: &Generation,
    generation: Option<u64>,
) -> RolloutReport {
    let (replaced, reactivated) = match direction {
        Direction::Promote => {
            let module = next.modules().into_iter().find(|module| module.name == name);
            (module.and_then(|module| module.replaces), None)
        }
        Direction::RollBack => {
            let shadow = next.shadows().into_iter().find(|shadow| shadow.name == name);
            (None, shadow.and_then(|shadow| shadow.replaces))
        }
    };
    let (module, mode) = (name.into(), direction.mode().into());
    RolloutReport { module, mode, replaced, reactivated, generation }
}

/// Locks the folder against other promotions and rollbacks, for the lifetime of the value.
fn locked(folder: &Path) -> Result<File, RolloutError> {
    lock(folder).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => RolloutError::UnderWay(folder.into()),
        _ => {
            let fault = Fault::of(folder, format!("the folder cannot be locked: {e}"));
            RolloutError::Invalid(fault.into())
        }
    })
}

/// Checks that a module can be promoted or rolled back.
fn check(
    direction: Direction,
    name: &str,
    now: &Generation,
    folder: &Path,
) -> Result<(), RolloutError> {
    let shadows = now.shadows();
    let shadow = shadows.iter().find(|shadow| shadow.name == name);
    let is_promoted = direction == Direction::Promote;
    if let Some(shadow) = shadow.filter(|shadow| is_promoted && !shadow.faults.is_empty()) {
        return Err(RolloutError::Invalid(Faults(shadow.faults.clone())));
    }
    let is_shadow = shadow.is_some();
    let in_force = now.modules().iter().any(|module| module.name == name);
    match direction {
        Direction::Promote if is_shadow => Ok(()),
        Direction::RollBack if in_force => Ok(()),
        Direction::Promote if in_force => Err(RolloutError::InForce(name.into())),
        Direction::RollBack if is_shadow => Err(RolloutError::IsShadow(name.into())),
        _ if now.replaced().iter().any(|replaced| replaced == name) => {
            Err(RolloutError::Former(name.into()))
        }
        _ => {
            let names: Vec<_> = shadows.into_iter().map(|shadow| shadow.name).collect();
            let shadows = if names.is_empty() { "none".into() } else { names.join(", ") };
            Err(RolloutError::Unknown { name: name.into(), folder: folder.into(), shadows })
        }
    }
}

fn check_rollback(name: &str, text: &str, now: &Generation) -> Result<(), RolloutError> {
    if manifest::entry(text, "mode").is_none() {
        return Err(RolloutError::NotPromoted(name.into()));
    }
    match manifest::entry(text, "replaces") {
        Some(former) if !now.replaced().contains(&former) => {
            Err(RolloutError::FormerGone { name: name.into(), former })
        }
        _ => Ok(()),
    }
}

fn text_of(file: &Path) -> Result<String, RolloutError> {
    if !file.exists() {
        return Ok(String::new());
    }
    let invalid = |fault: Fault| RolloutError::Invalid(fault.into());
    let bytes = read_file(file, MAX_MANIFEST).map_err(invalid)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid(Fault::of(file, "is not UTF-8")))?;
    Ok(text.into())
}

/// Replaces a file. A slow disk delays nothing else.
async fn write(file: &Path, text: String) -> io::Result<()> {
    let file: PathBuf = file.into();
    let written = tokio::task::spawn_blocking(move || replace(&file, text.as_bytes()));
    written.await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
