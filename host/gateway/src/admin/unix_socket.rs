//! Server of the admin socket.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use zeroize::Zeroizing;

use super::commands::Commands;
use super::protocol::{MAX_LINE, Request, Response};
use crate::admin::backup;
use crate::telemetry::admin_audit;

/// Timeout for the request of a client.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of the creation of the admin socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminSocketError {
    /// Another process answers at the socket.
    #[error("another gateway answers at {}", saegis_policy::Shown(.0))]
    InUse(PathBuf),
    /// A system call failed.
    #[error("cannot bind {}: {error}", saegis_policy::Shown(.path))]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// Cause.
        error: io::Error,
    },
}

/// Admin socket of a gateway. It is removed when this is dropped.
pub struct Admin {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Admin {
    /// Binds the socket and serves requests.
    ///
    /// # Errors
    /// Fails if the socket cannot be bound.
    pub fn listen(commands: Arc<Commands>) -> Result<Self, AdminSocketError> {
        let config = &commands.gateway.config;
        let path = config.admin.socket.clone();
        let listener = bind(&path)?;
        // No other gateway uses the state folder, and no client has requested a backup yet.
        backup::remove_copies(config);
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let commands = commands.clone();
                        tokio::spawn(async move {
                            // A client that closes its connection is not an error.
                            let _ = serve(&commands, stream).await;
                        });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Self { path, task })
    }
}

fn bind(path: &Path) -> Result<UnixListener, AdminSocketError> {
    let io = |error| AdminSocketError::Io { path: path.into(), error };
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    }
    // A socket that a killed gateway left behind is removed. One that is in use belongs to another
    // gateway.
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(AdminSocketError::InUse(path.into())),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            // Connecting to a plain file fails in the same way, but the file must not be removed.
            let meta = std::fs::symlink_metadata(path).map_err(io)?;
            if !meta.file_type().is_socket() {
                return Err(io(io::Error::other("the path exists and is not a socket")));
            }
            std::fs::remove_file(path).map_err(io)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(io)?;
    Ok(listener)
}

/// Returns whether a user is the one that runs the gateway, or root. The mode of the socket has the
/// same effect, but it is set shortly after the socket is created.
fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

async fn serve(commands: &Commands, mut stream: UnixStream) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if !is_owner(uid) {
        return Ok(());
    }
    let mut line = String::new();
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(4096));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            if let Some(command) = request.change() {
                admin_audit::administered(&command, uid);
            }
            commands.carry_out(request, uid).await
        }
        Err(e) => Response::error(format!("invalid request: {e}")),
    };
    // It may have the secret of a link.
    let mut text = Zeroizing::new(serde_json::to_string(&answer)?);
    if text.len() as u64 >= MAX_LINE {
        *text = serde_json::to_string(&Response::error("the response is too long"))?;
    }
    text.push('\n');
    tokio::time::timeout(REQUEST_TIMEOUT, writer.write_all(text.as_bytes())).await??;
    writer.shutdown().await
}
