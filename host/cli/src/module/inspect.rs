//! `saegis module inspect`: prints the content of a module file.

use std::path::{Path, PathBuf};

use saegis_policy::{BadSignature, Description, Fault, Faults, Hook, Kind, Needs, read_file};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::error::MAX_MODULE;
use super::error::ModuleError;
use super::error::REFUSED;

/// Arguments of `saegis module inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// Module file: a component, or a core module that contains its contract
    file: PathBuf,
    /// Convert a core module that contains its contract to a component, and write it here
    #[arg(long, value_name = "OUT")]
    componentise: Option<PathBuf>,
}

/// Prints the content of a file. Returns the exit code.
///
/// # Errors
/// Fails if the file cannot be read or cannot be converted to a component.
pub fn run(args: &Args, as_json: bool) -> Result<u8, ModuleError> {
    let bytes = read_file(&args.file, MAX_MODULE).map_err(|fault| Faults(vec![fault]))?;
    let Some(out) = &args.componentise else {
        return print_description(&args.file, &bytes, as_json);
    };
    let component = component_of(&args.file, &bytes)?;
    std::fs::write(out, &component)
        .map_err(|e| Faults(vec![Fault::of(out, format!("cannot be written: {e}"))]))?;
    print_description(out, &component, as_json)
}

/// Converts a core module that contains its contract to a component.
fn component_of(file: &Path, core: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let unusable = |why: String| ModuleError::Unusable { file: file.into(), why };
    match Description::of(core).map_err(unusable)?.kind {
        Kind::CoreWithContract => {}
        Kind::Component => return Err(unusable("is already a component".into())),
        Kind::Core => return Err(unusable(NO_CONTRACT.into())),
    }
    #[cfg(feature = "module-tools")]
    return saegis_componentize::componentize(core)
        .map_err(|e| unusable(format!("cannot be converted to a component: {e:#}")));
    #[cfg(not(feature = "module-tools"))]
    return Err(unusable(super::error::WITHOUT_TOOLS.into()));
}

const NO_CONTRACT: &str = "is a core module without its contract; build it with bindings \
                           from wit-bindgen";

fn print_description(file: &Path, bytes: &[u8], as_json: bool) -> Result<u8, ModuleError> {
    let unusable = |why: String| ModuleError::Unusable { file: file.into(), why };
    let mut found = Description::of(bytes).map_err(unusable)?;
    match found.kind {
        Kind::Component => {}
        Kind::CoreWithContract => found.contract_faults.push(
            "is a core module with its contract; convert it to a component with \
             --componentise OUT"
                .into(),
        ),
        Kind::Core => found.contract_faults.push(NO_CONTRACT.into()),
    }
    let with_manifest = found.missing_capabilities(file).map_err(Faults)?;
    let has_manifest = with_manifest.is_some();
    let missing = with_manifest.unwrap_or_default();
    let digest = hex::encode(Sha256::digest(bytes));
    let signature = signature(file, bytes);
    let size = bytes.len();
    if as_json {
        let imports = found.imports.iter().map(|import| {
            let capability = match import.needs {
                Needs::Capability(capability) => Some(capability.name()),
                Needs::Nothing | Needs::EmptyWasi | Needs::Unknown => None,
            };
            json!({ "name": import.name, "capability": capability })
        });
        let out = json!({
            "file": file.to_string_lossy(),
            "kind": kind(found.kind),
            "hooks": found.hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>(),
            "contract": found.contract,
            "imports": imports.collect::<Vec<_>>(),
            "memory": found.memory,
            "size": size,
            "sha256": digest,
            "signature": signature,
            "contract_faults": found.contract_faults,
            "has_manifest": has_manifest,
            "missing_capabilities": missing.iter().map(|(of, _)| of.name()).collect::<Vec<_>>(),
        });
        crate::output::print(&out.to_string());
    } else {
        crate::output::print(&format!("{}: {}", saegis_policy::Shown(file), kind(found.kind)));
        line("hooks", &or_none(found.hooks.iter().map(|hook: &Hook| hook.name().to_string())));
        line("contract", &or_none(found.contract.iter().cloned()));
        for import in &found.imports {
            let needs = match import.needs {
                Needs::Nothing => "needs nothing".into(),
                Needs::Capability(capability) => format!("needs the capability {capability}"),
                Needs::EmptyWasi => "gets an empty WASI".into(),
                Needs::Unknown => "is unknown to this gateway".to_string(),
            };
            line("import", &format!("{}: {needs}", import.name));
        }
        line("memory", &format!("{} bytes at the start", found.memory));
        line("size", &format!("{size} bytes"));
        line("sha256", &digest);
        if let Some(signature) = &signature {
            line("signature", signature);
        }
        if !has_manifest && found.kind == Kind::Component {
            line("manifest", "none beside it; a gateway loads a module with imports only with one");
        }
        let missing = missing.iter().map(|(_, fault)| fault);
        found.contract_faults.iter().chain(missing).for_each(|fault| line("refused", fault));
    }
    Ok(if found.contract_faults.is_empty() && missing.is_empty() { 0 } else { REFUSED })
}

/// Describes the signature beside a file. Only the configuration of a gateway says which keys are
/// trusted.
fn signature(file: &Path, bytes: &[u8]) -> Option<String> {
    match saegis_policy::look_at_signature(file, bytes, &[]) {
        Ok(None) => None,
        Ok(Some(Ok(signed))) => Some(format!("by the key {}", signed.by)),
        Ok(Some(Err(BadSignature::UnknownKey(key)))) => {
            Some(format!("by the key {key}, not verified"))
        }
        Ok(Some(Err(why))) => Some(why.to_string()),
        Err(why) => Some(why.to_string()),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Component => "component",
        Kind::CoreWithContract => "core module with its contract",
        Kind::Core => "core module",
    }
}

fn or_none(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() { "none".into() } else { texts.join(", ") }
}

fn line(name: &str, value: &str) {
    crate::output::print(&format!("  {name:<11} {value}"));
}
