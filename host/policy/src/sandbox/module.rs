//! A loaded module: a component whose imports and exports were checked.

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
use crate::module::manifest::Manifest;
use crate::sandbox::engine::{Sandbox, error_chain};

/// A module, ready to be called.
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
    /// Compiles a component, checks what it imports and exports, and links it.
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
                "is a core module, not a component; make one of it with `saegis module inspect --componentise`"
                    .into(),
            ));
        }
        let component = Component::from_binary(sandbox.engine(), &source.bytes).map_err(|e| {
            let why = printable(&error_chain(&e));
            // The only errors of the pool, and the only ones that are not about the file's form.
            let what = if why.contains("pooling allocator") {
                "wants more than modules may have (modules.memory-bytes)"
            } else {
                "is no WebAssembly component"
            };
            fault(format!("{what}: {why}"))
        })?;
        let (capabilities, wasi) =
            imports(sandbox, &component, name, &manifest, grants).map_err(fault)?;
        let hooks = exports(sandbox, &component).map_err(fault)?;
        let pre = sandbox.link(&component, &capabilities, wasi).map_err(|e| {
            fault(format!("does not fit the contract: {}", printable(&error_chain(&e))))
        })?;
        let misfit = |e: wasmtime::Error| {
            fault(format!("does not fit the contract: {}", printable(&error_chain(&e))))
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

    /// The hooks that it exports.
    pub fn hooks(&self) -> Vec<Hook> {
        Hook::ALL.into_iter().filter(|hook| self.has(*hook)).collect()
    }

    /// Whether its calls wait for something, and have effects outside of their sandbox.
    pub fn waits(&self) -> bool {
        self.capabilities.iter().any(|capability| capability.waits())
    }

    /// Whether it may see the bytes of keys, or secrets. What it writes it may have read.
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

/// Which capabilities and whether WASI a component needs, if it may have them.
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
            // The handles of wasi:http are in a table with those of the WASI that everybody has.
            wasi |= !import.starts_with("wasi:keyvalue/") && !import.starts_with("wasi:config/");
            let Some(needed) = Capability::of_wasi(import) else { continue };
            needed
        } else {
            let Some(interface) = contract_interface(import)? else {
                return Err(format!("imports {import}, which no gateway offers"));
            };
            if interface == "types" {
                continue;
            }
            match Capability::from_name(interface).filter(|found| found.wasi().is_none()) {
                Some(needed) => needed,
                None => return Err(format!("imports {import}, which the contract does not have")),
            }
        };
        if !manifest.capabilities.contains(&needed) {
            return Err(format!(
                "imports the capability {needed}, but its manifest {name}.toml does not ask for it; \
                 add it there under `capabilities`"
            ));
        }
    }
    if let Some(denied) = manifest.capabilities.iter().find(|c| !grants.allow(name, **c)) {
        return Err(format!(
            "its manifest asks for the capability {denied}, which the gateway does not grant; \
             grant it in the configuration under [modules.grants], if that module may have it"
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
                    return Err(format!("exports {export}, which is no hook of the contract"));
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
