//! Load balancers in front of the gateway: HAProxy, and headers of the PROXY protocol.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;

use tempfile::NamedTempFile;

use crate::process::{Output, Running};

/// Signature of the PROXY protocol, version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Returns a header that forwards a connection of a client.
pub fn proxy_header(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().expect("an address");
    let (family, addresses) = match client.ip() {
        IpAddr::V4(v4) => (0x11, [&v4.octets()[..], &[192, 0, 2, 1]].concat()),
        IpAddr::V6(v6) => (0x21, [&v6.octets()[..], &[0; 16]].concat()),
    };
    let ports = [client.port().to_be_bytes(), 8443u16.to_be_bytes()].concat();
    proxy_header_of([0x21, family], &[addresses, ports].concat())
}

/// Returns a header of a connection of the load balancer itself.
pub fn local_proxy_header() -> Vec<u8> {
    proxy_header_of([0x20, 0], &[])
}

/// Returns a header with these bytes of version, command, family and transport, and a content.
pub fn proxy_header_of(kind: [u8; 2], content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short content").to_be_bytes();
    [SIGNATURE, &kind, &length, content].concat()
}

/// Starts HAProxy with the listening socket as its descriptor 3. The shell receives the socket as
/// its standard input.
const PASS_SOCKET: &str = "exec 3<&0 < /dev/null; exec haproxy -db -f \"$0\"";

/// HAProxy in front of a port, with health checks.
pub struct HaProxy {
    running: Running,
    port: u16,
    _configuration: NamedTempFile,
}

impl HaProxy {
    /// Forwards the connections of a free port to a port of the gateway.
    pub fn start(gateway: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let configuration = NamedTempFile::new().expect("a temporary file");
        let text = format!(
            "global\n  nbthread 1\n  maxconn 100\n  log stdout format raw local0\n\
             defaults\n  mode tcp\n  log global\n  timeout client 60s\n  timeout server 60s\n  \
             timeout connect 20s\n\
             listen gateway\n  bind fd@3\n  \
             server gateway 127.0.0.1:{gateway} send-proxy-v2 check inter 100ms\n"
        );
        std::fs::write(configuration.path(), text).expect("the file is ours");
        let mut command = Command::new("sh");
        command.env("PATH", search_path()).args(["-c", PASS_SOCKET]).arg(configuration.path());
        let listener = std::os::fd::OwnedFd::from(listener);
        let running = Running::start_between(&mut command, listener, std::process::Stdio::piped());
        Self { running, port, _configuration: configuration }
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its log.
    pub fn log(&self) -> &Output {
        &self.running.out
    }
}

/// Returns the search path with the folder of system programs, which not every user has.
fn search_path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}
