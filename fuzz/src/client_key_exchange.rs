//! The stream that delays the ClientKeyExchange.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use saegis_handshake::psk::client_key_exchange_gate::{ClientKeyExchangeGate, LookupFuture};
use tokio::io::{AsyncRead, ReadBuf};

use crate::pieces::{Pieces, sizes};

const FIRST_FLIGHT: &[u8] = b"the first flight";

/// Outcome of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Bytes that the engine read.
    passed: Vec<u8>,
    /// The identity that was looked up, and the number of bytes that had passed before.
    asked: Option<(Vec<u8>, usize)>,
}

/// Parser of the messages after the first flight. All bytes pass unchanged and in order. It
/// performs at most one look-up, and no byte passes until the look-up is complete. The bytes before
/// contain no identity for an engine. Fragments change nothing.
pub fn client_key_exchange(input: &[u8]) {
    let outcome = read(input, input.len(), 4096);
    for size in sizes(input) {
        // An engine reads the header of a record first.
        for wanted in [5, 4096] {
            assert_eq!(read(input, size, wanted), outcome, "in pieces of {size}");
        }
    }
    let passed = outcome.passed.strip_prefix(FIRST_FLIGHT).expect("the first flight comes first");
    assert!(input.starts_with(passed), "bytes pass unchanged");
    if let Some((_, before)) = outcome.asked {
        assert_eq!(passed, input, "all bytes pass after the look-up");
        let before = &input[..before - FIRST_FLIGHT.len()];
        assert_eq!(
            read(before, before.len(), 4096).asked,
            None,
            "a byte passed before the look-up"
        );
    }
}

/// Reads a stream to its end, `wanted` bytes at a time.
fn read(input: &[u8], size: usize, wanted: usize) -> Outcome {
    let asked = Arc::new(Mutex::new(None));
    let answered = Arc::new(AtomicBool::new(false));
    let ask = {
        let (asked, answered) = (asked.clone(), answered.clone());
        move |identity: &[u8]| -> LookupFuture {
            *asked.lock().expect("nobody panics with it") = Some(identity.to_vec());
            let mut patience = 3;
            Box::pin(std::future::poll_fn(move |_| {
                patience -= 1;
                if patience > 0 {
                    return Poll::Pending;
                }
                answered.store(true, Ordering::Relaxed);
                Poll::Ready(())
            }))
        }
    };
    let mut held =
        pin!(ClientKeyExchangeGate::new(Pieces::of(input, size), FIRST_FLIGHT.to_vec(), ask));
    let mut context = Context::from_waker(Waker::noop());
    let (mut passed, mut place) = (Vec::new(), vec![0; wanted]);
    let mut before = None;
    loop {
        let mut out = ReadBuf::new(&mut place);
        let poll = Pin::new(&mut held).poll_read(&mut context, &mut out);
        let waits = asked.lock().expect("nobody panics with it").is_some();
        match poll {
            Poll::Pending if waits => before = before.or(Some(passed.len())),
            Poll::Pending => {}
            Poll::Ready(Err(error)) => panic!("a socket in memory does not fail: {error}"),
            Poll::Ready(Ok(())) if out.filled().is_empty() => break,
            Poll::Ready(Ok(())) => {
                assert!(
                    !waits || answered.load(Ordering::Relaxed),
                    "a byte passed during the look-up"
                );
                passed.extend_from_slice(out.filled());
            }
        }
    }
    let asked = asked.lock().expect("nobody panics with it").take();
    Outcome { passed, asked: asked.zip(before) }
}
