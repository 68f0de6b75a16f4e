//! Recorded messages of real clients. `testdata` has the recordings and describes how they were
//! made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncReadExt;

use crate::client_hello::{FirstFlight, Offer};
use crate::psk::client_key_exchange_gate::{ClientKeyExchangeGate, LookupFuture};

/// The server name of the clients that indicate one.
const NAME: Option<&str> = Some("in.provider.com");
/// The identity of every client.
const IDENTITY: &[u8] = b"AE123456789012-Light@in.provider.com";

const PSK: &str = "psk";
const CERTIFICATES: &str = "certificates";
const OLD: &str = "old-version";

/// The offer of each client, or the cause of its refusal, and the server name.
const CLIENT_HELLOS: [(&str, &str, Option<&str>); 26] = [
    ("curl", CERTIFICATES, NAME),
    ("curl-tls12", CERTIFICATES, NAME),
    ("gnutls", CERTIFICATES, NAME),
    ("gnutls-psk", PSK, NAME),
    ("gnutls-psk-and-certificates", PSK, NAME),
    ("gnutls-psk-cbc", PSK, NAME),
    // Only TLS 1.3, whose pre-shared keys do not depend on its suites.
    ("gnutls-psk-tls13", CERTIFICATES, NAME),
    ("gnutls-tls11", OLD, None),
    ("java", CERTIFICATES, NAME),
    ("mbedtls", CERTIFICATES, NAME),
    ("mbedtls-psk", PSK, NAME),
    ("mbedtls-psk-cbc", PSK, NAME),
    ("node", CERTIFICATES, NAME),
    ("node-psk", PSK, NAME),
    ("openssl", CERTIFICATES, NAME),
    ("openssl-no-name", PSK, None),
    ("openssl-psk", PSK, NAME),
    ("openssl-psk-cbc", PSK, NAME),
    ("openssl-psk-tls12", PSK, NAME),
    ("openssl-psk-tls13", CERTIFICATES, NAME),
    ("openssl-tls11", OLD, None),
    ("openssl-tls12", CERTIFICATES, NAME),
    ("openssl-tls13", CERTIFICATES, NAME),
    ("python", CERTIFICATES, NAME),
    ("rustls", CERTIFICATES, NAME),
    ("rustls-post-quantum", CERTIFICATES, NAME),
];

/// Clients with certificates that do not offer the suites that TS-0003 mandates, because they have
/// no TLS 1.2, or only suites with authenticated encryption.
const WITHOUT_MANDATED: [&str; 5] =
    ["gnutls-psk-tls13", "openssl-psk-tls13", "openssl-tls13", "rustls", "rustls-post-quantum"];

/// The clients whose second flight was recorded.
const CLIENT_KEY_EXCHANGES: [&str; 7] = [
    "gnutls-ecdhe-psk-cbc",
    "gnutls-psk-cbc",
    "mbedtls-ecdhe-psk-cbc",
    "mbedtls-psk-cbc",
    "node-psk-gcm",
    "openssl-ecdhe-psk-chacha20",
    "openssl-psk-cbc",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// Returns the recordings of a folder, by name, and checks that they are the `expected` ones.
fn recordings(name: &str, expected: &[&'static str]) -> Vec<(&'static str, Vec<u8>)> {
    let names = std::fs::read_dir(folder(name)).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        (path.extension()? == "bin").then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
    });
    let there: BTreeSet<String> = names.collect();
    assert_eq!(there, expected.iter().map(ToString::to_string).collect());
    let read = |client: &'static str| {
        (client, std::fs::read(folder(name).join(client).with_extension("bin")).unwrap())
    };
    expected.iter().copied().map(read).collect()
}

#[tokio::test]
async fn recorded_client_hellos_are_classified() {
    let names = CLIENT_HELLOS.map(|(client, ..)| client);
    let recordings = recordings("client-hellos", &names);
    for ((client, offer, name), (_, bytes)) in CLIENT_HELLOS.into_iter().zip(&recordings) {
        let bytes = bytes.as_slice();
        // Bytes after the first flight belong to the engine, and stay in the socket.
        let mut socket = bytes.chain(&b"more"[..]);
        match FirstFlight::read(&mut socket).await {
            Ok(flight) => {
                let offered = match flight.offer() {
                    Offer::Psk => PSK,
                    Offer::Certificates => CERTIFICATES,
                };
                assert_eq!((offered, flight.server_name()), (offer, name), "{client}");
                assert_eq!(flight.bytes(), bytes, "{client}");
                if offered == CERTIFICATES {
                    let mandated = !WITHOUT_MANDATED.contains(&client);
                    let told = flight.certificates();
                    assert!(told.current && !told.shows_key && !told.wants_key, "{client}");
                    assert_eq!(told.mandated, mandated, "{client}");
                }
                let mut behind = Vec::new();
                socket.read_to_end(&mut behind).await.unwrap();
                assert_eq!(behind, b"more", "{client}");
            }
            Err(refusal) => assert_eq!(refusal.cause(), offer, "{client}: {refusal}"),
        }
    }
}

#[tokio::test]
async fn recorded_client_key_exchanges_have_identity() {
    for (client, bytes) in recordings("client-key-exchanges", &CLIENT_KEY_EXCHANGES) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let ask = move |identity: &[u8]| -> LookupFuture {
            seen.lock().unwrap().push(identity.to_vec());
            Box::pin(tokio::task::yield_now())
        };
        let mut passed = Vec::new();
        ClientKeyExchangeGate::new(&bytes[..], Vec::new(), ask)
            .read_to_end(&mut passed)
            .await
            .unwrap();
        assert_eq!(*asked.lock().unwrap(), [IDENTITY.to_vec()], "{client}");
        assert_eq!(passed, bytes, "{client}");
    }
}
