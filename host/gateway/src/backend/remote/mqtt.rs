//! Upstream CSE over the MQTT binding (TS-0010): the gateway and the CSE are clients of one MQTT
//! server.
//!
//! One connection carries all requests. Each has a Request Identifier of the gateway, so that the
//! identifiers of different originators cannot collide, and is published with the Quality of
//! Service 0: the server stores no request for a CSE that is away, and none is carried out after
//! its originator got a refusal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use prometheus_client::metrics::counter::Counter;
use rand::RngExt as _;
use saegis_client::{Message, MqttConnection};
use saegis_onem2m::id::CseId;
use saegis_onem2m::mqtt::client::{RequestTopics, filters_of_responses};
use saegis_onem2m::mqtt::packet::{QoS, publish_header};
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::{Primitive, Serialization};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Port of an MQTT server without TLS.
const DEFAULT_PORT: u16 = 1883;
/// Timeout for a connection to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which a request waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(1);
/// Delay before the connection is opened again: doubled with each failure.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(100);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Maximum number of requests that wait to be written.
const MAX_QUEUED: usize = 64;
/// Maximum size of a response without its content, in bytes.
const MAX_PARAMETERS: usize = 64 << 10;

/// Client of the MQTT server of a CSE.
pub(super) struct MqttUpstream {
    cse: CseId,
    /// Maximum size of a packet that the server accepts, in bytes. It closes the connection, and so
    /// ends the requests of all originators, when it gets a larger one.
    max_packet: usize,
    pending: Arc<Pending>,
    queue: mpsc::Sender<Publication>,
    connected: watch::Receiver<bool>,
    _connector: AbortOnDropHandle<()>,
}

/// A request that is to be published.
struct Publication {
    request_id: String,
    topics: RequestTopics,
    payload: Bytes,
}

/// Requests without a response.
struct Pending {
    requests: Mutex<Requests>,
    dropped: Counter,
    max_bytes: usize,
}

/// Requests by the topics of their responses and their Request Identifiers.
#[derive(Default)]
struct Requests(HashMap<String, HashMap<String, oneshot::Sender<ResponsePrimitive>>>);

impl Requests {
    fn insert(
        &mut self,
        topic: &str,
        request_id: &str,
        response: oneshot::Sender<ResponsePrimitive>,
    ) {
        self.0.entry(topic.into()).or_default().insert(request_id.into(), response);
    }

    fn contains(&self, topic: &str, request_id: &str) -> bool {
        self.0.get(topic).is_some_and(|requests| requests.contains_key(request_id))
    }

    fn remove(
        &mut self,
        topic: &str,
        request_id: &str,
    ) -> Option<oneshot::Sender<ResponsePrimitive>> {
        let requests = self.0.get_mut(topic)?;
        let request = requests.remove(request_id);
        if requests.is_empty() {
            self.0.remove(topic);
        }
        request
    }
}

/// Removes a request when its originator no longer waits.
struct Waiting<'a> {
    pending: &'a Pending,
    topic: &'a str,
    request_id: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pending.lock().remove(self.topic, self.request_id);
    }
}

impl MqttUpstream {
    /// Creates a client, which connects in the background as long as it exists. The server accepts
    /// packets of at most `max_packet` bytes, or else of content and parameters.
    pub(super) fn new(
        url: &Uri,
        cse: CseId,
        content_bytes: usize,
        max_packet: Option<usize>,
        dropped: Counter,
    ) -> Self {
        let max_bytes = content_bytes + MAX_PARAMETERS;
        let max_packet = max_packet.unwrap_or(max_bytes);
        let pending = Arc::new(Pending { requests: Mutex::default(), dropped, max_bytes });
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let (is_connected, connected) = watch::channel(false);
        let host = url.host().unwrap_or_default();
        // Only a URI has brackets around an IPv6 address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let connector = Connector {
            address: (host, url.port_u16().unwrap_or(DEFAULT_PORT)),
            filters: filters_of_responses(&cse),
            pending: pending.clone(),
            is_connected,
        };
        let _connector = AbortOnDropHandle::new(tokio::spawn(connector.run(queued)));
        Self { cse, max_packet, pending, queue, connected, _connector }
    }

    /// Publishes a request and waits for the response.
    pub(super) async fn ask(
        &self,
        request: &RequestPrimitive,
    ) -> Result<ResponsePrimitive, String> {
        let topics = match (&request.credential, &request.from) {
            (Some(credential), _) if request.creates(ResourceType::Ae) => {
                RequestTopics::of_registration(&credential.id.to_string(), &self.cse)
            }
            (_, Some(from)) => RequestTopics::of(from, &self.cse),
            (_, None) => return Err("the request has no From".into()),
        };
        let topics = topics.map_err(|e| e.to_string())?;
        let request_id = format!("{:032x}", rand::rng().random::<u128>());
        let published = RequestPrimitive { request_id: request_id.clone(), ..request.clone() };
        let payload = Serialization::Json.write_request(&published).map_err(|e| e.to_string())?;
        if !self.accepts(&topics.request, &payload) {
            let why = format!("the request is larger than {} bytes in MQTT", self.max_packet);
            let (id, release) = (&request.request_id, request.release.as_deref());
            return Ok(ResponsePrimitive::refusal(id, release, Rsc::BadRequest, &why));
        }
        let mut connected = self.connected.clone();
        if !matches!(timeout(CONNECTION_WAIT, connected.wait_for(|is| *is)).await, Ok(Ok(_))) {
            return Err("the MQTT server is not connected".into());
        }
        let (response, answered) = oneshot::channel();
        let topic = topics.response.clone();
        self.pending.lock().insert(&topic, &request_id, response);
        let _waiting = Waiting { pending: &self.pending, topic: &topic, request_id: &request_id };
        let publication = Publication { request_id: request_id.clone(), topics, payload };
        let lost = "the connection to the MQTT server was lost";
        self.queue.send(publication).await.map_err(|_| lost)?;
        answered.await.map_err(|_| lost.into())
    }

    /// Returns whether the server accepts the packet of a request.
    fn accepts(&self, topic: &str, payload: &[u8]) -> bool {
        let header = publish_header(topic, None, payload.len());
        header.is_ok_and(|header| header.len() + payload.len() <= self.max_packet)
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a response to its request. Any other message is dropped.
    fn receive(&self, message: Message) {
        if !self.pass_on(message) {
            self.dropped.inc();
        }
    }

    /// Passes a response to its request, if it has one. Other clients of the server can publish in
    /// the topics of responses, so only what arrives in the topic of a request is parsed.
    fn pass_on(&self, Message { topic, payload, .. }: Message) -> bool {
        if !self.lock().0.contains_key(&topic) {
            return false;
        }
        let Ok(Primitive::Response(response)) = Serialization::Json.read(payload, self.max_bytes)
        else {
            return false;
        };
        let request = self.lock().remove(&topic, &response.request_id);
        request.is_some_and(|request| request.send(response).is_ok())
    }
}

/// Keeps the connection open.
struct Connector {
    address: (String, u16),
    filters: [String; 2],
    pending: Arc<Pending>,
    is_connected: watch::Sender<bool>,
}

impl Connector {
    async fn run(self, mut queued: mpsc::Receiver<Publication>) {
        let mut delay = MIN_RETRY_DELAY;
        let mut is_logged = false;
        while let Err(why) = self.serve(&mut queued).await {
            // A response that comes over the next connection would come too late.
            let was_connected = self.is_connected.send_replace(false);
            self.pending.lock().0.clear();
            if was_connected {
                delay = MIN_RETRY_DELAY;
            }
            if was_connected || !is_logged {
                let (host, port) = &self.address;
                tracing::warn!(
                    event = "upstream.disconnected",
                    "no connection to the MQTT server at {host}:{port}: {why}"
                );
                is_logged = true;
            }
            sleep(delay).await;
            delay = (2 * delay).min(MAX_RETRY_DELAY);
        }
    }

    /// Uses one connection until it is lost. Returns `Ok` when the client no longer exists.
    async fn serve(&self, queued: &mut mpsc::Receiver<Publication>) -> Result<(), String> {
        let opening = async {
            let (host, port) = &self.address;
            let socket = TcpStream::connect((host.as_str(), *port)).await;
            let socket = socket.map_err(|e| format!("cannot connect: {e}"))?;
            socket.set_nodelay(true).map_err(|e| e.to_string())?;
            let client_id = format!("saegis-{:016x}", rand::rng().random::<u64>());
            let subscribed = (self.filters.as_slice(), QoS::Level0);
            MqttConnection::open(socket, &client_id, subscribed, self.pending.max_bytes).await
        };
        let opened = timeout(CONNECT_TIMEOUT, opening).await;
        let mut connection = opened.map_err(|_| "timeout")??;
        let (host, port) = &self.address;
        tracing::info!(
            event = "upstream.connected",
            "connected to the MQTT server at {host}:{port}"
        );
        self.is_connected.send_replace(true);
        loop {
            let due = connection.ping_due();
            tokio::select! {
                message = connection.message() => self.pending.receive(message?),
                () = sleep_until(due) => connection.ping().await?,
                publication = queued.recv() => match publication {
                    None => return Ok(()),
                    // Its originator may have got a refusal already.
                    Some(p) if self.is_pending(&p) => {
                        connection.publish(&p.topics.request, &p.payload).await?;
                    }
                    Some(_) => {}
                },
            }
        }
    }

    fn is_pending(&self, publication: &Publication) -> bool {
        self.pending.lock().contains(&publication.topics.response, &publication.request_id)
    }
}

#[cfg(test)]
mod tests {
    use saegis_onem2m::id::CseId;

    use super::*;

    #[tokio::test]
    async fn connector_ends_with_its_client() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let url = format!("mqtt://127.0.0.1:{port}").parse().unwrap();
        let cse = CseId::parse("mn-cse").unwrap();
        let upstream = MqttUpstream::new(&url, cse, 1 << 10, None, Counter::default());
        let pending = Arc::downgrade(&upstream.pending);
        // It waits for its next try.
        sleep(MIN_RETRY_DELAY / 2).await;
        drop(upstream);
        let ended = async {
            while pending.strong_count() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), ended).await.expect("the task ends");
    }
}
