//! Idle connections.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::channel::{Channel, Requests};
use crate::client::{Client, Target};
use crate::server::Server;

/// Arguments of `saegis-load hold`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    requests: Requests,
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
    allow_open_files(args.connections)?;
    let client = Client::new(&args.target)?;
    // The first connections make the server allocate memory that does not depend on their number.
    let mut held = Vec::new();
    for number in 0..args.connections / 10 {
        held.push(connect(&client, args.requests, number).await?);
    }
    let few = held.len();
    let pause = Duration::from_secs_f64(args.idle);
    tokio::time::sleep(pause).await;
    let before = args.server.memory()?;
    for number in args.connections / 10..args.connections {
        held.push(connect(&client, args.requests, number).await?);
    }
    tokio::time::sleep(pause).await;
    let after = args.server.memory()?;
    // All connections are still open.
    for (number, (channel, originator)) in held.iter_mut().enumerate() {
        channel.ask(originator, number as u64).await?;
    }
    let more = (held.len() - few) as u64;
    Ok(json!({
        "connections": held.len(),
        "bytes_each": after.saturating_sub(before) / more.max(1),
        "server_bytes": after,
    }))
}

/// Allows this process as many connections.
///
/// # Errors
/// Fails if the system does not allow them.
pub fn allow_open_files(connections: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(connections + 64);
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of file descriptors")
}

async fn connect(client: &Client, requests: Requests, number: u64) -> Result<(Channel, String)> {
    let (stream, originator) = client.connect(number).await?;
    let mut channel = Channel::open(requests, (stream, &originator)).await?;
    channel.ask(&originator, number).await?;
    Ok((channel, originator))
}
