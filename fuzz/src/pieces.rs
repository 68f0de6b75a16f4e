//! An in-memory socket that delivers bytes in fragments of a chosen size, without a runtime.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

/// The bytes of a peer in fragments of one size. Each fragment after the first is pending once.
pub(crate) struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
    waiting: bool,
}

impl<'a> Pieces<'a> {
    /// Returns the fragments of `input`, with at least one byte each.
    pub fn of(input: &'a [u8], size: usize) -> Self {
        Self { rest: input, size: size.max(1), waiting: false }
    }

    /// Returns the number of unread bytes.
    pub fn left(&self) -> usize {
        self.rest.len()
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::replace(&mut this.waiting, false) {
            return Poll::Pending;
        }
        let (piece, rest) = this.rest.split_at(this.size.min(out.remaining()).min(this.rest.len()));
        out.put_slice(piece);
        this.rest = rest;
        this.waiting = true;
        Poll::Ready(Ok(()))
    }
}

/// Returns the fragment sizes for an input, the whole input first. A long input is not split into
/// single bytes, because they would be parsed repeatedly.
pub(crate) fn sizes(input: &[u8]) -> [usize; 5] {
    let smallest = if input.len() <= 512 { 1 } else { 13 };
    [input.len(), smallest, 5, input.len() / 2 + 1, 100]
}

/// Polls an in-memory future until it is ready.
pub(crate) fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
