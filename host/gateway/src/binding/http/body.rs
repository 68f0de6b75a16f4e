//! The body of a response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::progress::Progress;
use crate::session::response_memory::Room;

/// Maximum part of a content that is handed to hyper at a time, for hyper copies it.
const MAX_PART: usize = 64 << 10;

/// The content of a response, part by part, with the memory that it takes.
pub struct ResponseBody {
    content: Bytes,
    progress: Arc<Progress>,
    _memory: Option<Room>,
}

impl ResponseBody {
    /// The body of the response to the exchange at hand.
    pub fn new(content: Bytes, progress: Arc<Progress>, memory: Option<Room>) -> Self {
        Self { content, progress, _memory: memory }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let length = self.content.len().min(MAX_PART);
        let part = (length > 0).then(|| Ok(Frame::data(self.content.split_to(length))));
        Poll::Ready(part)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.len() as u64)
    }
}

/// hyper drops a body when it has all of it.
impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.progress.finish();
    }
}
