//! Requests over persistent connections.

use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::LocalSet;

use crate::channel::{Channel, Requests};
use crate::client::{Client, Target};
use crate::figures::{Counter, Period};
use crate::held::allow_open_files;
use crate::server::Server;

/// Arguments of `saegis-load persistent`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    period: Period,
    #[command(flatten)]
    requests: Requests,
    /// Number of connections.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// First verify that the server refuses a request with another originator.
    #[arg(long)]
    checks_originators: bool,
}

/// Runs the measurement.
///
/// # Errors
/// Fails if any operation failed.
pub async fn run(args: &Args) -> Result<Value> {
    allow_open_files(args.connections)?;
    let client = Client::new(&args.target)?;
    if args.checks_originators {
        let (stream, originator) = client.connect(0).await?;
        let mut channel = Channel::open(args.requests, (stream, &originator)).await?;
        channel.is_refused("Canother").await.context("originators are not checked")?;
    }
    let counter = Rc::new(Counter::new(args.period));
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut tasks = Vec::new();
            for n in 0..args.connections {
                let (stream, originator) = client.connect(n).await?;
                let mut channel = Channel::open(args.requests, (stream, &originator)).await?;
                let counter = counter.clone();
                tasks.push(tokio::task::spawn_local(async move {
                    while let Some((number, begun)) = counter.next().await {
                        counter.done(begun, channel.ask(&originator, number).await);
                    }
                }));
            }
            let figures = counter.count(args.period, &args.server).await?;
            for task in tasks {
                task.await?;
            }
            counter.still_good()?;
            Ok(figures)
        })
        .await
}
