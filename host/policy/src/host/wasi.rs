//! The WASI of a call: empty but for what its module was granted.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_http::WasiHttpCtx;

use crate::host::bindings::saegis::policy::log::Level;
use crate::host::log_rate_limit::LogRateLimit;
use crate::host::outgoing_http::{self, Client, Outgoing};

/// The state of WASI in a call.
pub(crate) struct Wasi {
    pub context: WasiCtx,
    pub table: ResourceTable,
    output: MemoryOutputPipe,
    /// Bytes of the output that are in the log already.
    logged: usize,
    pub http: WasiHttpCtx,
    pub client: Client,
}

/// Maximum number of WASI resources of a call: the host has them in memory.
const MAX_RESOURCES: usize = 256;

/// Maximum output of one call, in bytes.
const MAX_OUTPUT: usize = 16 << 10;

impl Wasi {
    /// Returns a WASI in which there is nothing: no files, no environment, no arguments, and no
    /// network but what the module was granted. Many languages' runtimes ask for it and need no more.
    pub fn new(outgoing: Option<Arc<Outgoing>>, log: Arc<LogRateLimit>) -> Self {
        let output = MemoryOutputPipe::new(MAX_OUTPUT);
        let context = wasmtime_wasi::WasiCtxBuilder::new()
            .stdout(output.clone())
            .stderr(output.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(4096)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let client = Client::new(outgoing, log);
        Self { context, table, output, logged: 0, http: outgoing_http::bounds(), client }
    }

    /// Whether no request is under way, and there is room for the output of another call.
    pub fn is_reusable(&self) -> bool {
        !self.client.is_busy() && self.logged <= MAX_OUTPUT / 2
    }

    /// Writes the new output of the module to the log.
    pub fn log_output(&mut self, log: &LogRateLimit) {
        let output = self.output.contents();
        let printed = output.get(self.logged..).unwrap_or_default();
        for line in String::from_utf8_lossy(printed).lines() {
            log.write(Level::Info, line);
        }
        self.logged = output.len();
    }
}
