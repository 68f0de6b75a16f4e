//! One exchange of HTTP/1.1: a request that is written at once, and its response.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Maximum size of the head of a response and of the trailers of its content, in bytes, and maximum
/// number of fields.
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 100;
/// Maximum size of a chunk's first line, in bytes.
const MAX_CHUNK_LINE: usize = 256;
/// Minimum space for reading, in bytes.
const MIN_SPACE: usize = 4 << 10;

/// A response, with its complete content.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Content.
    pub content: Bytes,
    /// Whether the connection can be used for another request.
    pub is_reusable: bool,
}

/// Sends a request and reads the response, with at most `max_content` bytes of content.
///
/// # Errors
/// Returns the reason why there is no response, for the log.
pub async fn exchange(
    request: &Request<Bytes>,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    max_content: usize,
) -> Result<Response, String> {
    let bytes = request_bytes(request);
    let mut writing = std::pin::pin!(writer.write_all(&bytes));
    let mut reading = std::pin::pin!(Reader::new(reader).response(max_content));
    let mut written = None;
    loop {
        tokio::select! {
            biased;
            result = &mut writing, if written.is_none() => written = Some(result),
            // It may come before the end of the request, or although the CSE no longer reads.
            response = &mut reading => {
                let is_written = matches!(written, Some(Ok(())));
                return match (response, written) {
                    (Ok(response), _) => {
                        Ok(Response { is_reusable: response.is_reusable && is_written, ..response })
                    }
                    (Err(_), Some(Err(e))) => Err(format!("cannot send the request: {e}")),
                    (Err(why), _) => Err(why),
                };
            }
        }
    }
}

/// Returns the bytes of a request: `http` has checked all parts of it.
fn request_bytes(request: &Request<Bytes>) -> Vec<u8> {
    let (content, method) = (request.body(), request.method());
    let mut bytes = Vec::with_capacity(512 + content.len());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    for part in [method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    for (name, value) in request.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    if !content.is_empty() || [Method::POST, Method::PUT].contains(method) {
        bytes.extend_from_slice(format!("content-length: {}\r\n", content.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(content);
    bytes
}

/// Reads a response.
struct Reader<'a, R> {
    stream: &'a mut R,
    /// Bytes that were read and not used.
    buffer: BytesMut,
}

struct Head {
    status: StatusCode,
    headers: HeaderMap,
    is_http11: bool,
}

/// The end of a response's content.
enum Length {
    Exact(usize),
    Chunked,
    UntilClose,
}

impl<'a, R: AsyncRead + Unpin> Reader<'a, R> {
    fn new(stream: &'a mut R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    async fn response(mut self, max_content: usize) -> Result<Response, String> {
        let head = loop {
            let head = self.head().await?;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err("the response switches to another protocol".into());
            }
            if !head.status.is_informational() {
                break head;
            }
        };
        let length = head.length()?;
        let content = match length {
            Length::Exact(length) if length > max_content => return Err(too_large()),
            Length::Exact(length) => self.take(length).await?,
            // Boxed, because each request has space for its fields of trailers otherwise.
            Length::Chunked => Box::pin(self.chunks(max_content)).await?,
            Length::UntilClose => loop {
                if self.buffer.len() > max_content {
                    return Err(too_large());
                }
                if !self.fill(MIN_SPACE).await? {
                    break self.buffer.split().freeze();
                }
            },
        };
        // Bytes after the response belong to none.
        let is_reusable =
            head.is_persistent() && !matches!(length, Length::UntilClose) && self.buffer.is_empty();
        Ok(Response { status: head.status, headers: head.headers, content, is_reusable })
    }

    /// Reads more bytes. Returns `false` at the end of the stream.
    async fn fill(&mut self, space: usize) -> Result<bool, String> {
        self.buffer.reserve(space);
        let read = self.stream.read_buf(&mut self.buffer).await;
        Ok(read.map_err(incomplete)? > 0)
    }

    async fn fill_or_fail(&mut self) -> Result<(), String> {
        match self.fill(MIN_SPACE).await? {
            true => Ok(()),
            false => Err(incomplete("the connection ended")),
        }
    }

    /// Returns the next bytes.
    async fn take(&mut self, length: usize) -> Result<Bytes, String> {
        while self.buffer.len() < length {
            self.fill_or_fail().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn head(&mut self) -> Result<Head, String> {
        loop {
            if !self.buffer.is_empty()
                && let Some((length, head)) = parse_head(&self.buffer)?
            {
                self.buffer.advance(length);
                return Ok(head);
            }
            if self.buffer.len() >= MAX_HEAD {
                return Err("the head of the response is too large".into());
            }
            self.fill_or_fail().await?;
        }
    }

    /// Reads chunked content (RFC 9112 clause 7.1). Ignores the trailers.
    async fn chunks(&mut self, max_content: usize) -> Result<Bytes, String> {
        let mut content = BytesMut::new();
        loop {
            let (start, size) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete(found)) => break found,
                    Ok(httparse::Status::Partial) if self.buffer.len() < MAX_CHUNK_LINE => {
                        self.fill_or_fail().await?;
                    }
                    _ => return Err("a chunk of the response has an invalid size".into()),
                }
            };
            self.buffer.advance(start);
            let size = usize::try_from(size).map_err(|_| too_large())?;
            if size > max_content - content.len() {
                return Err(too_large());
            }
            if size == 0 {
                self.trailers().await?;
                return Ok(content.freeze());
            }
            content.extend_from_slice(&self.take(size).await?);
            if &*self.take(2).await? != b"\r\n" {
                return Err("a chunk of the response has another length".into());
            }
        }
    }

    async fn trailers(&mut self) -> Result<(), String> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            match httparse::parse_headers(&self.buffer, &mut fields) {
                Ok(httparse::Status::Complete((length, _))) => {
                    self.buffer.advance(length);
                    return Ok(());
                }
                Ok(httparse::Status::Partial) if self.buffer.len() < MAX_HEAD => {
                    self.fill_or_fail().await?;
                }
                _ => return Err("the trailers of the response are invalid".into()),
            }
        }
    }
}

/// Returns the head of a response with its length, or `None` if it is incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, String> {
    let invalid = || "the head of the response is invalid".to_string();
    // Most responses have few of these fields, so they are not initialized.
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let parsing = parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    let length = match parsing {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err(format!("{}: {e}", invalid())),
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| invalid())?;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| invalid())?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| invalid())?;
        headers.append(name, value);
    }
    Ok(Some((length, Head { status, headers, is_http11: parsed.version == Some(1) })))
}

impl Head {
    /// Returns the end of the content (RFC 9112 clause 6.3). A response that could have two ends is
    /// invalid.
    fn length(&self) -> Result<Length, String> {
        if self.has_no_content() {
            return Ok(Length::Exact(0));
        }
        let mut lengths = self.headers.get_all(CONTENT_LENGTH).iter();
        let mut codings = self.headers.get_all(TRANSFER_ENCODING).iter();
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Length::UntilClose),
            (None, Some(coding))
                if codings.next().is_none()
                    && coding.as_bytes().eq_ignore_ascii_case(b"chunked") =>
            {
                Ok(Length::Chunked)
            }
            (Some(length), None) if lengths.all(|other| other == length) => {
                let digits = length.to_str().ok().filter(|text| {
                    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
                });
                let length = digits.and_then(|digits| digits.parse().ok());
                length.map(Length::Exact).ok_or_else(|| "the response has no valid length".into())
            }
            _ => Err("the response has no valid length".into()),
        }
    }

    /// Returns whether the response ends with its head, whatever its fields are.
    fn has_no_content(&self) -> bool {
        matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// Returns whether the connection stays open after the response, and its next bytes can only be
    /// those of another one.
    fn is_persistent(&self) -> bool {
        let announces_content = || {
            let lengths = self.headers.get_all(CONTENT_LENGTH);
            self.headers.contains_key(TRANSFER_ENCODING)
                || lengths.iter().any(|length| length != "0")
        };
        if self.has_no_content() && announces_content() {
            return false;
        }
        let closes = |value: &HeaderValue| {
            let mut options = value.as_bytes().split(|byte| *byte == b',');
            options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
        };
        self.is_http11 && !self.headers.get_all(CONNECTION).iter().any(closes)
    }
}

fn incomplete(why: impl std::fmt::Display) -> String {
    format!("the response is incomplete: {why}")
}

fn too_large() -> String {
    "the response is too large".into()
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
