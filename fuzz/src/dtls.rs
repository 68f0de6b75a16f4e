//! Server side of DTLS.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslStream};
use saegis_certificate::{Anchor, Flavour, KeyKind, Names, OwnCertificate, TrustBuilder, pem};
use saegis_handshake::Suite;
use saegis_handshake::certificate::{CertificateMapping, Identified, Identifying, Shown};
use saegis_handshake::dtls::{
    Channel, ClientHello, Credentials, Hello, PskEngine, Read, Server, Transport, is_client_hello,
};
use saegis_handshake::psk::{Answer, CredentialLookup, Looking, Query};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CredentialId, CseId};
use saegis_onem2m::saef::Saef;
use saegis_test_ca::{Example, ExampleNames};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// The key of every identity. The recorded clients had another one.
const KEY: &[u8] = b"a key that no input has";
const IDENTITY: &str = "light";
/// Headers of a record and of a message.
const HEADERS: usize = 25;
/// Offset of the session ID's length in a datagram with a ClientHello.
const SESSION: usize = HEADERS + 34;

/// The server, and an association with a client of OpenSSL.
struct Scene {
    runtime: Runtime,
    server: Server,
    association: Association,
}

struct Association {
    channel: Channel,
    client: SslStream<Queue>,
}

static SCENE: LazyLock<Mutex<Scene>> = LazyLock::new(|| Mutex::new(scene()));

/// The input as datagrams, each behind its length in two bytes.
///
/// A ClientHello without a valid cookie has a smaller answer or none. With the cookie of that
/// answer, it starts a handshake, which the following datagrams continue. Without the key it does
/// not succeed, and looks at most one identity up. To an association, the datagrams change nothing.
pub fn dtls(input: &[u8]) {
    let mut scene = SCENE.lock().expect("nobody panics with it");
    let Scene { runtime, server, association } = &mut *scene;
    let datagrams = datagrams(input);
    let peer = SocketAddr::from(([127, 0, 0, 1], 49152));
    let mut rest = datagrams.iter();
    while let Some(datagram) = rest.next() {
        if let Some(hello) = receive(server, peer, datagram) {
            let rest: Vec<_> = rest.map(|datagram| datagram.to_vec()).collect();
            runtime.block_on(handshake(server, peer, hello, rest));
            break;
        }
    }
    for datagram in datagrams {
        let read = association.channel.receive(datagram.to_vec());
        assert_eq!(read, Read::Messages(Vec::new()), "it is not authentic");
    }
    association.channel.outgoing();
    association.exchange();
}

fn datagrams(input: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let mut rest = input;
    while let [high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (datagram, next) = after.split_at(length.min(after.len()));
        all.push(datagram);
        rest = next;
    }
    all
}

/// Handles a datagram without an association. Returns the ClientHello with the cookie.
fn receive(server: &Server, peer: SocketAddr, datagram: &[u8]) -> Option<ClientHello> {
    let now = Instant::now();
    let Hello::Verify(answer) = server.receive(peer, datagram, now) else { return None };
    assert!(answer.len() < datagram.len(), "the answer is smaller");
    assert!(is_client_hello(datagram));
    // Behind the headers, the version and its own length.
    let hello = with_cookie(datagram, &answer[HEADERS + 3..]);
    match server.receive(peer, &hello, now) {
        Hello::Verified(hello) => Some(hello),
        other => {
            // The number of the message does not allow a further answer.
            assert_eq!(other, Hello::Invalid);
            None
        }
    }
}

/// Returns a ClientHello with another cookie, and the next number.
fn with_cookie(datagram: &[u8], cookie: &[u8]) -> Vec<u8> {
    let at = SESSION + 1 + usize::from(datagram[SESSION]);
    let after = at + 1 + usize::from(datagram[at]);
    let length = u8::try_from(cookie.len()).expect("it is short");
    let mut hello = [&datagram[..at], &[length], cookie, &datagram[after..]].concat();
    let number = u16::from_be_bytes([hello[17], hello[18]]).saturating_add(1);
    hello[17..19].copy_from_slice(&number.to_be_bytes());
    let length = u32::try_from(hello.len() - HEADERS).expect("it is short").to_be_bytes();
    hello[14..17].copy_from_slice(&length[1..]);
    hello[22..25].copy_from_slice(&length[1..]);
    let length = u16::try_from(hello.len() - 13).unwrap_or(u16::MAX).to_be_bytes();
    hello[11..13].copy_from_slice(&length);
    hello
}

async fn handshake(server: &Server, peer: SocketAddr, hello: ClientHello, rest: Vec<Vec<u8>>) {
    let (sender, mut incoming) = mpsc::channel(rest.len().max(1));
    for datagram in rest {
        sender.try_send(datagram).expect("it has place");
    }
    // The handshake ends with the last datagram.
    drop(sender);
    let known = Arc::new(Known::default());
    let credentials = Credentials { lookup: known.clone(), mapping: known.clone() };
    let transport = Transport { incoming: &mut incoming, send: &mut |_| {} };
    let timeout = Duration::from_secs(60);
    let accepted = server.accept(1, peer, hello, transport, credentials, timeout).await;
    assert!(accepted.is_err(), "nobody has the key");
    assert!(known.lookups.load(Ordering::Relaxed) <= 1);
    assert_eq!(known.mappings.load(Ordering::Relaxed), 0, "no certificate is trusted");
}

#[derive(Default)]
struct Known {
    lookups: AtomicUsize,
    mappings: AtomicUsize,
}

impl CredentialLookup for Known {
    fn lookup(&self, query: Query) -> Looking {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let id = CredentialId::parse("12-light@in.provider.com").expect("an id");
        Box::pin(std::future::ready(match query.psk_identity.as_str() {
            "" => Answer::Refused("it is empty".into()),
            _ => Answer::Found(Credential {
                saef: Saef::ProvisionedSymmetricKey,
                entity: Entity::Ae(AeIdStem::parse("Clight-AE1").expect("a stem")),
                id,
                expires: None,
                key: PresharedKey::new(KEY).expect("a key"),
            }),
        }))
    }
}

impl CertificateMapping for Known {
    fn identify(&self, _: Shown) -> Identifying {
        self.mappings.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Identified::Refused("nobody".into())))
    }
}

fn scene() -> Scene {
    let example = Example::new(&ExampleNames::default()).expect("certificates");
    let cse = CseId::parse("mn-cse-123456").expect("a CSE-ID");
    let mut trust = TrustBuilder::new(Names::of(cse, Some("provider.com".into())));
    let authority = example.ae_authority.der().clone();
    let anchor = Anchor::new(authority, &[Flavour::AeId], &[KeyKind::P256], &[]);
    trust.add_anchor(anchor.expect("an anchor"));
    let key = pem::private_key(example.mn_cse.key_pem().as_bytes()).expect("a key");
    let own = OwnCertificate::new(example.mn_cse.chain().to_vec(), key).expect("a certificate");
    let server = Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server");
    // The other suites stay with OpenSSL.
    let server = server.with_psk_engine(PskEngine::Native);
    let server = server.with_certificates(Arc::new(trust.build()), &[Arc::new(own)]);
    let server = server.expect("an engine");
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let association = runtime.block_on(associate(&server));
    Scene { runtime, server, association }
}

/// The datagrams of OpenSSL as the client.
#[derive(Default)]
struct Queue {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl io::Read for Queue {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl io::Write for Queue {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push(datagram.into());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Continues the handshake of a client, and returns the datagrams to send.
fn step(client: &mut SslStream<Queue>) -> Vec<Vec<u8>> {
    // It waits for more, or has finished.
    let _ = client.do_handshake();
    std::mem::take(&mut client.get_mut().outgoing)
}

async fn associate(server: &Server) -> Association {
    let mut builder = SslContext::builder(SslMethod::dtls_client()).expect("a context");
    builder.set_cipher_list("PSK-AES128-CCM8:@SECLEVEL=0").expect("a suite");
    builder.set_options(SslOptions::NO_QUERY_MTU);
    builder.set_psk_client_callback(|_, _, identity, key| {
        identity[..=IDENTITY.len()].copy_from_slice(&[IDENTITY.as_bytes(), b"\0"].concat());
        key[..KEY.len()].copy_from_slice(KEY);
        Ok(KEY.len())
    });
    let mut ssl = Ssl::new(&builder.build()).expect("a client");
    ssl.set_connect_state();
    ssl.set_mtu(1200).expect("a size");
    let mut client = SslStream::new(ssl, Queue::default()).expect("a stream");
    let peer = SocketAddr::from(([127, 0, 0, 1], 49152));
    let hello = loop {
        let hello = step(&mut client).pop().expect("a ClientHello");
        match server.receive(peer, &hello, Instant::now()) {
            Hello::Verified(hello) => break hello,
            Hello::Verify(answer) => client.get_mut().incoming.push_back(answer),
            Hello::Invalid => panic!("it is valid"),
        }
    };
    let (to_server, mut incoming) = mpsc::channel(16);
    let (to_client, mut answers) = mpsc::unbounded_channel();
    let mut send = |datagram: &[u8]| to_client.send(datagram.to_vec()).expect("a client");
    let known = Arc::new(Known::default());
    let credentials = Credentials { lookup: known.clone(), mapping: known };
    let transport = Transport { incoming: &mut incoming, send: &mut send };
    let accept = server.accept(1, peer, hello, transport, credentials, Duration::from_secs(60));
    let drive = async {
        while let Some(datagram) = answers.recv().await {
            client.get_mut().incoming.push_back(datagram);
            for datagram in step(&mut client) {
                to_server.send(datagram).await.expect("a server");
            }
        }
    };
    let accepted = tokio::select! {
        accepted = accept => accepted,
        () = drive => unreachable!("it does not end"),
    };
    while let Ok(datagram) = answers.try_recv() {
        client.get_mut().incoming.push_back(datagram);
    }
    step(&mut client);
    Association { channel: accepted.expect("an association").channel, client }
}

impl Association {
    /// Sends a message in each direction.
    fn exchange(&mut self) {
        self.client.ssl_write(b"question").expect("it is open");
        for datagram in std::mem::take(&mut self.client.get_mut().outgoing) {
            let read = self.channel.receive(datagram);
            assert_eq!(read, Read::Messages(vec![b"question".to_vec()]));
        }
        assert!(self.channel.send(b"answer"));
        self.client.get_mut().incoming.extend(self.channel.outgoing());
        let mut buffer = [0; 16];
        let length = self.client.ssl_read(&mut buffer).expect("a message");
        assert_eq!(&buffer[..length], b"answer");
    }
}
