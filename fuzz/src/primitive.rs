//! Serialized primitives, and the WebSocket messages that carry them.

use std::io::{self, Cursor, Read, Write};

use bytes::Bytes;
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{Primitive, RequestPrimitive};
use saegis_onem2m::serialization::Serialization;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocketConfig};

/// Maximum size of a primitive in JSON, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// The reader of primitives in JSON and in CBOR. A request that was read can be written for HTTP, and
/// reads as the same request when it is written again.
pub fn primitive(input: &[u8]) {
    for serialization in [Serialization::Json, Serialization::Cbor] {
        let read = serialization.read(Bytes::copy_from_slice(input), MAX_BYTES);
        match read {
            Ok(Primitive::Request(request)) => same_again(&request),
            Ok(Primitive::Response(response)) => {
                let written = Serialization::Json.write_response(&response).expect("JSON");
                let again = Serialization::Json.read(written, 2 * MAX_BYTES);
                let Ok(Primitive::Response(again)) = again else { panic!("{again:?}") };
                assert_eq!(again.rsc, response.rsc);
                assert_eq!(again.request_id, response.request_id);
                assert_eq!(again.content, response.content);
            }
            Err(error) => assert!(error.rsc.code() >= 4000),
        }
    }
}

fn same_again(request: &RequestPrimitive) {
    assert!(!request.request_id.is_empty());
    let at = CseId::parse("cse").expect("a CSE-ID");
    saegis_onem2m::http::write_request(request, &at).expect("HTTP carries each value");
    let written = Serialization::Json.write_request(request).expect("JSON");
    let again = Serialization::Json.read(written, 2 * MAX_BYTES);
    let Ok(Primitive::Request(again)) = again else { panic!("{again:?}") };
    assert_eq!(again.operation, request.operation);
    assert_eq!(again.to, request.to);
    assert_eq!(again.from, request.from);
    assert_eq!(again.request_id, request.request_id);
    assert_eq!(again.resource_type, request.resource_type);
    let content = |request: &RequestPrimitive| request.content.as_ref().map(|c| c.bytes().clone());
    assert_eq!(content(&again), content(request));
    let sorted = |request: &RequestPrimitive| {
        let mut options = request.options.clone();
        options.sort();
        options
    };
    assert_eq!(sorted(&again), sorted(request));
    // In CBOR the primitive adds a level, so the deepest JSON content cannot be read again.
    if let Ok(written) = Serialization::Cbor.write_request(request)
        && let Ok(Primitive::Request(again)) = Serialization::Cbor.read(written, 2 * MAX_BYTES)
    {
        assert_eq!((&again.from, &again.to), (&request.from, &request.to));
        assert_eq!(again.request_id, request.request_id);
    }
}

/// Frames of a client as the WebSocket binding reads them, each message a primitive.
pub fn websocket(input: &[u8]) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(128 << 10)
        .max_message_size(Some(MAX_BYTES))
        .max_frame_size(Some(MAX_BYTES));
    let stream = Client(Cursor::new(input));
    let mut socket = tungstenite::WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                assert!(text.len() <= MAX_BYTES);
                let _ = Serialization::Json.read(text.into(), MAX_BYTES);
            }
            Ok(Message::Binary(bytes)) => {
                assert!(bytes.len() <= MAX_BYTES);
                let _ = Serialization::Cbor.read(bytes, MAX_BYTES);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// A client that sends these bytes, and reads everything.
struct Client<'a>(Cursor<&'a [u8]>);

impl Read for Client<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
