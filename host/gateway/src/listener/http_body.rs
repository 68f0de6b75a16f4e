//! Reads the body of an HTTP request within bounds.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Why there is no content.
pub enum NotCollected {
    /// It is larger than it may be.
    TooLarge,
    /// It does not come to its end.
    BreaksOff,
}

/// How much of a content that is too large is read and thrown away, in bytes: whoever sends it hears
/// the answer only when it has sent it.
const MAX_DISCARDED: usize = 4 << 20;

/// Reads a content of at most so many bytes.
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
