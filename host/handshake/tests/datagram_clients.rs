//! Clients of others connect over a UDP socket: `openssl s_client` and `gnutls-cli`.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use saegis_handshake::Suite;
use saegis_handshake::certificate::{CertificateMapping, Identified, Identifying, Shown};
use saegis_handshake::dtls::{
    Accepted, ClientHello, Credentials, Hello, Read, Server, Transport, is_client_hello,
};
use saegis_handshake::psk::{Answer, CredentialLookup, Looking, Query};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::saef::Saef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

const KEY: [u8; 8] = [0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x7a, 0x8b];
const KEY_HEX: &str = "1a2b3c4d5e6f7a8b";
const IDENTITY: &str = "AE123456789012-Light@in.provider.com";
/// A test that hangs fails after this time.
const BOUND: Duration = Duration::from_secs(60);

struct One;

impl CredentialLookup for One {
    fn lookup(&self, query: Query) -> Looking {
        Box::pin(async move {
            if query.psk_identity != IDENTITY {
                return Answer::Refused("unknown".into());
            }
            Answer::Found(Credential {
                saef: Saef::ProvisionedSymmetricKey,
                entity: Entity::Ae(AeIdStem::parse("Clight-AE1").expect("a stem")),
                id: CredentialId::parse(&format!("12-{IDENTITY}")).expect("an id"),
                expires: None,
                key: PresharedKey::new(&KEY).expect("a key"),
            })
        })
    }
}

struct Nobody;

impl CertificateMapping for Nobody {
    fn identify(&self, _: Shown) -> Identifying {
        Box::pin(async { Identified::Refused("nobody".into()) })
    }
}

/// Performs handshakes, and answers each message with the same one and the negotiated suite.
async fn serve(socket: Arc<UdpSocket>) {
    let server = Arc::new(Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server"));
    let mut associations: HashMap<_, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.expect("a datagram");
        let datagram = buffer[..length].to_vec();
        if !is_client_hello(&datagram) {
            if let Some(association) = associations.get(&peer) {
                let _ = association.send(datagram).await;
            }
            continue;
        }
        match server.receive(peer, &datagram, Instant::now()) {
            Hello::Verify(answer) => {
                socket.send_to(&answer, peer).await.expect("it is sent");
            }
            Hello::Verified(hello) => {
                let (sender, incoming) = mpsc::channel(64);
                associations.insert(peer, sender);
                let (server, socket) = (server.clone(), socket.clone());
                tokio::spawn(associate(server, socket, peer, hello, incoming));
            }
            Hello::Invalid => {}
        }
    }
}

async fn associate(
    server: Arc<Server>,
    socket: Arc<UdpSocket>,
    peer: std::net::SocketAddr,
    hello: ClientHello,
    mut incoming: mpsc::Receiver<Vec<u8>>,
) {
    let mut send = |datagram: &[u8]| {
        let _ = socket.try_send_to(datagram, peer);
    };
    let credentials = Credentials { lookup: Arc::new(One), mapping: Arc::new(Nobody) };
    let transport = Transport { incoming: &mut incoming, send: &mut send };
    let accepted = server.accept(1, peer, hello, transport, credentials, BOUND).await;
    let Ok(Accepted { mut channel, association, .. }) = accepted else { return };
    while let Some(datagram) = incoming.recv().await {
        let Read::Messages(messages) = channel.receive(datagram) else { return };
        for message in messages {
            channel.send(&[b"echo over ", association.suite.as_bytes(), b": ", &message].concat());
        }
        channel.outgoing().iter().for_each(|datagram| send(datagram));
    }
}

/// Runs a client until its output has a text.
fn run(program: &str, arguments: &[String], expected: &str) {
    let mut client = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = client.stdin.take().expect("an input");
    let mut output = client.stdout.take().expect("an output");
    input.write_all(b"hello\n").expect("it is written");
    let (mut all, mut buffer) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&all).contains(expected) {
        let length = output.read(&mut buffer).expect("it is read");
        assert!(length > 0, "{program} ended: {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..length]);
    }
    client.kill().expect("it runs");
    client.wait().expect("it ended");
}

async fn with_server(client: impl FnOnce(u16) + Send + 'static) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    let client = tokio::task::spawn_blocking(move || client(port));
    let bounded = tokio::time::timeout(BOUND, async {
        tokio::select! {
            () = serve(Arc::new(socket)) => unreachable!("it does not end"),
            outcome = client => outcome.expect("a client that was answered"),
        }
    });
    bounded.await.expect("it ends in time");
}

#[tokio::test]
async fn openssl_client_connects() {
    for suite in Suite::DEFAULT_OF_DATAGRAMS {
        with_server(move |port| {
            let arguments = ["s_client", "-dtls1_2", "-quiet", "-connect"].map(String::from);
            let mut arguments = arguments.to_vec();
            arguments.push(format!("127.0.0.1:{port}"));
            arguments.extend(["-psk", KEY_HEX, "-psk_identity", IDENTITY].map(String::from));
            arguments.extend(["-cipher".into(), format!("{}:@SECLEVEL=0", suite.openssl_name())]);
            run("openssl", &arguments, &format!("echo over {suite}: hello"));
        })
        .await;
    }
}

#[tokio::test]
async fn gnutls_client_connects() {
    // gnutls-cli 3.7 crashes while it prints a session with ECDHE-PSK.
    for (suite, priority) in [
        (Suite::PskAes128Ccm8, "+AES-128-CCM-8:-MAC-ALL:+AEAD"),
        (Suite::PskAes128Cbc, "+AES-128-CBC:-MAC-ALL:+SHA256"),
    ] {
        with_server(move |port| {
            let mut arguments = vec!["--udp".into(), "--port".into(), port.to_string()];
            arguments.extend(["--pskusername", IDENTITY, "--pskkey", KEY_HEX].map(String::from));
            let versions = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:-CIPHER-ALL";
            arguments.extend(["--priority".into(), format!("{versions}:{priority}")]);
            arguments.push("127.0.0.1".into());
            run("gnutls-cli", &arguments, &format!("echo over {suite}: hello"));
        })
        .await;
    }
}
