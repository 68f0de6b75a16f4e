//! A socket in memory, whose bytes come in pieces of a chosen size, and no runtime to wait on it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

/// The bytes of a peer, in pieces of one size; each but the first has to be waited for.
pub(crate) struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
    waiting: bool,
}

impl<'a> Pieces<'a> {
    /// Those of `input`, `size` bytes at a time, or one.
    pub fn of(input: &'a [u8], size: usize) -> Self {
        Self { rest: input, size: size.max(1), waiting: false }
    }

    /// How many bytes nobody has read.
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

/// Sizes to cut an input into, the whole first. A long input is not cut into single bytes, which
/// would be read over and over.
pub(crate) fn sizes(input: &[u8]) -> [usize; 5] {
    let smallest = if input.len() <= 512 { 1 } else { 13 };
    [input.len(), smallest, 5, input.len() / 2 + 1, 100]
}

/// Asks a future until it is ready; what is in memory never takes long.
pub(crate) fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
