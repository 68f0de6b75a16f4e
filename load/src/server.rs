//! CPU time and memory of a server, from the kernel's counters.

use std::fs;

use anyhow::{Context, Result};

/// Ticks a second in `/proc`, on any machine.
const TICKS: f64 = 100.0;

/// The processes of a server.
#[derive(Debug, Clone, clap::Args)]
pub struct Server {
    /// The server's processes, whose CPU time is measured.
    #[arg(long = "pid", value_delimiter = ',')]
    pids: Vec<u32>,
}

impl Server {
    /// Returns the CPU time of all threads in seconds. The kernel counts hundredths.
    ///
    /// # Errors
    /// Fails if a process has exited.
    pub fn seconds(&self) -> Result<f64> {
        let mut sum = 0;
        for pid in &self.pids {
            let path = format!("/proc/{pid}/stat");
            let stat = fs::read_to_string(&path)
                .with_context(|| format!("{path}: the process has exited"))?;
            // After the name, which may contain any character: the state and ten other fields.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let times = fields.split_whitespace().skip(11).take(2);
            sum += times.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
        #[expect(clippy::cast_precision_loss, reason = "hundredths of seconds")]
        Ok(sum as f64 / TICKS)
    }

    /// Returns the private resident memory in bytes.
    ///
    /// # Errors
    /// Fails if a process has exited.
    pub fn memory(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&path)
                .with_context(|| format!("{path}: the process has exited"))?;
            let of = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            };
            sum += of("Private_Dirty:").unwrap_or(0) * 1024;
        }
        Ok(sum)
    }
}
