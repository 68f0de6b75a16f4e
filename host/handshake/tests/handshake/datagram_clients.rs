//! Clients of others connect over a UDP socket: `openssl s_client` and `gnutls-cli`.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use saegis_handshake::Suite;
use saegis_handshake::dtls::{PskEngine, Server};
use tokio::net::UdpSocket;

use crate::datagram_run::ENGINES;
use crate::setup::{BOUND, IDENTITY, KEY_HEX, echo};

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

/// Runs a client with a server of each engine.
async fn with_server(client: impl Fn(u16) + Clone + Send + 'static) {
    for engine in ENGINES {
        with_engine(engine, client.clone()).await;
    }
}

async fn with_engine(engine: PskEngine, client: impl Fn(u16) + Send + 'static) {
    let server = Server::new(Suite::DEFAULT_OF_DATAGRAMS).expect("a server");
    let server = server.with_psk_engine(engine);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    let client = tokio::task::spawn_blocking(move || client(port));
    let bounded = tokio::time::timeout(BOUND, async {
        tokio::select! {
            () = echo(server, socket, 0) => unreachable!("it does not end"),
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
