//! Requests of an AE as primitives, over each binding.

use serde_json::Value;

use crate::client::{Client, Credential, Tool};
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
    /// MQTT, in JSON, as the client of light 1.
    Mqtt,
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
    Mqtt(Box<Mqtt>),
}

/// Topic of requests of light 1.
const REQ: &str = "/oneM2M/req/Clight-AE1/mn-cse-123456/json";
/// Topic of registrations. The gateway ignores the Credential-ID in it.
const REG_REQ: &str = "/oneM2M/reg_req/credential/mn-cse-123456/json";

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
                let port = gateway.mqtt_port();
                let mut light = Mqtt::connect(port, credential, "A::Clight-AE1");
                for filter in ["/oneM2M/resp/Clight-AE1/#", "/oneM2M/reg_resp/credential/#"] {
                    assert_eq!(light.subscribe(filter), 1, "{filter}");
                }
                Association::Mqtt(Box::new(light))
            }
        }
    }

    /// Returns whether a request is a whole primitive.
    pub fn has_whole_primitives(self) -> bool {
        !matches!(self, Self::Http(_))
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
            Self::Mqtt(client) => {
                let id = format!("mqtt-{}", client.id());
                let registers = (request.op, request.ty) == (1, Some(2));
                let topic = if registers { REG_REQ } else { REQ };
                client.send(&mqtt::publish(topic, None, request.json(&id).as_bytes()));
                Answer::of(&client.message().1, &id)
            }
        }
    }

    /// Sends a text in the place of a primitive, and returns the response primitive.
    #[track_caller]
    pub fn ask_text(&mut self, text: &str) -> Value {
        match self {
            Self::Http(_) => panic!("HTTP has no whole primitives"),
            Self::WebSocket(socket) => {
                socket.send_text(text);
                socket.primitive()
            }
            Self::Mqtt(client) => {
                client.send(&mqtt::publish(REQ, None, text.as_bytes()));
                client.message().1
            }
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
    };
}
