//! Threads that accept and serve connections, one for each processor.
//!
//! Each thread has its own runtime and its own listener. A connection stays on the thread that
//! accepted it, and so do its connections to the upstream CSE: no wake-up crosses threads. All other
//! work of the gateway runs on the runtime of the process.

use std::io;
use std::net::SocketAddr;
use std::thread;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::connection::Protocol;

/// Maximum number of blocking threads of all runtimes together.
const MAX_BLOCKING_THREADS: usize = 512;

/// A thread for connections.
pub struct ConnectionThread {
    /// Runtime of the thread.
    pub handle: Handle,
    /// Listeners of the thread.
    pub listeners: Vec<(TcpListener, Protocol)>,
    /// The runtime ends when this is dropped.
    pub running: oneshot::Sender<()>,
}

/// Starts `count` threads.
///
/// # Errors
/// Fails if a thread cannot be started.
pub fn start(count: usize) -> io::Result<Vec<ConnectionThread>> {
    let blocking = MAX_BLOCKING_THREADS.div_ceil(count.max(1));
    let start = |number: usize| -> io::Result<ConnectionThread> {
        let runtime =
            Builder::new_current_thread().max_blocking_threads(blocking).enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel();
        thread::Builder::new().name(format!("connections-{number}")).spawn(move || {
            // Ends when the sender is dropped.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(ConnectionThread { handle, listeners: Vec::new(), running })
    };
    (0..count).map(start).collect()
}

/// Gives each thread one of the listeners of a protocol, and returns their address.
///
/// # Errors
/// Fails if a listener cannot be used.
pub fn listen(
    threads: &mut [ConnectionThread],
    listeners: Vec<std::net::TcpListener>,
    protocol: Protocol,
) -> io::Result<SocketAddr> {
    let mut address = Err(io::Error::other("there is no listener"));
    for (thread, listener) in threads.iter_mut().zip(listeners) {
        let _of_runtime = thread.handle.enter();
        let listener = TcpListener::from_std(listener)?;
        address = listener.local_addr();
        thread.listeners.push((listener, protocol));
    }
    address
}
