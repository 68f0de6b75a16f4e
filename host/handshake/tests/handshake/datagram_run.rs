//! Handshakes over datagrams in memory, with OpenSSL as the client.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslStream, SslVersion,
};
use openssl::x509::X509;
use saegis_handshake::dtls::{
    Accepted, Channel, Credentials, Hello, PskEngine, Read as Received, Server, Transport,
    is_client_hello,
};
use saegis_handshake::{Refusal, Suite};
use saegis_test_ca::Example;
use tokio::sync::mpsc;

use crate::setup::{Mapping, One};

const TIMEOUT: Duration = Duration::from_secs(20);

pub fn peer() -> SocketAddr {
    "127.0.0.1:49152".parse().expect("an address")
}

/// The datagrams between the client's OpenSSL and the server.
#[derive(Default)]
pub struct Queue {
    pub incoming: VecDeque<Vec<u8>>,
    pub outgoing: Vec<Vec<u8>>,
}

impl Read for Queue {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Queue {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push(datagram.into());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Client(pub SslStream<Queue>);

fn builder(suites: &str) -> SslContextBuilder {
    let mut builder = SslContext::builder(SslMethod::dtls_client()).expect("a context");
    builder.set_min_proto_version(Some(SslVersion::DTLS1_2)).expect("a version");
    builder.set_cipher_list(&format!("{suites}:@SECLEVEL=0")).expect("suites");
    builder.set_options(SslOptions::NO_QUERY_MTU);
    builder
}

pub fn key_builder(suites: &str, identity: &'static [u8], key: &'static [u8]) -> SslContextBuilder {
    let mut builder = builder(suites);
    builder.set_psk_client_callback(move |_, _, to, key_buffer| {
        to[..identity.len()].copy_from_slice(identity);
        to[identity.len()] = 0;
        key_buffer[..key.len()].copy_from_slice(key);
        Ok(key.len())
    });
    builder
}

impl Client {
    pub fn new(context: &SslContext) -> Self {
        let mut ssl = Ssl::new(context).expect("a client");
        ssl.set_connect_state();
        ssl.set_mtu(1200).expect("a size");
        Self(SslStream::new(ssl, Queue::default()).expect("a stream"))
    }

    pub fn psk(suites: &str, identity: &'static [u8], key: &'static [u8]) -> Self {
        Self::new(&key_builder(suites, identity, key).build())
    }

    pub fn certificate(example: &Example, shows: bool) -> Self {
        let mut builder = builder("ECDHE-ECDSA-AES128-CCM8");
        if shows {
            let key = PKey::private_key_from_pem(example.ae.key_pem().as_bytes()).expect("a key");
            let certificate = X509::from_der(example.ae.der()).expect("a certificate");
            builder.set_certificate(&certificate).expect("a certificate");
            builder.set_private_key(&key).expect("a key");
        }
        Self::new(&builder.build())
    }

    /// Continues the handshake, and returns the datagrams to send.
    pub fn step(&mut self) -> Vec<Vec<u8>> {
        let _ = self.0.do_handshake();
        std::mem::take(&mut self.0.get_mut().outgoing)
    }

    pub fn push(&mut self, datagram: Vec<u8>) {
        self.0.get_mut().incoming.push_back(datagram);
    }

    /// The first ClientHello.
    pub fn hello(&mut self) -> Vec<u8> {
        let [hello] = self.step().try_into().expect("one datagram");
        assert!(is_client_hello(&hello));
        hello
    }
}

pub struct Run {
    pub server: Server,
    pub lookup: Arc<One>,
    pub mapping: Arc<Mapping>,
    pub timeout: Duration,
    /// Datagrams of the server that are lost, by their numbers.
    pub lost: Range<usize>,
    /// Changes each datagram of the client after its ClientHellos.
    pub network: fn(Vec<u8>) -> Vec<Vec<u8>>,
}

pub struct Outcome {
    pub accepted: Result<Accepted, Refusal>,
    /// The datagrams that the server sent.
    pub sent: Vec<Vec<u8>>,
}

pub const ENGINES: [PskEngine; 2] = [PskEngine::OpenSsl, PskEngine::Native];

impl Run {
    pub fn new() -> Self {
        Self::with(PskEngine::OpenSsl)
    }

    pub fn with(engine: PskEngine) -> Self {
        let server = Server::new(Suite::ALL).expect("a server").exporting();
        let server = server.with_psk_engine(engine);
        let mapping = Arc::new(Mapping(true));
        let (lookup, network) = (Arc::default(), (|datagram| vec![datagram]) as fn(_) -> _);
        Self { server, lookup, mapping, timeout: TIMEOUT, lost: 0..0, network }
    }

    /// Performs a handshake.
    pub async fn handshake(&self, client: &mut Client) -> Outcome {
        let first = client.hello();
        let Hello::Verify(request) = self.server.receive(peer(), &first, Instant::now()) else {
            panic!("a ClientHello without cookie is accepted");
        };
        assert!(request.len() < first.len());
        client.push(request);
        let second = client.hello();
        let Hello::Verified(hello) = self.server.receive(peer(), &second, Instant::now()) else {
            panic!("the cookie is not accepted");
        };
        let (to_server, mut incoming) = mpsc::channel(64);
        let (to_client, mut from_server) = mpsc::unbounded_channel();
        let mut sent = Vec::new();
        let mut send = |datagram: &[u8]| {
            let is_lost = self.lost.contains(&sent.len());
            sent.push(datagram.to_vec());
            if !is_lost {
                to_client.send(datagram.to_vec()).expect("a client");
            }
        };
        let transport = Transport { incoming: &mut incoming, send: &mut send };
        let (lookup, mapping) = (self.lookup.clone(), self.mapping.clone());
        let credentials = Credentials { lookup, mapping };
        let accept = self.server.accept(1, peer(), hello, transport, credentials, self.timeout);
        let drive = async {
            loop {
                for datagram in client.step().into_iter().flat_map(self.network) {
                    let _ = to_server.send(datagram).await;
                }
                let next = tokio::time::timeout(Duration::from_millis(20), from_server.recv());
                if let Ok(Some(datagram)) = next.await {
                    client.push(datagram);
                }
            }
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = drive => unreachable!("it does not end"),
        };
        while let Ok(datagram) = from_server.try_recv() {
            client.push(datagram);
        }
        client.step();
        Outcome { accepted, sent }
    }
}

/// Sends a message in each direction.
pub fn exchange(channel: &mut Channel, client: &mut Client) {
    client.0.ssl_write(b"question").expect("an open association");
    let [datagram] = std::mem::take(&mut client.0.get_mut().outgoing).try_into().expect("one");
    assert_eq!(channel.receive(datagram.clone()), Received::Messages(vec![b"question".to_vec()]));
    // A replayed, a changed and a foreign datagram have no message, and do not end the association.
    let mut forged = vec![datagram.clone(), vec![23; 40], vec![0; 3], vec![0xFF; 5000], Vec::new()];
    for at in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[at] ^= 1;
        forged.push(changed);
        forged.push(datagram[..at].to_vec());
    }
    for content_type in 18..28 {
        for epoch in 0..3 {
            let header = [content_type, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 99, 0, 2];
            // The content of a fatal alert.
            forged.push([&header[..], &[2, 40]].concat());
            // The same in a record of another version, and behind half a header.
            forged.push(
                [&[22, 0xFE, 0xFF, 0, 1, 0, 0, 0, 0, 0, 98, 0, 15], &header[..], &[2, 40]].concat(),
            );
            forged.push(
                [&[22, 3, 3, 0, 1, 0, 0, 0, 0, 0, 98, 0, 15], &header[..], &[2, 40]].concat(),
            );
        }
    }
    for length in 0..100 {
        let mut record = vec![23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 97, 0, length];
        record.resize(13 + usize::from(length), 7);
        forged.push(record);
    }
    for datagram in forged {
        let received = channel.receive(datagram.clone());
        assert_eq!(received, Received::Messages(Vec::new()), "{datagram:02X?}");
    }
    channel.outgoing();
    assert!(channel.send(b"answer"));
    for datagram in channel.outgoing() {
        client.push(datagram);
    }
    let mut buffer = [0; 100];
    let length = client.0.ssl_read(&mut buffer).expect("a message");
    assert_eq!(&buffer[..length], b"answer");
}
