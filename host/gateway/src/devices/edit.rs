//! Changes to the table of pre-shared keys and to the rules, which are written together.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rand::RngExt as _;
use saegis_onem2m::id::{AeIdStem, AppId, KpsaId};
use saegis_onem2m::timestamp;
use zeroize::Zeroizing;

use super::error::DeviceError;
use super::rules::Rules;
use super::table::{Row, TableText, table_file};
use crate::admin::reloaded::{Reloaded, activation};
use crate::config::{Config, RuleSource};
use crate::replaced_file::{lock, replace};

/// Maximum number of days for which an old key remains valid.
const MAX_OVERLAP_DAYS: u64 = 36_500;
const RULES: &str = "service-subscription.toml";

/// A device to add.
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its App-ID; by default N and the name.
    pub app_id: Option<String>,
    /// End of the validity of its key; empty if it has none.
    pub expires: String,
}

/// The associations that a change may end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// At most `policy.max-ended-associations`.
    Limited,
    /// Any number, for the removal of a key. Otherwise a thief could open so many associations with a
    /// stolen key that the limit prevents its removal.
    Any,
}

/// Maximum sizes of the files, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// Of the table.
    pub table: u64,
    /// Of the rules.
    pub rules: u64,
}

impl FileLimits {
    /// The limits of a command, whose memory is its own.
    pub const OF_COMMAND: Self = Self { table: 1 << 30, rules: 64 << 20 };
    /// The limits of the running gateway. The rules take many times their size while they are edited.
    pub const OF_GATEWAY: Self = Self { table: 64 << 20, rules: 8 << 20 };
}

/// Checks a value that stands in a program, a shell command or a CSV file: it must not end the text
/// that contains it.
///
/// # Errors
/// Fails if it has other characters than letters, digits and `. _ ~ - @ : [ ]`.
pub fn check_plain(what: &str, value: &str) -> Result<(), DeviceError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._~-@:[]".contains(c);
    if value.chars().all(is_plain) {
        return Ok(());
    }
    Err(DeviceError::Argument(format!(
        "the {what} {value:?} has a character other than letters, digits and . _ ~ - @ : [ ], which could \
         change a printed program"
    )))
}

/// The devices in the policy files of a gateway. Changes are in memory.
pub struct Devices<'a> {
    config: &'a Config,
    table_file: PathBuf,
    rules_file: PathBuf,
    /// The table of pre-shared keys.
    pub table: TableText,
    rules: Option<Rules>,
    /// All AE-IDs and KpsaIDs of the table.
    taken: HashSet<String>,
}

/// Devices that can be written, because no other command edits their files.
pub struct LockedDevices<'a> {
    devices: Devices<'a>,
    _lock: File,
}

impl<'a> Deref for LockedDevices<'a> {
    type Target = Devices<'a>;

    fn deref(&self) -> &Self::Target {
        &self.devices
    }
}

impl DerefMut for LockedDevices<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.devices
    }
}

impl<'a> Devices<'a> {
    /// Reads the files.
    ///
    /// # Errors
    /// Fails if they cannot be read or are invalid.
    pub fn read(config: &'a Config, limits: FileLimits) -> Result<Self, DeviceError> {
        let (table_file, rules_file) = (table_file(config), config.policy.folder.join(RULES));
        let table = TableText::open(&table_file, limits.table)?;
        let rules = match config.service_subscription.source {
            RuleSource::PolicyFile => Rules::open(&rules_file, &config.cse.cse_id, limits.rules)?,
            RuleSource::Cse | RuleSource::Remote => None,
        };
        let taken = table.rows().flat_map(|row| [row.ae_id, row.kpsa_id]).collect();
        Ok(Self { config, table_file, rules_file, table, rules, taken })
    }

    /// Adds a device. Returns its row and its App-ID.
    ///
    /// # Errors
    /// Fails if a value is invalid, the device exists, or a rule of the operator has its name.
    pub fn add(&mut self, device: &Device) -> Result<(Row, String), DeviceError> {
        let (name, expires) = (&device.name, &device.expires);
        let ae_id = format!("C{name}");
        let wrong = |what: String| Err(DeviceError::Argument(what));
        if let Err(e) = AeIdStem::check(&ae_id) {
            return wrong(format!("the AE-ID {ae_id:?} {e}"));
        }
        let app_id = device.app_id.clone().unwrap_or_else(|| format!("N{name}"));
        if let Err(e) = AppId::parse(&app_id) {
            return wrong(format!("the App-ID {app_id:?} {e}"));
        }
        check_plain("App-ID", &app_id)?;
        if !expires.is_empty() && timestamp::parse(expires).is_err() {
            return wrong(format!("{expires:?} is not a time such as 20271231T235959"));
        }
        if self.taken.contains(&ae_id) {
            let what =
                format!("{ae_id} exists; saegis device rotate-key {name} gives it a new key");
            return wrong(what);
        }
        let row = self.append(name, &ae_id, expires)?;
        if let Some(rules) = &mut self.rules
            && rules.permits(&row.kpsa_id, &app_id, &ae_id).is_none()
        {
            rules.permit(name, &row.kpsa_id, &app_id, &ae_id)?;
        }
        Ok((row, app_id))
    }

    /// Appends a row with a new KpsaID and a random key.
    fn append(&mut self, name: &str, ae_id: &str, expires: &str) -> Result<Row, DeviceError> {
        let Some(issuer) = &self.config.cse.service_provider else {
            let what = "set cse.service-provider: it is the issuer in the KpsaID of a device";
            return Err(DeviceError::Argument(what.into()));
        };
        // A KpsaID is unique for its issuer (TS-0003 clause 10.5), and names one key.
        let first = std::iter::once(format!("{name}@{issuer}"));
        let further = (2u32..).map(|nth| format!("{name}-{nth}@{issuer}"));
        let is_free = |id: &String| !self.taken.contains(id);
        let kpsa_id = first.chain(further).find(is_free).unwrap_or_default();
        if let Err(e) = KpsaId::check(&kpsa_id) {
            return Err(DeviceError::Argument(format!("the KpsaID {kpsa_id:?} {e}")));
        }
        let key = Zeroizing::new(rand::rng().random::<[u8; 16]>());
        let kpsa = Zeroizing::new(hex::encode(*key));
        let row = Row { line: 0, ae_id: ae_id.into(), kpsa_id, kpsa, expires: expires.to_string() };
        self.table.append(&row);
        self.taken.extend([row.ae_id.clone(), row.kpsa_id.clone()]);
        Ok(row)
    }

    /// Returns the rows of a device, by its name, its AE-ID or a KpsaID. A KpsaID is unambiguous, so it
    /// comes first.
    ///
    /// # Errors
    /// Fails if there is no such device.
    pub fn of(&self, name: &str) -> Result<Vec<Row>, DeviceError> {
        let rows = || self.table.rows();
        let is_named = |row: &Row| row.ae_id == name || row.ae_id.strip_prefix('C') == Some(name);
        let exact = rows().find(|row| row.kpsa_id == name);
        let Some(first) = exact.or_else(|| rows().find(is_named)) else {
            let what = format!("there is no device {name}; saegis device list has all");
            return Err(DeviceError::Argument(what));
        };
        if first.ae_id.is_empty() {
            return Ok(vec![first]);
        }
        Ok(rows().filter(|row| row.ae_id == first.ae_id).collect())
    }

    /// Returns the row of a device with its newest key.
    ///
    /// # Errors
    /// Fails if there is no such device.
    pub fn newest(&self, name: &str) -> Result<Row, DeviceError> {
        if let Some(exact) = self.table.rows().find(|row| row.kpsa_id == name) {
            return Ok(exact);
        }
        let newest = self.of(name)?.pop();
        newest.ok_or_else(|| DeviceError::Argument(format!("there is no device {name}")))
    }

    /// Adds a new key for a device. The old ones end after some days; with zero days, they are removed.
    /// Returns the new row, and the end of the old keys.
    ///
    /// # Errors
    /// Fails if there is no such device, its row has no AE-ID, or the days are too many.
    pub fn rotate(
        &mut self,
        name: &str,
        overlap_days: u64,
    ) -> Result<(Row, Option<String>), DeviceError> {
        let until = match overlap_days {
            0 => None,
            1..=MAX_OVERLAP_DAYS => {
                let overlap = Duration::from_secs(overlap_days * 24 * 3600);
                Some(timestamp::format(SystemTime::now() + overlap))
            }
            _ => {
                let what =
                    format!("the old key can remain valid for {MAX_OVERLAP_DAYS} days at most");
                return Err(DeviceError::Argument(what));
            }
        };
        let row = self.replace_key(name, until.as_deref())?;
        Ok((row, until))
    }

    fn replace_key(&mut self, name: &str, until: Option<&str>) -> Result<Row, DeviceError> {
        let old = self.of(name)?;
        let ae_id = old.first().map(|row| row.ae_id.clone()).unwrap_or_default();
        if ae_id.is_empty() {
            let what = "its row has no ae_id, so its AE-ID belongs to the one KpsaID; change the key \
                        in the row instead";
            return Err(DeviceError::Argument(what.into()));
        }
        let own_name = ae_id.get(1..).unwrap_or_default().to_string();
        let app_id = old.last().and_then(|row| self.app_id(row));
        match until {
            // Before the new row is appended, so that the numbers of the lines hold.
            Some(until) => {
                for row in old.iter().filter(|row| ends_later(row, until)) {
                    self.table.expire(row.line, until);
                }
            }
            None => {
                let lines: Vec<_> = old.iter().map(|row| row.line).collect();
                let new = self.append(&own_name, &ae_id, "")?;
                self.table.remove(&lines);
                self.permit(&own_name, &new, app_id)?;
                return Ok(new);
            }
        }
        let new = self.append(&own_name, &ae_id, "")?;
        self.permit(&own_name, &new, app_id)?;
        Ok(new)
    }

    /// Permits the registration with a new key, if the old one was permitted.
    fn permit(&mut self, name: &str, row: &Row, app_id: Option<String>) -> Result<(), DeviceError> {
        let Some(rules) = &mut self.rules else { return Ok(()) };
        match app_id {
            _ if rules.permit_also(name, &row.kpsa_id) => Ok(()),
            Some(app_id) if rules.permits(&row.kpsa_id, &app_id, &row.ae_id).is_none() => {
                rules.permit(name, &row.kpsa_id, &app_id, &row.ae_id)
            }
            _ => Ok(()),
        }
    }

    /// Removes all keys of a device, and its rule.
    ///
    /// # Errors
    /// Fails if there is no such device.
    pub fn revoke(&mut self, name: &str) -> Result<Vec<Row>, DeviceError> {
        let rows = self.of(name)?;
        let lines: Vec<_> = rows.iter().map(|row| row.line).collect();
        self.table.remove(&lines);
        if let (Some(rules), Some(row)) = (&mut self.rules, rows.first()) {
            rules.remove(row.ae_id.strip_prefix('C').unwrap_or(&row.ae_id));
        }
        Ok(rows)
    }

    /// Returns the App-ID of the rule of a device, or that of a rule that permits it.
    pub fn app_id(&mut self, row: &Row) -> Option<String> {
        let rules = self.rules.as_mut()?;
        let name = row.ae_id.strip_prefix('C').unwrap_or(&row.ae_id);
        rules.app_id(name, &row.kpsa_id, &row.ae_id)
    }
}

impl<'a> LockedDevices<'a> {
    /// Reads the files, and locks their folder against other edits.
    ///
    /// # Errors
    /// Fails if they cannot be read, are invalid, or another command edits them.
    pub fn open(config: &'a Config, limits: FileLimits) -> Result<Self, DeviceError> {
        let folder = &config.policy.folder;
        let lock = lock(folder).map_err(DeviceError::file(folder))?;
        Ok(Self { devices: Devices::read(config, limits)?, _lock: lock })
    }

    /// Writes the files, and has the running gateway load them. Returns when the change takes effect.
    /// `ends` limits the associations that it ends.
    ///
    /// `reload` returns the generation in force, or the faults for which the gateway rejected the files.
    /// It fails if no gateway answers.
    ///
    /// # Errors
    /// Fails if the files cannot be written, or the gateway rejects them. They are then restored.
    pub fn write(
        self,
        ends: Ends,
        mut reload: impl FnMut(Ends) -> io::Result<Reloaded>,
    ) -> Result<String, DeviceError> {
        let Devices { table, rules, table_file, rules_file, .. } = self.devices;
        let table = table.text()?;
        let rules = rules.as_ref().map(Rules::text).transpose()?;
        let files = [
            (&rules_file, rules.as_ref().map(|text| text.as_bytes())),
            (&table_file, Some(table.as_bytes())),
        ];
        let files = files.into_iter().filter_map(|(file, text)| Some((file, text?)));
        let files: Vec<(&PathBuf, &[u8])> = files.collect();
        let mut old = Vec::new();
        for (file, text) in files {
            let before = std::fs::read(file).ok().map(Zeroizing::new);
            if before.as_ref().is_some_and(|before| before.as_slice() == text) {
                continue;
            }
            if let Err(error) = replace(file, text) {
                restore(&old);
                return Err(DeviceError::File { file: file.clone(), error });
            }
            old.push((file.as_path(), before));
        }
        let reloaded = reload(ends);
        let restore = || {
            restore(&old);
            // The gateway watches its folders anyway.
            let _ = reload(Ends::Limited);
        };
        activation(reloaded, restore).map_err(DeviceError::Refused)
    }
}

/// Returns whether a row is valid after a time.
fn ends_later(row: &Row, until: &str) -> bool {
    match (timestamp::parse(&row.expires), timestamp::parse(until)) {
        (Ok(now), Ok(until)) => now > until,
        _ => true,
    }
}

/// Writes the former content of files again. A file that did not exist is removed.
fn restore(old: &[(&Path, Option<Zeroizing<Vec<u8>>>)]) {
    for (file, before) in old {
        // It could be written a moment ago. Otherwise the error of the command is reported anyway.
        let _ = match before {
            Some(before) => replace(file, before),
            None => std::fs::remove_file(file),
        };
    }
}
