//! Idle connections.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::answer::{self, Expected};
use crate::client::{Client, Target};
use crate::server::Server;

/// Arguments of `saegis-load hold`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    server: Server,
    /// Number of connections.
    #[arg(long, default_value_t = 10_000)]
    connections: u64,
    /// Idle seconds before memory is read.
    #[arg(long, default_value_t = 3.0)]
    idle: f64,
}

/// Runs the measurement. Each connection sends one request and stays idle.
///
/// # Errors
/// Fails if any operation failed.
pub async fn run(args: &Args) -> Result<Value> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(args.connections + 64);
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of file descriptors")?;
    let client = Client::new(&args.target)?;
    // The first connections make the server allocate memory that does not depend on their number.
    let mut held = Vec::new();
    for number in 0..args.connections / 10 {
        held.push(connect(&client, number).await?);
    }
    let few = held.len();
    let pause = Duration::from_secs_f64(args.idle);
    tokio::time::sleep(pause).await;
    let before = args.server.memory()?;
    for number in args.connections / 10..args.connections {
        held.push(connect(&client, number).await?);
    }
    tokio::time::sleep(pause).await;
    let after = args.server.memory()?;
    // All connections are still open.
    for (number, (stream, originator)) in held.iter_mut().enumerate() {
        answer::ask(stream, originator, number as u64, Expected::Whole).await?;
    }
    let more = (held.len() - few) as u64;
    Ok(json!({
        "connections": held.len(),
        "bytes_each": after.saturating_sub(before) / more.max(1),
        "server_bytes": after,
    }))
}

async fn connect(
    client: &Client,
    number: u64,
) -> Result<(std::pin::Pin<Box<dyn crate::client::Connection>>, String)> {
    let (mut stream, originator) = client.connect(number).await?;
    answer::ask(&mut stream, &originator, number, Expected::Whole).await?;
    Ok((stream, originator))
}
