//! Handshakes over datagrams in memory, with OpenSSL as the client.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslStream, SslVersion,
};
use openssl::x509::X509;
use saegis_handshake::dtls::{
    Accepted, Channel, Credentials, Hello, Read as Received, Server, Transport, is_client_hello,
};
use saegis_handshake::{Refusal, Suite};
use saegis_test_ca::{Example, ExampleNames};
use tokio::sync::mpsc;

use crate::setup::{IDENTITY, KEY, Mapping, One, server_certificate, trust};

const TIMEOUT: Duration = Duration::from_secs(20);

fn peer() -> SocketAddr {
    "127.0.0.1:49152".parse().expect("an address")
}

/// The datagrams between the client's OpenSSL and the server.
#[derive(Default)]
struct Queue {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
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

struct Client(SslStream<Queue>);

fn builder(suites: &str) -> SslContextBuilder {
    let mut builder = SslContext::builder(SslMethod::dtls_client()).expect("a context");
    builder.set_min_proto_version(Some(SslVersion::DTLS1_2)).expect("a version");
    builder.set_cipher_list(&format!("{suites}:@SECLEVEL=0")).expect("suites");
    builder.set_options(SslOptions::NO_QUERY_MTU);
    builder
}

impl Client {
    fn new(context: &SslContext) -> Self {
        let mut ssl = Ssl::new(context).expect("a client");
        ssl.set_connect_state();
        ssl.set_mtu(1200).expect("a size");
        Self(SslStream::new(ssl, Queue::default()).expect("a stream"))
    }

    fn psk(suites: &str, identity: &'static [u8], key: &'static [u8]) -> Self {
        let mut builder = builder(suites);
        builder.set_psk_client_callback(move |_, _, to, key_buffer| {
            to[..identity.len()].copy_from_slice(identity);
            to[identity.len()] = 0;
            key_buffer[..key.len()].copy_from_slice(key);
            Ok(key.len())
        });
        Self::new(&builder.build())
    }

    fn certificate(example: &Example, shows: bool) -> Self {
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
    fn step(&mut self) -> Vec<Vec<u8>> {
        let _ = self.0.do_handshake();
        std::mem::take(&mut self.0.get_mut().outgoing)
    }

    fn push(&mut self, datagram: Vec<u8>) {
        self.0.get_mut().incoming.push_back(datagram);
    }

    /// The first ClientHello.
    fn hello(&mut self) -> Vec<u8> {
        let [hello] = self.step().try_into().expect("one datagram");
        assert!(is_client_hello(&hello));
        hello
    }
}

struct Run {
    server: Server,
    lookup: Arc<One>,
    mapping: Arc<Mapping>,
    timeout: Duration,
    /// Number of datagrams of the server that are lost, from the first on.
    lost: usize,
}

struct Outcome {
    accepted: Result<Accepted, Refusal>,
    /// The datagrams that the server sent.
    sent: Vec<Vec<u8>>,
}

impl Run {
    fn new() -> Self {
        let server = Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server").exporting();
        let mapping = Arc::new(Mapping(true));
        Self { server, lookup: Arc::default(), mapping, timeout: TIMEOUT, lost: 0 }
    }

    /// Performs a handshake.
    async fn handshake(&self, client: &mut Client) -> Outcome {
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
            sent.push(datagram.to_vec());
            if sent.len() > self.lost {
                to_client.send(datagram.to_vec()).expect("a client");
            }
        };
        let transport = Transport { incoming: &mut incoming, send: &mut send };
        let (lookup, mapping) = (self.lookup.clone(), self.mapping.clone());
        let credentials = Credentials { lookup, mapping };
        let accept = self.server.accept(1, peer(), hello, transport, credentials, self.timeout);
        let drive = async {
            loop {
                for datagram in client.step() {
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
fn exchange(channel: &mut Channel, client: &mut Client) {
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

#[tokio::test]
async fn client_with_key_connects_with_each_suite() {
    for suite in Suite::DEFAULT_OF_DATAGRAMS {
        let run = Run::new();
        let mut client = Client::psk(suite.openssl_name(), IDENTITY.as_bytes(), &KEY);
        let accepted = run.handshake(&mut client).await.accepted.expect("an association");
        let association = accepted.association;
        assert_eq!(association.suite, suite.name());
        assert_eq!(association.protocol, "DTLSv1.2");
        assert_eq!(association.entity().to_string(), "AE Clight-AE1");
        assert!(accepted.exported.is_some());
        let mut channel = accepted.channel;
        exchange(&mut channel, &mut client);
        let _ = client.0.shutdown();
        let [datagram] = std::mem::take(&mut client.0.get_mut().outgoing).try_into().expect("one");
        assert_eq!(channel.receive(datagram), Received::Closed);
    }
}

/// The client learns neither which identities exist nor how long a lookup took.
#[tokio::test]
async fn wrong_key_and_unknown_identity_look_the_same() {
    let mut datagrams = Vec::new();
    for (identity, key, cause) in [
        (IDENTITY.as_bytes(), b"wrong key", "wrong-key"),
        (b"AE123456789013-Light@in.provider.com", b"wrong key", "identity"),
        (&[0xFF; 36], b"wrong key", "malformed-identity"),
    ] {
        let run = Run { timeout: Duration::from_secs(2), ..Run::new() };
        let mut client = Client::psk("PSK-AES128-CCM8", identity, key);
        let outcome = run.handshake(&mut client).await;
        assert_eq!(outcome.accepted.err().expect("a refusal").cause(), cause);
        // A flight may be repeated.
        datagrams.push(outcome.sent.iter().map(Vec::len).collect::<BTreeSet<_>>());
    }
    assert!(!datagrams[0].is_empty());
    assert!(datagrams.windows(2).all(|pair| pair[0] == pair[1]), "{datagrams:?}");
}

/// The client repeats its flight meanwhile.
#[tokio::test]
async fn identity_is_looked_up_once() {
    let lookup = Arc::new(One { time: Duration::from_millis(2500), ..One::default() });
    let run = Run { lookup, ..Run::new() };
    let mut client = Client::psk("PSK-AES128-CCM8", IDENTITY.as_bytes(), &KEY);
    let outcome = run.handshake(&mut client).await;
    let mut channel = outcome.accepted.expect("an association").channel;
    exchange(&mut channel, &mut client);
    assert_eq!(run.lookup.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn lost_flight_is_repeated() {
    let run = Run { lost: 1, ..Run::new() };
    let mut client = Client::psk("PSK-AES128-CCM8", IDENTITY.as_bytes(), &KEY);
    let mut channel = run.handshake(&mut client).await.accepted.expect("an association").channel;
    exchange(&mut channel, &mut client);
}

#[tokio::test]
async fn silent_client_is_given_up() {
    let server = Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server");
    let mut client = Client::psk("PSK-AES128-CCM8", IDENTITY.as_bytes(), &KEY);
    let first = client.hello();
    let Hello::Verify(request) = server.receive(peer(), &first, Instant::now()) else { panic!() };
    client.push(request);
    let Hello::Verified(hello) = server.receive(peer(), &client.hello(), Instant::now()) else {
        panic!("the cookie is not accepted");
    };
    let (_to_server, mut incoming) = mpsc::channel(1);
    let transport = Transport { incoming: &mut incoming, send: &mut |_| {} };
    let credentials =
        Credentials { lookup: Arc::new(One::default()), mapping: Arc::new(Mapping(true)) };
    let timeout = Duration::from_millis(100);
    let accepted = server.accept(1, peer(), hello, transport, credentials, timeout).await;
    assert!(matches!(accepted, Err(Refusal::Connection(_))));
}

fn with_certificates(example: &Example) -> Server {
    let server = Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server");
    let own = server_certificate(example);
    server.with_certificates(trust(example), &[own]).expect("an engine")
}

#[tokio::test]
async fn client_with_certificate_connects() {
    let example = Example::new(&ExampleNames::default()).expect("certificates");
    let run = Run { server: with_certificates(&example), ..Run::new() };
    let mut client = Client::certificate(&example, true);
    let outcome = run.handshake(&mut client).await;
    let mut accepted = outcome.accepted.expect("an association");
    assert_eq!(accepted.association.suite, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8");
    exchange(&mut accepted.channel, &mut client);
    assert!(outcome.sent.iter().all(|datagram| datagram.len() <= 1200));
}

#[tokio::test]
async fn refused_certificate_gets_alert() {
    let example = Example::new(&ExampleNames::default()).expect("certificates");
    let alert = |outcome: &Outcome| {
        let [21, 0xFE, 0xFD, 0, 0, .., 2, alert] = outcome.sent.last().expect("one").as_slice()
        else {
            panic!("the last datagram is not a plain alert");
        };
        *alert
    };
    // Mapped to no entity.
    let server = with_certificates(&example);
    let run = Run { server, mapping: Arc::new(Mapping(false)), ..Run::new() };
    let outcome = run.handshake(&mut Client::certificate(&example, true)).await;
    assert!(matches!(outcome.accepted, Err(Refusal::Unmapped { .. })));
    assert_eq!(alert(&outcome), 49);
    // No certificate.
    let run = Run { server: with_certificates(&example), ..Run::new() };
    let outcome = run.handshake(&mut Client::certificate(&example, false)).await;
    assert!(matches!(outcome.accepted, Err(Refusal::Certificate(_))));
    // A certificate of another example.
    let other = Example::new(&ExampleNames::default()).expect("certificates");
    let run = Run { server: with_certificates(&example), ..Run::new() };
    let outcome = run.handshake(&mut Client::certificate(&other, true)).await;
    assert!(matches!(outcome.accepted, Err(Refusal::Certificate(_))));
    assert!(alert(&outcome) > 40);
    // No certificates are configured.
    let outcome = Run::new().handshake(&mut Client::certificate(&example, true)).await;
    assert!(matches!(outcome.accepted, Err(Refusal::CertificatesOnly)));
    assert_eq!(alert(&outcome), 40);
}

/// A cookie is valid for its address, its ClientHello, and two minutes at most.
#[test]
fn cookie_proves_address() {
    let server = Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server");
    let now = Instant::now();
    let mut client = Client::psk("PSK-AES128-CCM8", IDENTITY.as_bytes(), &KEY);
    let Hello::Verify(request) = server.receive(peer(), &client.hello(), now) else { panic!() };
    client.push(request);
    let second = client.hello();
    let is_verified = |peer, datagram: &[u8], now| match server.receive(peer, datagram, now) {
        Hello::Verified(_) => true,
        Hello::Verify(answer) => {
            assert!(answer.len() < datagram.len());
            false
        }
        Hello::Invalid => false,
    };
    assert!(is_verified(peer(), &second, now));
    for other in ["127.0.0.1:49153", "127.0.0.2:49152", "[::1]:49152"] {
        assert!(!is_verified(other.parse().expect("an address"), &second, now));
    }
    // Each byte of the message belongs to the cookie.
    for at in 25..second.len() {
        let mut changed = second.clone();
        changed[at] ^= 1;
        assert!(!is_verified(peer(), &changed, now), "{at}");
    }
    for length in 0..second.len() {
        assert_eq!(server.receive(peer(), &second[..length], now), Hello::Invalid, "{length}");
    }
    assert!(is_verified(peer(), &second, now + Duration::from_secs(60)));
    assert!(!is_verified(peer(), &second, now + Duration::from_secs(121)));
}

/// A client whose cookie has expired is asked again.
#[tokio::test]
async fn second_request_to_verify_is_answered() {
    let run = Run::new();
    let mut client = Client::psk("PSK-AES128-CCM8", IDENTITY.as_bytes(), &KEY);
    let other = Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server");
    let hello = client.hello();
    let Hello::Verify(request) = other.receive(peer(), &hello, Instant::now()) else { panic!() };
    client.push(request);
    run.handshake(&mut client).await.accepted.expect("an association");
}
