//! What a server takes: processor time and memory, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};

/// What `/proc` counts a second in, on whatever machine.
const TICKS: f64 = 100.0;

/// The processes of a server.
#[derive(Debug, Clone, clap::Args)]
pub struct Server {
    /// The server's processes, whose processor time counts.
    #[arg(long = "pid", value_delimiter = ',')]
    pids: Vec<u32>,
}

impl Server {
    /// Processor time that all threads have used so far, in seconds. The kernel tells it in hundredths.
    ///
    /// # Errors
    /// When a process is no more.
    pub fn seconds(&self) -> Result<f64> {
        let mut sum = 0;
        for pid in &self.pids {
            let path = format!("/proc/{pid}/stat");
            let stat =
                fs::read_to_string(&path).with_context(|| format!("{path}: it has ended"))?;
            // Behind the name, which may have anything in it: the state, and ten fields more.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let times = fields.split_whitespace().skip(11).take(2);
            sum += times.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
        #[expect(clippy::cast_precision_loss, reason = "hundredths of seconds")]
        Ok(sum as f64 / TICKS)
    }

    /// Memory that is the server's own (private, resident), in bytes.
    ///
    /// # Errors
    /// When a process is no more.
    pub fn memory(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text =
                fs::read_to_string(&path).with_context(|| format!("{path}: it has ended"))?;
            let of = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            };
            sum += of("Private_Dirty:").unwrap_or(0) * 1024;
        }
        Ok(sum)
    }
}
