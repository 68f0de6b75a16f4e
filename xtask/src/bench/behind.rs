//! The CSEs behind the contenders.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

/// Core of the generator and of the CSE behind the contenders.
pub const LOAD_CORE: &str = "1";

/// The CSE behind the contenders. Dropping the value ends it.
pub struct Behind(Child);

impl Drop for Behind {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the CSE that the contenders reach over HTTP.
pub fn behind(load: &Path) -> Result<(Behind, SocketAddr)> {
    behind_as(load, &["upstream"])
}

/// Starts a CSE, which prints its address once it can respond.
pub fn behind_as(load: &Path, arguments: &[&str]) -> Result<(Behind, SocketAddr)> {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CORE]).arg(load).args(arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut behind = Behind(child);
    let mut line = String::new();
    let output = behind.0.stdout.take().context("the process has no output")?;
    BufReader::new(output).read_line(&mut line)?;
    Ok((behind, line.trim().parse().context("the CSE behind printed no address")?))
}
