//! Reads the lines of both audit trails, for `saegis tail` and `saegis explain`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use saegis_gateway::config::Config;
use serde_json::Value;

/// Selects events. All given conditions must hold.
#[derive(clap::Args, Default)]
pub struct Filter {
    /// Device: its name, AE-ID, KpsaID, Credential-ID, or the name or serial number in its certificate
    #[arg(long)]
    identity: Option<String>,
    /// IP address of the device
    #[arg(long)]
    address: Option<String>,
    /// Number of the association
    #[arg(long)]
    association: Option<u64>,
}

/// Members of an event that name a device.
const NAMES: [&str; 7] =
    ["identity", "credential_id", "entity", "from", "subject", "serial", "ae_id"];

impl Filter {
    /// Returns whether an event is selected.
    pub fn selects(&self, event: &Value) -> bool {
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let named = self.identity.as_ref().is_none_or(|wanted| {
            NAMES.iter().filter_map(|name| text(name)).any(|found| names(found, wanted))
        });
        let peer = text("peer").unwrap_or_default();
        let ip = peer.rsplit_once(':').map_or(peer, |(ip, _)| ip).trim_matches(['[', ']']);
        let at = self.address.as_ref().is_none_or(|wanted| peer == wanted || ip == wanted);
        let association = event.get("association").and_then(Value::as_u64);
        named && at && self.association.is_none_or(|wanted| association == Some(wanted))
    }

    /// Returns the identity that is asked for.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// Returns whether it has a condition.
    pub fn is_given(&self) -> bool {
        self.identity.is_some() || self.address.is_some() || self.association.is_some()
    }
}

/// Returns whether a text names a device: `12-light1@in.provider.com` and `AE Clight1` name `light1`.
fn names(found: &str, wanted: &str) -> bool {
    if found == wanted {
        return true;
    }
    let inner = found.strip_prefix("12-").unwrap_or(found);
    let inner = inner.strip_prefix("AE ").unwrap_or(inner);
    let of_key = inner.split('@').next().unwrap_or_default();
    inner == wanted
        || of_key == wanted
        || inner.strip_prefix('C') == Some(wanted)
        || found.strip_prefix("CN=") == Some(wanted)
}

/// Returns the files of the trails: of security events, and of refused requests.
///
/// # Errors
/// Fails without a trail.
pub fn files(config: &Config) -> Result<Vec<PathBuf>, String> {
    let files: Vec<_> =
        [config.audit.file.clone(), config.audit.refusals_file()].into_iter().flatten().collect();
    if files.is_empty() {
        return Err("there is no audit trail; set audit.file, and restart the gateway".into());
    }
    Ok(files)
}

/// Returns the selected events of the files and their rotated files, in the order of their times. At
/// most the last `most` of them are returned.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn events(
    files: &[PathBuf],
    retained: u64,
    most: usize,
    selects: impl Fn(&Value) -> bool,
) -> io::Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in files {
        let mut found = Vec::new();
        // The newest file first: older ones are not read if it has enough.
        for number in 0..=retained {
            if found.len() >= most {
                break;
            }
            let mut earlier = of_file(&rotated(file, number), most, &selects)?;
            earlier.append(&mut found);
            found = earlier;
        }
        all.append(&mut found);
    }
    all.sort_by(|a: &Value, b| time(a).cmp(time(b)));
    Ok(all.split_off(all.len().saturating_sub(most)))
}

fn rotated(file: &Path, number: u64) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

fn of_file(file: &Path, most: usize, selects: &impl Fn(&Value) -> bool) -> io::Result<Vec<Value>> {
    let opened = match File::open(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut found = std::collections::VecDeque::new();
    for line in BufReader::new(opened).lines() {
        // The last line may be incomplete, because it is being written.
        let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
        if selects(&event) {
            found.push_back(event);
            if found.len() > most {
                found.pop_front();
            }
        }
    }
    Ok(found.into())
}

/// Returns the time of an event.
pub fn time(event: &Value) -> &str {
    event.get("timestamp").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_is_found_by_each_of_its_names() {
        let event = serde_json::json!({
            "peer": "192.0.2.7:4711", "credential_id": "12-light1@in.provider.com",
            "entity": "AE Clight1", "association": 7,
        });
        let by = |identity: &str| Filter { identity: Some(identity.into()), ..Filter::default() };
        for name in ["light1", "Clight1", "light1@in.provider.com", "12-light1@in.provider.com"] {
            assert!(by(name).selects(&event), "{name}");
        }
        for name in ["light", "light11", "provider"] {
            assert!(!by(name).selects(&event), "{name}");
        }
        let at = |address: &str| Filter { address: Some(address.into()), ..Filter::default() };
        assert!(at("192.0.2.7").selects(&event) && !at("192.0.2.70").selects(&event));
        assert!(Filter { association: Some(7), ..Filter::default() }.selects(&event));
        assert!(!Filter { association: Some(8), ..at("192.0.2.7") }.selects(&event));
    }
}
