//! One connection of an MQTT client, from its CONNECT to its end.
//!
//! Packets are read for as long as fewer than the bound are under way, a response that is not sent yet
//! included. One future writes them, so a client that does not read delays nobody else.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::mqtt::packet::{self, Connack, Connect, ConnectReturnCode, Packet, PacketError};
use saegis_onem2m::mqtt::{ClientId, MAX_TOPIC, TopicRights};
use saegis_onem2m::primitive::RequestPrimitive;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Completed, Outgoing, Received};
use super::clients::Connected;
use super::reader::{PacketReader, ReadError};
use crate::binding::primitives::Exchange;
use crate::pipeline::Pipeline;
use crate::session::Session;

/// Maximum size of a CONNECT, in bytes. Its user name and password are not used.
const MAX_CONNECT: usize = 4 << 10;

/// Maximum size of a PUBLISH beside its payload, in bytes.
const MAX_HEADER: usize = 16 + MAX_TOPIC;

/// Maximum length of a Client Identifier, in bytes.
const MAX_CLIENT_ID: usize = MAX_TOPIC;

/// Maximum number of requests to the AE that are queued for writing, beside one notification that has
/// waited.
const MAX_QUEUED_REQUESTS: usize = 4;

/// Time for the client to take the refusal of its CONNECT.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Size of the part of a message that the client must read within the timeout, in bytes.
const PART: usize = 16 << 10;

/// Minimum rate at which a client reads, in bytes a second, beyond the time for the first part.
const MIN_READ_RATE: u64 = 1024;

/// Requests that are carried out, and subscriptions that are stored.
type InFlight<'a> = FuturesUnordered<BoxFuture<'a, Completed>>;

/// A client whose CONNECT was accepted.
struct Opened {
    /// In seconds.
    keep_alive: u16,
    connected: Arc<Connected>,
    /// Filters of an earlier session.
    filters: Vec<(String, bool)>,
}

/// Timeouts of a connection.
struct Timeouts {
    /// For a packet to come whole.
    packet: Duration,
    /// For the client to read the next part of a message.
    read: Duration,
    /// Without any packet.
    silence: Duration,
}

/// Why no further packets are read.
enum Ending<'a> {
    /// The client has disconnected. Its requests are carried out all the same.
    Disconnected(InFlight<'a>),
    Because(&'static str),
}

/// Serves the packets of a connection until it ends, and returns why it did.
pub async fn serve<S>(
    stream: &mut S,
    pipeline: Pipeline,
    session: Arc<Session>,
    stop: &CancellationToken,
) -> &'static str
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (read, mut write) = tokio::io::split(stream);
    let limits = pipeline.limits();
    let mut timeouts = Timeouts {
        packet: Duration::from_secs(limits.content_seconds),
        read: Duration::from_secs(limits.response_seconds),
        silence: pipeline.mqtt().idle(),
    };
    let mut reader = PacketReader::new(read, timeouts.packet);
    let exchange = Exchange::new(pipeline, session);
    let opened = tokio::select! {
        opened = timeout(timeouts.packet, open(&exchange, &mut reader, &mut write)) => opened,
        why = exchange.session.ended() => return why,
        () = stop.cancelled() => return "gateway stopping",
    };
    let Opened { keep_alive, connected, filters } = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(why)) => return why,
        Err(_) => return "no CONNECT in time",
    };
    if keep_alive > 0 {
        // One and a half times the keep alive (MQTT-3.1.2-24).
        timeouts.silence = Duration::from_secs(u64::from(keep_alive)) * 3 / 2;
    }
    // Bounded by the permits that the queued packets hold.
    let (outgoing, queue) = mpsc::unbounded_channel();
    let mut client = Client::new(&exchange, connected.clone(), &filters, outgoing);
    let ending = {
        let reading = pin!(read_packets(&mut client, &exchange, &mut reader, &timeouts, stop));
        let writing = pin!(write_packets(&mut write, queue, timeouts.read));
        tokio::select! {
            ending = reading => ending,
            why = writing => Ending::Because(why),
            () = connected.superseded() => Ending::Because("the same client has connected again"),
            why = exchange.session.ended() => Ending::Because(why),
        }
    };
    // Another connection of this client does not end what follows.
    drop((client, connected));
    match ending {
        Ending::Because(why) => why,
        Ending::Disconnected(mut in_flight) => tokio::select! {
            () = async { while in_flight.next().await.is_some() {} } => "closed",
            why = exchange.session.ended() => why,
        },
    }
}

/// Reads the CONNECT, and accepts it.
async fn open<S>(
    exchange: &Exchange,
    reader: &mut PacketReader<ReadHalf<S>>,
    write: &mut WriteHalf<S>,
) -> Result<Opened, &'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (why, code) = match reader.next(MAX_CONNECT).await {
        Ok(Packet::Connect(connect)) => match check(exchange, &connect) {
            Ok(()) => {
                let credential = exchange.session.active.association.credential_id.clone();
                let client_id = match &*connect.client_id {
                    // Any other one than those of clients that have one.
                    "" => format!("\0{}", exchange.session.active.association.id),
                    client_id => client_id.into(),
                };
                let clients = exchange.pipeline.mqtt_clients();
                let sessions = exchange.pipeline.mqtt_sessions();
                let clean = connect.clean_session;
                let session = sessions.filter(|_| !clean).cloned();
                let connected = clients.connect(credential.clone(), client_id.clone(), session);
                let resumed = sessions.and_then(|s| s.resume(&credential, &client_id, clean));
                let connack = Connack::new(resumed.is_some(), ConnectReturnCode::Accepted);
                send_connack(write, connack).await;
                let filters = resumed.map(|session| session.filters).unwrap_or_default();
                let (keep_alive, connected) = (connect.keep_alive, Arc::new(connected));
                return Ok(Opened { keep_alive, connected, filters });
            }
            Err(refused) => refused,
        },
        Ok(_) => return Err("the first packet is not CONNECT"),
        Err(error @ ReadError::Packet(PacketError::Version)) => {
            (error.why(), ConnectReturnCode::UnacceptableProtocolVersion)
        }
        Err(error) => return Err(error.why()),
    };
    let _ = timeout(REFUSAL_TIMEOUT, send_connack(write, Connack::new(false, code))).await;
    Err(why)
}

async fn send_connack(write: &mut (impl AsyncWrite + Unpin), connack: Connack) {
    if let Ok(bytes) = packet::encode(&Packet::Connack(connack)) {
        // A client that is gone is noticed with the next packet.
        let _ = write.write_all(&bytes).await;
        let _ = write.flush().await;
    }
}

/// Checks a CONNECT: the Client Identifier agrees with the association, and there is no will.
fn check(exchange: &Exchange, connect: &Connect) -> Result<(), (&'static str, ConnectReturnCode)> {
    let association = &exchange.session.active.association;
    let cse = exchange.pipeline.this_cse();
    let rights = TopicRights {
        cse: &cse.cse_id,
        service_provider: cse.service_provider.as_deref(),
        entity: association.entity(),
    };
    if connect.last_will.is_some() {
        return Err(("wills are not supported", ConnectReturnCode::NotAuthorized));
    }
    let client_id = &*connect.client_id;
    let refused = |why| Err((why, ConnectReturnCode::IdentifierRejected));
    if client_id.len() > MAX_CLIENT_ID {
        return refused("the Client Identifier is too long");
    }
    if client_id.is_empty() && !connect.clean_session {
        return refused("the Client Identifier is empty, and the session is not clean");
    }
    // An AE whose AE-ID was assigned when it registered.
    let has_registered = association.credential_entity() == &Entity::NotYetKnown
        && association.entity() != &Entity::NotYetKnown;
    match rights.client_id(client_id) {
        ClientId::Own => Ok(()),
        ClientId::Free if !has_registered => Ok(()),
        ClientId::Free => refused("the Client Identifier is not that of the registered AE"),
        ClientId::Other => refused("the Client Identifier is that of another client"),
    }
}

/// Reads packets, and has them carried out.
async fn read_packets<'a, R>(
    client: &mut Client<'a>,
    exchange: &'a Exchange,
    reader: &mut PacketReader<R>,
    timeouts: &Timeouts,
    stop: &CancellationToken,
) -> Ending<'a>
where
    R: AsyncRead + Unpin,
{
    let most = exchange.pipeline.mqtt().requests;
    let max_packet = exchange.max_message().saturating_add(MAX_HEADER);
    let slots = Arc::new(Semaphore::new(most));
    let request_slots = Arc::new(Semaphore::new(MAX_QUEUED_REQUESTS));
    let waiting_slot = Arc::new(Semaphore::new(1));
    let mut in_flight = InFlight::new();
    let mut stopping = false;
    loop {
        let is_listening = slots.available_permits() > 0 && !stopping;
        if !is_listening {
            reader.resume();
        }
        let silence = reader.last_packet() + timeouts.silence;
        let next = async {
            // The semaphore is never closed.
            let permit = slots.clone().acquire_owned().await.ok();
            (permit, reader.next(max_packet).await)
        };
        let (asked, waiting) = match &mut client.requests {
            Some(requests) => (Some(&mut requests.asked), Some(&mut requests.waiting)),
            None => (None, None),
        };
        // No branch waits for the client to read: requests in flight hold resources that others wait
        // for, and must be polled.
        let done = tokio::select! {
            (permit, packet) = next, if !stopping => match (permit, packet) {
                (Some(permit), Ok(packet)) => match client.receive(packet, permit) {
                    Ok(Received::Later(completed)) => {
                        in_flight.push(completed);
                        Ok(())
                    }
                    Ok(Received::Disconnect) => return Ending::Disconnected(in_flight),
                    Ok(Received::Done) => Ok(()),
                    Err(why) => Err(why),
                },
                (_, Err(error)) => Err(error.why()),
                (None, _) => Err("closed"),
            },
            Some(completed) = in_flight.next() => client.finish(completed),
            (permit, Some(request)) = next_request(&request_slots, asked), if !stopping => {
                client.request(&request, permit)
            }
            (permit, Some(request)) = next_request(&waiting_slot, waiting), if !stopping => {
                client.request(&request, permit)
            }
            () = &mut client.delivery => Err("another connection of the same credential"),
            () = sleep_until(silence), if is_listening => Err("no packet within the keep alive"),
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                Ok(())
            }
        };
        if let Err(why) = done {
            return Ending::Because(why);
        }
        if stopping && in_flight.is_empty() {
            // Until the last response is sent.
            let _ = slots.acquire_many(u32::try_from(most).unwrap_or(u32::MAX)).await;
            return Ending::Because("gateway stopping");
        }
    }
}

/// Waits for a slot, and then for a request to the AE.
async fn next_request(
    slots: &Arc<Semaphore>,
    requests: Option<&mut mpsc::Receiver<Box<RequestPrimitive>>>,
) -> (Option<OwnedSemaphorePermit>, Option<Box<RequestPrimitive>>) {
    let Some(requests) = requests else { return std::future::pending().await };
    let permit = slots.clone().acquire_owned().await.ok();
    (permit, requests.recv().await)
}

/// Writes what is queued, and returns why it cannot.
async fn write_packets(
    write: &mut (impl AsyncWrite + Unpin),
    mut queue: mpsc::UnboundedReceiver<Box<Outgoing>>,
    read_timeout: Duration,
) -> &'static str {
    while let Some(outgoing) = queue.recv().await {
        // Each part that the client has read extends the timeout.
        let mut deadline = Instant::now() + read_timeout;
        for part in outgoing.parts.iter().flat_map(|part| part.chunks(PART)) {
            match timeout_at(deadline, write.write_all(part)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return "broken",
                Err(_) => return "answer not read",
            }
            deadline += Duration::from_secs(part.len() as u64 / MIN_READ_RATE);
        }
        match timeout_at(deadline, write.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return "broken",
            Err(_) => return "answer not read",
        }
    }
    "closed"
}
