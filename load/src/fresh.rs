//! New connections: handshake, one request, close.

use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::LocalSet;

use crate::answer::{self, Expected};
use crate::client::{self, Client, Target};
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
    /// The expected response.
    #[arg(long, value_enum, default_value = "whole")]
    expected: Expected,
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
        check_is_on(&client).await?;
    }
    let counter = Rc::new(Counter::new(args.period));
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut tasks = Vec::new();
            for _ in 0..args.at_a_time {
                let (client, counter, expected) = (client.clone(), counter.clone(), args.expected);
                tasks.push(tokio::task::spawn_local(async move {
                    while let Some((number, begun)) = counter.next().await {
                        counter.done(begun, once(&client, number, expected).await);
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

async fn once(client: &Client, number: u64, expected: Expected) -> Result<()> {
    let (mut stream, originator) = client.connect(number).await?;
    answer::ask(&mut stream, &originator, number, expected).await?;
    match (expected, client::close(stream).await) {
        // A server without a CSE behind it may close first.
        (Expected::Status, _) => Ok(()),
        (Expected::Whole, closed) => closed,
    }
}

/// Verifies that the server checks originators, without which the figures are not comparable.
///
/// # Errors
/// Fails if a request with another originator is accepted.
async fn check_is_on(client: &Client) -> Result<()> {
    let (mut stream, _) = client.connect(0).await?;
    answer::is_refused(&mut stream, "Canother").await.context("originators are not checked")
}
