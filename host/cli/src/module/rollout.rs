//! `saegis module promote` and `saegis module rollback`: change one line of a manifest, and thereby
//! activate one new generation.
//!
//! A module that replaces another leaves the files of the other in the folder: they are the former
//! version. So a promotion and a rollback each change one small file, which is replaced atomically.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use saegis_policy::{Changes, Fault, Faults, Generation, Policy, read_file};
use serde_json::{Value, json};

use super::error::{ModuleError, RolloutError};
use crate::admin::{self, Reloaded};
use crate::decisions;
use crate::module::manifest::{self, MAX_MANIFEST};
use crate::replaced_file::replace;
use saegis_gateway::config::Config;

/// Arguments of `saegis module promote` and `rollback`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the module: its file name without `.wasm`
    name: String,
    /// Configuration of the gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

/// Direction of the change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From shadow to in force.
    Promote,
    /// From in force to shadow.
    RollBack,
}

impl Way {
    /// Returns the mode in the manifest after the change.
    fn mode(self) -> &'static str {
        match self {
            Self::Promote => "in-force",
            Self::RollBack => "shadow",
        }
    }
}

/// Promotes a shadow, or reactivates the module that it replaced. Returns the exit code.
///
/// # Errors
/// Fails if nothing was changed.
pub async fn run(args: &Args, way: Way, as_json: bool) -> Result<u8, ModuleError> {
    let config = Config::load(&args.config)?;
    let folder = &config.modules.folder;
    let _alone = alone_in(folder)?;
    let name = &args.name;
    let now = decisions::open(&config, Changes::default()).await?;
    may(way, name, &now.current(), folder)?;
    let file = folder.join(format!("{name}.toml"));
    let text = text_of(&file)?;
    if way == Way::RollBack {
        may_roll_back(name, &text, &now.current())?;
    }
    // If the mode were stored outside the signed manifest, write access to it would activate a
    // module that was signed only as a shadow.
    if config.modules.require_signature.is_some() {
        let (name, mode) = (name.clone(), way.mode());
        return Err(RolloutError::Signed { file, name, mode }.into());
    }
    let changed = match way {
        Way::Promote => manifest::in_force(&text),
        Way::RollBack => manifest::shadow(&text),
    };
    let changed = changed.map_err(|e| Faults(vec![Fault::of(&file, e.to_string())]))?;
    // The change is first tried in memory: an invalid policy is never written to disk.
    let manifests = [(name.clone(), changed.clone())].into();
    let next = decisions::open(&config, Changes { manifests, ..Changes::default() }).await?;
    put(&file, &changed)?;
    let generation = match admin::reload(&config, false) {
        Ok(Reloaded::InForce(generation)) => Some(generation),
        Ok(Reloaded::Refused(faults)) => {
            if let Err(error) = replace(&file, text.as_bytes()) {
                return Err(RolloutError::NotRestored { faults, file, error }.into());
            }
            // The gateway watches its folders anyway. The request makes sure that it has reloaded
            // before this command ends.
            let _ = admin::reload(&config, false);
            return Err(RolloutError::Refused(faults).into());
        }
        // Without a running gateway, it comes into force at the next start.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            None
        }
        Err(error) => {
            let faults = error.to_string();
            if let Err(error) = replace(&file, text.as_bytes()) {
                return Err(RolloutError::NotRestored { faults, file, error }.into());
            }
            return Err(RolloutError::ReloadFailed { socket: config.admin.socket, error }.into());
        }
    };
    print_outcome(name, way, &next, generation, as_json);
    Ok(0)
}

fn print_outcome(name: &str, way: Way, next: &Policy, generation: Option<u64>, as_json: bool) {
    let next = next.current();
    let replaced = match way {
        Way::Promote => next.modules().into_iter().find(|m| m.name == *name),
        Way::RollBack => None,
    };
    let replaced = replaced.and_then(|module| module.replaces);
    let reactivated = match way {
        Way::Promote => None,
        Way::RollBack => next.shadows().into_iter().find(|s| s.name == *name),
    };
    let reactivated = reactivated.and_then(|shadow| shadow.replaces);
    if as_json {
        let outcome: Value = json!({
            "module": name,
            "mode": way.mode(),
            "replaced": replaced,
            "reactivated": reactivated,
            "generation": generation,
        });
        return crate::output::print(&outcome.to_string());
    }
    let what = match (way, replaced, reactivated) {
        (Way::Promote, Some(former), _) => {
            format!("{name} is in force and replaces {former}, whose files stay")
        }
        (Way::Promote, None, _) => format!("{name} is in force"),
        (Way::RollBack, _, Some(former)) => {
            format!("{former} is in force again, and {name} is a shadow")
        }
        (Way::RollBack, _, None) => format!("{name} is a shadow again"),
    };
    let when = match generation {
        Some(generation) => format!("generation {generation}"),
        None => "no gateway is running; it comes into force at the next start".into(),
    };
    crate::output::print(&format!("{what}: {when}"));
}

/// Locks the folder against other promotions and rollbacks, for the lifetime of the value.
fn alone_in(folder: &Path) -> Result<File, ModuleError> {
    let lock = File::open(folder).map_err(|e| {
        Faults(vec![Fault::of(folder, format!("the folder cannot be opened: {e}"))])
    })?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(_) => Err(RolloutError::UnderWay(folder.into()).into()),
    }
}

/// Checks that a module can be promoted or rolled back.
fn may(way: Way, name: &str, now: &Generation, folder: &Path) -> Result<(), RolloutError> {
    let shadows = now.shadows();
    let shadow = shadows.iter().find(|shadow| shadow.name == name);
    if let Some(shadow) = shadow.filter(|s| way == Way::Promote && !s.faults.is_empty()) {
        return Err(RolloutError::Invalid(Faults(shadow.faults.clone())));
    }
    let is_shadow = shadow.is_some();
    let in_force = now.modules().iter().any(|module| module.name == name);
    match way {
        Way::Promote if is_shadow => Ok(()),
        Way::RollBack if in_force => Ok(()),
        Way::Promote if in_force => Err(RolloutError::InForce(name.into())),
        Way::RollBack if is_shadow => Err(RolloutError::IsShadow(name.into())),
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

fn may_roll_back(name: &str, text: &str, now: &Generation) -> Result<(), RolloutError> {
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

fn text_of(file: &Path) -> Result<String, ModuleError> {
    if !file.exists() {
        return Ok(String::new());
    }
    let bytes = read_file(file, MAX_MANIFEST).map_err(|fault| Faults(vec![fault]))?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| Faults(vec![Fault::of(file, "is not UTF-8")]))?;
    Ok(text.into())
}

fn put(file: &Path, text: &str) -> Result<(), RolloutError> {
    replace(file, text.as_bytes())
        .map_err(|error| RolloutError::NotWritten { file: file.into(), error })
}
