//! In-memory handshakes with the gateway's TLS engines, and the CPU time of the server side. There
//! are no sockets, no policy and no CSE.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use openssl::ssl::SslContext;
use rustix::time::{ClockId, clock_gettime};
use saegis_handshake::{FirstFlight, Suite};
use serde_json::{Value, json};
use tokio_openssl::SslStream;

use crate::client::{self, Certificate, Way};
use crate::credentials::Identity;
use crate::engine::Engine;

/// Capacity of the in-memory pipe in bytes, larger than any flight.
const PIPE_CAPACITY: usize = 16 << 10;

/// Arguments of `saegis-load in-memory`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Kind of connection.
    #[arg(long, value_enum)]
    way: Way,
    /// The folder of `saegis-load credentials`.
    #[arg(long)]
    folder: PathBuf,
    /// Number of threads. Each runs both sides of one handshake at a time, and all share the
    /// server's engine.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Each thread has its own engine.
    #[arg(long)]
    apart: bool,
    /// Duration in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// Runs the measurement.
///
/// # Errors
/// Fails if any handshake failed.
pub fn run(args: &Args) -> Result<Value> {
    let shared = Arc::new(engine(args)?);
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(args.seconds);
    let begin = |_| {
        let engine = if args.apart { Arc::new(engine(args)?) } else { shared.clone() };
        let args = args.clone();
        Ok(thread::spawn(move || handshakes(&engine, &args, until)))
    };
    let threads = (0..args.threads).map(begin).collect::<Result<Vec<_>>>()?;
    let (mut done, mut used) = (0.0, Duration::ZERO);
    for thread in threads {
        let Ok(outcome) = thread.join() else { bail!("a thread panicked") };
        let (of_one, used_by_one) = outcome?;
        done += f64::from(of_one);
        used += used_by_one;
    }
    Ok(json!({
        "operations": done,
        "errors": 0,
        "threads": args.threads,
        "per_second": done / start.elapsed().as_secs_f64(),
        "server_cpu_us": used.as_secs_f64() * 1e6 / done,
    }))
}

/// Runs the handshakes of one thread, and returns their number and the CPU time of the server side.
fn handshakes(engine: &Engine, args: &Args, until: Instant) -> Result<(u32, Duration)> {
    // Each thread has its own context, because contention among clients is not a cost of the
    // server.
    let client = Client {
        context: client::context(args.way, &args.folder)?,
        certificate: match args.way.has_key() {
            true => None,
            false => Certificate::read(&args.folder, 1)?.pop(),
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (mut done, mut used) = (0, Duration::ZERO);
    runtime.block_on(async {
        while Instant::now() < until {
            used += handshake(engine, &client).await?;
            done += 1;
        }
        Ok((done, used))
    })
}

/// Client side of a handshake.
struct Client {
    context: SslContext,
    /// Absent with keys.
    certificate: Option<Certificate>,
}

/// Performs one handshake, and returns the CPU time of the server side, from the first byte until
/// the session is freed.
async fn handshake(engine: &Engine, client: &Client) -> Result<Duration> {
    let (near, far) = tokio::io::duplex(PIPE_CAPACITY);
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut serve = Box::pin(async {
        let mut far = far;
        let flight = FirstFlight::read(&mut far).await?;
        engine.accept(peer, far, flight).await.map(drop)
    });
    let mut used = Duration::ZERO;
    let serve = poll_fn(|cx| {
        let start = processor_time();
        let polled = serve.as_mut().poll(cx);
        used += processor_time() - start;
        polled
    });
    let connect = async {
        let ssl = match &client.certificate {
            Some(certificate) => certificate.session(&client.context)?,
            None => client::key_session(&client.context, Identity::of(0))?,
        };
        let mut stream = Box::pin(SslStream::new(ssl, near)?);
        stream.as_mut().connect().await.context("the handshake fails")?;
        Ok::<_, anyhow::Error>(stream)
    };
    let (served, connected) = tokio::join!(serve, connect);
    served?;
    if connected?.ssl().session_reused() {
        bail!("the server has resumed a session");
    }
    Ok(used)
}

/// Returns the CPU time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither value is negative.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Returns the gateway's engine for a kind of connection.
fn engine(args: &Args) -> Result<Engine> {
    match args.way {
        Way::PskCbc => Engine::keys(&[Suite::PskAes128Cbc], 1),
        Way::PskGcm => Engine::keys(&[Suite::PskAes128Gcm], 1),
        Way::Tls12 | Way::Tls13 => Engine::certificates(&args.folder),
        Way::Tls13Resumed => bail!("a session is resumed over sockets only"),
        Way::DtlsPskCcm8 => bail!("datagrams are exchanged over sockets only"),
        Way::Plain => bail!("without TLS there is no handshake"),
    }
}
