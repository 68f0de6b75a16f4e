//! An AE over CoAP, with a registrar CSE that answers each request as its target says.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use saegis_client::{Binding, Credential, Peer, Proof, Session};
use saegis_handshake::Suite;
use saegis_handshake::certificate::{CertificateMapping, Identified, Identifying, Shown};
use saegis_handshake::dtls::{Channel, Credentials, Hello, Read, Server, Transport};
use saegis_handshake::psk::{Answer, CredentialLookup, Looking, Query};
use saegis_onem2m::coap::{
    Exchange, Exchanges, Limits, Parts, Received, ResponseForm, Step, Token, Transfers,
    read_request, read_response, write_request, write_response,
};
use saegis_onem2m::credential::{Credential as Found, Entity, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CredentialId, CseId};
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::saef::Saef;
use saegis_onem2m::serialization::Serialization;
use saegis_onem2m::target::Target;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

const KEY: &[u8] = b"0f1e2d3c4b5a6978";
const TIMEOUT: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits {
    max_body: 1 << 20,
    max_per_association: 4,
    max_bytes: 4 << 20,
    lifetime: Duration::from_secs(60),
    max_message: 1152,
};

struct One;

impl CredentialLookup for One {
    fn lookup(&self, _: Query) -> Looking {
        Box::pin(std::future::ready(Answer::Found(Found {
            saef: Saef::ProvisionedSymmetricKey,
            entity: Entity::Ae(AeIdStem::parse("Clight-AE1").expect("a stem")),
            id: CredentialId::parse("12-AE1@in.provider.com").expect("an id"),
            expires: None,
            key: PresharedKey::new(KEY).expect("a key"),
        })))
    }
}

impl CertificateMapping for One {
    fn identify(&self, _: Shown) -> Identifying {
        Box::pin(std::future::ready(Identified::Refused("nobody".into())))
    }
}

/// A registrar with one association. It loses datagrams in both directions.
struct Registrar {
    socket: Arc<UdpSocket>,
    peer: SocketAddr,
    channel: Channel,
    exchanges: Exchanges,
    transfers: Transfers<(), ()>,
    /// Every datagram with this number is lost, and the one before it is sent twice.
    lost: usize,
    number: usize,
    /// The response that is sent separately, when it is due.
    later: Option<(Instant, Exchange, Parts, Parts)>,
    /// Number of carried out requests.
    carried_out: u32,
}

impl Registrar {
    /// Performs a handshake, and serves the association until it is closed. Returns the number of
    /// requests that were carried out.
    async fn serve(socket: UdpSocket, lost: usize) -> u32 {
        let server = Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server");
        let socket = Arc::new(socket);
        let mut buffer = vec![0; 1 << 16];
        let (peer, hello) = loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.expect("a datagram");
            match server.receive(peer, &buffer[..length], Instant::now()) {
                Hello::Verify(answer) => drop(socket.send_to(&answer, peer).await),
                Hello::Verified(hello) => break (peer, hello),
                Hello::Invalid => {}
            }
        };
        let (sender, mut incoming) = mpsc::channel(64);
        let receiver = socket.clone();
        tokio::spawn(async move {
            while let Ok((length, _)) = receiver.recv_from(&mut buffer).await {
                if sender.send(buffer[..length].to_vec()).await.is_err() {
                    break;
                }
            }
        });
        let mut send = |datagram: &[u8]| drop(socket.try_send_to(datagram, peer));
        let transport = Transport { incoming: &mut incoming, send: &mut send };
        let credentials = Credentials { lookup: Arc::new(One), mapping: Arc::new(One) };
        let accepted = server.accept(1, peer, hello, transport, credentials, TIMEOUT).await;
        let channel = accepted.expect("an association").channel;
        let exchanges = Exchanges::new(7, Duration::from_secs(2));
        let transfers = Transfers::new(LIMITS);
        let (number, later, carried_out) = (0, None, 0);
        Self { socket, peer, channel, exchanges, transfers, lost, number, later, carried_out }
            .run(incoming)
            .await
    }

    async fn run(mut self, mut incoming: mpsc::Receiver<Vec<u8>>) -> u32 {
        loop {
            let received = tokio::time::timeout(Duration::from_millis(50), incoming.recv()).await;
            if let Ok(datagram) = received {
                let datagram = datagram.expect("the socket is open");
                self.number += 1;
                // The end of an association is not repeated, so its alert is not lost.
                let is_lost = self.number.checked_rem(self.lost) == Some(0) && datagram[0] != 21;
                if !is_lost {
                    let Read::Messages(messages) = self.channel.receive(datagram) else {
                        return self.carried_out;
                    };
                    messages.into_iter().for_each(|message| self.message(message.into()));
                }
            }
            let now = Instant::now();
            for datagram in self.exchanges.poll(now).datagrams {
                self.send(&datagram);
            }
            if self.later.as_ref().is_some_and(|(at, ..)| *at <= now)
                && let Some((_, exchange, request, response)) = self.later.take()
            {
                self.respond(exchange, &request, response);
            }
        }
    }

    fn send(&mut self, message: &[u8]) {
        assert!(self.channel.send(message), "it is open");
        for datagram in self.channel.outgoing() {
            self.number += 1;
            let times = match self.number.checked_rem(self.lost) {
                Some(0) => 0,
                Some(rest) if rest + 1 == self.lost => 2,
                _ => 1,
            };
            for _ in 0..times {
                let _ = self.socket.try_send_to(&datagram, self.peer);
            }
        }
    }

    fn respond(&mut self, exchange: Exchange, request: &Parts, response: Parts) {
        let now = Instant::now();
        let answer = self.transfers.respond((&(), &()), request, response, now);
        let sent = self.exchanges.respond(exchange, answer, now).expect("it is open");
        self.send(&sent);
    }

    fn message(&mut self, message: Bytes) {
        let now = Instant::now();
        match self.exchanges.receive(&message, now) {
            Received::Reply(reply) => self.send(&reply),
            Received::Request(exchange, parts) => {
                match self.transfers.receive((&(), &()), parts, now) {
                    Step::Answer(answer) => {
                        let sent = self.exchanges.respond(exchange, answer, now);
                        self.send(&sent.expect("it is open"));
                    }
                    Step::Request(request) => self.request(exchange, request),
                }
            }
            Received::Response(_, parts, acknowledgement) => {
                if let Some(acknowledgement) = acknowledgement {
                    self.send(&acknowledgement);
                }
                let response = read_response(&parts, 1000).expect("a response primitive");
                assert_eq!((response.rsc, response.request_id.as_str()), (Rsc::Ok, "notify-1"));
                self.carried_out += 100;
            }
            Received::Nothing | Received::Rejected(_) => {}
        }
    }

    /// Answers with a content of the size in the last segment of the target.
    fn request(&mut self, exchange: Exchange, parts: Parts) {
        self.carried_out += 1;
        let request = read_request(&parts).expect("a request primitive");
        assert_eq!(request.from.as_deref(), Some("Clight-AE1"));
        let mut response = ResponsePrimitive::to(&request, Rsc::Ok);
        let (_, last) = request.to.resource.rsplit_once('/').expect("a path");
        if let Ok(size) = last.parse() {
            response.content =
                Some(json!({ "m2m:cin": { "con": "x".repeat(size) } }).to_string().into());
        }
        if let Some(content) = &request.content {
            response.content = Some(content.bytes().clone());
        }
        let response = write_response(response, Some(request.operation), ResponseForm::of(&parts));
        match last {
            "later" => {
                let at = Instant::now() + Duration::from_millis(2500);
                self.later = Some((at, exchange, parts, response));
            }
            "subscription" => {
                self.respond(exchange, &parts, response);
                self.notify();
            }
            _ => self.respond(exchange, &parts, response),
        }
    }

    fn notify(&mut self) {
        let to = Target::from_address("Clight-AE1").expect("an address");
        let content = Content::parse(json!({ "m2m:sgn": { "sur": "cse/sub" } }).to_string().into());
        let request = RequestPrimitive {
            content: Some(content.expect("a content")),
            ..RequestPrimitive::own(Operation::Notify, to, "/cse".into(), "notify-1".into())
        };
        let cse = CseId::parse("cse").expect("a CSE-ID");
        let parts = write_request(&request, &cse, Serialization::Cbor).expect("it fits");
        let token = Token::new(b"token").expect("it is short");
        let sent = self.exchanges.request(token, parts, Instant::now()).expect("it is the first");
        self.send(&sent);
    }
}

async fn with_session(lost: usize, requests: impl AsyncFnOnce(&mut Session)) -> u32 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("an address").to_string();
    let registrar = tokio::spawn(Registrar::serve(socket, lost));
    let cse_id = CseId::parse("cse").expect("a CSE-ID");
    let peer = Peer { address, cse_id, timeout: TIMEOUT };
    let credential = Credential {
        kpsa_id: "AE1@in.provider.com".parse().expect("an identity"),
        kpsa: PresharedKey::new(KEY).expect("a key"),
        suites: None,
    };
    let proof = Proof::Key(&credential);
    let session = Session::establish(&peer, proof, "Clight-AE1".into(), Binding::Coap).await;
    let mut session = session.expect("an association");
    assert_eq!(session.protocol, "DTLSv1.2");
    requests(&mut session).await;
    session.close().await;
    let served = tokio::time::timeout(TIMEOUT, registrar).await;
    served.expect("it learns the end").expect("it does not fail")
}

#[tokio::test]
async fn small_and_large_contents_are_transferred() {
    let carried_out = with_session(0, async |session| {
        for size in [0, 10, 1000, 1100, 20_000, 300_000] {
            let to = format!("-/{size}");
            let response = session.ask(Operation::Retrieve, &to, None).await.expect("a response");
            let content = response.content.expect("a content");
            assert_eq!(content.len(), json!({ "m2m:cin": { "con": "" } }).to_string().len() + size);
            let value = json!({ "m2m:cin": { "con": "y".repeat(size) } });
            let content = Some((ResourceType::ContentInstance, value.clone()));
            let response = session.ask(Operation::Create, "-/echo", content).await;
            let echoed = response.expect("a response").content.expect("a content");
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&echoed).expect("JSON"), value);
        }
    })
    .await;
    assert_eq!(carried_out, 12);
}

#[tokio::test]
async fn separate_response_is_awaited() {
    let carried_out = with_session(0, async |session| {
        session.ask(Operation::Retrieve, "-/later", None).await.expect("a response");
    })
    .await;
    assert_eq!(carried_out, 1);
}

#[tokio::test]
async fn registrar_notifies_within_association() {
    let carried_out = with_session(0, async |session| {
        session.ask(Operation::Retrieve, "-/subscription", None).await.expect("a response");
        let request = session.request_of_registrar().await.expect("a request");
        assert_eq!(
            (request.operation, request.request_id.as_str()),
            (Operation::Notify, "notify-1")
        );
        let content = request.content.clone().expect("a content");
        assert_eq!(content.bytes().as_ref(), br#"{"m2m:sgn":{"sur":"cse/sub"}}"#);
        let response = ResponsePrimitive::to(&request, Rsc::Ok);
        session.respond(&response).await.expect("it is sent");
        session.respond(&response).await.expect_err("the request is not open");
        // Both requests are in progress when the response arrives.
        session.ask(Operation::Retrieve, "-/10", None).await.expect("a response");
    })
    .await;
    assert_eq!(carried_out, 102);
}

/// A quarter of the datagrams is lost, and as many are doubled. Each request is carried out once.
#[tokio::test]
async fn lost_and_doubled_datagrams_change_nothing() {
    let carried_out = with_session(4, async |session| {
        for to in ["-/10", "-/2000", "-/later", "-/subscription"] {
            session.ask(Operation::Retrieve, to, None).await.expect("a response");
        }
        let request = session.request_of_registrar().await.expect("a request");
        let response = ResponsePrimitive::to(&request, Rsc::Ok);
        session.respond(&response).await.expect("it is sent");
        session.ask(Operation::Retrieve, "-/10", None).await.expect("a response");
    })
    .await;
    assert!(carried_out % 100 == 5 && carried_out <= 105, "{carried_out}");
}
