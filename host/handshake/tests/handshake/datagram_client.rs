//! The client side over a UDP socket, with the server side of this crate and `openssl s_server`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use saegis_certificate::{Flavour, Identity, OwnCertificate, pem};
use saegis_handshake::certificate::Expected;
use saegis_handshake::dtls::{CertificateClient, Connected, PskClient, Server};
use saegis_handshake::{ConnectError, Suite};
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::{AeIdStem, KpsaId};
use saegis_test_ca::{Example, ExampleNames, Issued};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::setup::{BOUND, IDENTITY, KEY, KEY_HEX, echo, server_certificate, trust};

async fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a socket")
}

/// Starts a server, and returns a socket that is connected to it.
async fn start(server: Server, lost: usize) -> (UdpSocket, JoinHandle<()>) {
    let (far, near) = (bind().await, bind().await);
    near.connect(far.local_addr().expect("an address")).await.expect("it is connected");
    (near, tokio::spawn(echo(server, far, lost)))
}

fn server() -> Server {
    Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server")
}

fn client(suites: &[Suite], identity: &str, key: &[u8]) -> PskClient {
    let id = KpsaId::parse(identity).expect("an identity");
    PskClient::new(suites, id, PresharedKey::new(key).expect("a key")).expect("a client")
}

async fn exchange(connected: &mut Connected, message: &str) -> String {
    let connection = &mut connected.connection;
    connection.send(message.as_bytes()).await.expect("it is sent");
    loop {
        let received = tokio::time::timeout(BOUND, connection.receive()).await;
        let messages = received.expect("an answer in time").expect("an open association");
        if let [message] = messages.as_slice() {
            return String::from_utf8(message.clone()).expect("a text");
        }
    }
}

#[tokio::test]
async fn client_connects_with_each_suite() {
    for suite in Suite::DEFAULT_OF_DATAGRAMS {
        let (socket, _server) = start(server(), 0).await;
        let client = client(&[*suite], IDENTITY, &KEY);
        let mut connected = client.connect(socket, Some("localhost"), BOUND).await.expect("it is");
        assert_eq!((connected.protocol, connected.suite.as_str()), ("DTLSv1.2", suite.name()));
        assert!(connected.exported.is_some());
        let answer = exchange(&mut connected, "hello").await;
        assert_eq!(answer, format!("echo over {suite}: hello"));
        // The server does not say that it reads the end, and the client needs no answer.
        connected.connection.close();
        connected.connection.send(b"more").await.expect_err("it is closed");
    }
}

#[tokio::test]
async fn lost_flights_are_repeated() {
    let (socket, _server) = start(server(), 2).await;
    let client = client(Suite::DEFAULT_OF_DATAGRAMS, IDENTITY, &KEY);
    let mut connected = client.connect(socket, None, BOUND).await.expect("an association");
    assert!(exchange(&mut connected, "hello").await.ends_with(": hello"));
}

#[tokio::test]
async fn wrong_key_and_silence_have_different_errors() {
    let (socket, _server) = start(server(), 0).await;
    let timeout = Duration::from_secs(3);
    let suites = Suite::DEFAULT_OF_DATAGRAMS;
    let refused = client(suites, IDENTITY, b"wrong key").connect(socket, None, timeout).await;
    assert!(matches!(refused.err(), Some(ConnectError::Refused(_))));
    let (near, silent) = (bind().await, bind().await);
    near.connect(silent.local_addr().expect("an address")).await.expect("it is connected");
    let failed = client(suites, IDENTITY, &KEY).connect(near, None, timeout).await;
    assert!(matches!(failed.err(), Some(ConnectError::Failed(_))));
    // A suite that the server does not have.
    let (socket, _server) = start(server(), 0).await;
    let failed = client(&[Suite::PskAes256Gcm], IDENTITY, &KEY).connect(socket, None, BOUND).await;
    assert!(matches!(failed.err(), Some(ConnectError::NoCommonSuite(_))));
}

fn other_ae() -> Expected {
    let stem = AeIdStem::parse("Cother").expect("a stem");
    let absolute = "//provider.com/mn-cse-123456/Cother".into();
    Expected::Known(Identity::Ae { absolute, stem })
}

fn certificate_client(example: &Example, issued: &Issued) -> CertificateClient {
    let key = pem::private_key(issued.key_pem().as_bytes()).expect("a key");
    let own = OwnCertificate::new(issued.chain().to_vec(), key).expect("a certificate");
    CertificateClient::new(trust(example), &own).expect("a client")
}

async fn connect(
    client: &CertificateClient,
    example: &Example,
    name: &str,
    expected: Expected,
) -> Result<Connected, ConnectError> {
    let certificates = server().with_certificates(trust(example), &[server_certificate(example)]);
    let (socket, _server) = start(certificates.expect("an engine"), 0).await;
    let mut connected = client.connect(socket, name, expected, BOUND).await?;
    let answer = exchange(&mut connected, "hello").await;
    assert_eq!(answer, "echo over TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: hello");
    Ok(connected)
}

#[tokio::test]
async fn certificate_of_server_is_verified() {
    let example = Example::new(&ExampleNames::default()).expect("certificates");
    let client = certificate_client(&example, &example.ae);
    let name = "mn-cse-123456.in.provider.com";
    let named = Expected::Named(Flavour::CseId);
    connect(&client, &example, name, named.clone()).await.expect("an association");
    for (name, expected) in [
        ("other.in.provider.com", named.clone()),
        (name, Expected::Named(Flavour::Fqdn)),
        (name, other_ae()),
    ] {
        let refused = connect(&client, &example, name, expected).await.err();
        assert!(matches!(refused, Some(ConnectError::Server(_))), "{name}: {refused:?}");
    }
    // An authority that the client does not trust.
    let other = Example::new(&ExampleNames::default()).expect("certificates");
    let refused = connect(&client, &other, name, named).await.err();
    assert!(matches!(refused, Some(ConnectError::Server(_))), "{refused:?}");
}

#[tokio::test]
async fn refused_certificate_has_its_own_error() {
    let example = Example::new(&ExampleNames::default()).expect("certificates");
    let other = Example::new(&ExampleNames::default()).expect("certificates");
    let client = certificate_client(&example, &other.ae);
    let name = "mn-cse-123456.in.provider.com";
    let refused = connect(&client, &example, name, Expected::Named(Flavour::CseId)).await.err();
    assert!(matches!(refused, Some(ConnectError::CertificateRefused(_))), "{refused:?}");
}

/// Ends the program when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn openssl_server_accepts_client() {
    for suite in Suite::DEFAULT_OF_DATAGRAMS {
        let arguments = ["s_server", "-dtls1_2", "-accept", "127.0.0.1:0", "-listen", "-nocert"];
        let cipher = format!("{}:@SECLEVEL=0", suite.openssl_name());
        let mut child = Command::new("openssl")
            .args(arguments)
            .args(["-psk", KEY_HEX, "-psk_identity", IDENTITY, "-cipher", &cipher])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let mut output = BufReader::new(child.stdout.take().expect("an output"));
        let _server = Ended(child);
        let mut line = String::new();
        while !line.starts_with("ACCEPT ") {
            line.clear();
            assert!(output.read_line(&mut line).expect("it is read") > 0, "it ended");
        }
        let near = bind().await;
        near.connect(line.trim_start_matches("ACCEPT ").trim()).await.expect("it is connected");
        let client = client(&[*suite], IDENTITY, &KEY);
        let mut connected = client.connect(near, None, BOUND).await.expect("an association");
        assert_eq!(connected.suite, suite.name());
        connected.connection.send(b"hello\n").await.expect("it is sent");
        while line != "hello\n" {
            line.clear();
            assert!(output.read_line(&mut line).expect("it is read") > 0, "it ended");
        }
    }
}
