//! Tables for the log, the audit trail, recorded decisions and metrics.

use std::path::PathBuf;

use saegis_onem2m::serde::parsed;
use serde::Deserialize;
use serde::de::Deserializer;

use super::listen_address::ListenAddress;

/// Log.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Log {
    /// Format of log lines: text, or one JSON object per line.
    pub format: LogFormat,
    /// Log filter, such as `info` or `saegis=debug`. The default is `info`. The environment
    /// variable `SAEGIS_LOG` takes precedence.
    pub filter: Option<String>,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The audit trail: security events in one file, refused requests in another, so that refusals
/// cannot displace security events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Audit {
    /// File of security events, one JSON object per line, readable by its owner only. Without it,
    /// events are only logged.
    pub file: Option<PathBuf>,
    /// File of refused requests. By default it is `audit.file` with `-refusals` in its name.
    refusals_file: Option<PathBuf>,
    /// Maximum size of each file in bytes. The full file becomes `FILE.1`, the previous `FILE.1`
    /// becomes `FILE.2`, and so on.
    pub file_bytes: u64,
    /// Number of rotated files of each. Older ones are deleted at the next rotation.
    pub retained_files: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { file: None, refusals_file: None, file_bytes: 16 << 20, retained_files: 8 }
    }
}

impl Audit {
    /// Returns the file of refused requests, if there is an audit trail.
    pub fn refusals_file(&self) -> Option<PathBuf> {
        let file = self.file.as_ref()?;
        Some(self.refusals_file.clone().unwrap_or_else(|| {
            let mut name = file.file_stem().unwrap_or_default().to_owned();
            name.push("-refusals");
            if let Some(extension) = file.extension() {
                name.push(".");
                name.push(extension);
            }
            file.with_file_name(name)
        }))
    }

    /// Returns the paths in the configuration.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.file.iter_mut().chain(self.refusals_file.as_mut())
    }
}

/// Recorded decisions: each question to the policy, with the answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Decisions {
    /// File of decisions, one JSON object per line, readable by its owner only. Without it, nothing
    /// is recorded.
    pub record: Option<PathBuf>,
    /// Share of decisions to record, chosen at random.
    pub sample: f64,
    /// Maximum size of the file in bytes. The full file becomes `FILE.1`, the previous `FILE.1`
    /// becomes `FILE.2`, and so on.
    pub file_bytes: u64,
    /// Number of rotated files.
    pub retained_files: u64,
}

impl Default for Decisions {
    fn default() -> Self {
        Self { record: None, sample: 1.0, file_bytes: 16 << 20, retained_files: 8 }
    }
}

/// Metrics and health over HTTP.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Metrics {
    /// Address and port of `/metrics`, `/healthz` and `/readyz`, on the loopback interface only,
    /// such as `127.0.0.1:9464`.
    #[serde(deserialize_with = "parsed_if_there")]
    pub address: Option<ListenAddress>,
    /// Host names that requests may use, in addition to `localhost` and addresses of the loopback
    /// interface.
    pub hosts: Vec<String>,
}

pub fn parsed_if_there<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    parsed(deserializer).map(Some)
}
