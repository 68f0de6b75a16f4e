//! The stream that holds the ClientKeyExchange back.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use saegis_handshake::psk::client_key_exchange_gate::{ClientKeyExchangeGate, LookupFuture};
use tokio::io::{AsyncRead, ReadBuf};

use crate::pieces::{Pieces, sizes};

const FIRST_FLIGHT: &[u8] = b"the first flight";

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// What the engine read.
    passed: Vec<u8>,
    /// The identity that was looked up, and how much had passed by then.
    asked: Option<(Vec<u8>, usize)>,
}

/// The reader of what follows a first flight. Whatever comes passes unchanged and in order. It asks
/// once at the most; until the answer is there nothing passes, and what passed before names no
/// identity that an engine could have taken a key for. Pieces change nothing.
pub fn client_key_exchange(input: &[u8]) {
    let outcome = read(input, input.len(), 4096);
    for size in sizes(input) {
        // An engine reads the header of a record first.
        for wanted in [5, 4096] {
            assert_eq!(read(input, size, wanted), outcome, "in pieces of {size}");
        }
    }
    let passed = outcome.passed.strip_prefix(FIRST_FLIGHT).expect("the first flight comes first");
    assert!(input.starts_with(passed), "what passes is what came");
    if let Some((_, before)) = outcome.asked {
        assert_eq!(passed, input, "after the answer all passes");
        let before = &input[..before - FIRST_FLIGHT.len()];
        assert_eq!(read(before, before.len(), 4096).asked, None, "it was let through too soon");
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
                assert!(!waits || answered.load(Ordering::Relaxed), "passed before the answer");
                passed.extend_from_slice(out.filled());
            }
        }
    }
    let asked = asked.lock().expect("nobody panics with it").take();
    Outcome { passed, asked: asked.zip(before) }
}
