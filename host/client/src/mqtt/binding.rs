//! The MQTT binding of an AE (TS-0010).

use std::pin::Pin;

use saegis_onem2m::id::CseId;
use saegis_onem2m::mqtt::client::{RequestTopics, client_id_of_ae, topics_of_notifications};
use saegis_onem2m::mqtt::packet::QoS;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::serialization::{Primitive, Serialization};
use tokio::io::{AsyncRead, AsyncWrite};

use super::MqttConnection;
use crate::incoming_requests::IncomingRequests;

/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 5 << 20;
/// A bidirectional stream.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A connection of an AE to the MQTT server of its registrar.
pub(crate) struct Mqtt {
    connection: MqttConnection<Pin<Box<dyn Stream>>>,
    topics: RequestTopics,
    /// Topic of the responses to requests of the registrar. Absent before the registration.
    notified: Option<String>,
    requests: IncomingRequests,
}

impl Mqtt {
    /// Opens a connection of an AE to the MQTT server of `cse`. An AE that `registers` uses the
    /// topics of its Credential-ID, which the server knows: any other identifier stands for it.
    pub(crate) async fn open<S>(
        stream: S,
        ae_id: &str,
        registers: bool,
        cse: &CseId,
    ) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let stream: Pin<Box<dyn Stream>> = Box::pin(stream);
        let invalid = |e: saegis_onem2m::mqtt::TopicError| e.to_string();
        let (topics, client_id, filters, notified) = if registers {
            let client = format!("registration-{:016x}", rand::random::<u64>());
            let topics = RequestTopics::of_registration(&client, cse).map_err(invalid)?;
            let filters = vec![topics.response.clone()];
            (topics, client, filters, None)
        } else {
            let topics = RequestTopics::of(ae_id, cse).map_err(invalid)?;
            let (filter, notified) = topics_of_notifications(ae_id, cse).map_err(invalid)?;
            let filters = vec![topics.response.clone(), filter];
            (topics, client_id_of_ae(ae_id), filters, Some(notified))
        };
        let subscribed = (filters.as_slice(), QoS::Level1);
        let connection = MqttConnection::open(stream, &client_id, subscribed, MAX_MESSAGE).await?;
        Ok(Self { connection, topics, notified, requests: IncomingRequests::default() })
    }

    /// Sends a request, and waits for its response.
    pub(crate) async fn ask(
        &mut self,
        request: &RequestPrimitive,
    ) -> Result<ResponsePrimitive, String> {
        if self.notified.is_none() && !request.creates(ResourceType::Ae) {
            return Err("the AE must register first".into());
        }
        let bytes = Serialization::Json.write_request(request).map_err(|e| e.to_string())?;
        self.connection.publish(&self.topics.request, &bytes).await?;
        loop {
            let primitive = self.read().await?;
            if let Some(response) = self.requests.response_to(request, primitive) {
                return Ok(response);
            }
        }
    }

    /// Waits for a request of the registrar.
    pub(crate) async fn request(&mut self) -> Result<RequestPrimitive, String> {
        if let Some(request) = self.requests.pop() {
            return Ok(request);
        }
        loop {
            if let Primitive::Request(request) = self.read().await? {
                return Ok(*request);
            }
        }
    }

    /// Responds to a request of the registrar.
    pub(crate) async fn respond(&mut self, response: &ResponsePrimitive) -> Result<(), String> {
        let topic = self.notified.as_deref().ok_or("the AE must register first")?;
        let bytes = Serialization::Json.write_response(response).map_err(|e| e.to_string())?;
        self.connection.publish(topic, &bytes).await
    }

    async fn read(&mut self) -> Result<Primitive, String> {
        let message = loop {
            let due = self.connection.ping_due();
            tokio::select! {
                message = self.connection.message() => break message?,
                () = tokio::time::sleep_until(due) => self.connection.ping().await?,
            }
        };
        self.connection.acknowledge(&message).await?;
        let read = Serialization::Json.read(message.payload, MAX_MESSAGE);
        read.map_err(|e| format!("the registrar sent no primitive: {e}"))
    }
}
