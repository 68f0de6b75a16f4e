//! Body of a response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::progress::Progress;
use crate::session::response_memory::Room;

/// Maximum part of the content that is passed to hyper at a time, because hyper copies it.
const MAX_PART: usize = 64 << 10;

/// Content of a response, passed in parts, with the memory that it reserves.
pub struct ResponseBody {
    content: Bytes,
    progress: Arc<Progress>,
    _memory: Option<Room>,
}

impl ResponseBody {
    /// Creates the body of the response to the current request.
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

/// hyper drops a body after it has read all of it.
impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.progress.finish();
    }
}
