use super::*;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;

/// Returns a ClientKeyExchange that names `identity`.
fn exchange(identity: &[u8]) -> Vec<u8> {
    let len = u16::try_from(identity.len()).unwrap();
    let body = [&len.to_be_bytes()[..], identity].concat();
    let n = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_KEY_EXCHANGE, n[1], n[2], n[3]][..], &body].concat()
}

fn record_of(content_type: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[content_type, 3, 3, len[0], len[1]][..], content].concat()
}

/// Sends `wire` in pieces of `piece` bytes through a gate. Returns its output, and the identities
/// that were looked up.
async fn run(wire: &[u8], piece: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let (mut far, near) = tokio::io::duplex(64);
    let pieces: Vec<Vec<u8>> = wire.chunks(piece.max(1)).map(<[u8]>::to_vec).collect();
    tokio::spawn(async move {
        for piece in pieces {
            tokio::io::AsyncWriteExt::write_all(&mut far, &piece).await.unwrap();
        }
    });
    let ask = move |identity: &[u8]| -> LookupFuture {
        seen.lock().unwrap().push(identity.to_vec());
        Box::pin(tokio::task::yield_now())
    };
    let mut gate = ClientKeyExchangeGate::new(near, b"HELLO".to_vec(), ask);
    let mut out = Vec::new();
    gate.read_to_end(&mut out).await.unwrap();
    let asked = asked.lock().unwrap().clone();
    (out, asked)
}

#[tokio::test]
async fn identity_is_found_in_any_fragments() {
    let message = exchange(b"me@x.y");
    let tail = [record_of(20, &[1]), record_of(22, &[0; 40])].concat();
    let whole = [record_of(22, &message), tail.clone()].concat();
    let cut: Vec<u8> =
        message.chunks(3).flat_map(|part| record_of(22, part)).chain(tail.clone()).collect();
    for wire in [whole, cut] {
        for piece in [1, 2, 7, 1000] {
            let (out, asked) = run(&wire, piece).await;
            assert_eq!(asked, [b"me@x.y".to_vec()]);
            assert_eq!(out, [b"HELLO", &wire[..]].concat(), "all is passed on unchanged");
        }
    }
}

#[tokio::test]
async fn message_without_identity_passes_unchecked() {
    let too_long = [&[16, 0, 0x20, 0][..], &[0; 64]].concat();
    let short_body = [&[16, 0, 0, 1][..], &[0]].concat();
    let beyond = [&[16, 0, 0, 3][..], &[0, 9, b'x']].concat();
    for wire in [
        record_of(21, &[2, 40]),
        record_of(20, &[1]),
        record_of(22, &[11, 0, 0, 0]),
        record_of(22, &too_long),
        record_of(22, &short_body),
        record_of(22, &beyond),
        [&[22, 3, 3, 0xff, 0xff][..], &[0; 100]].concat(),
        b"\x16\x03".to_vec(),
    ] {
        let (out, asked) = run(&wire, 1000).await;
        assert!(asked.is_empty(), "{wire:?}");
        assert!([b"HELLO", &wire[..]].concat().starts_with(&out), "{wire:?}");
    }
}

/// The lookup of a known identity takes longer than that of an unknown one. A client must not be
/// able to measure it.
#[tokio::test]
async fn alert_time_does_not_reveal_lookup_time() {
    let at = Instant::now();
    let after = |millis| next_alert(at, at + Duration::from_millis(millis)) - at;
    for (took, sent) in [(0, 20), (1, 20), (19, 20), (20, 40), (25, 40), (10_001, 10_020)] {
        assert_eq!(after(took), Duration::from_millis(sent), "{took}");
    }
    for (took, least) in [(0, 20), (1, 20), (25, 40)] {
        let (mut far, near) = tokio::io::duplex(1024);
        let ask = move |_: &[u8]| -> LookupFuture {
            Box::pin(tokio::time::sleep(Duration::from_millis(took)))
        };
        let mut gate = ClientKeyExchangeGate::new(near, Vec::new(), ask);
        far.write_all(&record_of(22, &exchange(b"me@x.y"))).await.unwrap();
        let begun = Instant::now();
        let mut out = [0; 5];
        gate.read_exact(&mut out).await.unwrap();
        gate.write_all(&record_of(ALERT, &[2, 20])).await.unwrap();
        gate.write_all(&record_of(ALERT, &[1, 0])).await.unwrap();
        gate.send_alert().await;
        assert!(begun.elapsed() >= Duration::from_millis(least), "{took}");
        drop(gate);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [record_of(ALERT, &[2, 20]), record_of(ALERT, &[1, 0])].concat());
    }
}

#[tokio::test]
async fn other_messages_are_not_buffered() {
    let (mut far, near) = tokio::io::duplex(1024);
    let mut gate = ClientKeyExchangeGate::new(near, Vec::new(), |_: &[u8]| -> LookupFuture {
        Box::pin(async {})
    });
    // Before a lookup, a message of the server, and after the handshake.
    gate.write_all(&record_of(ALERT, &[2, 40])).await.unwrap();
    far.write_all(&record_of(22, &exchange(b"me@x.y"))).await.unwrap();
    gate.read_exact(&mut [0; 5]).await.unwrap();
    gate.write_all(&record_of(22, &[20, 0, 0, 0])).await.unwrap();
    gate.finished();
    gate.write_all(&record_of(ALERT, &[1, 0])).await.unwrap();
    gate.send_alert().await;
    drop(gate);
    let mut received = Vec::new();
    far.read_to_end(&mut received).await.unwrap();
    let all =
        [record_of(ALERT, &[2, 40]), record_of(22, &[20, 0, 0, 0]), record_of(ALERT, &[1, 0])];
    assert_eq!(received, all.concat());
}

proptest! {
    #[test]
    fn arbitrary_bytes_pass_unchanged(wire in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (out, _) = runtime.block_on(run(&wire, piece));
        prop_assert!([b"HELLO", &wire[..]].concat().starts_with(&out));
    }
}
