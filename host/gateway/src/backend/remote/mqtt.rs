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
use saegis_onem2m::mqtt::packet::QoS;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::serialization::{Primitive, Serialization};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, sleep_until, timeout};

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
    pending: Arc<Pending>,
    queue: mpsc::Sender<Publication>,
    connected: watch::Receiver<bool>,
}

/// A request that is to be published.
struct Publication {
    request_id: String,
    topic: String,
    payload: Bytes,
}

/// Requests without a response, by their Request Identifiers.
struct Pending {
    requests: Mutex<HashMap<String, PendingRequest>>,
    dropped: Counter,
    max_bytes: usize,
}

struct PendingRequest {
    /// Topic of its response.
    topic: String,
    response: oneshot::Sender<ResponsePrimitive>,
}

/// Removes a request when its originator no longer waits.
struct Waiting<'a> {
    pending: &'a Pending,
    request_id: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pending.lock().remove(self.request_id);
    }
}

impl MqttUpstream {
    /// Creates a client, which connects in the background as long as it exists.
    pub(super) fn new(url: &Uri, cse: CseId, content_bytes: usize, dropped: Counter) -> Self {
        let max_bytes = content_bytes + MAX_PARAMETERS;
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
        tokio::spawn(connector.run(queued));
        Self { cse, pending, queue, connected }
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
        let mut connected = self.connected.clone();
        if !matches!(timeout(CONNECTION_WAIT, connected.wait_for(|is| *is)).await, Ok(Ok(_))) {
            return Err("the MQTT server is not connected".into());
        }
        let request_id = format!("{:032x}", rand::rng().random::<u128>());
        let request = RequestPrimitive { request_id: request_id.clone(), ..request.clone() };
        let payload = Serialization::Json.write_request(&request).map_err(|e| e.to_string())?;
        let (response, answered) = oneshot::channel();
        let pending = PendingRequest { topic: topics.response, response };
        self.pending.lock().insert(request_id.clone(), pending);
        let _waiting = Waiting { pending: &self.pending, request_id: &request_id };
        let publication =
            Publication { request_id: request_id.clone(), topic: topics.request, payload };
        let lost = "the connection to the MQTT server was lost";
        self.queue.send(publication).await.map_err(|_| lost)?;
        answered.await.map_err(|_| lost.into())
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, PendingRequest>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a response to its request. Any other message is dropped.
    fn receive(&self, message: Message) {
        if let Ok(Primitive::Response(response)) =
            Serialization::Json.read(message.payload, self.max_bytes)
        {
            let mut requests = self.lock();
            let is_of = |request: &PendingRequest| request.topic == message.topic;
            if requests.get(&response.request_id).is_some_and(is_of)
                && let Some(request) = requests.remove(&response.request_id)
                && request.response.send(response).is_ok()
            {
                return;
            }
        }
        self.dropped.inc();
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
            self.pending.lock().clear();
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
                    Some(p) if self.pending.lock().contains_key(&p.request_id) => {
                        connection.publish(&p.topic, &p.payload).await?;
                    }
                    Some(_) => {}
                },
            }
        }
    }
}
