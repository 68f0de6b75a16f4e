//! Engine of the sandboxes: a pool of prepared slots, and the clock that ends calls.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{
    Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig, Store, UpdateDeadline,
};

use crate::data::shown::Shown;
use crate::host::call::{Attempt, Call};
use crate::host::linker;
use crate::module::capability::Capability;
use crate::module::grants::Grants;
use crate::sandbox::instance_cache::MAX_IDLE_INSTANCES;
use crate::sandbox::limits::{CORE_INSTANCES_PER_CALL, Limits, MEMORIES_PER_CALL};
use crate::sandbox::meter::Meter;
use crate::sandbox::observer::{CompletedCall, CompletedComparison, Observer};
use crate::sandbox::slots::Slots;

/// Interval of the epoch, and thereby the maximum time that a call can occupy a thread: it yields
/// at each tick.
const TICK: Duration = Duration::from_millis(5);

/// Bytes of a memory and of a table that stay mapped when a slot is released, so that the next
/// instance has no page faults for them. The shipped modules use less.
const RETAINED_CAPACITY: usize = 256 << 10;

/// Size of a page of a linear memory, in bytes.
const WASM_PAGE: usize = 64 << 10;

/// Maximum number of concurrent calls of shadow modules, which are called one at a time. They have
/// separate slots.
const SHADOW_CALLS: usize = 1;

/// Maximum number of queued calls of modules with I/O, in each half of their slots.
const MAX_QUEUED: usize = 1024;

/// Divisor for the share of the slots of one peer address before its credential is known, and of one
/// credential after that. Computing calls get few, because they share the processors.
const PER_PARTY_COMPUTING: usize = 32;
const PER_PARTY_WAITING: usize = 4;

/// Maximum data that one host call may copy out of a module, in units of about a byte.
const HOSTCALL_FUEL: usize = 1 << 20;

/// The engine, and the limits of its calls.
pub(crate) struct Sandbox {
    engine: Engine,
    limits: Limits,
    /// Active calls; each has a slot of the pool.
    slots: Arc<Slots>,
    /// Active calls of modules with I/O. They use separate slots, so that they cannot starve
    /// compute-only modules.
    waiting: Arc<Slots>,
    /// Calls of modules with I/O that are computing.
    computing: Arc<Slots>,
    observer: Option<Arc<dyn Observer>>,
    /// Meter of all calls, if they are measured.
    meter: Option<Arc<Meter>>,
    /// Time that modules see instead of the real time.
    now: Option<SystemTime>,
    _ticker: Arc<Ticker>,
}

/// Instructions that a call may execute when they are counted. Its deadline ends it earlier.
const FUEL: u64 = u64::MAX;

impl Sandbox {
    pub fn new(
        limits: &Limits,
        grants: &Grants,
        code_cache: Option<&Path>,
        observer: Option<Arc<dyn Observer>>,
    ) -> wasmtime::Result<Self> {
        let mut limits = limits.clone();
        if !grants.anybody_waits() {
            limits.waiting_calls = 0;
        }
        let idle_instances = grants.reuse.len() * MAX_IDLE_INSTANCES;
        Self::with_meter(limits, idle_instances, code_cache, observer, None)
    }

    /// Creates a sandbox that measures the resources of calls.
    pub fn metered(
        limits: &Limits,
        code_cache: Option<&Path>,
        meter: Arc<Meter>,
    ) -> wasmtime::Result<Self> {
        let limits = Limits { waiting_calls: limits.concurrent_calls, ..limits.clone() };
        Self::with_meter(limits, MAX_IDLE_INSTANCES, code_cache, Some(meter.clone()), Some(meter))
    }

    /// Returns the same engine, with other limits and another time.
    pub fn with(&self, limits: Limits, now: Option<SystemTime>) -> Self {
        Self {
            engine: self.engine.clone(),
            limits,
            slots: self.slots.clone(),
            waiting: self.waiting.clone(),
            computing: self.computing.clone(),
            observer: self.observer.clone(),
            meter: self.meter.clone(),
            now,
            _ticker: self._ticker.clone(),
        }
    }

    fn with_meter(
        limits: Limits,
        idle_instances: usize,
        code_cache: Option<&Path>,
        observer: Option<Arc<dyn Observer>>,
        meter: Option<Arc<Meter>>,
    ) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .consume_fuel(meter.is_some())
            .cranelift_opt_level(OptLevel::Speed)
            .max_wasm_stack(256 << 10)
            .async_stack_size(512 << 10)
            .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(4));
        allocate(&mut config, &limits, idle_instances)?;
        if let Some(folder) = code_cache {
            private_folder(folder)?;
            let mut cache = CacheConfig::new();
            cache.with_directory(folder.canonicalize()?);
            config.cache(Some(Cache::new(cache)?));
        }
        let engine = Engine::new(&config)?;
        let calls = limits.concurrent_calls;
        let computing = || Slots::new(calls, calls / PER_PARTY_COMPUTING, None);
        let calls = limits.waiting_calls;
        let waiting = Slots::new(calls, calls / PER_PARTY_WAITING, Some(MAX_QUEUED));
        Ok(Self {
            _ticker: Arc::new(Ticker::start(engine.clone())?),
            engine,
            slots: Arc::new(computing()),
            waiting: Arc::new(waiting),
            computing: Arc::new(computing()),
            limits,
            observer,
            meter,
            now: None,
        })
    }

    /// Reports a call to the observer.
    pub fn report(&self, decided: &CompletedCall<'_>) {
        if let Some(observer) = &self.observer {
            observer.decided(decided);
        }
    }

    /// Reports a comparison with a shadow module to the observer.
    pub fn report_comparison(&self, compared: &CompletedComparison<'_>) {
        if let Some(observer) = &self.observer {
            observer.compared(compared);
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns whether the resources of calls are measured.
    pub fn is_metered(&self) -> bool {
        self.meter.is_some()
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Links a component to its granted capabilities.
    pub fn link(
        &self,
        component: &Component,
        granted: &[Capability],
        wasi: bool,
    ) -> wasmtime::Result<InstancePre<Call>> {
        let mut linker = Linker::new(&self.engine);
        linker::link(&mut linker, None)?;
        for &capability in granted {
            linker::link(&mut linker, Some(capability))?;
        }
        if wasi {
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        }
        linker.instantiate_pre(component)
    }

    /// Returns the slots of calls: of compute-only modules, or of modules with I/O.
    pub fn slots(&self, waits: bool) -> &Slots {
        if waits { &self.waiting } else { &self.slots }
    }

    /// Returns the CPU slots of modules with I/O: as many as there are for compute-only modules.
    pub fn computing(&self) -> &Slots {
        &self.computing
    }

    /// Creates a store for one call, with its deadline.
    pub fn store(&self, call: Call) -> Store<Call> {
        let mut store = Store::new(&self.engine, call);
        store.limiter(|call| call);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        self.renew(&mut store);
        let deadline = self.limits.deadline;
        let too_long = self.limits.deadline_fault(false);
        let tick = TICK.as_millis().max(1);
        let ticks = deadline.as_millis().div_ceil(tick).max(1);
        store.epoch_deadline_callback(move |mut context| {
            let call = context.data_mut();
            if call.attempt == Attempt::Running {
                call.attempt = Attempt::Interrupted;
                return Ok(UpdateDeadline::Interrupt);
            }
            call.ticks += 1;
            let over = match &call.cpu_time {
                // The first tick may come at once, so it does not count.
                None => u128::from(call.ticks) > ticks,
                // Ticks also pass while it waits.
                Some(cpu_time) => cpu_time.elapsed() > deadline,
            };
            if over {
                call.fault = Some(too_long.clone());
                Ok(UpdateDeadline::Interrupt)
            } else {
                if let Some(cpu_time) = &call.cpu_time {
                    cpu_time.note_yield();
                }
                // Yields to all ready tasks and to the I/O driver: a task that only wakes itself
                // would delay the I/O driver.
                Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
            }
        });
        store
    }

    /// Resets the counters of a store for a new call.
    pub fn renew(&self, store: &mut Store<Call>) {
        if self.meter.is_some() {
            // Fails only in an engine that does not count.
            let _ = store.set_fuel(FUEL);
        }
        store.data_mut().now = self.now;
        store.set_epoch_deadline(1);
    }
}

impl Sandbox {
    /// Adds the resources of a call to the meter.
    pub fn measure(&self, store: &Store<Call>) {
        if let Some(meter) = &self.meter {
            let left = store.get_fuel().unwrap_or(FUEL);
            let memory = self.limits.memory.saturating_sub(store.data().memory_left());
            meter.add(FUEL.saturating_sub(left), memory);
        }
    }
}

/// Configures the memory of sandboxes.
fn allocate(config: &mut Config, limits: &Limits, idle_instances: usize) -> wasmtime::Result<()> {
    if !limits.pool {
        // Each memory has its own mapping of the maximum size, and its accesses are checked against
        // that size. A pool relies on 4 GiB of addresses for each memory instead.
        let memory = limits.memory.next_multiple_of(WASM_PAGE) as u64;
        config
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .memory_reservation(memory)
            .memory_reservation_for_growth(0)
            .memory_guard_size(WASM_PAGE as u64)
            .memory_may_move(false);
        return Ok(());
    }
    // One more, for the module that is being installed.
    let calls = Slots::count(limits.concurrent_calls) + Slots::count(limits.waiting_calls);
    let slots = u32::try_from(calls + SHADOW_CALLS + idle_instances)?.saturating_add(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_CALL))
        .max_core_instances_per_component(CORE_INSTANCES_PER_CALL)
        .total_memories(slots.saturating_mul(MEMORIES_PER_CALL))
        .max_memories_per_component(MEMORIES_PER_CALL)
        .total_tables(slots.saturating_mul(CORE_INSTANCES_PER_CALL))
        .max_tables_per_component(CORE_INSTANCES_PER_CALL)
        .total_stacks(slots)
        .max_memory_size(limits.memory)
        .linear_memory_keep_resident(RETAINED_CAPACITY)
        .table_keep_resident(RETAINED_CAPACITY)
        .async_stack_keep_resident(64 << 10)
        .max_unused_warm_slots(slots);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(())
}

/// Creates a folder to which no other user may write, or checks an existing one: compiled code in
/// it is executed unchecked.
fn private_folder(folder: &Path) -> wasmtime::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let meta = std::fs::metadata(folder)?;
    let owner = meta.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        wasmtime::bail!(
            "the code cache {} belongs to another user, and its content is executed",
            Shown(folder)
        );
    }
    let mode = meta.permissions().mode();
    if mode & 0o022 != 0 {
        wasmtime::bail!(
            "the code cache {} can be written by others (mode {:o}); remove that permission, \
             because its content is executed",
            Shown(folder),
            mode & 0o777,
        );
    }
    Ok(())
}

/// Advances the epoch of the engine while the sandbox exists.
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("policy-epoch".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread does not panic; if it did, nothing could be done here.
            let _ = thread.join();
        }
    }
}

/// Formats an error with its causes.
pub(crate) fn error_chain(error: &wasmtime::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
