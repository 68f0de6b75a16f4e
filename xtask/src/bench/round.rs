//! One round: a running contender and the figures of the generator.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::behind::LOAD_CORE;
use super::contender::{Contender, Place, Running};
use crate::process;

/// The work of the generator.
#[derive(Clone, Copy)]
pub struct Work {
    pub mode: &'static str,
    pub way: &'static str,
    /// Size of the server's table.
    pub identities: u64,
    /// Number of devices that connect in turn. By default, all identities.
    pub devices: Option<u64>,
}

/// Number of idle associations of a round.
const HELD: &str = "3000";

/// Number of devices that reconnect, more than the generator's concurrent connections.
const RETURNING: u64 = 32;

impl Work {
    pub fn fresh(way: &'static str, identities: u64) -> Self {
        Self { mode: "fresh", way, identities, devices: None }
    }

    pub fn persistent(way: &'static str, identities: u64) -> Self {
        Self { mode: "persistent", ..Self::fresh(way, identities) }
    }

    pub fn held(way: &'static str, identities: u64) -> Self {
        Self { mode: "hold", ..Self::fresh(way, identities) }
    }

    /// Limits the work to the same devices.
    pub fn returning(self) -> Self {
        Self { devices: Some(RETURNING.min(self.identities)), ..self }
    }
}

impl Place {
    /// Starts a contender and measures it.
    pub fn round(&self, contender: Contender, work: Work, seconds: &str) -> Result<Value> {
        // Certificates need no table.
        let rows = if work.way.contains("psk") { work.identities } else { 1 };
        let server = contender.start(self, rows, self.server_cores)?;
        let mut load = self.generator(work, &server);
        load.args(contender.load_arguments());
        if work.mode == "hold" {
            load.args(["--connections", HELD]);
            return figures(&mut load);
        }
        load.args(["--seconds", seconds]);
        if contender.checks_originators() {
            load.arg("--checks-originators");
        }
        let figures = figures(&mut load)?;
        if number(&figures, "server_cpu_us") <= 0.0 {
            bail!("the server used no CPU time: another process served");
        }
        Ok(figures)
    }

    pub fn generator(&self, work: Work, server: &Running) -> Command {
        let pids = server.family().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut load = Command::new("taskset");
        load.args(["-c", LOAD_CORE]).arg(&self.load).arg(work.mode).arg("--folder");
        load.arg(self.credentials()).args(["--way", work.way, "--pid", &pids]);
        load.args(["--address", &server.address.to_string()]);
        load.args(["--identities", &work.identities.to_string()]);
        if let Some(devices) = work.devices {
            load.args(["--devices", &devices.to_string()]);
        }
        load
    }
}

pub fn empty_folder(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Number of certificates for first contacts, more than the connections of a round.
pub const CERTIFICATES: u64 = 10_000;

pub fn make_credentials(place: &Place, identities: &[u64]) -> Result<()> {
    let list = identities.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut make = Command::new(&place.load);
    make.arg("credentials").arg("--folder").arg(place.credentials());
    make.args(["--certificates", &CERTIFICATES.to_string()]);
    process::run(make.args(["--identities", &list]))
}

/// Returns the figures of a generator, or its error.
pub fn figures(load: &mut Command) -> Result<Value> {
    let output = load.stdin(Stdio::null()).output().with_context(|| process::line(load))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{}", why.trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Returns a figure by name.
pub fn number(figures: &Value, name: &str) -> f64 {
    figures.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// Returns the median.
pub fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
