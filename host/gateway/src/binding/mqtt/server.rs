//! One connection of an MQTT client, from its CONNECT to its end.
//!
//! Packets are read for as long as fewer than the bound are under way, a response that is not sent yet
//! included. One future writes them, so a client that does not read delays nobody else.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::mqtt::packet::{self, Connack, Connect, ConnectReturnCode, Packet, PacketError};
use saegis_onem2m::mqtt::{ClientId, MAX_TOPIC, TopicRights};
use saegis_onem2m::primitive::RequestPrimitive;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Completed, Outgoing, Received};
use super::clients::Connected;
use super::reader::{PacketReader, ReadError};
use crate::binding::outbox::Outbox;
use crate::binding::primitives::Exchange;
use crate::notification::ae_channels::RequestsToAe;
use crate::notification::request_queue::acquire;
use crate::pipeline::Pipeline;
use crate::session::Session;
use crate::session::durable_sessions::Filter;

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
    filters: Vec<(Filter, bool)>,
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
    Disconnected(Option<InFlight<'a>>),
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
    // Boxed, because an idle client does not need its memory.
    let opening = Box::pin(timeout(timeouts.packet, open(&exchange, &mut reader, &mut write)));
    let opened = tokio::select! {
        opened = opening => opened,
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
    let outgoing = Outbox::default();
    let mut client = Client::new(&exchange, connected.clone(), filters, &outgoing);
    let ending = {
        let reading = pin!(read_packets(&mut client, &exchange, &mut reader, &timeouts, stop));
        let writing = pin!(write_packets(&mut write, &outgoing, timeouts.read));
        tokio::select! {
            // The writer after the reader, which fills the outbox.
            biased;
            ending = reading => ending,
            why = writing => Ending::Because(why),
            why = exchange.session.ended() => Ending::Because(why),
        }
    };
    // Another connection of this client does not end what follows.
    drop((client, connected));
    match ending {
        Ending::Because(why) => why,
        Ending::Disconnected(mut in_flight) => tokio::select! {
            () = async { while next_completed(&mut in_flight).await.is_some() {} } => "closed",
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
                let client_id: Arc<str> = match &*connect.client_id {
                    // Any other one than those of clients that have one.
                    "" => format!("\0{}", exchange.session.active.association.id).into(),
                    client_id => client_id.into(),
                };
                let clients = exchange.pipeline.mqtt_clients();
                let sessions = exchange.pipeline.mqtt_sessions();
                let clean = connect.clean_session;
                let ending = exchange.session.active.ending().clone();
                let session = sessions.filter(|_| !clean).cloned();
                let connected =
                    clients.connect(credential.clone(), client_id.clone(), session, ending);
                let resumed = sessions.and_then(|s| s.resume(&credential, client_id, clean));
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
    // Absent while there is none, because most clients are idle.
    let mut in_flight: Option<InFlight<'a>> = None;
    // It is set again when it fires, because each packet extends the time.
    let mut silence = pin!(sleep_until(reader.last_packet() + timeouts.silence));
    let mut stopped = pin!(stop.cancelled());
    let mut slot = None;
    let mut stopping = false;
    loop {
        if slot.is_none() {
            reader.resume();
            slot = slots.clone().try_acquire_owned().ok();
        }
        let is_listening = slot.is_some() && !stopping;
        let next = async {
            if is_listening {
                return Some(reader.next(max_packet).await);
            }
            // The semaphore is never closed.
            slot = acquire(&slots).await;
            None
        };
        let next_request = next_request(client.requests.as_mut());
        // No branch waits for the client to read: requests in flight hold resources that others wait
        // for, and must be polled.
        let done = tokio::select! {
            // Packets last: reading looks into the TLS session, even if nothing has come, and a client
            // that floods could starve what is below.
            biased;
            Some(completed) = next_completed(&mut in_flight) => client.finish(completed),
            Some((permit, request)) = next_request, if !stopping => {
                client.request(&request, permit)
            }
            () = &mut client.delivery => Err("another connection of the same credential"),
            () = &mut silence, if is_listening => {
                let until = reader.last_packet() + timeouts.silence;
                silence.as_mut().reset(until);
                if until <= Instant::now() { Err("no packet within the keep alive") } else { Ok(()) }
            }
            () = &mut stopped, if !stopping => {
                stopping = true;
                Ok(())
            }
            packet = next, if !stopping => match (slot.take(), packet) {
                (Some(permit), Some(Ok(packet))) => match client.receive(packet, permit) {
                    Ok(Received::Later(completed)) => {
                        in_flight.get_or_insert_default().push(completed);
                        Ok(())
                    }
                    Ok(Received::Disconnect) => return Ending::Disconnected(in_flight),
                    Ok(Received::Done) => Ok(()),
                    Err(why) => Err(why),
                },
                (_, Some(Err(error))) => Err(error.why()),
                (None, _) => Err("closed"),
                (permit, None) => {
                    reader.resume();
                    slot = permit;
                    Ok(())
                }
            },
        };
        if let Err(why) = done {
            return Ending::Because(why);
        }
        if stopping && in_flight.is_none() {
            drop(slot);
            // Until the last response is sent.
            let all = slots.acquire_many(u32::try_from(most).unwrap_or(u32::MAX));
            let _ = Box::pin(all).await;
            return Ending::Because("gateway stopping");
        }
    }
}

/// Waits for the next result. Returns `None` if nothing is in flight.
async fn next_completed(in_flight: &mut Option<InFlight<'_>>) -> Option<Completed> {
    let completed = in_flight.as_mut()?.next().await;
    in_flight.take_if(|in_flight| in_flight.is_empty());
    completed
}

/// Waits for a request to the AE, and a permit for it.
async fn next_request(
    requests: Option<&mut RequestsToAe>,
) -> Option<(OwnedSemaphorePermit, Box<RequestPrimitive>)> {
    let Some(RequestsToAe { asked, waiting }) = requests else {
        return std::future::pending().await;
    };
    // One future of both queues, because each idle client has its memory. Only one request of the first
    // queue is in flight at a time, so it does not delay the other queue.
    poll_fn(|cx| match waiting.poll_recv_with(cx, 1) {
        Poll::Pending => asked.poll_recv_with(cx, MAX_QUEUED_REQUESTS),
        ready @ Poll::Ready(_) => ready,
    })
    .await
}

/// Writes what is queued, and returns why it cannot.
async fn write_packets(
    write: &mut (impl AsyncWrite + Unpin),
    queue: &Outbox<Outgoing>,
    read_timeout: Duration,
) -> &'static str {
    loop {
        // Boxed, because an idle client does not need its memory.
        let written = Box::pin(write_packet(write, queue.next().await, read_timeout));
        if let Err(why) = written.await {
            return why;
        }
    }
}

/// Writes a packet. Each part that the client has read extends the timeout.
async fn write_packet(
    write: &mut (impl AsyncWrite + Unpin),
    outgoing: Outgoing,
    read_timeout: Duration,
) -> Result<(), &'static str> {
    let written = |result| match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err::<(), std::io::Error>(_)) => Err("broken"),
        Err::<_, Elapsed>(_) => Err("answer not read"),
    };
    let mut deadline = Instant::now() + read_timeout;
    for part in outgoing.parts.iter().flat_map(|part| part.chunks(PART)) {
        written(timeout_at(deadline, write.write_all(part)).await)?;
        deadline += Duration::from_secs(part.len() as u64 / MIN_READ_RATE);
    }
    written(timeout_at(deadline, write.flush()).await)
}
