//! Requests of an AE as primitives, over each binding.

use serde_json::Value;

use crate::client::{Client, Credential, LIGHT1, Tool};
use crate::coap::{CONTENT_FORMAT, CoapLight, CoapMessage, FROM, REQUEST_ID, RESOURCE_TYPE};
use crate::gateway::Gateway;
use crate::http::Request;
use crate::light::Light;
use crate::mqtt::{self, Mqtt};
use crate::websocket::WebSocket;

/// A binding, with the client that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// HTTP, with the command line of a TLS library.
    Http(Tool),
    /// WebSocket, with the subprotocol oneM2M.json.
    WebSocket,
    /// MQTT, in JSON.
    Mqtt,
    /// CoAP over DTLS, in JSON.
    Coap,
}

/// A request primitive without its request identifier and release.
#[derive(Debug, Clone, Copy)]
pub struct Primitive<'a> {
    /// The operation.
    pub op: u8,
    /// The target.
    pub to: &'a str,
    /// The originator.
    pub from: Option<&'a str>,
    /// The resource type.
    pub ty: Option<u16>,
    /// The content as JSON, or nothing.
    pub content: &'a str,
}

impl<'a> Primitive<'a> {
    const fn new(op: u8, to: &'a str, ty: Option<u16>, content: &'a str) -> Self {
        Self { op, to, from: None, ty, content }
    }

    /// Returns a create request.
    pub const fn create(to: &'a str, ty: u16, content: &'a str) -> Self {
        Self::new(1, to, Some(ty), content)
    }

    /// Returns a retrieve request.
    pub const fn retrieve(to: &'a str) -> Self {
        Self::new(2, to, None, "")
    }

    /// Returns an update request.
    pub const fn update(to: &'a str, content: &'a str) -> Self {
        Self::new(3, to, None, content)
    }

    /// Returns a delete request.
    pub const fn delete(to: &'a str) -> Self {
        Self::new(4, to, None, "")
    }

    /// Returns a notification.
    pub const fn notify(to: &'a str, content: &'a str) -> Self {
        Self::new(5, to, None, content)
    }

    /// Sets the originator.
    pub const fn from(self, originator: &'a str) -> Self {
        Self { from: Some(originator), ..self }
    }

    /// Returns the request as HTTP sends it.
    fn http(&self) -> Request {
        let method = match self.op {
            1 | 5 => "POST",
            3 => "PUT",
            4 => "DELETE",
            _ => "GET",
        };
        let path = match self.to.strip_prefix('/') {
            Some(absolute) if absolute.starts_with('/') => format!("/_{absolute}"),
            Some(_) => format!("/~{}", self.to),
            None => format!("/{}", self.to),
        };
        let mut request = Request::new(method, &path);
        if let Some(originator) = self.from {
            request = request.from(originator);
        }
        if self.content.is_empty() {
            return request;
        }
        let ty = self.ty.map_or_else(String::new, |ty| format!(";ty={ty}"));
        request.header("Content-Type", &format!("application/json{ty}")).body(self.content)
    }

    /// Returns the request as CoAP sends it.
    fn coap(&self, id: &str) -> CoapMessage {
        let code = match self.op {
            1 | 5 => 2,
            3 => 3,
            4 => 4,
            _ => 1,
        };
        let path = match self.to.strip_prefix('/') {
            Some(absolute) if absolute.starts_with('/') => format!("_{absolute}"),
            Some(_) => format!("~{}", self.to),
            None => self.to.into(),
        };
        let mut request = CoapMessage::request(code, &path, "", id).without(FROM);
        if let Some(originator) = self.from {
            request = request.option(FROM, originator);
        }
        if let Some(ty) = self.ty {
            request = request.option(RESOURCE_TYPE, ty.to_be_bytes());
        }
        if self.content.is_empty() {
            return request;
        }
        let payload = self.content.as_bytes().to_vec();
        CoapMessage { payload, ..request.option(CONTENT_FORMAT, [50]) }
    }

    /// Returns the request as a whole primitive in JSON.
    fn json(&self, id: &str) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let mut json = format!(r#"{{"op":{},"to":{},"rvi":"3""#, self.op, text(self.to));
        json.push_str(&format!(r#","rqi":{}"#, text(id)));
        if let Some(originator) = self.from {
            json.push_str(&format!(r#","fr":{}"#, text(originator)));
        }
        if let Some(ty) = self.ty {
            json.push_str(&format!(r#","ty":{ty}"#));
        }
        if !self.content.is_empty() {
            json.push_str(&format!(r#","pc":{}"#, self.content));
        }
        json + "}"
    }
}

/// An association of an AE that sends requests over a binding.
pub enum Association {
    /// HTTP.
    Http(Client),
    /// WebSocket.
    WebSocket(Box<WebSocket>),
    /// MQTT.
    Mqtt(Box<MqttClient>),
    /// CoAP, with the number of requests.
    Coap(Box<CoapLight>, u32),
}

/// Topic of registrations. The gateway ignores the Credential-ID in it.
const REG_REQ: &str = "/oneM2M/reg_req/credential/mn-cse-123456/json";

/// A client of the MQTT server. Its Client Identifier and topics have the AE-ID of light 1, or the one
/// that it is assigned.
pub struct MqttClient {
    port: u16,
    identity: String,
    key: String,
    ae_id: Option<String>,
    connection: Mqtt,
}

impl MqttClient {
    #[track_caller]
    fn connect(port: u16, credential: Credential<'_>, ae_id: Option<&str>) -> Self {
        let client_id = ae_id.map_or_else(|| "device".into(), |ae_id| format!("A::{ae_id}"));
        let mut connection = Mqtt::connect(port, credential, &client_id);
        assert_eq!(connection.subscribe("/oneM2M/reg_resp/credential/#"), 1);
        if let Some(ae_id) = ae_id {
            assert_eq!(connection.subscribe(&format!("/oneM2M/resp/{ae_id}/#")), 1);
        }
        Self {
            port,
            identity: credential.identity.into(),
            key: credential.key.into(),
            ae_id: ae_id.map(Into::into),
            connection,
        }
    }

    #[track_caller]
    fn ask_text(&mut self, topic: &str, text: &str) -> Value {
        self.connection.send(&mqtt::publish(topic, None, text.as_bytes()));
        self.connection.message().1
    }

    /// Returns the topic of requests other than registrations.
    fn topic(&self) -> String {
        let ae_id = self.ae_id.as_deref().expect("it is registered");
        format!("/oneM2M/req/{ae_id}/mn-cse-123456/json")
    }

    #[track_caller]
    fn ask(&mut self, request: &Primitive<'_>) -> Answer {
        let id = format!("mqtt-{}", self.connection.id());
        let registers = (request.op, request.ty) == (1, Some(2));
        let topic = if registers { REG_REQ.into() } else { self.topic() };
        let answer = Answer::of(&self.ask_text(&topic, &request.json(&id)), &id);
        // A client that is assigned an AE-ID connects again with it.
        if let Some(ae_id) = answer.content["m2m:ae"]["aei"].as_str()
            && self.ae_id.is_none()
        {
            let credential = Credential { identity: &self.identity, key: &self.key };
            *self = Self::connect(self.port, credential, Some(ae_id));
        }
        answer
    }
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// The Response Status Code.
    pub rsc: u64,
    /// The content, or null.
    pub content: Value,
}

impl Answer {
    /// Returns the answer in a response primitive.
    #[track_caller]
    fn of(response: &Value, id: &str) -> Self {
        assert_eq!(response["rqi"], id, "{response}");
        Self {
            rsc: response["rsc"].as_u64().expect("a Response Status Code"),
            content: response["pc"].clone(),
        }
    }
}

impl Binding {
    /// Connects, and panics if the handshake fails.
    #[track_caller]
    pub fn connect(self, gateway: &Gateway, credential: Credential<'_>) -> Association {
        match self {
            Self::Http(tool) => Association::Http(tool.connect(gateway.port(), credential)),
            Self::WebSocket => {
                let light = Light::connect(gateway.port(), credential).expect("an association");
                let opened = light.websocket(&[("Sec-WebSocket-Protocol", "oneM2M.json")]);
                Association::WebSocket(Box::new(opened.expect("the gateway opens a WebSocket")))
            }
            Self::Mqtt => {
                let ae_id = (credential.identity == LIGHT1.identity).then_some("Clight-AE1");
                let client = MqttClient::connect(gateway.mqtt_port(), credential, ae_id);
                Association::Mqtt(Box::new(client))
            }
            Self::Coap => {
                let light = CoapLight::connect(gateway.coap_port(), credential);
                Association::Coap(Box::new(light.expect("an association")), 0)
            }
        }
    }

    /// Returns whether a request is a whole primitive.
    pub fn has_whole_primitives(self) -> bool {
        matches!(self, Self::WebSocket | Self::Mqtt)
    }
}

impl Association {
    /// Sends a request and reads its response.
    #[track_caller]
    pub fn ask(&mut self, request: &Primitive<'_>) -> Answer {
        match self {
            Self::Http(client) => {
                let response = client.ask(&request.http());
                let rsc = response.rsc().expect("a Response Status Code").into();
                let empty = response.text().is_empty();
                Answer { rsc, content: if empty { Value::Null } else { response.json() } }
            }
            Self::WebSocket(socket) => {
                let id = socket.id();
                Answer::of(&self.ask_text(&request.json(&id)), &id)
            }
            Self::Mqtt(client) => client.ask(request),
            Self::Coap(light, requests) => {
                *requests += 1;
                let id = format!("coap-{requests}");
                let response = light.ask(&request.coap(&id));
                assert_eq!(response.value(REQUEST_ID), Some(id.as_bytes()), "{response:?}");
                let rsc = response.rsc().expect("a Response Status Code").into();
                let empty = response.payload.is_empty();
                Answer { rsc, content: if empty { Value::Null } else { response.json() } }
            }
        }
    }

    /// Sends a text in the place of a primitive, and returns the response primitive.
    #[track_caller]
    pub fn ask_text(&mut self, text: &str) -> Value {
        match self {
            Self::Http(_) | Self::Coap(..) => panic!("the binding has no whole primitives"),
            Self::WebSocket(socket) => {
                socket.send_text(text);
                socket.primitive()
            }
            Self::Mqtt(client) => client.ask_text(&client.topic(), text),
        }
    }

    /// Sends a request, and asserts the status code of the response.
    #[track_caller]
    pub fn expect(&mut self, request: &Primitive<'_>, rsc: u64) -> Value {
        let answer = self.ask(request);
        assert_eq!(answer.rsc, rsc, "{request:?}: {answer:?}");
        answer.content
    }
}

/// Creates a test for each binding, and for each client of HTTP, of each function that takes a
/// [`Binding`].
#[macro_export]
macro_rules! with_each_binding {
    ($($name:ident),* $(,)?) => {
        mod http_openssl {
            $(#[test] fn $name() { super::$name($crate::Binding::Http($crate::Tool::OpenSsl)); })*
        }
        mod http_gnutls {
            $(#[test] fn $name() { super::$name($crate::Binding::Http($crate::Tool::GnuTls)); })*
        }
        mod websocket {
            $(#[test] fn $name() { super::$name($crate::Binding::WebSocket); })*
        }
        mod mqtt {
            $(#[test] fn $name() { super::$name($crate::Binding::Mqtt); })*
        }
        mod coap {
            $(#[test] fn $name() { super::$name($crate::Binding::Coap); })*
        }
    };
}
