//! A request and the check of its response.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Content of the CSE behind the contenders.
pub const CONTENT: &str = r#"{"m2m:cin":{"rn":"latest","con":"21.5"}}"#;

/// Maximum size of the head of a response, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// Maximum number of header fields of a response.
const MAX_FIELDS: usize = 32;

/// The expected response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Expected {
    /// The response of the CSE behind, to this request.
    Whole,
    /// Status 200, from a server without a CSE behind it.
    Status,
}

/// Sends a request and checks the response.
///
/// # Errors
/// Fails if the response is not the expected one.
pub async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    originator: &str,
    number: u64,
    expected: Expected,
) -> Result<()> {
    let (status, whole) = exchange(stream, originator, number, expected).await?;
    ensure!(status == 200, "status {status} for {originator}");
    ensure!(whole || expected == Expected::Status, "the response is not that of the CSE");
    Ok(())
}

/// Sends a request with another originator, which the server must refuse.
///
/// # Errors
/// Fails if the server accepts it.
pub async fn is_refused(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    originator: &str,
) -> Result<()> {
    let (status, _) = exchange(stream, originator, 0, Expected::Status).await?;
    ensure!(status == 403, "a request in the name of {originator} has status {status}, not 403");
    Ok(())
}

/// Returns the status, and whether the response is that of the CSE behind to this request.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    originator: &str,
    number: u64,
    expected: Expected,
) -> Result<(u16, bool)> {
    let id = format!("r{number}");
    let request = format!(
        "GET /~/mn-cse-123456/cse/light/latest HTTP/1.1\r\nHost: in.provider.com\r\n\
         Accept: application/json\r\nX-M2M-Origin: {originator}\r\nX-M2M-RI: {id}\r\n\
         X-M2M-RVI: 3\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.context("the request can't be written")?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        ensure!(bytes.len() < MAX_HEAD, "the response is too long");
        if stream.read_buf(&mut bytes).await.context("no response")? == 0 {
            bail!("the connection ends before the response");
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let head = match response.parse(&bytes)? {
            httparse::Status::Complete(head) => head,
            httparse::Status::Partial => continue,
        };
        let status = response.code.context("no status")?;
        if expected == Expected::Status {
            return Ok((status, false));
        }
        let field = |name: &str| {
            let found = response.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name));
            found.and_then(|f| std::str::from_utf8(f.value).ok())
        };
        let length: usize = field("content-length").context("no length")?.parse()?;
        let of_cse = field("x-m2m-rsc") == Some("2000") && field("x-m2m-ri") == Some(&id);
        let content = bytes.get(head..).unwrap_or_default();
        ensure!(content.len() <= length, "data follows the response");
        if content.len() == length {
            return Ok((status, of_cse && content == CONTENT.as_bytes()));
        }
    }
}
