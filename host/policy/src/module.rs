//! A loaded module: a component whose imports were checked, and calls of its hooks.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::credential::{Credential, Entity};
use saegis_onem2m::id::{AeIdStem, CredentialId, CseId};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Instance, InstancePre};
use wasmtime::{Store, Trap};

use crate::bindings::PACKAGE;
use crate::bindings::exports::saegis::policy::{
    credential_lookup, impersonation_check, registration_check,
};
use crate::bindings::saegis::policy::types;
use crate::capability::Capability;
use crate::decision::{Lookup, ModuleFault, PskQuery, Refusal, Registration};
use crate::fault::Fault;
use crate::files::{Digest, Source};
use crate::host::{Call, Files, Tables, printable};
use crate::log_budget::LogBudget;
use crate::manifest::Manifest;
use crate::sandbox::Sandbox;
use crate::settings::Grants;

/// A hook of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Finds the credential of a psk_identity.
    CredentialLookup,
    /// Checks the From of each request.
    ImpersonationCheck,
    /// Checks registrations of AEs.
    RegistrationCheck,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 3] =
        [Self::CredentialLookup, Self::ImpersonationCheck, Self::RegistrationCheck];

    /// Its name, which is that of its interface in `wit/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CredentialLookup => "credential-lookup",
            Self::ImpersonationCheck => "impersonation-check",
            Self::RegistrationCheck => "registration-check",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A module, ready to be called.
pub(crate) struct Module {
    pub name: String,
    pub digest: Digest,
    pub manifest: Manifest,
    pub capabilities: Vec<Capability>,
    lookup: Option<credential_lookup::GuestIndices>,
    impersonation: Option<impersonation_check::GuestIndices>,
    registration: Option<registration_check::GuestIndices>,
    pre: InstancePre<Call>,
    wasi: bool,
    log: Arc<LogBudget>,
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
                "is a core module, not a component; make one of it with `wasm-tools component new`"
                    .into(),
            ));
        }
        let component = Component::from_binary(sandbox.engine(), &source.bytes).map_err(|e| {
            let why = printable(&chain(&e));
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
        let pre = sandbox
            .link(&component, &capabilities, wasi)
            .map_err(|e| fault(format!("does not fit the contract: {}", printable(&chain(&e)))))?;
        let misfit = |e: wasmtime::Error| {
            fault(format!("does not fit the contract: {}", printable(&chain(&e))))
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
            name: name.into(),
            digest: source.digest,
            manifest,
            capabilities,
            pre,
            wasi,
            log: Arc::new(LogBudget::new(name)),
        })
    }

    /// The hooks that it exports.
    pub fn hooks(&self) -> Vec<Hook> {
        Hook::ALL.into_iter().filter(|hook| self.has(*hook)).collect()
    }

    pub fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::CredentialLookup => self.lookup.is_some(),
            Hook::ImpersonationCheck => self.impersonation.is_some(),
            Hook::RegistrationCheck => self.registration.is_some(),
        }
    }

    fn call(&self, tables: Arc<Tables>, files: Arc<Files>, sandbox: &Sandbox) -> Store<Call> {
        let call = Call::new(tables, files, self.log.clone(), sandbox.limits().memory);
        sandbox.store(if self.wasi { call.with_empty_wasi() } else { call })
    }

    /// Makes an instance and drops it: what can't start is found when it is installed, not at
    /// the first handshake.
    pub async fn try_start(&self, sandbox: &Sandbox) -> Result<(), ModuleFault> {
        let _slot = sandbox.slot().await?;
        let mut store = self.call(Arc::default(), Arc::default(), sandbox);
        self.start(sandbox, &mut store).await.map(drop)
    }

    /// Makes the instance of a call.
    async fn start(
        &self,
        sandbox: &Sandbox,
        store: &mut Store<Call>,
    ) -> Result<Instance, ModuleFault> {
        let started = self.within(sandbox, self.pre.instantiate_async(&mut *store)).await;
        started.map_err(|e| classify(store, &e, true))
    }

    /// Asks the module for the credential of an identity; `None` where it is not the module's.
    pub async fn lookup(
        &self,
        sandbox: &Sandbox,
        tables: Arc<Tables>,
        files: Arc<Files>,
        query: &PskQuery,
    ) -> Option<Lookup> {
        let indices = self.lookup.as_ref()?;
        match self.ask_lookup(indices, sandbox, tables, files, query).await {
            Ok(answer) => answer,
            Err(fault) => Some(Lookup::Failed { module: self.name.clone(), fault }),
        }
    }

    async fn ask_lookup(
        &self,
        indices: &credential_lookup::GuestIndices,
        sandbox: &Sandbox,
        tables: Arc<Tables>,
        files: Arc<Files>,
        query: &PskQuery,
    ) -> Result<Option<Lookup>, ModuleFault> {
        let query = credential_lookup::Query {
            psk_identity: query.psk_identity.clone(),
            server_name: query.server_name.clone(),
            peer: query.peer.to_string(),
        };
        let _slot = sandbox.slot().await?;
        let mut store = self.call(tables, files, sandbox);
        let instance = self.start(sandbox, &mut store).await?;
        let answer = self
            .within(sandbox, async {
                indices.load(&mut store, &instance)?.call_lookup(&mut store, &query).await
            })
            .await;
        let answer = finish(&mut store, answer)?;
        Ok(match answer {
            credential_lookup::Answer::NotMine => None,
            credential_lookup::Answer::Refused(reason) => Some(Lookup::Refused(Refusal {
                module: self.name.clone(),
                reason: printable(&reason),
            })),
            credential_lookup::Answer::Found(found) => {
                let credential = credential(store.data_mut(), found)?;
                if credential.expires.is_some_and(|at| at <= SystemTime::now()) {
                    let reason = "the credential has expired".into();
                    Some(Lookup::Refused(Refusal { module: self.name.clone(), reason }))
                } else {
                    Some(Lookup::Found(credential))
                }
            }
        })
    }

    /// Asks the module whether a request may speak as it does.
    pub async fn check_originator(
        &self,
        sandbox: &Sandbox,
        tables: Arc<Tables>,
        files: Arc<Files>,
        association: &types::Association,
        primitive: &types::Primitive,
    ) -> Result<types::Verdict, ModuleFault> {
        let Some(indices) = &self.impersonation else { return Err(no_hook()) };
        let _slot = sandbox.slot().await?;
        let mut store = self.call(tables, files, sandbox);
        let instance = self.start(sandbox, &mut store).await?;
        let verdict = self
            .within(sandbox, async {
                let guest = indices.load(&mut store, &instance)?;
                guest.call_check(&mut store, association, primitive).await
            })
            .await;
        checked(finish(&mut store, verdict)?)
    }

    /// Asks the module whether an AE may register.
    pub async fn check_registration(
        &self,
        sandbox: &Sandbox,
        tables: Arc<Tables>,
        files: Arc<Files>,
        association: &types::Association,
        registration: &Registration,
    ) -> Result<types::Verdict, ModuleFault> {
        let Some(indices) = &self.registration else { return Err(no_hook()) };
        let registration = registration_check::Registration {
            from: registration.from.clone(),
            app_id: registration.app_id.clone(),
        };
        let _slot = sandbox.slot().await?;
        let mut store = self.call(tables, files, sandbox);
        let instance = self.start(sandbox, &mut store).await?;
        let verdict = self
            .within(sandbox, async {
                let guest = indices.load(&mut store, &instance)?;
                guest.call_check(&mut store, association, &registration).await
            })
            .await;
        checked(finish(&mut store, verdict)?)
    }

    /// Runs a call. The epoch bounds computing; a module with WASI can also wait without
    /// computing, and only a timer ends that.
    async fn within<T>(
        &self,
        sandbox: &Sandbox,
        call: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        if !self.wasi {
            return call.await;
        }
        match tokio::time::timeout(sandbox.limits().deadline * 4, call).await {
            Ok(result) => result,
            Err(_) => Err(Trap::Interrupt.into()),
        }
    }
}

fn no_hook() -> ModuleFault {
    ModuleFault::NoSandbox("the module has no such hook".into())
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
        if import.starts_with("wasi:") {
            wasi = true;
            continue;
        }
        let Some(interface) = contract_interface(import)? else {
            return Err(format!("imports {import}, which no gateway offers"));
        };
        if interface == "types" {
            continue;
        }
        let Some(needed) = Capability::from_name(interface) else {
            return Err(format!("imports {import}, which the contract does not have"));
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

/// The interface's name, if it is of the contract and of a version that this gateway has.
fn contract_interface(full: &str) -> Result<Option<&str>, String> {
    let Some(rest) = full.strip_prefix(PACKAGE) else { return Ok(None) };
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    if version == "0.1" || version.starts_with("0.1.") {
        Ok(Some(interface))
    } else {
        Err(format!("is of the contract {PACKAGE}…@{version}; this gateway has 0.1"))
    }
}

/// The outcome of a call: a trap as the fault that it stands for.
fn finish<T>(store: &mut Store<Call>, result: wasmtime::Result<T>) -> Result<T, ModuleFault> {
    store.data_mut().log_output();
    result.map_err(|e| classify(store, &e, false))
}

fn classify(store: &mut Store<Call>, error: &wasmtime::Error, starting: bool) -> ModuleFault {
    if let Some(fault) = store.data_mut().over.take() {
        return fault;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => ModuleFault::Deadline,
        Some(trap) => ModuleFault::Trap(trap.to_string()),
        None if starting => ModuleFault::NoSandbox(printable(&chain(error))),
        None => ModuleFault::Trap(printable(&chain(error))),
    }
}

fn chain(error: &wasmtime::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn nonsense(what: impl fmt::Display) -> ModuleFault {
    ModuleFault::Nonsense(printable(&what.to_string()))
}

fn credential(
    call: &mut Call,
    found: credential_lookup::Credential,
) -> Result<Credential, ModuleFault> {
    let entity = match found.entity {
        types::Entity::NotYetKnown => Entity::NotYetKnown,
        types::Entity::Ae(stem) => {
            Entity::Ae(AeIdStem::parse(&stem).map_err(|e| nonsense(format!("the AE-ID-Stem {e}")))?)
        }
        types::Entity::Cse(id) => {
            Entity::Cse(CseId::parse(&id).map_err(|e| nonsense(format!("the CSE-ID {e}")))?)
        }
    };
    let id = CredentialId::parse(&found.credential_id)
        .map_err(|e| nonsense(format!("the Credential-ID {e}")))?;
    let expires = match found.expires {
        None => None,
        Some(at) => {
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(at));
            Some(at.ok_or_else(|| nonsense("the expiry is no time"))?)
        }
    };
    let key = call.take_key(&found.key).and_then(crate::host::KeySource::into_key);
    let key = key.ok_or_else(|| nonsense("the key is none"))?;
    Ok(Credential { entity, id, expires, key })
}

fn checked(verdict: types::Verdict) -> Result<types::Verdict, ModuleFault> {
    match verdict {
        types::Verdict::Deny(types::Denial { rsc, reason }) => {
            if !(4000..=5999).contains(&rsc) {
                return Err(nonsense(format!("{rsc} is no Response Status Code of a refusal")));
            }
            let reason = printable(&reason);
            Ok(types::Verdict::Deny(types::Denial { rsc, reason }))
        }
        allow @ types::Verdict::Allow(_) => Ok(allow),
    }
}
