//! Reads the body of an HTTP request, with a limit.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Error of reading a body.
pub enum NotCollected {
    /// The body is too large.
    TooLarge,
    /// The body is incomplete.
    BreaksOff,
}

/// Maximum part of a too large body that is read and discarded, in bytes. A client reads the
/// response only after it has sent the body.
const MAX_DISCARDED: usize = 4 << 20;

/// Reads a body of at most `most` bytes.
pub async fn collect(mut body: Incoming, most: usize) -> Result<Bytes, NotCollected> {
    let mut content = BytesMut::new();
    let mut discarded = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| NotCollected::BreaksOff)?;
        let Ok(data) = frame.into_data() else { continue };
        if discarded == 0 && content.len() + data.len() <= most {
            content.extend_from_slice(&data);
        } else {
            content = BytesMut::new();
            discarded += data.len();
            if discarded > MAX_DISCARDED {
                break;
            }
        }
    }
    if discarded > 0 { Err(NotCollected::TooLarge) } else { Ok(content.freeze()) }
}
