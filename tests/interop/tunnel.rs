//! A tunnel for clients that have no TLS with pre-shared keys.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use saegis_tests::{Credential, Running, wait_until};
use tempfile::TempDir;

/// stunnel as a client with a pre-shared key.
pub struct Tunnel {
    _folder: TempDir,
    _running: Running,
}

impl Tunnel {
    /// Starts a tunnel from a port of this machine to that of a gateway.
    pub fn start(port: u16, to: u16, credential: Credential<'_>) -> Self {
        let Credential { identity, key } = credential;
        let folder = TempDir::with_prefix("saegis-stunnel-").expect("a temporary folder");
        let keys = folder.path().join("keys");
        let secret = format!("{identity}:{key}\n");
        fs::write(&keys, secret).expect("it is ours");
        let configuration = format!(
            "foreground = yes\npid =\n[cse]\nclient = yes\naccept = 127.0.0.1:{port}\n\
             connect = 127.0.0.1:{to}\nciphers = PSK-AES128-CBC-SHA256\nsslVersion = TLSv1.2\n\
             PSKsecrets = {}\nPSKidentity = {identity}\n",
            keys.display()
        );
        let file = folder.path().join("stunnel.conf");
        fs::write(&file, configuration).expect("it is ours");
        let running = Running::start(Command::new("stunnel").arg(&file));
        wait_until("stunnel listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { _folder: folder, _running: running }
    }
}
