//! The engine of the sandboxes: a pool of prepared slots, and the clock that ends calls.

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

use crate::data::decision::ModuleFault;
use crate::data::shown::Shown;
use crate::host::call::Call;
use crate::host::linker;
use crate::module::capability::Capability;
use crate::module::grants::Grants;
use crate::sandbox::instance_cache::MAX_IDLE_INSTANCES;
use crate::sandbox::limits::Limits;
use crate::sandbox::meter::Meter;
use crate::sandbox::observer::{CompletedCall, CompletedComparison, Observer};
use crate::sandbox::slots::Slots;

/// How often the epoch advances, and so how long a call may keep a thread to itself: at each tick
/// it yields to the others.
const TICK: Duration = Duration::from_millis(5);

/// Bytes of a memory and of a table that stay mapped when a slot is given back, so that the next
/// instance pays no page faults for them. Shipped modules touch less.
const RETAINED_CAPACITY: usize = 256 << 10;

/// A component of a heavy runtime holds this many core instances at the most (Python: 38).
const CORE_INSTANCES_PER_CALL: u32 = 48;

/// A component has one memory, or two where an adapter of WASI brings its own.
const MEMORIES_PER_CALL: u32 = 4;

/// Calls beside the decisions, at a time: of shadow modules, which are asked one by one. They have slots
/// of their own.
const SHADOW_CALLS: usize = 1;

/// Calls that may wait for a slot of those that wait for I/O, of each half of them.
const MAX_QUEUED: usize = 1024;

/// The part of the slots that one peer address may have before its credential is known: one in so many. Few of
/// those who compute, for all of them share the processors.
const PER_PEER_COMPUTING: usize = 32;
const PER_PEER_WAITING: usize = 4;

/// Data that one call of the host may take out of a module, in units of about a byte.
const HOSTCALL_FUEL: usize = 1 << 20;

/// The engine, and what bounds the calls made with it.
pub(crate) struct Sandbox {
    engine: Engine,
    limits: Limits,
    /// Calls under way; a slot of the pool each.
    slots: Arc<Slots>,
    /// Calls under way that wait for I/O. They have slots of their own, so that those who compute have
    /// theirs, however many wait.
    waiting: Arc<Slots>,
    /// Of the calls that have one, those that compute.
    computing: Arc<Slots>,
    observer: Option<Arc<dyn Observer>>,
    /// The meter of all calls, where they are measured.
    meter: Option<Arc<Meter>>,
    /// The time that modules see, if not the true time.
    now: Option<SystemTime>,
    _ticker: Arc<Ticker>,
}

/// Instructions that a call may execute where they are counted. It ends by its deadline first.
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

    /// A sandbox in which what calls use is added up.
    pub fn metered(limits: &Limits, meter: Arc<Meter>) -> wasmtime::Result<Self> {
        let limits = Limits { waiting_calls: limits.concurrent_calls, ..limits.clone() };
        Self::with_meter(limits, MAX_IDLE_INSTANCES, None, Some(meter.clone()), Some(meter))
    }

    /// The same engine, with other bounds and another time of day.
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
        // One more, for the module that is about to be installed.
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
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .consume_fuel(meter.is_some())
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .cranelift_opt_level(OptLevel::Speed)
            .max_wasm_stack(256 << 10)
            .async_stack_size(512 << 10)
            .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(4));
        if let Some(folder) = code_cache {
            private_folder(folder)?;
            let mut cache = CacheConfig::new();
            cache.with_directory(folder.canonicalize()?);
            config.cache(Some(Cache::new(cache)?));
        }
        let engine = Engine::new(&config)?;
        let calls = limits.concurrent_calls;
        let computing = || Slots::new(calls, calls / PER_PEER_COMPUTING, None);
        let calls = limits.waiting_calls;
        let waiting = Slots::new(calls, calls / PER_PEER_WAITING, Some(MAX_QUEUED));
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

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Links a component to the capabilities that it was granted.
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

    /// The slots of calls: of those that only compute, or of those that wait for I/O.
    pub fn slots(&self, waits: bool) -> &Slots {
        if waits { &self.waiting } else { &self.slots }
    }

    /// The slots of calls that wait for I/O, while they compute: as many as there are for those that do not.
    pub fn computing(&self) -> &Slots {
        &self.computing
    }

    /// A store for one call, with its deadline set.
    pub fn store(&self, call: Call) -> Store<Call> {
        let mut store = Store::new(&self.engine, call);
        store.limiter(|call| call);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        self.renew(&mut store);
        let deadline = self.limits.deadline;
        let tick = TICK.as_millis().max(1);
        let ticks = deadline.as_millis().div_ceil(tick).max(1);
        store.epoch_deadline_callback(move |mut context| {
            let call = context.data_mut();
            call.ticks += 1;
            let over = match &call.cpu_time {
                // The first tick may come at once, so it does not count.
                None => u128::from(call.ticks) > ticks,
                // Ticks pass while it waits, too.
                Some(cpu_time) => cpu_time.elapsed() > deadline,
            };
            if over {
                call.fault = Some(ModuleFault::Deadline);
                Ok(UpdateDeadline::Interrupt)
            } else {
                if let Some(cpu_time) = &call.cpu_time {
                    cpu_time.note_yield();
                }
                // Behind everything else that is ready, and behind the sockets: a task that only wakes
                // itself would keep the runtime from looking at those.
                Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
            }
        });
        store
    }

    /// Sets what is counted of a call to its start.
    pub fn renew(&self, store: &mut Store<Call>) {
        if self.meter.is_some() {
            // It fails only in an engine that does not count.
            let _ = store.set_fuel(FUEL);
        }
        store.data_mut().now = self.now;
        store.set_epoch_deadline(1);
    }
}

impl Sandbox {
    /// Adds up what a call has used.
    pub fn measure(&self, store: &Store<Call>) {
        if let Some(meter) = &self.meter {
            let left = store.get_fuel().unwrap_or(FUEL);
            let memory = self.limits.memory.saturating_sub(store.data().memory_left());
            meter.add(FUEL.saturating_sub(left), memory);
        }
    }
}

/// Makes a folder that nobody else may write to, or checks that it is one: compiled code that is
/// found in it is run as it is.
fn private_folder(folder: &Path) -> wasmtime::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let meta = std::fs::metadata(folder)?;
    let owner = meta.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        wasmtime::bail!("the code cache {} is another user's; what is in it is run", Shown(folder));
    }
    let mode = meta.permissions().mode();
    if mode & 0o022 != 0 {
        wasmtime::bail!(
            "the code cache {} can be written by others (mode {:o}); take that right from them, \
             for what is in it is run",
            Shown(folder),
            mode & 0o777,
        );
    }
    Ok(())
}

/// Advances the engine's epoch for as long as the sandbox lives.
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
            // It can't panic, and if it did there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

/// An error with what is behind it.
pub(crate) fn error_chain(error: &wasmtime::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
