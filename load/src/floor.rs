//! The floor of the benchmark: a proxy with the gateway's engines that checks and logs nothing.
//!
//! The difference between the gateway and this proxy is the cost of policy, checks, sandboxes,
//! telemetry and HTTP handling. It is for the benchmark only: it forwards all that a client sends.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use saegis_handshake::{FirstFlight, Offer, Suite};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::engine::Engine;

/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 16 << 10;
/// Maximum number of header fields of a message.
const MAX_FIELDS: usize = 32;

/// Arguments of `saegis-load floor`.
#[derive(clap::Args)]
pub struct Args {
    /// Address to listen on, which is printed. Port 0 means a free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// The folder of `saegis-load credentials`.
    #[arg(long)]
    folder: PathBuf,
    /// Number of identities with keys.
    #[arg(long, default_value_t = 1)]
    identities: u64,
    /// Address of the CSE behind.
    #[arg(long)]
    upstream: SocketAddr,
}

/// Serves until the process is killed.
///
/// # Errors
/// If the engine cannot be set up, or if the address cannot be bound.
pub async fn serve(args: &Args) -> Result<()> {
    let suites = [Suite::PskAes128Cbc, Suite::PskAes128Gcm];
    let proxy = Rc::new(Proxy {
        keys: Engine::keys(&suites, args.identities)?,
        certificates: Engine::certificates(&args.folder)?,
        upstream: args.upstream,
        idle: RefCell::default(),
    });
    let listener = TcpListener::bind(args.address).await?;
    println!("{}", listener.local_addr()?);
    let local = LocalSet::new();
    local
        .run_until(async {
            loop {
                let (socket, peer) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let proxy = proxy.clone();
                tokio::task::spawn_local(async move {
                    // The generator reports what it did not get.
                    let _ = proxy.forward(peer, socket).await;
                });
            }
        })
        .await
}

struct Proxy {
    keys: Engine,
    certificates: Engine,
    upstream: SocketAddr,
    /// Idle connections to the CSE behind.
    idle: RefCell<Vec<TcpStream>>,
}

impl Proxy {
    async fn forward(&self, peer: SocketAddr, mut socket: TcpStream) -> Result<()> {
        let flight = FirstFlight::read(&mut socket).await?;
        let engine = match flight.offer() {
            Offer::Psk => &self.keys,
            Offer::Certificates => &self.certificates,
        };
        let mut client = engine.accept(peer, socket, flight).await?;
        let mut message = Vec::with_capacity(1024);
        while read_message(&mut client, &mut message, Kind::Request).await? {
            let mut upstream = self.connect().await?;
            upstream.write_all(&message).await?;
            let answered = read_message(&mut upstream, &mut message, Kind::Response).await?;
            ensure!(answered, "the CSE behind closes the connection");
            self.idle.borrow_mut().push(upstream);
            client.write_all(&message).await?;
        }
        client.shutdown().await.context("cannot close the connection")
    }

    async fn connect(&self) -> Result<TcpStream> {
        let idle = self.idle.borrow_mut().pop();
        if let Some(idle) = idle {
            return Ok(idle);
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Request,
    Response,
}

/// Reads one message into `message`. Returns `false` if the connection ends before it.
async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
    kind: Kind,
) -> Result<bool> {
    message.clear();
    loop {
        if stream.read_buf(message).await? == 0 {
            ensure!(message.is_empty(), "the connection ends within a message");
            return Ok(false);
        }
        if let Some(length) = length(message, kind)?
            && message.len() >= length
        {
            ensure!(message.len() == length, "the peer sends more than one message");
            return Ok(true);
        }
        if message.len() > MAX_MESSAGE {
            bail!("the message has more than {MAX_MESSAGE} bytes");
        }
    }
}

/// Returns the length of the whole message, once its head is there.
fn length(message: &[u8], kind: Kind) -> Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let (head, fields) = match kind {
        Kind::Request => {
            let mut request = httparse::Request::new(&mut fields);
            (request.parse(message)?, request.headers)
        }
        Kind::Response => {
            let mut response = httparse::Response::new(&mut fields);
            (response.parse(message)?, response.headers)
        }
    };
    let httparse::Status::Complete(head) = head else { return Ok(None) };
    let content = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let content = content.map_or(Ok(0), |field| {
        std::str::from_utf8(field.value)?.parse::<usize>().map_err(anyhow::Error::from)
    })?;
    Ok(Some(head + content))
}
