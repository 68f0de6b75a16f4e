//! A loaded module: a component with checked imports and exports.

use std::path::Path;
use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use crate::data::fault::Fault;
use crate::data::files::{Digest, Source};
use crate::data::text::printable;
use crate::host::bindings::exports::saegis::policy::{
    certificate_mapping, credential_lookup, impersonation_check, key_registration_check,
    registration_check,
};
use crate::host::call::Call;
use crate::host::log_rate_limit::LogRateLimit;
use crate::module::capability::Capability;
use crate::module::contract::contract_interface;
use crate::module::grants::Grants;
use crate::module::hook::Hook;
use crate::module::inspect;
use crate::module::manifest::Manifest;
use crate::sandbox::engine::{Sandbox, error_chain};

/// A module that is ready to be called.
pub(crate) struct Module {
    pub name: String,
    pub digest: Digest,
    pub manifest: Manifest,
    pub capabilities: Vec<Capability>,
    pub lookup: Option<credential_lookup::GuestIndices>,
    pub impersonation: Option<impersonation_check::GuestIndices>,
    pub registration: Option<registration_check::GuestIndices>,
    pub mapping: Option<certificate_mapping::GuestIndices>,
    pub key_registration: Option<key_registration_check::GuestIndices>,
    pub pre: InstancePre<Call>,
    pub wasi: bool,
    pub log: Arc<LogRateLimit>,
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
        let component = Component::from_binary(sandbox.engine(), &source.bytes).map_err(|e| {
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
            imports(sandbox, &component, name, &manifest, grants).map_err(fault)?;
        let hooks = exports(sandbox, &component).map_err(fault)?;
        let pre = sandbox.link(&component, &capabilities, wasi).map_err(|e| {
            fault(format!("does not match the contract: {}", printable(&error_chain(&e))))
        })?;
        let misfit = |e: wasmtime::Error| {
            fault(format!("does not match the contract: {}", printable(&error_chain(&e))))
        };
        let has = |hook| hooks.contains(&hook);
        Ok(Self {
            lookup: has(Hook::CredentialLookup)
                .then(|| credential_lookup::GuestIndices::new(&pre))
                .transpose()
                .map_err(misfit)?,
            impersonation: has(Hook::ImpersonationCheck)
                .then(|| impersonation_check::GuestIndices::new(&pre))
                .transpose()
                .map_err(misfit)?,
            registration: has(Hook::RegistrationCheck)
                .then(|| registration_check::GuestIndices::new(&pre))
                .transpose()
                .map_err(misfit)?,
            mapping: has(Hook::CertificateMapping)
                .then(|| certificate_mapping::GuestIndices::new(&pre))
                .transpose()
                .map_err(misfit)?,
            key_registration: has(Hook::KeyRegistrationCheck)
                .then(|| key_registration_check::GuestIndices::new(&pre))
                .transpose()
                .map_err(misfit)?,
            name: name.into(),
            digest: source.digest,
            manifest,
            capabilities,
            pre,
            wasi,
            log: Arc::new(LogRateLimit::new(name)),
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
        match hook {
            Hook::CredentialLookup => self.lookup.is_some(),
            Hook::ImpersonationCheck => self.impersonation.is_some(),
            Hook::RegistrationCheck => self.registration.is_some(),
            Hook::CertificateMapping => self.mapping.is_some(),
            Hook::KeyRegistrationCheck => self.key_registration.is_some(),
        }
    }
}

/// Returns the capabilities that a component imports, and whether it imports WASI, if all are
/// granted.
fn imports(
    sandbox: &Sandbox,
    component: &Component,
    name: &str,
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
            return Err(format!(
                "imports the capability {needed}, but its manifest {name}.toml does not request it; \
                 add it there under `capabilities`"
            ));
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

fn exports(sandbox: &Sandbox, component: &Component) -> Result<Vec<Hook>, String> {
    let mut hooks = Vec::new();
    for (export, item) in component.component_type().exports(sandbox.engine()) {
        if let Some(interface) = contract_interface(export)? {
            match Hook::ALL.into_iter().find(|h| h.name() == interface) {
                Some(hook) => hooks.push(hook),
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
