//! Establishes associations over datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use saegis_certificate::{OwnCertificate, Trust};
use saegis_handshake::Suite;
use saegis_handshake::certificate::Expected;
use saegis_handshake::dtls::{CertificateClient, Connected, PskClient};
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::KpsaId;
use tokio::net::UdpSocket;

/// The credential of an association over datagrams.
pub enum DatagramProof<'a> {
    /// Pre-shared key, with the suites to offer.
    Key(&'a [Suite], KpsaId, PresharedKey),
    /// Certificate, and the identity that the certificate of the peer must prove.
    Certificate(Arc<Trust>, &'a OwnCertificate, Expected),
}

/// Returns the first address of `host:port`.
///
/// # Errors
/// Returns an error if the name has no address.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = tokio::net::lookup_host(address).await.map_err(|e| e.to_string())?;
    found.next().ok_or_else(|| "its name has no address".into())
}

/// Establishes an association with the peer at an address. `name` is its domain name or address,
/// if it is known; a domain name is sent as server name indication.
///
/// # Errors
/// Returns the reason why there is no association, at the latest after `timeout`.
pub async fn connect_datagrams(
    address: SocketAddr,
    name: Option<&str>,
    proof: DatagramProof<'_>,
    timeout: Duration,
) -> Result<Connected, String> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.map_err(|e| e.to_string())?;
    socket.connect(address).await.map_err(|e| format!("{address}: {e}"))?;
    match proof {
        DatagramProof::Key(suites, id, key) => {
            let client = PskClient::new(suites, id, key).map_err(|e| e.to_string())?;
            let name = name.filter(|name| name.parse::<std::net::IpAddr>().is_err());
            client.connect(socket, name, timeout).await.map_err(|e| e.to_string())
        }
        DatagramProof::Certificate(trust, own, expected) => {
            let name = name.ok_or("its domain name is not known")?;
            let client = CertificateClient::new(trust, own).map_err(|e| e.to_string())?;
            client.connect(socket, name, expected, timeout).await.map_err(|e| e.to_string())
        }
    }
}
