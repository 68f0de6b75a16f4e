//! Active calls: each in a sandbox with its limits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower};
use wasmtime::{Store, Trap};

use crate::data::decision::ModuleFault;
use crate::data::service_subscription::Subscription;
use crate::data::text::printable;
use crate::host::bindings::exports::saegis::policy::key_registration_check::KeyRegistration;
use crate::host::bindings::exports::saegis::policy::registration_check::Registration;
use crate::host::bindings::exports::saegis::policy::{certificate_mapping, credential_lookup};
use crate::host::bindings::saegis::policy::types::{Association, Primitive, Verdict};
use crate::host::call::{Call, Tables};
use crate::host::cpu_time::CpuTime;
use crate::host::maf_keys::MafKeys;
use crate::module::capability::Capability;
use crate::module::hook::Hook;
use crate::sandbox::cpu_slot;
use crate::sandbox::engine::{Sandbox, error_chain};
use crate::sandbox::installed::InstalledModule;
use crate::sandbox::instance_cache::{IdleInstance, InstanceCache};
use crate::sandbox::module::Module;
use crate::sandbox::slots::{Caller, Slot};

/// Parts of a generation that a call uses: the sandbox, the tables, and the resources of the
/// module.
pub(crate) struct CallContext<'a> {
    pub sandbox: &'a Sandbox,
    pub tables: &'a Arc<Tables>,
    pub installed: &'a InstalledModule,
    pub subscription: &'a Option<Arc<Subscription>>,
    pub maf_keys: &'a Option<Arc<dyn MafKeys>>,
    /// Party on whose behalf the call is made.
    pub caller: Caller,
    /// For a call outside of decisions, the time to use. Its caller already has a slot, and it is
    /// not counted as a decision.
    pub as_of: Option<SystemTime>,
}

impl CallContext<'_> {
    /// Returns the time of the call.
    pub fn now(&self) -> SystemTime {
        self.as_of.unwrap_or_else(SystemTime::now)
    }
}

/// An active call. Fields are dropped in order: the slot is released after the store is dropped.
pub(crate) struct Invocation<'a> {
    pub store: Store<Call>,
    pub instance: Instance,
    sandbox: &'a Sandbox,
    caller: Caller,
    /// Cache for the instance after the call, and number of calls it has served.
    instances: Option<&'a InstanceCache>,
    calls: u32,
    /// Deadline of the call, including waiting.
    ends: Instant,
    slot: Option<Slot<'a>>,
}

impl Module {
    fn call(&self, view: &CallContext<'_>) -> Call {
        let (tables, files) = (view.tables.clone(), view.installed.files.clone());
        let memory = view.sandbox.limits().memory;
        let call = Call::new(tables, files, self.log.clone(), memory)
            .with_subscription(view.subscription.clone())
            .with_maf_keys(view.maf_keys.clone())
            .with_io(view.installed.io.clone());
        if self.waits() { call.counting() } else { call }
    }

    /// Creates an instance and drops it, so that a module that cannot start is found when it is
    /// installed, not at the first handshake. Must be called one at a time: there is one slot for
    /// it, which other calls cannot take. The instance has no I/O.
    pub async fn try_start(&self, sandbox: &Sandbox) -> Result<(), ModuleFault> {
        let call =
            Call::new(Arc::default(), Arc::default(), self.log.clone(), sandbox.limits().memory);
        let mut store = sandbox.store(if self.wasi { call.with_empty_wasi() } else { call });
        let instance = self.start((sandbox, Caller::Association), &mut store).await?;
        // Looks up each hook as a call does: a hook with the types of another contract would
        // otherwise match by its name.
        self.look_up_hooks(&mut store, &instance)
            .map_err(|e| ModuleFault::NoSandbox(printable(&error_chain(&e))))
    }

    fn look_up_hooks(&self, store: &mut Store<Call>, instance: &Instance) -> wasmtime::Result<()> {
        for (hook, function) in &self.functions {
            let store = &mut *store;
            match hook {
                Hook::CredentialLookup => typed::<
                    (&credential_lookup::Query,),
                    credential_lookup::Answer,
                >(store, instance, function),
                Hook::CertificateMapping => typed::<
                    (&certificate_mapping::Query,),
                    certificate_mapping::Answer,
                >(store, instance, function),
                Hook::ImpersonationCheck => {
                    typed::<(&Association, &Primitive), Verdict>(store, instance, function)
                }
                Hook::RegistrationCheck => {
                    typed::<(&Association, &Registration), Verdict>(store, instance, function)
                }
                Hook::KeyRegistrationCheck => {
                    typed::<(&Association, &KeyRegistration), Verdict>(store, instance, function)
                }
            }?;
        }
        Ok(())
    }

    /// Creates an instance.
    async fn start(
        &self,
        (sandbox, caller): (&Sandbox, Caller),
        store: &mut Store<Call>,
    ) -> Result<Instance, ModuleFault> {
        let ends = Instant::now() + self.time(sandbox);
        let bounds = Bounds { ends, cpu_time: store.data().cpu_time.clone(), sandbox, caller };
        let started = self.within(bounds, self.pre.instantiate_async(&mut *store)).await;
        store.data_mut().log_output();
        started.map_err(|e| classify(sandbox, store, &e, true))
    }

    /// Returns the time limit of a call. The epoch bounds computing. A module with WASI can also
    /// wait without computing, even if only for a CPU slot, so a timer ends it.
    fn time(&self, sandbox: &Sandbox) -> Duration {
        let limits = sandbox.limits();
        if self.waits() { limits.waiting_deadline } else { limits.deadline * 4 }
    }

    /// Prepares a call, with a new or a reused instance.
    pub async fn begin<'a>(&self, view: &CallContext<'a>) -> Result<Invocation<'a>, ModuleFault> {
        let slot = match (view.as_of, self.waits()) {
            // It would have effects outside the sandbox.
            (Some(_), true) => {
                return Err(ModuleFault::NoSandbox("only decisions may call it".into()));
            }
            (Some(_), false) => None,
            (None, waits) => Some(view.sandbox.slots(waits).take(view.caller).await?),
        };
        self.prepare(view, slot).await
    }

    /// Returns whether a call is first attempted without yielding. It must be repeatable, so it
    /// must not wait, log or be measured.
    pub fn is_attempted(&self, view: &CallContext<'_>) -> bool {
        view.as_of.is_none()
            && !self.wasi
            && !self.waits()
            && !self.capabilities.contains(&Capability::Log)
            && !view.sandbox.is_metered()
            && !self.runs_long.load(Ordering::Relaxed)
    }

    /// Prepares a call again, after an attempt was interrupted. It keeps its slot.
    pub async fn begin_again<'a>(
        &self,
        view: &CallContext<'a>,
        interrupted: Invocation<'a>,
    ) -> Result<Invocation<'a>, ModuleFault> {
        let Invocation { store, slot, .. } = interrupted;
        drop(store);
        self.prepare(view, slot).await
    }

    async fn prepare<'a>(
        &self,
        view: &CallContext<'a>,
        slot: Option<Slot<'a>>,
    ) -> Result<Invocation<'a>, ModuleFault> {
        let (sandbox, caller) = (view.sandbox, view.caller);
        let ends = Instant::now() + self.time(sandbox);
        let instances = view.installed.instances.as_deref().filter(|_| view.as_of.is_none());
        let call = self.call(view);
        if let Some(IdleInstance { mut store, instance, calls }) =
            instances.and_then(InstanceCache::take)
        {
            let call = call.reusing(store.data_mut());
            *store.data_mut() = call;
            sandbox.renew(&mut store);
            return Ok(Invocation {
                store,
                instance,
                sandbox,
                caller,
                instances,
                calls,
                ends,
                slot,
            });
        }
        let mut store = sandbox.store(if self.wasi { call.with_empty_wasi() } else { call });
        if view.as_of.is_some() {
            store.data_mut().now = view.as_of;
        }
        let instance = self.start((sandbox, caller), &mut store).await?;
        Ok(Invocation { store, instance, sandbox, caller, instances, calls: 0, ends, slot })
    }

    /// Runs a call within its time limit.
    pub async fn within<T>(
        &self,
        Bounds { ends, cpu_time, sandbox, caller }: Bounds<'_>,
        call: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        match cpu_time {
            Some(cpu_time) => {
                let slots = (sandbox.computing(), caller);
                bounded(ends, cpu_slot::count(&cpu_time, slots, call)).await
            }
            None if self.wasi => bounded(ends, call).await,
            None => call.await,
        }
    }
}

/// Time limits of a call.
pub(crate) struct Bounds<'a> {
    ends: Instant,
    cpu_time: Option<Arc<CpuTime>>,
    sandbox: &'a Sandbox,
    caller: Caller,
}

/// Checks the types of a function.
fn typed<P, R>(
    store: &mut Store<Call>,
    instance: &Instance,
    function: &ComponentExportIndex,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lower,
    (R,): ComponentNamedList + Lift,
{
    instance.get_typed_func::<P, (R,)>(store, function).map(|_| ())
}

async fn bounded<T>(
    ends: Instant,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> wasmtime::Result<T> {
    match tokio::time::timeout_at(ends, call).await {
        Ok(result) => result,
        Err(_) => Err(Trap::Interrupt.into()),
    }
}

impl<'a> Invocation<'a> {
    /// Returns the time limits.
    pub fn bounds(&self) -> Bounds<'a> {
        let cpu_time = self.store.data().cpu_time.clone();
        Bounds { ends: self.ends, cpu_time, sandbox: self.sandbox, caller: self.caller }
    }

    /// Returns the result of the call, and converts a trap to its fault.
    pub fn finish<T>(&mut self, result: wasmtime::Result<T>) -> Result<T, ModuleFault> {
        self.sandbox.measure(&self.store);
        self.store.data_mut().log_output();
        result.map_err(|e| classify(self.sandbox, &mut self.store, &e, false))
    }

    /// Records the successful end of the call.
    pub fn end(self) {
        let Invocation { store, instance, instances, calls, slot: _slot, .. } = self;
        if let Some(instances) = instances {
            instances.put(IdleInstance { store, instance, calls: calls + 1 });
        } else {
            drop(store);
        }
    }
}

fn classify(
    sandbox: &Sandbox,
    store: &mut Store<Call>,
    error: &wasmtime::Error,
    starting: bool,
) -> ModuleFault {
    if let Some(fault) = store.data_mut().fault.take() {
        return fault;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => sandbox.limits().deadline_fault(store.data().cpu_time.is_some()),
        Some(trap) => ModuleFault::Trap(match store.data_mut().last_line.take() {
            Some(line) => format!("{trap}, after its line: {line}"),
            None => trap.to_string(),
        }),
        None if starting => ModuleFault::NoSandbox(printable(&error_chain(error))),
        None => ModuleFault::Trap(printable(&error_chain(error))),
    }
}
