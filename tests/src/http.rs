//! oneM2M requests and responses over HTTP, as bytes on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::process::BOUND;

/// A request as it is sent. Nothing is validated or corrected.
#[derive(Debug, Clone)]
pub struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// Returns a request with a new request identifier and no other parameter.
    pub fn new(method: &str, path: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = format!("request-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let line = format!("{method} {path} HTTP/1.1");
        Self { line, headers: Vec::new(), body: Vec::new() }
            .header("Host", "gateway")
            .header("X-M2M-RI", &id)
            .header("X-M2M-RVI", "3")
    }

    /// Returns a retrieve request.
    pub fn retrieve(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// Returns a delete request.
    pub fn delete(path: &str) -> Self {
        Self::new("DELETE", path)
    }

    /// Returns a create request for a resource of the type `ty`.
    pub fn create(path: &str, ty: u16, content: &Value) -> Self {
        Self::new("POST", path)
            .header("Content-Type", &format!("application/json;ty={ty}"))
            .body(&content.to_string())
    }

    /// Returns a create request for an AE below the CSEBase.
    pub fn create_ae(name: &str) -> Self {
        let content = serde_json::json!({ "m2m:ae": { "rn": name, "api": "Nlight", "rr": false } });
        Self::create("/cse", 2, &content)
    }

    /// Returns a create request for a container.
    pub fn create_container(parent: &str, name: &str) -> Self {
        Self::create(parent, 3, &serde_json::json!({ "m2m:cnt": { "rn": name } }))
    }

    /// Returns a create request for a content instance.
    pub fn create_instance(container: &str, value: &str) -> Self {
        Self::create(container, 4, &serde_json::json!({ "m2m:cin": { "con": value } }))
    }

    /// Returns an update request.
    pub fn update(path: &str, content: &Value) -> Self {
        Self::new("PUT", path).header("Content-Type", "application/json").body(&content.to_string())
    }

    /// Adds X-M2M-Origin.
    pub fn from(self, originator: &str) -> Self {
        self.header("X-M2M-Origin", originator)
    }

    /// Adds a header field, even if one of that name exists.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Removes the header fields of a name.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// Adds a text as content, and its length.
    pub fn body(self, text: &str) -> Self {
        self.binary(text.as_bytes())
    }

    /// Adds content and its length.
    pub fn binary(mut self, content: &[u8]) -> Self {
        self.body = content.into();
        let length = self.body.len().to_string();
        self.without("Content-Length").header("Content-Length", &length)
    }

    /// Adds content without a Content-Length.
    pub fn raw_body(mut self, text: &str) -> Self {
        self.body = text.into();
        self.without("Content-Length")
    }

    /// Returns the request identifier.
    pub fn id(&self) -> &str {
        self.headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("X-M2M-RI"))
            .map_or("", |(_, value)| value)
    }

    /// Returns the bytes of the request.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// Sends the request to a local port without TLS, and reads the response.
    #[track_caller]
    pub fn send_in_plaintext(&self, port: u16) -> Response {
        self.send_in_plaintext_within(port, BOUND)
    }

    /// Sends it over TCP, and waits this long for each part of the response.
    pub(crate) fn send_in_plaintext_within(&self, port: u16, bound: Duration) -> Response {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
        socket.set_read_timeout(Some(bound)).expect("a bound");
        socket.write_all(&self.bytes()).expect("the request can be sent");
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some((message, _)) = Message::read(&answer) {
                return Response::new(message);
            }
            match socket.read(&mut chunk) {
                Ok(read @ 1..) => answer.extend_from_slice(&chunk[..read]),
                end => {
                    panic!("incomplete response ({end:?}): {}", String::from_utf8_lossy(&answer))
                }
            }
        }
    }
}

/// An HTTP message: a response or, at an upstream, a request.
#[derive(Clone)]
pub struct Message {
    /// The start line.
    pub line: String,
    /// The header fields, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub body: Vec<u8>,
}

impl Message {
    /// Reads the message at the start of `bytes`, and returns it with its length. Returns `None` if
    /// the message is incomplete.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, end) = Self::read_head(bytes)?;
        let length = match head.values("content-length").first() {
            Some(value) => value.parse().expect("a Content-Length is a number"),
            None => 0,
        };
        let body = bytes.get(end..end + length)?.to_vec();
        Some((Self { body, ..head }, end + length))
    }

    /// Reads a message without content.
    pub fn read_head(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default().to_string();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.trim().to_string())
        };
        Some((Self { line, headers: lines.map(field).collect(), body: Vec::new() }, end + 4))
    }

    /// Returns the values of all header fields of a name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter().filter(|(n, _)| n == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{:?} {:?} {body:?}", self.line, self.headers)
    }
}

/// A response.
#[derive(Debug, Clone)]
pub struct Response(Message);

impl Response {
    pub(crate) fn new(message: Message) -> Self {
        Self(message)
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        let mut words = self.0.line.split(' ');
        let version = words.next().is_some_and(|v| v == "HTTP/1.1" || v == "HTTP/1.0");
        let code = words.next().filter(|_| version).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("{:?} is not a status line", self.0.line))
    }

    /// Returns the Response Status Code.
    pub fn rsc(&self) -> Option<u16> {
        self.header("x-m2m-rsc")?.parse().ok()
    }

    /// Returns the value of a header field, and panics if the field is repeated. The name is in
    /// lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.0.values(name).as_slice() {
            [] => None,
            [value] => Some(value),
            more => panic!("{name} occurs {} times", more.len()),
        }
    }

    /// Returns all header fields, with names in lower case.
    pub fn headers(&self) -> &[(String, String)] {
        &self.0.headers
    }

    /// Returns the content.
    pub fn bytes(&self) -> &[u8] {
        &self.0.body
    }

    /// Returns the content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.body).into_owned()
    }

    /// Returns the content as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.0.body)))
    }

    /// Returns the debug information of an error response.
    pub fn debug(&self) -> String {
        self.json()["m2m:dbg"].as_str().unwrap_or_else(|| panic!("no m2m:dbg in {self:?}")).into()
    }

    /// Asserts the HTTP status and the Response Status Code.
    #[track_caller]
    pub fn expect(self, status: u16, rsc: u16) -> Self {
        assert_eq!((self.status(), self.rsc()), (status, Some(rsc)), "{self:?}");
        self
    }

    /// Asserts an error response with debug information.
    #[track_caller]
    pub fn expect_refusal(self, status: u16, rsc: u16) -> Self {
        assert!(!self.debug().is_empty());
        self.expect(status, rsc)
    }
}
