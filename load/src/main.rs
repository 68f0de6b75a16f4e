//! `saegis-load`, the load generator of `cargo xtask bench` for Saegis and its contenders.
//!
//! It contains the client, which checks every response, and the CSE behind the contenders. It also
//! creates the identities and certificates of all contenders. A measurement with any failure prints
//! no figures.
#![allow(clippy::print_stdout, reason = "the figures are for whoever started us")]

mod answer;
mod channel;
mod client;
mod coap;
mod connections;
mod credentials;
mod datagrams;
mod engine;
mod figures;
mod floor;
mod fresh;
mod held;
mod in_memory;
mod mqtt;
mod resuming;
mod server;
mod upstream;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Load generator for Saegis and its contenders")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write identities, keys and certificates in the format of each contender
    Credentials(credentials::Args),
    /// Run the CSE behind the contenders, which responds to each request at once
    Upstream(upstream::Args),
    /// Run a CSE that is a client of the MQTT server of the devices
    MqttCse(mqtt::Args),
    /// Run a proxy with the gateway's engines and without checks
    Floor(floor::Args),
    /// Measure new connections: handshake, one request, close
    Fresh(fresh::Args),
    /// Measure requests over persistent connections
    Persistent(connections::Args),
    /// Hold idle connections, and measure the memory that they use in the server
    Hold(held::Args),
    /// Measure in-memory handshakes on the server side
    InMemory(in_memory::Args),
}

fn main() -> Result<()> {
    let command = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = match command {
        Command::Credentials(args) => return credentials::make(&args),
        Command::Upstream(args) => return runtime.block_on(upstream::serve(&args)),
        Command::MqttCse(args) => return runtime.block_on(mqtt::serve(&args)),
        Command::Floor(args) => return runtime.block_on(floor::serve(&args)),
        Command::Fresh(args) => runtime.block_on(fresh::run(&args))?,
        Command::Persistent(args) => runtime.block_on(connections::run(&args))?,
        Command::Hold(args) => runtime.block_on(held::run(&args))?,
        Command::InMemory(args) => in_memory::run(&args)?,
    };
    println!("{figures}");
    Ok(())
}
