//! A loaded module: a component with checked imports and exports.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use crate::data::fault::Fault;
use crate::data::files::{Digest, Source};
use crate::data::text::printable;
use crate::host::call::Call;
use crate::host::log_rate_limit::LogRateLimit;
use crate::module::capability::Capability;
use crate::module::contract::contract_interface;
use crate::module::grants::Grants;
use crate::module::hook::Hook;
use crate::module::inspect::{self, missing_capability};
use crate::module::manifest::Manifest;
use crate::sandbox::engine::{Sandbox, error_chain};
use crate::sandbox::slow_compilation::SlowCompilation;

/// A module that is ready to be called.
pub(crate) struct Module {
    pub name: String,
    pub digest: Digest,
    pub manifest: Manifest,
    pub capabilities: Vec<Capability>,
    /// The exported hooks, with their functions.
    pub(super) functions: Vec<(Hook, ComponentExportIndex)>,
    pub pre: InstancePre<Call>,
    pub wasi: bool,
    pub log: Arc<LogRateLimit>,
    /// Whether a call has taken longer than an attempt without yielding may.
    pub runs_long: AtomicBool,
}

impl Module {
    /// Compiles a component, checks its imports and exports, and links it.
    pub fn load(
        sandbox: &Sandbox,
        grants: &Grants,
        name: &str,
        file: &Path,
        source: &Source,
        manifest: Manifest,
    ) -> Result<Self, Fault> {
        let fault = |what: String| Fault::of(file, what);
        if source.bytes.get(..8) == Some(b"\0asm\x01\0\0\0") {
            return Err(fault(
                "is a core module, not a component; convert it with `saegis module inspect --componentise`"
                    .into(),
            ));
        }
        inspect::check_magic(&source.bytes)
            .map_err(|why| fault(format!("is not a WebAssembly component: {why}")))?;
        let slow = SlowCompilation::watch(name, source.bytes.len());
        let compiled = Component::from_binary(sandbox.engine(), &source.bytes);
        drop(slow);
        let component = compiled.map_err(|e| {
            let why = printable(&error_chain(&e));
            // These are the only errors of the pool, and the only ones that are not about the
            // format.
            let what = if why.contains("pooling allocator") {
                "exceeds the limits of a module (modules.memory-bytes)"
            } else {
                "is not a WebAssembly component"
            };
            fault(format!("{what}: {why}"))
        })?;
        let (capabilities, wasi) =
            imports(sandbox, &component, (name, file), &manifest, grants).map_err(fault)?;
        let functions = exports(sandbox, &component).map_err(fault)?;
        let pre = sandbox.link(&component, &capabilities, wasi).map_err(|e| {
            fault(format!("does not match the contract: {}", printable(&error_chain(&e))))
        })?;
        Ok(Self {
            name: name.into(),
            digest: source.digest,
            manifest,
            capabilities,
            functions,
            pre,
            wasi,
            log: Arc::new(LogRateLimit::new(name)),
            runs_long: AtomicBool::new(false),
        })
    }

    /// Returns the exported hooks.
    pub fn hooks(&self) -> Vec<Hook> {
        Hook::ALL.into_iter().filter(|hook| self.has(*hook)).collect()
    }

    /// Returns whether its calls can wait and have effects outside their sandbox.
    pub fn waits(&self) -> bool {
        self.capabilities.iter().any(|capability| capability.waits())
    }

    /// Returns whether it can see the bytes of keys or secrets. Its output may contain them.
    pub fn sees_keys(&self) -> bool {
        let sees = [Capability::ReadStoredKeys, Capability::SupplyKeyBytes, Capability::Config];
        self.capabilities.iter().any(|capability| sees.contains(capability))
    }

    pub fn has(&self, hook: Hook) -> bool {
        self.function(hook).is_some()
    }

    /// Returns the function of a hook.
    pub fn function(&self, hook: Hook) -> Option<&ComponentExportIndex> {
        self.functions.iter().find(|(exported, _)| *exported == hook).map(|(_, function)| function)
    }
}

/// Returns the capabilities that a component imports, and whether it imports WASI, if all are
/// granted.
fn imports(
    sandbox: &Sandbox,
    component: &Component,
    (name, file): (&str, &Path),
    manifest: &Manifest,
    grants: &Grants,
) -> Result<(Vec<Capability>, bool), String> {
    let mut wasi = false;
    for (import, _) in component.component_type().imports(sandbox.engine()) {
        let needed = if import.starts_with("wasi:") {
            // The handles of wasi:http share a table with those of the empty WASI.
            wasi |= !import.starts_with("wasi:keyvalue/") && !import.starts_with("wasi:config/");
            let Some(needed) = Capability::of_wasi(import) else { continue };
            needed
        } else {
            let Some(interface) = contract_interface(import)? else {
                return Err(format!("imports {import}, which no gateway supports"));
            };
            if interface == "types" {
                continue;
            }
            match Capability::from_name(interface).filter(|found| found.wasi().is_none()) {
                Some(needed) => needed,
                None => return Err(format!("imports {import}, which is not in the contract")),
            }
        };
        if !manifest.capabilities.contains(&needed) {
            return Err(missing_capability(file, name, needed));
        }
    }
    if let Some(denied) = manifest.capabilities.iter().find(|c| !grants.allow(name, **c)) {
        return Err(format!(
            "its manifest requests the capability {denied}, which the gateway does not grant; \
             to grant it, add it under [modules.grants] in the configuration"
        ));
    }
    Ok((manifest.capabilities.clone(), wasi))
}

/// Returns the exported hooks and their functions.
fn exports(
    sandbox: &Sandbox,
    component: &Component,
) -> Result<Vec<(Hook, ComponentExportIndex)>, String> {
    let mut hooks = Vec::new();
    for (export, item) in component.component_type().exports(sandbox.engine()) {
        if let Some(interface) = contract_interface(export)? {
            match Hook::ALL.into_iter().find(|h| h.name() == interface) {
                Some(hook) => {
                    let name = hook.function();
                    let instance = component.get_export_index(None, export);
                    let function =
                        instance.and_then(|i| component.get_export_index(Some(&i), name));
                    let function = function.ok_or_else(|| {
                        format!("does not match the contract: {export} has no function {name}")
                    })?;
                    hooks.push((hook, function));
                }
                None if matches!(item.ty, ComponentItem::ComponentInstance(_)) => {
                    return Err(format!("exports {export}, which is not a hook of the contract"));
                }
                None => {}
            }
        }
    }
    if hooks.is_empty() {
        let names = Hook::ALL.map(Hook::name).join(", ");
        return Err(format!("exports no hook of the contract; the hooks are: {names}"));
    }
    Ok(hooks)
}
