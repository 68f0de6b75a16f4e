//! New connections: handshake, one request, close.

use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::LocalSet;

use crate::channel::{Channel, Requests};
use crate::client::{Client, Target};
use crate::figures::{Counter, Period};
use crate::server::Server;

/// Arguments of `saegis-load fresh`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    period: Period,
    /// Number of concurrent connections.
    #[arg(long, default_value_t = 16)]
    at_a_time: usize,
    #[command(flatten)]
    requests: Requests,
    /// First verify that the server refuses a request with another originator.
    #[arg(long)]
    checks_originators: bool,
}

/// Runs the measurement.
///
/// # Errors
/// Fails if any operation failed.
pub async fn run(args: &Args) -> Result<Value> {
    let client = Rc::new(Client::new(&args.target)?);
    if args.checks_originators {
        check_is_on(&client, args.requests).await?;
    }
    let counter = Rc::new(Counter::new(args.period));
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut tasks = Vec::new();
            for _ in 0..args.at_a_time {
                let (client, counter, requests) = (client.clone(), counter.clone(), args.requests);
                tasks.push(tokio::task::spawn_local(async move {
                    while let Some((number, begun)) = counter.next().await {
                        counter.done(begun, once(&client, number, requests).await);
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

async fn once(client: &Client, number: u64, requests: Requests) -> Result<()> {
    let (stream, originator) = client.connect(number).await?;
    let mut channel = Channel::open(requests, (stream, &originator)).await?;
    channel.ask(&originator, number).await?;
    channel.close().await
}

/// Verifies that the server checks originators, without which the figures are not comparable.
///
/// # Errors
/// Fails if a request with another originator is accepted.
async fn check_is_on(client: &Client, requests: Requests) -> Result<()> {
    let (stream, originator) = client.connect(0).await?;
    let mut channel = Channel::open(requests, (stream, &originator)).await?;
    channel.is_refused("Canother").await.context("originators are not checked")
}
