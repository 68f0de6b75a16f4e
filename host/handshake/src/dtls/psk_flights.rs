//! The flights of handshakes with a pre-shared key.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::engine::Engine;
use super::identity::IdentityReader;
use super::link::Link;
use super::psk_handshake::{KeyedHandshake, PskHandshake, fatal_alert};
use super::record::{ALERT, ClientHello};
use crate::psk::CredentialLookup;
use crate::psk::server::{Slot, failed, start_lookup};
use crate::refusal::Refusal;

/// Time after which the first flight is repeated. It doubles with each repetition (RFC 6347 clause
/// 4.2.4.1).
const FIRST_REPETITION: Duration = Duration::from_secs(1);

/// The credential lookup of a handshake.
pub(super) struct Lookup<'a> {
    pub lookup: &'a Arc<dyn CredentialLookup + Send + Sync>,
    pub server_name: Option<String>,
    pub slot: Arc<Slot>,
}

impl Lookup<'_> {
    /// Looks an identity up. Datagrams that arrive meanwhile are held back.
    async fn of(
        self,
        identity: &[u8],
        reader: &mut IdentityReader,
        link: &mut Link<'_>,
    ) -> Result<(), Refusal> {
        let mut looking = start_lookup(identity, self.server_name, self.lookup, self.slot);
        loop {
            tokio::select! {
                biased;
                () = &mut looking => return Ok(()),
                datagram = link.receive() => reader.hold(datagram?),
            }
        }
    }
}

/// Exchanges the flights of a handshake that OpenSSL performs, and returns the last one.
pub(super) async fn of_openssl(
    engine: &mut Engine,
    link: &mut Link<'_>,
    lookup: Lookup<'_>,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut reader = IdentityReader::default();
    let identity = loop {
        let done = engine.handshake();
        let flight = engine.outgoing();
        link.send(&flight);
        if done.map_err(failed)? {
            return Ok(flight);
        }
        if let Some(datagram) = link.receive_or_tick().await?
            && let Some(datagram) = reader.read(datagram)
        {
            engine.push(datagram);
        }
        if let Some(identity) = reader.identity() {
            break identity;
        }
    };
    lookup.of(&identity, &mut reader, link).await?;
    reader.release().into_iter().for_each(|datagram| engine.push(datagram));
    loop {
        let done = engine.handshake();
        let mut flight = engine.outgoing();
        // An alert would reveal how long the lookup took.
        flight.retain(|datagram| datagram.first() != Some(&ALERT));
        link.send(&flight);
        if done.map_err(failed)? {
            return Ok(flight);
        }
        if let Some(datagram) = link.receive_or_tick().await? {
            engine.push(datagram);
        }
    }
}

/// Exchanges the flights of a handshake without OpenSSL. As long as the client has another key, this
/// waits for further datagrams.
pub(super) async fn of_gateway(
    hello: &ClientHello,
    link: &mut Link<'_>,
    lookup: Lookup<'_>,
) -> Result<KeyedHandshake, Refusal> {
    let mut handshake = PskHandshake::new(hello).inspect_err(|refusal| {
        if let Some(alert) = refusal.alert() {
            link.send_alert(alert);
        }
    })?;
    link.send(&[handshake.flight()]);
    let mut reader = IdentityReader::default();
    let mut repetition = FIRST_REPETITION;
    let mut due = Instant::now() + repetition;
    let identity = loop {
        match timeout_at(due, link.receive()).await {
            Ok(datagram) => {
                let other = reader.read(datagram?);
                other.as_deref().map_or(Ok(()), end_by_alert)?;
            }
            Err(_) => {
                link.send(&[handshake.flight()]);
                repetition *= 2;
                due = Instant::now() + repetition;
            }
        }
        if let Some(identity) = reader.identity() {
            break identity;
        }
    };
    let slot = lookup.slot.clone();
    lookup.of(&identity, &mut reader, link).await?;
    let content = reader.message().unwrap_or_default();
    // From here on, the client must not learn when the lookup has ended. A ClientKeyExchange with more than
    // an identity gets a key that nobody has, like an unknown identity.
    let is_exact = content.len() == identity.len() + 2;
    let keyed = handshake.exchange(&content, &slot.key_of(if is_exact { &identity } else { &[] }));
    let mut keyed = keyed.map_err(|error| Refusal::Protocol(error.to_string()))?;
    let mut held = reader.release().into_iter();
    loop {
        let datagram = match held.next() {
            Some(datagram) => datagram,
            None => link.receive().await?,
        };
        if let Some(flight) = keyed.receive(&datagram)? {
            link.send(&[flight]);
            return Ok(keyed);
        }
    }
}

/// Fails if a datagram has a fatal alert, which is not encrypted before the keys are known.
fn end_by_alert(datagram: &[u8]) -> Result<(), Refusal> {
    match fatal_alert(datagram) {
        Some(code) => Err(Refusal::Protocol(format!("the client sent the alert {code}"))),
        None => Ok(()),
    }
}
