//! Certificate messages that no client library would send.

use std::io::{Read, Write};
use std::net::TcpStream;

use saegis_tests::certificates::{Pki, TlsProfile};
use saegis_tests::{BOUND, Gateway, Tool};

/// Returns the ClientHello of a TLS 1.2 client with one suite.
fn client_hello(suite: u16) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2]);
    body.extend(suite.to_be_bytes());
    body.extend([1, 0]);
    let extensions: [&[u8]; 3] = [
        // Groups: secp256r1. Points: uncompressed. Signatures: ECDSA with SHA-256.
        &[0, 10, 0, 4, 0, 2, 0, 23],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
    ];
    let extensions = extensions.concat();
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    record(&message(1, &body))
}

/// Returns a handshake message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [0, length @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes() else { panic!("long") };
    [&[kind][..], &length, body].concat()
}

/// Returns handshake records.
fn record(message: &[u8]) -> Vec<u8> {
    let one = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 3][..], &length, part].concat()
    };
    message.chunks(1 << 14).flat_map(one).collect()
}

/// Returns a Certificate message of TLS 1.2.
fn certificate_message(certificates: &[&[u8]]) -> Vec<u8> {
    let sized =
        |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..], bytes].concat();
    let list: Vec<u8> = certificates.iter().flat_map(|der| sized(der)).collect();
    message(11, &sized(&list))
}

/// Completes the first flights, sends a malformed Certificate message that no client library would
/// send, and returns the alert.
fn send_certificate(gateway: &Gateway, suite: u16, certificate: &[u8]) -> Vec<u8> {
    const SERVER_HELLO_DONE: &[u8] = &[14, 0, 0, 0];
    let mut socket = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.write_all(&client_hello(suite)).unwrap();
    let mut flight = Vec::new();
    while !flight.ends_with(SERVER_HELLO_DONE) {
        let mut chunk = [0; 4096];
        let read = socket.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "{flight:02x?}");
        flight.extend_from_slice(&chunk[..read]);
    }
    socket.write_all(&record(certificate)).unwrap();
    let mut alert = Vec::new();
    // The connection may end with a reset.
    let _ = socket.read_to_end(&mut alert);
    alert
}

/// Both engines refuse a malformed certificate. The alerts differ, because OpenSSL parses
/// certificates before it calls the verifier.
#[test]
fn malformed_certificate_is_refused() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let good = pki.example.ae.chain()[0].to_vec();
    let cut = &good[..good.len() - 1];
    let longer = [&good[..], &[0]].concat();
    for (what, message, alerts) in [
        ("rubbish", certificate_message(&[b"rubbish"]), [42, 50]),
        ("empty", certificate_message(&[b""]), [42, 50]),
        ("a sequence of nothing", certificate_message(&[&[0x30, 0]]), [42, 50]),
        ("cut", certificate_message(&[cut]), [42, 50]),
        ("longer", certificate_message(&[&longer]), [42, 50]),
        ("rubbish behind it", certificate_message(&[&good, b"rubbish"]), [42, 50]),
        ("no list", message(11, &[0, 0, 9, 1]), [50, 50]),
    ] {
        for (suite, alert) in [0xC02B, 0xC023].into_iter().zip(alerts) {
            let mark = gateway.log().mark();
            let came = send_certificate(&gateway, suite, &message);
            assert_eq!(came, [21, 3, 3, 0, 2, 2, alert], "{what} {suite:04x}");
            let cause = gateway.handshake_refused(mark).text("cause");
            assert_eq!(cause, if alert == 42 { "certificate" } else { "protocol" }, "{what}");
        }
    }
    pki.connect(
        Tool::OpenSsl,
        gateway.port(),
        &pki.identity(&pki.example.ae),
        TlsProfile::Mandated,
    );
}
