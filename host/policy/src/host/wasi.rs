//! WASI of a call: empty except for the granted capabilities.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_http::WasiHttpCtx;

use crate::data::text::printable;
use crate::host::bindings::saegis::policy::log::Level;
use crate::host::log_rate_limit::LogRateLimit;
use crate::host::outgoing_http::{self, Client, Outgoing};

/// WASI state of a call.
pub(crate) struct Wasi {
    pub context: WasiCtx,
    pub table: ResourceTable,
    output: MemoryOutputPipe,
    /// Number of output bytes that are already logged.
    logged: usize,
    pub http: WasiHttpCtx,
    pub client: Client,
}

/// Maximum number of WASI resources of a call, which use memory of the host.
const MAX_RESOURCES: usize = 256;

/// Maximum output of one call, in bytes.
const MAX_OUTPUT: usize = 16 << 10;

impl Wasi {
    /// Creates an empty WASI: without files, environment and arguments, and with network access
    /// only as granted. Runtimes of many languages import it without using more.
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

    /// Returns whether no request is active, and there is room for the output of another call.
    pub fn is_reusable(&self) -> bool {
        !self.client.is_busy() && self.logged <= MAX_OUTPUT / 2
    }

    /// Writes new output of the module to the log, and returns its last line.
    pub fn log_output(&mut self, log: &LogRateLimit) -> Option<String> {
        let output = self.output.contents();
        let printed = output.get(self.logged..).unwrap_or_default();
        let mut last = None;
        for line in String::from_utf8_lossy(printed).lines() {
            log.write(Level::Info, line);
            if !line.trim().is_empty() {
                last = Some(printable(line));
            }
        }
        self.logged = output.len();
        last
    }
}
