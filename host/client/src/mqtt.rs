//! A client of an MQTT server (MQTT 3.1.1), and the binding over it (TS-0010), in JSON.

mod binding;

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use saegis_onem2m::mqtt::client::{SubscribeReturnCode, TopicFilter};
use saegis_onem2m::mqtt::packet::{
    self, Connect, ConnectReturnCode, Packet, Pid, Protocol, QoS, Subscribe,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

pub(crate) use self::binding::Mqtt;

/// Time without a packet after which the server must end the connection, in seconds.
const KEEP_ALIVE: u16 = 60;
/// Interval between requests for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Timeout for a packet to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum and maximum growth of the buffer, in bytes. A packet gets its memory as it arrives.
const MIN_GROWTH: usize = 512;
const MAX_GROWTH: usize = 16 << 10;
/// Packet identifier of all packets: the client waits for the end of each exchange.
const PID: u16 = 1;

/// A connection to an MQTT server, with a clean session.
pub struct MqttConnection<S> {
    stream: S,
    buffer: BytesMut,
    /// Maximum size of a packet, in bytes.
    max: usize,
    /// Bytes of a larger packet that are still to be discarded.
    discard: usize,
    /// When the next request for a sign of life is due.
    ping_due: Instant,
    /// Whether a packet has arrived since the last one.
    is_alive: bool,
}

/// A message of the server.
pub struct Message {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Packet identifier, if the message must be acknowledged.
    pid: Option<Pid>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> MqttConnection<S> {
    /// Opens a connection, and subscribes to `filters`. Packets of more than `max` bytes are discarded.
    ///
    /// # Errors
    /// Returns the reason why the server does not accept it.
    pub async fn open(
        stream: S,
        client_id: &str,
        (filters, qos): (&[String], QoS),
        max: usize,
    ) -> Result<Self, String> {
        let ping_due = Instant::now() + PING_INTERVAL;
        let mut this =
            Self { stream, buffer: BytesMut::new(), max, discard: 0, ping_due, is_alive: true };
        let connect = Connect {
            protocol: Protocol::V311,
            clean_session: true,
            keep_alive: KEEP_ALIVE,
            client_id: client_id.into(),
            last_will: None,
            username: None,
            password: None,
        };
        this.send(&Packet::Connect(connect)).await?;
        match this.packet().await? {
            Packet::Connack(ack) if ack.code == ConnectReturnCode::Accepted => {}
            Packet::Connack(ack) => {
                return Err(format!("the MQTT server refuses the connection: {:?}", ack.code));
            }
            _ => return Err("the MQTT server does not answer CONNECT".into()),
        }
        let mut topics = Vec::new();
        for filter in filters {
            let filter = TopicFilter::try_from(filter.as_str());
            topics.push((filter.map_err(|_| "a topic filter is invalid")?, qos));
        }
        let pid = Pid::try_from(PID).map_err(|_| "a packet identifier is invalid")?;
        this.send(&Packet::Subscribe(Subscribe { pid, topics })).await?;
        let answer = loop {
            match this.packet().await? {
                // A server may send messages of a filter before it confirms it (MQTT 3.1.1, 3.8.4).
                // They answer nothing that this connection has asked.
                Packet::Publish(_) => {}
                answer => break answer,
            }
        };
        match answer {
            Packet::Suback(ack) if ack.topics.contains(&SubscribeReturnCode::Failure) => {
                Err("the MQTT server refuses a subscription".into())
            }
            Packet::Suback(ack) if ack.topics.len() == filters.len() => Ok(this),
            _ => Err("the MQTT server does not answer SUBSCRIBE".into()),
        }
    }

    /// Waits for a message. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// Returns the reason why none can arrive.
    pub async fn message(&mut self) -> Result<Message, String> {
        loop {
            // Acknowledgments and signs of life need no reaction.
            if let Packet::Publish(publish) = self.packet().await? {
                let topic = publish.topic_name.to_string();
                return Ok(Message { topic, payload: publish.payload, pid: publish.qos_pid.pid() });
            }
        }
    }

    /// Acknowledges a message, if its Quality of Service requires it.
    ///
    /// # Errors
    /// Returns an error if the connection is broken.
    pub async fn acknowledge(&mut self, message: &Message) -> Result<(), String> {
        match message.pid {
            Some(pid) => self.send(&Packet::Puback(pid)).await,
            None => Ok(()),
        }
    }

    /// Publishes a message with the Quality of Service 0.
    ///
    /// # Errors
    /// Returns an error if the connection is broken.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), String> {
        let header = packet::publish_header(topic, None, payload.len());
        let mut bytes = header.map_err(|e| e.to_string())?.to_vec();
        bytes.extend_from_slice(payload);
        self.write(&bytes).await
    }

    /// Returns when [`ping`](Self::ping) is due.
    pub fn ping_due(&self) -> Instant {
        self.ping_due
    }

    /// Requests a sign of life.
    ///
    /// # Errors
    /// Returns an error if there has been none since the last request.
    pub async fn ping(&mut self) -> Result<(), String> {
        if !std::mem::replace(&mut self.is_alive, false) {
            return Err("the MQTT server does not answer".into());
        }
        self.ping_due = Instant::now() + PING_INTERVAL;
        self.send(&Packet::Pingreq).await
    }

    async fn packet(&mut self) -> Result<Packet, String> {
        loop {
            let discarded = self.discard.min(self.buffer.len());
            self.buffer.advance(discarded);
            self.discard -= discarded;
            let mut missing = self.discard;
            if missing == 0 {
                let length = packet::length(&self.buffer, usize::MAX).map_err(|e| e.to_string())?;
                match length {
                    Some(length) if length > self.max => {
                        tracing::warn!(
                            event = "mqtt.too-large",
                            "discarded a message of {length} bytes"
                        );
                        self.discard = length;
                        continue;
                    }
                    Some(length) if length <= self.buffer.len() => {
                        self.is_alive = true;
                        let bytes = self.buffer.split_to(length);
                        return packet::decode(&bytes).map_err(|e| e.to_string());
                    }
                    Some(length) => missing = length - self.buffer.len(),
                    None => {}
                }
            }
            self.buffer.reserve(missing.clamp(MIN_GROWTH, MAX_GROWTH));
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err("the MQTT server closed the connection".into()),
                Ok(_) => {}
                Err(e) => return Err(e.to_string()),
            }
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), String> {
        let bytes = packet::encode(packet).map_err(|e| e.to_string())?;
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
            Ok(written) => written.map_err(|e| e.to_string()),
            Err(_) => Err("the MQTT server does not read".into()),
        }
    }
}
