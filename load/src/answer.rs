//! One request, and whether the answer is the one that it should have.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What the CSE behind answers.
pub const CONTENT: &str = r#"{"m2m:cin":{"rn":"latest","con":"21.5"}}"#;

/// Largest head of an answer.
const MOST: usize = 8 << 10;
/// Most header fields of an answer.
const FIELDS: usize = 32;

/// What is expected of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Expected {
    /// The answer of the CSE behind, to this very request.
    Whole,
    /// Status 200; for servers that answer by themselves.
    Status,
}

/// Asks, and checks the answer.
///
/// # Errors
/// Whatever is not as it should be.
pub async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    originator: &str,
    number: u64,
    expected: Expected,
) -> Result<()> {
    let (status, whole) = exchange(stream, originator, number, expected).await?;
    ensure!(status == 200, "status {status} for {originator}");
    ensure!(whole || expected == Expected::Status, "another answer than the CSE gave");
    Ok(())
}

/// Asks in the name of another, and is to be refused.
///
/// # Errors
/// When it is not.
pub async fn is_refused(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    originator: &str,
) -> Result<()> {
    let (status, _) = exchange(stream, originator, 0, Expected::Status).await?;
    ensure!(status == 403, "a request in the name of {originator} has status {status}, not 403");
    Ok(())
}

/// The status, and whether all of the answer is what the CSE behind gave to this request.
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
        ensure!(bytes.len() < MOST, "the answer is too long");
        if stream.read_buf(&mut bytes).await.context("no answer")? == 0 {
            bail!("the connection ends before the answer");
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
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
        ensure!(content.len() <= length, "something follows the answer");
        if content.len() == length {
            return Ok((status, of_cse && content == CONTENT.as_bytes()));
        }
    }
}
