//! Fetched rules on disk. A gateway that starts while the IN-CSE cannot be reached uses them for as
//! long as it would without the restart.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::id::CseId;
use saegis_policy::{Rule, read_file};
use serde::{Deserialize, Serialize};

use crate::config::private_file;

/// Maximum size of a file, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// Response of an IN-CSE about this CSE: no service subscription, none for this CSE, or rules.
pub type Fetched = Option<Option<Vec<Rule>>>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    /// The IN-CSE that they were fetched from.
    in_cse: String,
    /// The CSE that they apply to.
    cse: String,
    /// Time of the fetch, in seconds since 1970.
    fetched: u64,
    /// Whether there is a service subscription.
    profile: bool,
    /// Rules for this CSE; `None` if it has no node.
    rules: Option<Vec<Rule>>,
}

/// Writes fetched rules and their time atomically.
///
/// # Errors
/// Fails if the file cannot be written.
pub fn write(
    path: &Path,
    (in_cse, own): (&CseId, &CseId),
    fetched: &Fetched,
    at: SystemTime,
) -> io::Result<()> {
    let file = File {
        in_cse: in_cse.to_string(),
        cse: own.to_string(),
        fetched: at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        profile: fetched.is_some(),
        rules: fetched.clone().flatten(),
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    private_file::replace(path, &serde_json::to_vec(&file)?)
}

/// Returns the rules that were fetched from that IN-CSE for this CSE, and their age, if the file
/// exists.
///
/// # Errors
/// Fails if the file is not a valid cache file.
pub fn read(
    path: &Path,
    (in_cse, own): (&CseId, &CseId),
    now: SystemTime,
) -> io::Result<Option<(Fetched, Duration)>> {
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    let text = read_file(path, MAX_FILE).map_err(|fault| io::Error::other(fault.to_string()))?;
    let file: File = serde_json::from_slice(&text)?;
    if file.in_cse != in_cse.to_string() || file.cse != own.to_string() {
        return Ok(None);
    }
    // A time in the future comes from another clock, so the age is unknown.
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(file.fetched));
    let since = since.ok_or_else(|| io::Error::other("invalid time of the fetch"))?;
    let Ok(age) = now.duration_since(since) else { return Ok(None) };
    Ok(Some((file.profile.then_some(file.rules), age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CseId {
        CseId::parse(text).unwrap()
    }

    fn rule() -> Rule {
        Rule {
            name: "lights".into(),
            applicable_cred_ids: vec!["12-*".into()],
            allowed_app_ids: vec!["N*".into()],
            allowed_aes: vec!["C*".into()],
            allowed_role_ids: Vec::new(),
        }
    }

    #[test]
    fn cached_rules_keep_age_and_recipient() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/kept.json");
        let (of, at) = ((&id("in-cse"), &id("mn")), UNIX_EPOCH + Duration::from_secs(1_000));
        assert!(read(&path, of, at).unwrap().is_none());
        for fetched in [None, Some(None), Some(Some(vec![])), Some(Some(vec![rule()]))] {
            write(&path, of, &fetched, at).unwrap();
            let later = at + Duration::from_secs(7);
            let kept = read(&path, of, later).unwrap().unwrap();
            assert_eq!(kept, (fetched, Duration::from_secs(7)));
        }
        assert!(read(&path, (&id("other"), &id("mn")), at).unwrap().is_none());
        assert!(read(&path, (&id("in-cse"), &id("other")), at).unwrap().is_none());
        // After the clock was set back, the age is unknown.
        assert!(read(&path, of, at - Duration::from_secs(1)).unwrap().is_none());
        let never = format!(
            r#"{{"in-cse":"/in-cse","cse":"/mn","fetched":{},"profile":false,"rules":null}}"#,
            u64::MAX
        );
        for bad in ["", "{}", "[]", "{\"in-cse\":1}", &never] {
            fs::write(&path, bad).unwrap();
            assert!(read(&path, of, at).is_err(), "{bad}");
        }
    }
}
