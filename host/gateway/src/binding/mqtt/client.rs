//! The state of one client, and what its packets do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use saegis_onem2m::binding::BindingError;
use saegis_onem2m::id::AeIdStem;
use saegis_onem2m::mqtt::packet::{
    self, Packet, Pid, Publish, QoS, QosPid, Subscribe, Unsubscribe,
};
use saegis_onem2m::mqtt::{Messages, PrimitiveType, Publication, Subscription, TopicRights};
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::Serialization;
use saegis_onem2m::timestamp::check_times;
use tokio::sync::OwnedSemaphorePermit;

use super::clients::Connected;
use crate::binding::outbox::Outbox;
use crate::binding::primitives::{Encoded, Exchange, Held, Incoming};
use crate::notification::ae_channels::RequestsToAe;
use crate::notification::ae_channels::channel::Channel;
use crate::session::durable_sessions::Filter;
use crate::telemetry::audit;

/// Maximum number of subscriptions of one client, and of filters in one packet.
const MAX_SUBSCRIPTIONS: usize = 32;

/// Reason to end a connection whose packet has more filters.
const TOO_MANY_FILTERS: &str = "too many filters in a packet";

/// Maximum number of messages that the client has not acknowledged, and of its own that wait for their
/// acknowledgment.
const MAX_UNACKNOWLEDGED: usize = 256;

/// Reason to end a connection that exceeds it.
const UNACKNOWLEDGED: &str = "too many messages are not acknowledged";

/// A packet that is to be sent.
pub(super) struct Outgoing {
    /// Its start, and its payload.
    pub(super) parts: [Bytes; 2],
    /// Resources that are released when the packet has been sent.
    _held: Held,
}

/// Result of a packet.
pub(super) enum Received<'a> {
    /// There is nothing more to do.
    Done,
    /// Something that takes time.
    Later(BoxFuture<'a, Completed>),
    /// The client disconnects.
    Disconnect,
}

/// The result of a [`Received::Later`].
pub(super) enum Completed {
    /// The response to a request.
    Answer(Answer),
    /// Changed subscriptions have been stored, and are acknowledged.
    Stored { acknowledgment: Bytes, permit: OwnedSemaphorePermit, is_durable: bool },
}

/// The response to a request that was published.
pub(super) struct Answer {
    encoded: Encoded,
    serialization: Serialization,
    messages: Messages,
    /// The packet identifier of the request. Absent for Quality of Service 0.
    pid: Option<Pid>,
}

/// A subscription, with its filter and whether its Quality of Service is 1.
struct Subscribed {
    filter: Filter,
    subscription: Subscription,
    is_acknowledged: bool,
}

/// The condition for a request to agree with its topic.
enum Expected {
    /// The From is that AE-ID-Stem, if it has one.
    From(Option<AeIdStem>),
    /// It registers an AE or a CSE.
    Registration,
}

/// A connected client.
pub(super) struct Client<'a> {
    exchange: &'a Exchange,
    connected: Arc<Connected>,
    outgoing: &'a Outbox<Outgoing>,
    subscriptions: Vec<Subscribed>,
    /// The connection as those see it who send requests to the AE, while the client subscribes to
    /// them.
    channel: Option<Arc<Channel>>,
    /// Requests to the AE.
    pub(super) requests: Option<RequestsToAe>,
    /// AEs whose requests the client subscribes to.
    aes: Vec<AeIdStem>,
    /// Delivers what waits for the AE, and ends when another connection supersedes the channel.
    pub(super) delivery: BoxFuture<'static, ()>,
    /// Messages that the client has not acknowledged: its request that is acknowledged with it, if the
    /// message is a response.
    unacknowledged: Vec<(Pid, Option<Pid>)>,
    /// Packet identifiers of the client's messages in their order, each with what its acknowledgment
    /// releases once it is due.
    acknowledgments: VecDeque<(Pid, Option<Held>)>,
    last_pid: Pid,
}

impl<'a> Client<'a> {
    /// A client that has connected, with the filters of an earlier session.
    pub(super) fn new(
        exchange: &'a Exchange,
        connected: Arc<Connected>,
        filters: Vec<(Filter, bool)>,
        outgoing: &'a Outbox<Outgoing>,
    ) -> Self {
        let mut client = Self {
            exchange,
            connected,
            outgoing,
            subscriptions: Vec::new(),
            channel: None,
            requests: None,
            aes: Vec::new(),
            delivery: Box::pin(std::future::pending()),
            unacknowledged: Vec::new(),
            acknowledgments: VecDeque::new(),
            last_pid: Pid::default(),
        };
        // The client may have lost its right to some of them.
        for (filter, is_acknowledged) in filters {
            client.add(filter, if is_acknowledged { QoS::Level1 } else { QoS::Level0 });
        }
        client.follow_requests();
        client
    }

    /// The rights of the association, whose AE-ID may have become known since it began.
    fn rights(&self) -> TopicRights<'a> {
        let cse = self.exchange.pipeline.this_cse();
        let association = &self.exchange.session.active.association;
        TopicRights {
            cse: &cse.cse_id,
            service_provider: cse.service_provider.as_deref(),
            entity: association.entity(),
        }
    }

    /// Takes a packet. The permit is held until what it causes has been sent.
    ///
    /// # Errors
    /// Returns the reason to end the connection.
    pub(super) fn receive(
        &mut self,
        packet: Packet,
        permit: OwnedSemaphorePermit,
    ) -> Result<Received<'a>, &'static str> {
        match packet {
            Packet::Publish(publish) => return self.publish(publish, permit),
            Packet::Puback(pid) => {
                if let Some(Some(request)) = self.remove_unacknowledged(pid) {
                    self.acknowledge(request, (None, Some(permit)));
                }
            }
            // Each refused filter is recorded, and has its own return code.
            Packet::Subscribe(subscribe) if subscribe.topics.len() > MAX_SUBSCRIPTIONS => {
                return Err(TOO_MANY_FILTERS);
            }
            Packet::Subscribe(subscribe) => return Ok(self.subscribe(&subscribe, permit)),
            Packet::Unsubscribe(unsubscribe) if unsubscribe.topics.len() > MAX_SUBSCRIPTIONS => {
                return Err(TOO_MANY_FILTERS);
            }
            Packet::Unsubscribe(unsubscribe) => return Ok(self.unsubscribe(&unsubscribe, permit)),
            Packet::Pingreq => self.send(&Packet::Pingresp, (None, Some(permit))),
            Packet::Disconnect => return Ok(Received::Disconnect),
            Packet::Connect(_) => return Err("second CONNECT"),
            Packet::Pubrec(_) | Packet::Pubrel(_) | Packet::Pubcomp(_) => return Err(QOS_2),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return Err("a packet of a server");
            }
        }
        Ok(Received::Done)
    }

    fn publish(
        &mut self,
        publish: Publish,
        permit: OwnedSemaphorePermit,
    ) -> Result<Received<'a>, &'static str> {
        let pid = match publish.qos_pid {
            QosPid::Level0 => None,
            QosPid::Level1(pid) => Some(pid),
            QosPid::Level2(_) => return Err(QOS_2),
        };
        if publish.retain {
            return Err("retained messages are not supported");
        }
        let publication = self.rights().publication(&publish.topic_name).map_err(|error| {
            self.refuse_topic(&error.to_string());
            "the topic is not one of the client"
        })?;
        if self.acknowledgments.len() >= MAX_UNACKNOWLEDGED {
            return Err(UNACKNOWLEDGED);
        }
        self.acknowledgments.extend(pid.map(|pid| (pid, None)));
        let (expected, primitive_type, messages) = match publication {
            Publication::Request { ae, primitive_type } => {
                (Expected::From(ae), primitive_type, Messages::Responses)
            }
            Publication::Registration(primitive_type) => {
                (Expected::Registration, primitive_type, Messages::RegistrationResponses)
            }
            Publication::Response(primitive_type) => {
                self.complete(primitive_type, publish.payload);
                if let Some(pid) = pid {
                    self.acknowledge(pid, (None, Some(permit)));
                }
                return Ok(Received::Done);
            }
        };
        let exchange = self.exchange;
        let payload = publish.payload;
        Ok(Received::Later(Box::pin(async move {
            let (encoded, serialization) =
                respond(exchange, primitive_type, payload, expected, permit).await;
            Completed::Answer(Answer { encoded, serialization, messages, pid })
        })))
    }

    /// Takes the response to a request that was sent to the client.
    fn complete(&self, primitive_type: PrimitiveType, payload: Bytes) {
        let exchange = self.exchange;
        let PrimitiveType::Supported(serialization) = primitive_type else {
            return exchange.unexpected("");
        };
        let channel = self.channel.as_deref();
        match exchange.read(serialization, payload) {
            Incoming::Response(response) => exchange.complete(channel, response),
            Incoming::Request(request) => exchange.unexpected(&request.request_id),
            Incoming::Bad(error) => {
                if !channel.is_some_and(|channel| channel.fails(&error)) {
                    exchange.unexpected(error.request_id.as_deref().unwrap_or_default());
                }
            }
        }
    }

    /// Takes the result of a [`Received::Later`].
    ///
    /// # Errors
    /// Returns the reason to end the connection.
    pub(super) fn finish(&mut self, completed: Completed) -> Result<(), &'static str> {
        match completed {
            Completed::Answer(answer) => self.answer(answer),
            Completed::Stored { acknowledgment, permit, is_durable: true } => {
                self.queue([acknowledgment, Bytes::new()], (None, Some(permit)));
                Ok(())
            }
            Completed::Stored { .. } => Err("the session cannot be stored"),
        }
    }

    /// Publishes a response, and acknowledges its request.
    fn answer(&mut self, answer: Answer) -> Result<(), &'static str> {
        let Answer { encoded, serialization, messages, pid } = answer;
        let Some((topic, is_acknowledged)) = self.topic(messages, serialization) else {
            tracing::debug!(
                event = "response.not-subscribed",
                "the client does not subscribe to the response"
            );
            if let Some(pid) = pid {
                self.acknowledge(pid, encoded.held);
            }
            return Ok(());
        };
        let is_acknowledged = is_acknowledged && pid.is_some();
        self.send_message(&topic, is_acknowledged.then_some(pid), encoded)?;
        match pid.filter(|_| !is_acknowledged) {
            Some(pid) => self.acknowledge(pid, (None, None)),
            None => self.release_permits(),
        }
        Ok(())
    }

    /// Publishes a request to the AE.
    ///
    /// # Errors
    /// Returns the reason to end the connection.
    pub(super) fn request(
        &mut self,
        request: &RequestPrimitive,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), &'static str> {
        let Some(channel) = self.channel.clone() else { return Ok(()) };
        let cse = &self.exchange.pipeline.this_cse().cse_id;
        let of_ae = |s: &&Subscribed| {
            let subscription = &s.subscription;
            subscription.messages == Messages::Requests
                && subscription.names_ae(cse, &request.to.resource)
        };
        let subscribed = self.subscriptions.iter().filter(of_ae);
        let Some(subscribed) = subscribed.max_by_key(|s| s.is_acknowledged) else {
            channel.reject(&request.request_id);
            return Ok(());
        };
        let (is_acknowledged, serialization) =
            (subscribed.is_acknowledged, subscribed.subscription.serialization());
        let Some(topic) = subscribed.subscription.topic(cse, serialization) else { return Ok(()) };
        match self.exchange.request(serialization, request, &channel, permit) {
            Some(encoded) => self.send_message(&topic, is_acknowledged.then_some(None), encoded),
            None => Ok(()),
        }
    }

    /// Returns the topic of a message to the client, and whether its Quality of Service is 1.
    fn topic(&self, messages: Messages, serialization: Serialization) -> Option<(String, bool)> {
        let cse = &self.exchange.pipeline.this_cse().cse_id;
        let of_kind = self.subscriptions.iter().filter(|s| s.subscription.messages == messages);
        let topics = of_kind
            .filter_map(|s| Some((s.subscription.topic(cse, serialization)?, s.is_acknowledged)));
        topics.max_by_key(|(_, is_acknowledged)| *is_acknowledged)
    }

    /// Sends a message, to be acknowledged together with that request of the client, if any.
    fn send_message(
        &mut self,
        topic: &str,
        acknowledged_with: Option<Option<Pid>>,
        Encoded { bytes, held }: Encoded,
    ) -> Result<(), &'static str> {
        let pid = match acknowledged_with {
            None => None,
            Some(request) => {
                if self.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
                    return Err(UNACKNOWLEDGED);
                }
                while self.unacknowledged.iter().any(|(pid, _)| *pid == self.last_pid) {
                    self.last_pid += 1;
                }
                self.unacknowledged.push((self.last_pid, request));
                let pid = self.last_pid;
                self.last_pid += 1;
                Some(pid)
            }
        };
        let header = packet::publish_header(topic, pid, bytes.len());
        let header = header.map_err(|_| "a message is too large for MQTT")?;
        self.queue([header, bytes], held);
        Ok(())
    }

    /// Notes that a message of the client may be acknowledged. Acknowledgments have the order of the
    /// messages (MQTT-4.6.0-2).
    fn acknowledge(&mut self, pid: Pid, held: Held) {
        let due = |entry: &&mut (Pid, Option<Held>)| entry.0 == pid && entry.1.is_none();
        if let Some(entry) = self.acknowledgments.iter_mut().find(due) {
            entry.1 = Some(held);
        }
        while let Some((pid, Some(_))) = self.acknowledgments.front() {
            let pid = *pid;
            let held = self.acknowledgments.pop_front().and_then(|(_, held)| held);
            self.send(&Packet::Puback(pid), held.unwrap_or_default());
        }
        if self.acknowledgments.is_empty() {
            // An idle client has no buffer.
            self.acknowledgments = VecDeque::new();
        }
        self.release_permits();
    }

    /// Takes the acknowledgment of a message. Returns the request of the client that is acknowledged with
    /// it, or `None` if there is no such message.
    fn remove_unacknowledged(&mut self, pid: Pid) -> Option<Option<Pid>> {
        let at = self.unacknowledged.iter().position(|(other, _)| *other == pid)?;
        let (_, request) = self.unacknowledged.swap_remove(at);
        if self.unacknowledged.is_empty() {
            // An idle client has no buffer.
            self.unacknowledged = Vec::new();
        }
        Some(request)
    }

    /// Releases the permits of acknowledgments that wait for a PUBACK of the client, which needs a
    /// permit to be read.
    fn release_permits(&mut self) {
        let Some((first, _)) = self.acknowledgments.front() else { return };
        if self.unacknowledged.iter().any(|(_, request)| request.as_ref() == Some(first)) {
            for (_, held) in self.acknowledgments.iter_mut().filter(|(_, held)| held.is_some()) {
                *held = Some(Held::default());
            }
        }
    }

    fn subscribe(&mut self, subscribe: &Subscribe, permit: OwnedSemaphorePermit) -> Received<'a> {
        let topics = subscribe.topics.iter();
        let granted: Vec<_> =
            topics.map(|(filter, qos)| self.add((&**filter).into(), *qos)).collect();
        self.subscriptions_changed(packet::suback(subscribe.pid, &granted), permit)
    }

    /// Stores the subscriptions, if the session outlives the connection, and acknowledges them.
    fn subscriptions_changed(
        &mut self,
        acknowledgment: Bytes,
        permit: OwnedSemaphorePermit,
    ) -> Received<'a> {
        let filters = self.subscriptions.iter().map(|s| (s.filter.clone(), s.is_acknowledged));
        let aes = self.subscribed_aes();
        let Some(durable) = self.connected.store(filters, aes.iter().map(ToString::to_string))
        else {
            self.queue([acknowledgment, Bytes::new()], (None, Some(permit)));
            self.follow_requests();
            return Received::Done;
        };
        self.follow_requests();
        Received::Later(Box::pin(async move {
            let is_durable = durable.wait().await;
            Completed::Stored { acknowledgment, permit, is_durable }
        }))
    }

    /// Adds a subscription. Returns its Quality of Service, or none if it is refused.
    fn add(&mut self, filter: Filter, qos: QoS) -> Option<QoS> {
        let subscription = match self.rights().subscription(&filter) {
            Ok(subscription) => subscription,
            Err(error) => {
                self.refuse_topic(&error.to_string());
                return None;
            }
        };
        self.subscriptions.retain(|subscribed| subscribed.filter != filter);
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return None;
        }
        let is_acknowledged = qos != QoS::Level0;
        // A client has few, for long.
        self.subscriptions.reserve_exact(1);
        self.subscriptions.push(Subscribed { filter, subscription, is_acknowledged });
        Some(if is_acknowledged { QoS::Level1 } else { QoS::Level0 })
    }

    fn unsubscribe(
        &mut self,
        unsubscribe: &Unsubscribe,
        permit: OwnedSemaphorePermit,
    ) -> Received<'a> {
        let removed = |filter: &str| unsubscribe.topics.iter().any(|topic| &**topic == filter);
        self.subscriptions.retain(|subscribed| !removed(&subscribed.filter));
        let unsuback = packet::encode(&Packet::Unsuback(unsubscribe.pid)).unwrap_or_default();
        self.subscriptions_changed(unsuback, permit)
    }

    /// Returns the AEs of the client whose requests it subscribes to.
    fn subscribed_aes(&self) -> Vec<AeIdStem> {
        let cse = &self.exchange.pipeline.this_cse().cse_id;
        let entity = self.exchange.session.active.association.entity();
        let is_subscribed = |ae: &&AeIdStem| {
            self.subscriptions.iter().any(|s| {
                s.subscription.messages == Messages::Requests
                    && s.subscription.names_ae(cse, ae.as_str())
            })
        };
        entity.stems().iter().filter(is_subscribed).cloned().collect()
    }

    /// Opens the channel of the AEs while the client subscribes to requests, and closes it otherwise.
    fn follow_requests(&mut self) {
        let aes = self.subscribed_aes();
        if aes == self.aes {
            return;
        }
        self.aes = aes;
        self.aes.shrink_to_fit();
        if self.aes.is_empty() {
            self.delivery = Box::pin(std::future::pending());
            self.requests = None;
            self.channel = None;
            return;
        }
        let channel = self.channel.take().unwrap_or_else(|| {
            let active = self.exchange.session.active.clone();
            let (channel, requests) = Channel::open(self.exchange.pipeline.ae_channels(), active);
            self.requests = Some(requests);
            Arc::new(channel)
        });
        self.channel = Some(channel.clone());
        // From the first one, because some may wait for an AE that was not subscribed.
        self.delivery = Box::pin(async move { channel.deliver_waiting().await });
    }

    fn refuse_topic(&self, why: &str) {
        let association = &self.exchange.session.active.association;
        audit::undecoded_refused(association, "", None, Rsc::OriginatorNotAuthenticated, why);
    }

    /// Sends a packet without a payload.
    fn send(&self, packet: &Packet, held: Held) {
        // The packets of a server are shorter than the maximum.
        if let Ok(bytes) = packet::encode(packet) {
            self.queue([bytes, Bytes::new()], held);
        }
    }

    fn queue(&self, parts: [Bytes; 2], held: Held) {
        self.outgoing.push(Outgoing { parts, _held: held });
    }
}

const QOS_2: &str = "Quality of Service 2 is not supported";

/// Answers a message in a topic of requests.
async fn respond(
    exchange: &Exchange,
    primitive_type: PrimitiveType,
    payload: Bytes,
    expected: Expected,
    permit: OwnedSemaphorePermit,
) -> (Encoded, Serialization) {
    let PrimitiveType::Supported(serialization) = primitive_type else {
        let why = "XML is not supported; publish json or cbor";
        let error = BindingError::new(Rsc::UnsupportedMediaType, None, why);
        return (exchange.refuse(Serialization::Json, None, error, permit), Serialization::Json);
    };
    let (from, refusal) = match exchange.read(serialization, payload) {
        Incoming::Request(request) => match check(&request, expected) {
            Ok(()) => {
                let response = exchange.respond(serialization, request, permit).await;
                return (response, serialization);
            }
            Err(error) => (request.from, error),
        },
        Incoming::Response(response) => {
            let why = "a response in a topic of requests";
            (None, BindingError::new(Rsc::BadRequest, Some(response.request_id), why))
        }
        Incoming::Bad(error) => (None, error),
    };
    (exchange.refuse(serialization, from.as_deref(), refusal, permit), serialization)
}

/// Checks that a request agrees with its topic, and has not expired while it waited.
fn check(request: &RequestPrimitive, expected: Expected) -> Result<(), BindingError> {
    let refused =
        |rsc, why: &str| Err(BindingError::new(rsc, Some(request.request_id.clone()), why));
    match expected {
        Expected::From(Some(ae)) => match request.from.as_deref() {
            Some(from) if from == ae.as_str() => {}
            // `C` and `S` ask for an AE-ID, which this AE has.
            Some(from) if matches!(from, "C" | "S") || AeIdStem::check(from).is_ok() => {
                let why = "From is not the originator in the topic";
                return refused(Rsc::OriginatorNotAuthenticated, why);
            }
            Some(_) => return refused(Rsc::BadRequest, "From is not an AE-ID-Stem"),
            // A request without one is refused unless it registers.
            None => {}
        },
        // A CSE forwards requests of its AEs, so its association decides.
        Expected::From(None) => {}
        Expected::Registration => {
            let registers = [ResourceType::Ae, ResourceType::RemoteCse];
            if !registers.into_iter().any(|kind| request.creates(kind)) {
                let why = "only registrations are published in reg_req";
                return refused(Rsc::BadRequest, why);
            }
        }
    }
    match check_times(&request.parameters, SystemTime::now()) {
        Ok(()) => Ok(()),
        Err(fault) => refused(fault.rsc(), &fault.to_string()),
    }
}
