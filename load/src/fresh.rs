//! Handshake, one request, close; again and again.

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
    /// Connections at a time.
    #[arg(long, default_value_t = 16)]
    at_a_time: usize,
    /// What is expected of an answer.
    #[arg(long, value_enum, default_value = "whole")]
    expected: Expected,
    /// Make sure first that a request in another's name is refused.
    #[arg(long)]
    checks_originators: bool,
}

/// Runs it.
///
/// # Errors
/// When anything was wrong.
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
        // A server that answers by itself may be the first to close.
        (Expected::Status, _) => Ok(()),
        (Expected::Whole, closed) => closed,
    }
}

/// What the figures are worth nothing without.
///
/// # Errors
/// When a request in another's name passes.
pub async fn check_is_on(client: &Client) -> Result<()> {
    let (mut stream, _) = client.connect(0).await?;
    answer::is_refused(&mut stream, "Canother").await.context("originators are not checked")
}
