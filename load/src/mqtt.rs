//! MQTT (TS-0010) for the benchmark: devices, and a CSE that is a client of their MQTT server.
//!
//! All messages have Quality of Service 1, and sessions are not clean, as TS-0010 clause 5.1 wants.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use saegis_onem2m::mqtt::client::TopicFilter;
use saegis_onem2m::mqtt::packet::{
    self, Connect, ConnectReturnCode, Packet, Pid, Protocol, QoS, Subscribe,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::answer::CONTENT;
use crate::client::Connection;

/// CSE-ID in the topics.
const CSE: &str = "mn-cse-123456";
/// Maximum size of a packet, in bytes.
const MAX_PACKET: usize = 8 << 10;

/// A connection with MQTT.
pub struct Mqtt<S> {
    stream: S,
    buffer: BytesMut,
    pid: Pid,
}

/// Arguments of `saegis-load mqtt-cse`.
#[derive(clap::Args)]
pub struct Args {
    /// The MQTT server.
    #[arg(long)]
    address: SocketAddr,
}

/// Responds to each request that a device publishes. Prints the address once it can.
///
/// # Errors
/// Fails if the connection ends.
pub async fn serve(args: &Args) -> Result<()> {
    let stream = TcpStream::connect(args.address).await?;
    stream.set_nodelay(true)?;
    let mut mqtt = Mqtt::open(stream, &format!("C::{CSE}")).await?;
    mqtt.subscribe(&[format!("/oneM2M/req/+/{CSE}/#")]).await?;
    println!("{}", args.address);
    let content: Value = serde_json::from_str(CONTENT)?;
    loop {
        let Packet::Publish(publish) = mqtt.packet().await? else { continue };
        let request: Value = serde_json::from_slice(&publish.payload)?;
        let response = json!({ "rsc": 2001, "rqi": request.get("rqi"), "rvi": "3", "pc": content })
            .to_string();
        let topic = publish.topic_name.replacen("/req/", "/resp/", 1);
        let acknowledged = publish.qos_pid.pid().context("no packet identifier")?;
        let mut bytes = packet::encode(&Packet::Puback(acknowledged))?.to_vec();
        bytes.extend(mqtt.message(&topic, response.as_bytes())?);
        mqtt.stream.write_all(&bytes).await?;
    }
}

impl<S: Connection + Unpin> Mqtt<S> {
    /// Connects with a Client Identifier.
    async fn open(stream: S, client_id: &str) -> Result<Self> {
        let mut this = Self { stream, buffer: BytesMut::new(), pid: Pid::default() };
        let connect = Connect {
            protocol: Protocol::V311,
            clean_session: false,
            keep_alive: 0,
            client_id: client_id.into(),
            last_will: None,
            username: None,
            password: None,
        };
        this.send(&Packet::Connect(connect)).await?;
        match this.packet().await? {
            Packet::Connack(ack) if ack.code == ConnectReturnCode::Accepted => Ok(this),
            other => bail!("the CONNECT is answered with {other:?}"),
        }
    }

    async fn subscribe(&mut self, filters: &[String]) -> Result<()> {
        let topics = filters.iter().map(|filter| {
            let filter = TopicFilter::try_from(filter.as_str());
            Ok((filter.ok().context("the filter is invalid")?, QoS::Level1))
        });
        let topics = topics.collect::<Result<Vec<_>>>()?;
        self.send(&Packet::Subscribe(Subscribe { pid: self.pid, topics })).await?;
        match self.packet().await? {
            Packet::Suback(_) => Ok(()),
            other => bail!("the SUBSCRIBE is answered with {other:?}"),
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<()> {
        Ok(self.stream.write_all(&packet::encode(packet)?).await?)
    }

    /// Returns a PUBLISH.
    fn message(&mut self, topic: &str, payload: &[u8]) -> Result<Vec<u8>> {
        self.pid += 1;
        let mut bytes = packet::publish_header(topic, Some(self.pid), payload.len())?.to_vec();
        bytes.extend_from_slice(payload);
        Ok(bytes)
    }

    async fn packet(&mut self) -> Result<Packet> {
        loop {
            if let Some(length) = packet::length(&self.buffer, MAX_PACKET)?
                && self.buffer.len() >= length
            {
                let whole = self.buffer.split_to(length);
                return Ok(packet::decode(&whole)?);
            }
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection ends");
        }
    }
}

/// A device that is connected.
pub struct Device {
    mqtt: Mqtt<Pin<Box<dyn Connection>>>,
    /// Its AE-ID-Stem.
    own: String,
}

impl Device {
    /// Connects a device, and subscribes to what is for it.
    ///
    /// # Errors
    /// Fails if the server refuses the connection.
    pub async fn connect(stream: Pin<Box<dyn Connection>>, own: &str) -> Result<Self> {
        let mut mqtt = Mqtt::open(stream, &format!("A::{own}")).await?;
        let filters = [format!("/oneM2M/resp/{own}/+/#"), format!("/oneM2M/req/+/{own}/#")];
        mqtt.subscribe(&filters).await?;
        Ok(Self { mqtt, own: own.into() })
    }

    /// Returns the connection.
    pub fn into_stream(self) -> Pin<Box<dyn Connection>> {
        self.mqtt.stream
    }

    /// Creates a content instance, and checks that the response is that of the CSE behind.
    ///
    /// # Errors
    /// Fails if the response is another one.
    pub async fn create(&mut self, number: u64) -> Result<()> {
        let response = self.exchange(&self.own.clone(), number).await?;
        let content: Value = serde_json::from_str(CONTENT)?;
        let is_of_cse = response.get("rsc") == Some(&json!(2001));
        ensure!(is_of_cse && response.get("pc") == Some(&content), "response {response}");
        Ok(())
    }

    /// Sends a request with another From, which the server must refuse.
    ///
    /// # Errors
    /// Fails if the server accepts it.
    pub async fn is_refused(&mut self, originator: &str) -> Result<()> {
        let response = self.exchange(originator, 0).await?;
        let is_refused = response.get("rsc") == Some(&json!(4106));
        ensure!(is_refused, "response in the name of {originator}: {response}");
        Ok(())
    }

    /// Sends a request, and returns the response once the request is acknowledged as well.
    async fn exchange(&mut self, originator: &str, number: u64) -> Result<Value> {
        let Self { mqtt, own } = self;
        let id = format!("r{number}");
        let request = format!(
            "{{\"op\":1,\"to\":\"/{CSE}/cse/light\",\"fr\":\"{originator}\",\"rqi\":\"{id}\",\
             \"rvi\":\"3\",\"ty\":4,\"pc\":{{\"m2m:cin\":{{\"con\":\"21.5\"}}}}}}"
        );
        let bytes = mqtt.message(&format!("/oneM2M/req/{own}/{CSE}/json"), request.as_bytes())?;
        let own_pid = mqtt.pid;
        mqtt.stream.write_all(&bytes).await.context("the request can't be written")?;
        let (mut is_acknowledged, mut response) = (false, None);
        loop {
            match mqtt.packet().await.context("no response")? {
                Packet::Puback(pid) if pid == own_pid => is_acknowledged = true,
                Packet::Publish(publish) => {
                    let topic = format!("/oneM2M/resp/{own}/{CSE}/json");
                    ensure!(*publish.topic_name == *topic, "a message in {topic:?}");
                    let pid = publish.qos_pid.pid().context("no packet identifier")?;
                    mqtt.send(&Packet::Puback(pid)).await?;
                    response = Some(answer(&publish.payload, &id)?);
                }
                other => bail!("unexpected {other:?}"),
            }
            if is_acknowledged && let Some(response) = response.take() {
                return Ok(response);
            }
        }
    }
}

fn answer(payload: &Bytes, id: &str) -> Result<Value> {
    let response: Value = serde_json::from_slice(payload.chunk())?;
    let is_response = response.get("rqi").and_then(Value::as_str) == Some(id);
    ensure!(is_response, "a response to another request: {response}");
    Ok(response)
}
