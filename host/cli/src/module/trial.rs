//! `saegis module try`: shows the effect of installing a module.

use std::path::{Path, PathBuf};

use saegis_policy::{Changes, Fault, Faults, ModuleSummary, read_file};
use serde_json::json;

use super::error::ModuleError;
use crate::decisions::{self, Reading};

use saegis_gateway::admin::rollout::manifest::{MAX_MANIFEST, in_force};
use saegis_gateway::config::Config;
use saegis_gateway::telemetry::rotating_file::with_old_files;

/// Arguments of `saegis module try`.
#[derive(clap::Args)]
pub struct Args {
    /// Module file; uses the manifest beside it, or that of the installed module of the same name
    file: PathBuf,
    /// Configuration with the policy to try it in
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
    /// Recorded decisions; by default the recording of the configuration
    #[arg(long)]
    recording: Option<PathBuf>,
}

/// Loads a module into a copy of the policy, and compares the decisions of both for recorded
/// questions. Returns the exit code of the replay.
///
/// # Errors
/// Returns all faults of the module, the policy or the recording.
pub async fn run(args: &Args, as_json: bool) -> Result<u8, ModuleError> {
    let mut config = Config::load(&args.config)?;
    let name = name_of(&args.file)?;
    // Checked before modules are compiled.
    let recordings = match (&args.recording, &config.decisions.record) {
        (Some(file), _) => vec![file.clone()],
        (None, Some(newest)) => with_old_files(newest),
        (None, None) => Vec::new(),
    };
    let reading = if recordings.is_empty() { None } else { Some(Reading::of(recordings)?) };
    let manifest = manifest_for(&args.file, &config.modules.folder.join(format!("{name}.toml")))?;
    let changes = Changes {
        modules: [(name.clone(), args.file.clone())].into(),
        manifests: [(name.clone(), manifest)].into(),
    };
    let without = decisions::open(&config, Changes::default()).await?;
    // A module can be tried before it is signed.
    let must_be_signed = config.modules.require_signature.take().is_some();
    let with = decisions::open(&config, changes).await?;
    let (without, with) = (without.current(), with.current());
    let Some(module) = with.modules().into_iter().find(|module| module.name == name) else {
        let why = "another module replaces it; try it under another name".into();
        return Err(ModuleError::Unusable { file: args.file.clone(), why });
    };
    let report = match reading {
        Some(reading) => Some(decisions::against_policy(reading, &without, &with).await?),
        None => None,
    };
    let takes = module
        .replaces
        .clone()
        .or_else(|| without.modules().into_iter().map(|m| m.name).find(|other| *other == name));
    if as_json {
        let outcome = json!({
            "module": name,
            "hooks": module.hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>(),
            "replaces": takes,
            "must_be_signed": must_be_signed,
            "replay": report.as_ref().map(decisions::Report::as_json),
        });
        crate::output::print(&outcome.to_string());
    } else {
        crate::output::print(&accepted(&module, takes.as_deref()));
        if must_be_signed {
            crate::output::print(
                "the module was tried without a signature; a gateway loads it only with one \
                 (modules.require-signature)",
            );
        }
        match &report {
            Some(report) => report.print(false),
            None => crate::output::print(
                "there is no recording to replay: name one with --recording, or let the \
                 gateway record decisions with [decisions] record",
            ),
        }
    }
    Ok(report.map_or(0, |report| report.exit_code()))
}

fn accepted(module: &ModuleSummary, takes: Option<&str>) -> String {
    let hooks: Vec<_> = module.hooks.iter().map(|hook| hook.name()).collect();
    let place = takes.map(|name| format!(", replacing {name}")).unwrap_or_default();
    format!("{} would be in force{place}: {}", module.name, hooks.join(", "))
}

fn name_of(file: &Path) -> Result<String, ModuleError> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_module = file.extension().is_some_and(|extension| extension == "wasm");
    if stem.is_empty() || stem.starts_with('.') || !is_module {
        let why = "is not named NAME.wasm".into();
        return Err(ModuleError::Unusable { file: file.into(), why });
    }
    Ok(stem.into())
}

/// Returns the manifest beside a module file, or else that of the installed module. A shadow is
/// tried as an active module.
fn manifest_for(module: &Path, installed: &Path) -> Result<String, Faults> {
    let own = module.with_extension("toml");
    let Some(file) = [own.as_path(), installed].into_iter().find(|file| file.exists()) else {
        return Ok(String::new());
    };
    let bytes = read_file(file, MAX_MANIFEST).map_err(|fault| Faults(vec![fault]))?;
    let fault = |what: String| Faults(vec![Fault::of(file, what)]);
    let text = std::str::from_utf8(&bytes).map_err(|_| fault("is not UTF-8".into()))?;
    // Invalid TOML is reported with its position when the module is loaded.
    Ok(in_force(text).unwrap_or_else(|_| text.into()))
}
