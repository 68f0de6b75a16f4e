//! One association over datagrams, from its handshake to its end.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use saegis_handshake::Refusal;
use saegis_handshake::dtls::{Accepted, ClientHello, Credentials, Transport};
use saegis_policy::Generation;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::routes::RouteGuard;
use super::state::Datagrams;
use crate::binding::coap::{self, Link};
use crate::listener::peer_limits::ActiveHandshake;
use crate::pipeline::Pipeline;
use crate::server::connection::{DISPLACED, failed, refused};
use crate::server::served_session::ServedSession;
use crate::session::revalidation::{CredentialRevalidation, PolicyLookup, PolicyMapping};
use crate::state::Gateway;

/// Reason for ending a handshake after another ClientHello of the same address.
const REPLACED: &str = "the client started another handshake from the same port";

/// The task of an address.
pub struct Association {
    /// All associations of the socket.
    pub all: Arc<Datagrams>,
    /// Address of the peer, in IPv4 where it has such.
    pub canonical: SocketAddr,
    /// Entry for the datagrams of the address.
    pub route: RouteGuard,
}

/// An established association.
struct Established {
    accepted: Accepted,
    evidence: CredentialRevalidation,
    permit: OwnedSemaphorePermit,
    incoming: mpsc::Receiver<Vec<u8>>,
}

/// The credential lookups of a handshake.
struct Lookups {
    generation: Arc<Generation>,
    lookup: Arc<PolicyLookup>,
    mapping: Arc<PolicyMapping>,
}

impl Lookups {
    fn new(gateway: &Gateway, peer: IpAddr) -> Self {
        let generation = gateway.policy.current();
        let lookup = Arc::new(PolicyLookup::new(gateway.policy.clone(), peer));
        let mapping = PolicyMapping::new(generation.clone(), gateway.rules.clone(), peer);
        Self { generation, lookup, mapping: Arc::new(mapping) }
    }

    /// Returns whether the peer has presented a credential.
    fn have_started(&self) -> bool {
        self.lookup.has_started() || self.mapping.has_started()
    }
}

/// Performs a handshake. Returns `None` if another one replaces it.
///
/// The queue of a replaced handshake ends too, and the handshake may fail by that first.
async fn unless_replaced<T, E>(
    replaced: &CancellationToken,
    handshake: impl Future<Output = Result<T, E>>,
) -> Option<Result<T, E>> {
    tokio::select! {
        biased;
        () = replaced.cancelled() => None,
        outcome = handshake => Some(outcome).filter(|o| o.is_ok() || !replaced.is_cancelled()),
    }
}

impl Association {
    /// Performs the handshake, and serves the association until it ends.
    pub async fn serve(
        self,
        hello: ClientHello,
        incoming: mpsc::Receiver<Vec<u8>>,
        active: ActiveHandshake,
    ) {
        let start = Instant::now();
        // Boxed, so that the memory of the handshake is released when it is over.
        let established = Box::pin(self.establish(hello, incoming, active, start)).await;
        let Some(Established { accepted, evidence, permit, incoming }) = established else {
            return;
        };
        let Accepted { association, channel, exported } = accepted;
        let gateway = &self.all.gateway;
        let begin = ServedSession::begin(gateway, (association, exported), evidence, permit, start);
        let served = Box::pin(begin).await;
        let pipeline = Pipeline::new(gateway.clone());
        self.route.establish();
        let link = Link {
            channel,
            incoming,
            socket: self.all.socket.clone(),
            peer: self.route.peer,
            replaced: self.route.replaced.clone(),
        };
        let (shared, stop) = (&self.all.shared, &self.all.common.stop);
        let why = coap::serve(link, &pipeline, &served.session, shared, stop).await;
        served.close().await;
        served.log_end(why);
    }

    /// Performs the handshake, and waits for a permit. The handshake counts as active until then.
    async fn establish(
        &self,
        hello: ClientHello,
        mut incoming: mpsc::Receiver<Vec<u8>>,
        active: ActiveHandshake,
        start: Instant,
    ) -> Option<Established> {
        let (gateway, peer) = (&self.all.gateway, self.canonical);
        let deadline = start + gateway.config.limits.handshake();
        let lookups = Lookups::new(gateway, peer.ip());
        let handshake = self.handshake(hello, &mut incoming, &lookups);
        let outcome = tokio::select! {
            biased;
            outcome = unless_replaced(&self.route.replaced, handshake) => outcome,
            () = active.displaced() => {
                refused(gateway, peer, "displaced", DISPLACED);
                return None;
            }
        };
        let (accepted, evidence) = match outcome {
            Some(Ok(accepted)) => accepted,
            // A guess of a key counts as failed, or else it could avoid that by the next one. A
            // ClientHello alone does not, here and after a timeout: anybody can replay it from the
            // address.
            None => {
                if lookups.have_started() {
                    active.failed();
                }
                refused(gateway, peer, "replaced", REPLACED);
                return None;
            }
            Some(Err(Refusal::Connection(e))) if e.kind() == ErrorKind::TimedOut => {
                if lookups.have_started() {
                    active.failed();
                }
                refused(gateway, peer, "timeout", "the handshake took too long");
                return None;
            }
            Some(Err(refusal)) => {
                failed(gateway, peer, active, &refusal);
                return None;
            }
        };
        // At the limit it waits for another association to end, because it is authenticated by now.
        let permit = tokio::select! {
            permit = timeout_at(deadline, self.all.common.permits.clone().acquire_owned()) => permit,
            () = active.displaced() => {
                refused(gateway, peer, "displaced", DISPLACED);
                self.close(accepted);
                return None;
            }
        };
        // The semaphore is never closed.
        let Ok(Ok(permit)) = permit else {
            refused(gateway, peer, "no-place", "the maximum number of associations is reached");
            self.close(accepted);
            return None;
        };
        Some(Established { accepted, evidence, permit, incoming })
    }

    /// Ends an association that gets no permit, because its client takes it for established.
    fn close(&self, mut accepted: Accepted) {
        accepted.channel.close();
        for datagram in accepted.channel.outgoing() {
            // Delivery is best effort.
            let _ = self.all.socket.try_send_to(&datagram, self.route.peer);
        }
    }

    async fn handshake(
        &self,
        hello: ClientHello,
        incoming: &mut mpsc::Receiver<Vec<u8>>,
        lookups: &Lookups,
    ) -> Result<(Accepted, CredentialRevalidation), Refusal> {
        let gateway = &self.all.gateway;
        let engine = self.all.engine(&lookups.generation);
        let engine = engine.map_err(|e| Refusal::Protocol(e.to_string()))?;
        let Lookups { lookup, mapping, .. } = lookups;
        let credentials = Credentials { lookup: lookup.clone(), mapping: mapping.clone() };
        let (socket, peer) = (&self.all.socket, self.route.peer);
        // A datagram that the socket does not take at once is lost, and repeated in time.
        let mut send = |datagram: &[u8]| drop(socket.try_send_to(datagram, peer));
        let transport = Transport { incoming, send: &mut send };
        let (id, timeout) = (gateway.next_association(), gateway.config.limits.handshake());
        let accept = engine.accept(id, self.canonical, hello, transport, credentials, timeout);
        let accepted = accept.await?;
        match lookup.evidence().or_else(|| mapping.evidence()) {
            Some(evidence) => Ok((accepted, evidence)),
            None => Err(Refusal::Protocol("the handshake finished without a lookup".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::datagrams::routes::Routes;

    /// A handshake that fails because it is replaced is not a failed connection.
    #[tokio::test]
    async fn queue_that_ends_with_replacement_is_replaced() {
        let replaced = CancellationToken::new();
        let failing = async { Err::<(), _>("the queue has ended") };
        assert_eq!(unless_replaced(&replaced, failing).await, Some(Err("the queue has ended")));
        // The replacement comes from another thread, while the handshake is polled.
        let (routes, peer) = (Arc::new(Routes::default()), "192.0.2.1:40000".parse().unwrap());
        let (route, mut incoming) = routes.begin(peer, [1; 32]).unwrap();
        let failing = async {
            routes.begin(peer, [2; 32]).map(drop).unwrap();
            incoming.recv().await.map(drop).ok_or("the queue has ended")
        };
        assert_eq!(unless_replaced(&route.replaced, failing).await, None);
    }
}
