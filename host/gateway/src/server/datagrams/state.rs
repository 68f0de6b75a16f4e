//! The state of a socket that its associations share.

use std::sync::{Arc, Mutex, PoisonError};

use saegis_handshake::EngineError;
use saegis_handshake::dtls;
use saegis_policy::{Certificates, Generation};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::routes::Routes;
use crate::binding::coap::Shared;
use crate::config::Coap;
use crate::listener::peer_limits::PeerLimits;
use crate::state::Gateway;

/// Limits and ends that associations over datagrams share with all others.
#[derive(Clone)]
pub struct Common {
    /// Limits on handshakes by address.
    pub peers: PeerLimits,
    /// Permits for associations.
    pub permits: Arc<Semaphore>,
    /// Counts associations.
    pub connections: TaskTracker,
    /// Canceled when the gateway stops.
    pub stop: CancellationToken,
}

/// The associations of a socket.
pub struct Datagrams {
    /// State that all connections share.
    pub gateway: Arc<Gateway>,
    /// The socket.
    pub socket: Arc<UdpSocket>,
    /// The engine for pre-shared keys, which checks all cookies.
    pub server: Arc<dtls::Server>,
    /// The engine with certificates, and the certificates that it was created from.
    pub certificates: Mutex<Option<(Arc<Certificates>, Arc<dtls::Server>)>>,
    /// The tasks by address.
    pub routes: Arc<Routes>,
    /// Counts the associations of the socket.
    pub associations: TaskTracker,
    /// Transfers of all associations.
    pub shared: Shared,
    /// State that is shared with connections.
    pub common: Common,
}

impl Datagrams {
    /// Returns the engine for a generation.
    ///
    /// # Errors
    /// Fails if an engine rejects the content of the generation.
    pub fn engine(&self, generation: &Generation) -> Result<Arc<dtls::Server>, EngineError> {
        let Some(certificates) = generation.certificates().filter(|c| !c.own.is_empty()) else {
            return Ok(self.server.clone());
        };
        let mut kept = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, engine)) = &*kept
            && Arc::ptr_eq(of, certificates)
        {
            return Ok(engine.clone());
        }
        let engine = server(&self.gateway.config.coap)?;
        let engine = engine.with_certificates(certificates.trust.clone(), &certificates.own)?;
        let engine = Arc::new(engine);
        *kept = Some((certificates.clone(), engine.clone()));
        Ok(engine)
    }
}

/// Returns the engine for pre-shared keys.
pub(super) fn server(config: &Coap) -> Result<dtls::Server, EngineError> {
    let mtu = u32::try_from(config.datagram_bytes).unwrap_or(dtls::DEFAULT_MTU);
    let server = dtls::Server::new(&config.suites)?;
    Ok(server.with_mtu(mtu).with_psk_engine(config.psk_engine.into()))
}
