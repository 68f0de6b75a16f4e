//! `saegis-load`: what `cargo xtask bench` drives Saegis and its peers with.
//!
//! It has the client's end, which checks every answer; the CSE behind the contenders; and it makes
//! the identities and certificates that all of them are set up with. A run in which anything was
//! wrong is no run: there is no figure of it.
#![allow(clippy::print_stdout, reason = "the figures are for whoever started us")]

mod answer;
mod client;
mod connections;
mod credentials;
mod engine;
mod figures;
mod floor;
mod fresh;
mod held;
mod in_memory;
mod resuming;
mod server;
mod upstream;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Load for Saegis and its peers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make identities, keys and certificates, in the form of each contender
    Credentials(credentials::Args),
    /// Be the CSE behind: answer each request at once
    Upstream(upstream::Args),
    /// Be a proxy with the gateway's engines that checks nothing
    Floor(floor::Args),
    /// Handshake, one request, close; again and again
    Fresh(fresh::Args),
    /// Requests over connections that stay
    Persistent(connections::Args),
    /// Hold idle connections, and tell what they take of the server's memory
    Hold(held::Args),
    /// Handshakes in memory, and what the server's side of them takes
    InMemory(in_memory::Args),
}

fn main() -> Result<()> {
    let command = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = match command {
        Command::Credentials(args) => return credentials::make(&args),
        Command::Upstream(args) => return runtime.block_on(upstream::serve(&args)),
        Command::Floor(args) => return runtime.block_on(floor::serve(&args)),
        Command::Fresh(args) => runtime.block_on(fresh::run(&args))?,
        Command::Persistent(args) => runtime.block_on(connections::run(&args))?,
        Command::Hold(args) => runtime.block_on(held::run(&args))?,
        Command::InMemory(args) => in_memory::run(&args)?,
    };
    println!("{figures}");
    Ok(())
}
