//! The WASI of a call: nothing is in it but what its module was granted.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

use super::Call;
use crate::host::bindings::saegis::policy::log::Level;
use crate::host::outgoing_http::{self, Client};

/// What a call with WASI has.
pub(crate) struct Wasi {
    context: WasiCtx,
    pub table: ResourceTable,
    output: MemoryOutputPipe,
    /// How much of the output is in the log already.
    logged: usize,
    pub http: WasiHttpCtx,
    pub client: Client,
}

/// Resources of WASI that a call may have at a time: the host has them in memory.
const MAX_RESOURCES: usize = 256;

/// What a module may print in one call, in bytes.
const MAX_OUTPUT: usize = 16 << 10;

impl Call {
    /// Gives the call a WASI in which there is nothing: no files, no environment, no arguments, and no
    /// network but what its module was granted. Many languages' runtimes ask for it and need no more.
    pub fn with_empty_wasi(mut self) -> Self {
        self.wasi();
        self
    }

    /// The call's WASI.
    pub fn wasi(&mut self) -> &mut Wasi {
        self.wasi.get_or_insert_with(|| {
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
            let client = Client::new(self.io.http.clone(), self.log.clone());
            let http = outgoing_http::bounds();
            Box::new(Wasi { context, table, output, logged: 0, http, client })
        })
    }

    /// Whether the instance can be used for another call: nothing of this one is under way or open, and there
    /// is room for what the next one prints.
    pub fn leaves_nothing(&self) -> bool {
        self.buckets == 0
            && self.wasi.as_ref().is_none_or(|w| !w.client.is_busy() && w.logged <= MAX_OUTPUT / 2)
    }

    /// Writes what the module printed to the log.
    pub fn log_output(&mut self) {
        if let Some(wasi) = &mut self.wasi {
            let output = wasi.output.contents();
            let printed = output.get(wasi.logged..).unwrap_or_default();
            for line in String::from_utf8_lossy(printed).lines() {
                self.log.write(Level::Info, line);
            }
            wasi.logged = output.len();
        }
    }
}

impl WasiView for Call {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}
