//! State of a call.
//!
//! Handles are indexes into this state, so they are only valid during the call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::saef::Saef;
use wasmtime::component::Resource;
use wasmtime::{ResourceLimiter, Result, bail};
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use crate::data::decision::ModuleFault;
use crate::data::service_subscription::Subscription;
use crate::data::table::{Row, Table};
use crate::host::capabilities::IoCapabilities;
use crate::host::cpu_time::CpuTime;
use crate::host::handles::KeyHandle;
use crate::host::log_rate_limit::LogRateLimit;
use crate::host::maf_keys::MafKeys;
use crate::host::wasi::Wasi;
use crate::sandbox::limits::{CORE_INSTANCES_PER_CALL, MEMORIES_PER_CALL};

/// Tables of a generation, by name.
pub(crate) type Tables = BTreeMap<String, Arc<Table>>;
/// Files that a module may read, by name.
pub(crate) type Files = BTreeMap<String, Arc<[u8]>>;

/// Maximum number of handles of one type that a call may create, dropped ones included.
///
/// Beyond it, a function returns the value that the contract has for this case:
/// `policy-tables.find` the error `too-many-rows`, `supply-key-bytes.supply` none. The contract has
/// none for `row.key` and `maf-keys.retrieve`, so these end the call as a fault of the module.
pub(super) const MAX_HANDLES: usize = 64;

/// The error for a key handle beyond the maximum.
#[derive(Debug, thiserror::Error)]
#[error("the call requested more than {MAX_HANDLES} keys")]
pub(super) struct TooManyKeys;

/// Key that a handle refers to.
pub(crate) enum ReferencedKey {
    /// Key in a policy table. Its bytes are copied only when they are needed.
    Stored { table: Arc<Table>, row: Row, column: usize },
    /// Key whose bytes the module supplied.
    Supplied(PresharedKey),
    /// Key from a MAF.
    Maf(PresharedKey),
}

impl ReferencedKey {
    /// Returns the framework of the key.
    pub fn saef(&self) -> Saef {
        match self {
            Self::Stored { .. } | Self::Supplied(_) => Saef::ProvisionedSymmetricKey,
            Self::Maf(_) => Saef::Maf,
        }
    }

    /// Returns the key.
    pub fn into_key(self) -> Option<PresharedKey> {
        match self {
            Self::Stored { table, row, column } => table.key(row, column),
            Self::Supplied(key) | Self::Maf(key) => Some(key),
        }
    }
}

/// An attempt to complete a call without yielding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The call can yield.
    #[default]
    None,
    Running,
    /// It took longer than until the next tick of the epoch.
    Interrupted,
}

/// State of a call.
pub(crate) struct Call {
    pub(super) tables: Arc<Tables>,
    pub(super) files: Arc<Files>,
    pub(super) subscription: Option<Arc<Subscription>>,
    pub(super) log: Arc<LogRateLimit>,
    pub(super) rows: Vec<(Arc<Table>, Row)>,
    pub(super) keys: Vec<Option<ReferencedKey>>,
    /// Numbers of the first row and the first key of this call: a reused instance may still have
    /// handles of earlier calls, which must be invalid.
    pub(super) first_row: usize,
    pub(super) first_key: usize,
    /// Memory limit, and the part that is left, in bytes.
    memory: usize,
    memory_left: usize,
    pub(super) maf_keys: Option<Arc<dyn MafKeys>>,
    io: Arc<IoCapabilities>,
    /// Number of open handles of the store.
    pub buckets: usize,
    /// Counts its CPU time, if the call can also wait.
    pub cpu_time: Option<Arc<CpuTime>>,
    /// MAF and RelativeKeyID that must be requested before the call can be answered.
    pub wanted_maf_key: Option<(String, String)>,
    /// Fault of an exceeded limit, which is more precise than the resulting trap.
    pub fault: Option<ModuleFault>,
    /// Last line that the module logged as a warning, or wrote to its output. It explains a trap: a
    /// panic logs its message first.
    pub last_line: Option<String>,
    /// Time that the module sees instead of the real time.
    pub now: Option<SystemTime>,
    /// Number of epoch ticks that the call has used.
    pub ticks: u64,
    /// Whether it is an attempt.
    pub attempt: Attempt,
    wasi: Option<Box<Wasi>>,
}

impl Call {
    pub fn new(
        tables: Arc<Tables>,
        files: Arc<Files>,
        log: Arc<LogRateLimit>,
        memory: usize,
    ) -> Self {
        Self {
            tables,
            files,
            subscription: None,
            log,
            rows: Vec::new(),
            keys: Vec::new(),
            first_row: 0,
            first_key: 0,
            memory,
            memory_left: memory,
            maf_keys: None,
            io: Arc::default(),
            buckets: 0,
            cpu_time: None,
            wanted_maf_key: None,
            fault: None,
            last_line: None,
            now: None,
            ticks: 0,
            attempt: Attempt::None,
            wasi: None,
        }
    }

    /// Sets the service subscription.
    pub fn with_subscription(mut self, subscription: Option<Arc<Subscription>>) -> Self {
        self.subscription = subscription;
        self
    }

    /// Sets the source of MAF keys.
    pub fn with_maf_keys(mut self, maf_keys: Option<Arc<dyn MafKeys>>) -> Self {
        self.maf_keys = maf_keys;
        self
    }

    /// Sets the I/O of the module.
    pub fn with_io(mut self, io: Arc<IoCapabilities>) -> Self {
        self.io = io;
        self
    }

    /// Counts the CPU time, because the call can also wait.
    pub fn counting(mut self) -> Self {
        self.cpu_time = Some(Arc::new(CpuTime::new()));
        self
    }

    /// Returns the I/O of the module.
    pub fn io(&self) -> &IoCapabilities {
        &self.io
    }

    /// Prepares a call of a reused instance: state of the instance stays, state of the previous
    /// call is removed.
    pub fn reusing(mut self, previous: &mut Self) -> Self {
        self.memory_left = previous.memory_left;
        self.wasi = previous.wasi.take();
        if let Some(wasi) = &mut self.wasi {
            wasi.client.renew();
        }
        self.first_row = previous.first_row + previous.rows.len();
        self.first_key = previous.first_key + previous.keys.len();
        self
    }

    /// Returns the remaining memory of the call.
    pub fn memory_left(&self) -> usize {
        self.memory_left
    }

    /// Takes the key of a handle.
    pub fn take_key(&mut self, handle: &Resource<KeyHandle>) -> Option<ReferencedKey> {
        let number = (handle.rep() as usize).checked_sub(self.first_key)?;
        self.keys.get_mut(number)?.take()
    }

    /// Creates a handle of a key.
    pub(super) fn new_key(
        &mut self,
        key: ReferencedKey,
    ) -> Result<Resource<KeyHandle>, TooManyKeys> {
        if self.keys.len() >= MAX_HANDLES {
            return Err(TooManyKeys);
        }
        let number = u32::try_from(self.first_key + self.keys.len()).map_err(|_| TooManyKeys)?;
        self.keys.push(Some(key));
        Ok(Resource::new_own(number))
    }
}

/// Maximum number of elements of a table of a module.
const MAX_TABLE_ELEMENTS: usize = 20_000;

impl Call {
    /// Adds the empty WASI.
    pub fn with_empty_wasi(mut self) -> Self {
        self.wasi();
        self
    }

    /// Returns the WASI of the call.
    fn wasi(&mut self) -> &mut Wasi {
        let Self { wasi, io, log, .. } = self;
        wasi.get_or_insert_with(|| Box::new(Wasi::new(io.http.clone(), log.clone())))
    }

    /// Returns whether the instance can be reused: no operation of this call is active or open, and
    /// there is room for the output of the next call.
    pub fn is_reusable(&self) -> bool {
        self.buckets == 0 && self.wasi.as_ref().is_none_or(|wasi| wasi.is_reusable())
    }

    /// Writes the output of the module to the log.
    pub fn log_output(&mut self) {
        let Self { wasi, log, last_line, .. } = self;
        if let Some(wasi) = wasi {
            let printed = wasi.log_output(log);
            *last_line = printed.or(last_line.take());
        }
    }
}

impl WasiView for Call {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

impl WasiHttpView for Call {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Wasi { table, client, http, .. } = self.wasi();
        WasiHttpCtxView { hooks: client, table, ctx: http }
    }
}

impl ResourceLimiter for Call {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        match self.memory_left.checked_sub(desired.saturating_sub(current)) {
            Some(left) => {
                self.memory_left = left;
                Ok(true)
            }
            None => {
                // The resulting trap would be less precise.
                self.fault = Some(ModuleFault::Memory { limit: self.memory });
                bail!("the memory limit is reached")
            }
        }
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            self.fault = Some(ModuleFault::Table { limit: MAX_TABLE_ELEMENTS });
            bail!("the table limit is reached")
        }
        Ok(true)
    }

    // A pool has the same limits.
    fn instances(&self) -> usize {
        CORE_INSTANCES_PER_CALL as usize
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES_PER_CALL as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_PER_CALL as usize
    }
}
