//! Handshakes over datagrams, with OpenSSL as the client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openssl::ssl::SslOptions;
use saegis_handshake::dtls::{Credentials, Hello, PskEngine, Read as Received, Server, Transport};
use saegis_handshake::{Refusal, Suite};
use saegis_test_ca::{Example, ExampleNames};
use tokio::sync::mpsc;

use crate::datagram_run::{Client, ENGINES, Outcome, Run, exchange, key_builder, peer};
use crate::setup::{IDENTITY, KEY, Mapping, One, server_certificate, trust};

#[tokio::test]
async fn client_with_key_connects_with_each_suite() {
    for engine in ENGINES {
        for suite in Suite::ALL {
            let run = Run::with(engine);
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
            let [datagram] =
                std::mem::take(&mut client.0.get_mut().outgoing).try_into().expect("one");
            assert_eq!(channel.receive(datagram), Received::Closed);
        }
    }
}

/// Splits a datagram into its records, the last first, and the messages of epoch 0 into fragments.
fn scattered(datagram: Vec<u8>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut rest = datagram.as_slice();
    while let Some(header) = rest.get(..13) {
        let (record, behind) =
            rest.split_at(13 + usize::from(header[11]) * 256 + usize::from(header[12]));
        rest = behind;
        if (header[0], header[4]) != (22, 0) {
            all.push(record.to_vec());
            continue;
        }
        let (message, content) = record[13..].split_at(12);
        for (nth, part) in (0..).zip(content.chunks(10)) {
            let length = u8::try_from(part.len()).expect("a short fragment");
            let mut fragment = [&header[..10], &[100 + nth, 0, 12 + length]].concat();
            fragment.extend(&message[..6]);
            fragment.extend([0, 0, 10 * nth, 0, 0, length]);
            fragment.extend(part);
            all.push(fragment);
        }
    }
    all.reverse();
    all
}

#[tokio::test]
async fn scattered_flight_is_accepted() {
    let run = Run { network: scattered, ..Run::with(PskEngine::Native) };
    let mut client = Client::psk("PSK-AES128-CCM8", IDENTITY.as_bytes(), &KEY);
    let accepted = run.handshake(&mut client).await.accepted;
    exchange(&mut accepted.expect("an association").channel, &mut client);
    assert_eq!(run.lookup.asked.load(Ordering::SeqCst), 1);
}

/// A client without extended master secret has no key material that could be exported.
#[tokio::test]
async fn client_without_extended_master_secret_connects() {
    for engine in ENGINES {
        for suite in ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256"] {
            let mut builder = key_builder(suite, IDENTITY.as_bytes(), &KEY);
            // SSL_OP_NO_EXTENDED_MASTER_SECRET
            builder.set_options(SslOptions::from_bits_retain(1));
            let mut client = Client::new(&builder.build());
            let accepted = Run::with(engine).handshake(&mut client).await.accepted;
            let mut accepted = accepted.expect("an association");
            assert!(accepted.exported.is_none());
            exchange(&mut accepted.channel, &mut client);
        }
    }
}

/// Both sides export the same key material, with and without OpenSSL on the server side.
#[tokio::test]
async fn exported_key_material_is_equal() {
    for engine in ENGINES {
        for suite in ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256"] {
            let mut client = Client::psk(suite, IDENTITY.as_bytes(), &KEY);
            let accepted =
                Run::with(engine).handshake(&mut client).await.accepted.expect("an association");
            let mut of_client = [0; 48];
            let ssl = client.0.ssl();
            ssl.export_keying_material(&mut of_client, "EXPORTER-oneM2M-Connection", None)
                .expect("key material");
            let exported = accepted.exported.expect("key material");
            assert_eq!(exported.key().expect("a key").expose(), &of_client[16..], "{suite}");
        }
    }
}

/// A client may end a handshake by an alert, which is not encrypted.
#[tokio::test]
async fn fatal_alert_ends_handshake() {
    for engine in ENGINES {
        for suite in ["PSK-AES128-CCM8", "PSK-AES128-CBC-SHA256"] {
            let network = |_| vec![vec![21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40]];
            let run = Run { network, ..Run::with(engine) };
            let mut client = Client::psk(suite, IDENTITY.as_bytes(), &KEY);
            let refused = run.handshake(&mut client).await.accepted.err().expect("a refusal");
            assert_eq!(refused.cause(), "protocol", "{suite}");
        }
    }
}

/// The client learns neither which identities exist nor how long a lookup took.
#[tokio::test]
async fn wrong_key_and_unknown_identity_look_the_same() {
    for engine in ENGINES {
        let mut datagrams = Vec::new();
        for (identity, key, cause) in [
            (IDENTITY.as_bytes(), b"wrong key", "wrong-key"),
            (b"AE123456789013-Light@in.provider.com", b"wrong key", "unknown-identity"),
            (&[0xFF; 36], b"wrong key", "malformed-identity"),
        ] {
            let run = Run { timeout: Duration::from_secs(2), ..Run::with(engine) };
            let mut client = Client::psk("PSK-AES128-CCM8", identity, key);
            let outcome = run.handshake(&mut client).await;
            assert_eq!(outcome.accepted.err().expect("a refusal").cause(), cause);
            // A flight may be repeated.
            datagrams.push(outcome.sent.iter().map(Vec::len).collect::<BTreeSet<_>>());
        }
        assert!(!datagrams[0].is_empty());
        assert!(datagrams.windows(2).all(|pair| pair[0] == pair[1]), "{datagrams:?}");
    }
}

/// The client repeats its flight meanwhile.
#[tokio::test]
async fn identity_is_looked_up_once() {
    for engine in ENGINES {
        let lookup = Arc::new(One { time: Duration::from_millis(2500), ..One::default() });
        let run = Run { lookup, ..Run::with(engine) };
        let mut client = Client::psk("PSK-AES128-CCM8", IDENTITY.as_bytes(), &KEY);
        let outcome = run.handshake(&mut client).await;
        let mut channel = outcome.accepted.expect("an association").channel;
        exchange(&mut channel, &mut client);
        assert_eq!(run.lookup.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn lost_flight_is_repeated() {
    for engine in ENGINES {
        let run = Run { lost: 0..1, ..Run::with(engine) };
        let mut client = Client::psk("PSK-AES128-CCM8", IDENTITY.as_bytes(), &KEY);
        let mut channel =
            run.handshake(&mut client).await.accepted.expect("an association").channel;
        exchange(&mut channel, &mut client);
    }
}

/// The client repeats its own last flight until it gets that of the server.
#[tokio::test]
async fn lost_last_flight_is_repeated() {
    for engine in ENGINES {
        for suite in [
            "PSK-AES128-CCM8",
            "ECDHE-PSK-CHACHA20-POLY1305",
            "PSK-AES256-GCM-SHA384",
            "PSK-AES128-CBC-SHA256",
        ] {
            // The server repeats its first flight before it sends the last one.
            let lookup = Arc::new(One { time: Duration::from_millis(1500), ..One::default() });
            let run = Run { lookup, lost: 1..10, ..Run::with(engine) };
            let mut client = Client::psk(suite, IDENTITY.as_bytes(), &KEY);
            let mut channel = run.handshake(&mut client).await.accepted.expect("a channel").channel;
            let mut repeated = Vec::new();
            while repeated.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                repeated = client.step();
            }
            // A replayed flight is not answered.
            for is_answered in [true, false] {
                for datagram in &repeated {
                    let received = channel.receive(datagram.clone());
                    assert_eq!(received, Received::Messages(Vec::new()));
                }
                let answer = channel.outgoing();
                assert_eq!(!answer.is_empty(), is_answered, "{suite}");
                // ChangeCipherSpec, or an encrypted record.
                let is_last = |datagram: &Vec<u8>| datagram[0] == 20 || datagram[4] == 1;
                assert!(answer.iter().all(is_last), "{suite}: {answer:02X?}");
                answer.into_iter().for_each(|datagram| client.push(datagram));
            }
            assert!(client.step().is_empty());
            exchange(&mut channel, &mut client);
        }
    }
}

/// The nonces of an association continue those of OpenSSL, so that none occurs twice under a key. OpenSSL
/// starts at a random value for GCM.
#[tokio::test]
async fn nonces_continue_those_of_handshake() {
    for engine in ENGINES {
        let number =
            |bytes: &[u8]| bytes.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        for suite in ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384"] {
            let mut client = Client::psk(suite, IDENTITY.as_bytes(), &KEY);
            let Outcome { accepted, sent } = Run::with(engine).handshake(&mut client).await;
            let mut channel = accepted.expect("an association").channel;
            // The last datagram starts with ChangeCipherSpec, unless that has one of its own.
            let last = sent.last().expect("a flight");
            let finished = if last[0] == 20 { &last[14..] } else { &last[..] };
            assert_eq!(finished[..5], [22, 0xFE, 0xFD, 0, 1]);
            let (sequence, nonce) = (number(&finished[5..11]), number(&finished[13..21]));
            for n in 1..4 {
                assert!(channel.send(b"message"));
                let [record] = channel.outgoing().try_into().expect("one");
                assert_eq!(number(&record[5..11]), sequence + n, "{suite}");
                assert_eq!(number(&record[13..21]), nonce.wrapping_add(n), "{suite}");
            }
        }
    }
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
    assert!(matches!(outcome.accepted, Err(Refusal::NamedCertificate { .. })));
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
