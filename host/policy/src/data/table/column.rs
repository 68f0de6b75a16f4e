//! Columns of policy tables. The name of a column defines its kind, so that a file needs no schema,
//! and an unknown name is a fault.

use saegis_onem2m::credential::{KeyStrength, PresharedKey};
use saegis_onem2m::id::{AbsoluteId, AeIdStem, CredentialId, CseId, KpsaId, check_fqdn};
use saegis_onem2m::timestamp;

use super::arena::Arena;

/// Kind of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Identifier of a key, the index of the table; not empty and unique.
    Index,
    /// Credential-ID, the index of the table; not empty and unique.
    CredentialId,
    /// Key in hexadecimal digits; not empty.
    Key,
    /// Identifier of a key that is shared with a MAF, the index of the table. Its relative part is
    /// stored in lower case, because it is case-insensitive (TS-0003 clause 10.3.4).
    KmId,
    /// Absolute AE-ID or CSE-ID, or empty.
    AbsoluteId,
    /// Domain name, or empty; stored in lower case.
    Fqdn,
    /// AE-ID-Stem, or empty.
    AeIdStem,
    /// AE-ID-Stems, separated by spaces, or empty.
    AeIdStems,
    /// CSE-ID, or empty.
    CseId,
    /// Time, or empty; stored as seconds since 1970.
    Time,
    /// Free text.
    Text,
}

/// Column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub name: &'static str,
    pub kind: Kind,
}

/// All columns.
pub(super) const KNOWN: [Column; 14] = [
    Column { name: "ae_id", kind: Kind::AeIdStem },
    Column { name: "ae_ids", kind: Kind::AeIdStems },
    Column { name: "cse_id", kind: Kind::CseId },
    Column { name: "credential_id", kind: Kind::CredentialId },
    Column { name: "kpsa", kind: Kind::Key },
    Column { name: "kpsa_id", kind: Kind::Index },
    Column { name: "ke", kind: Kind::Key },
    Column { name: "ke_id", kind: Kind::Index },
    Column { name: "km", kind: Kind::Key },
    Column { name: "km_id", kind: Kind::KmId },
    Column { name: "client_id", kind: Kind::AbsoluteId },
    Column { name: "maf_fqdn", kind: Kind::Fqdn },
    Column { name: "expires", kind: Kind::Time },
    Column { name: "comment", kind: Kind::Text },
];

impl Column {
    /// Returns whether it is an index.
    pub(super) fn is_index(self) -> bool {
        matches!(self.kind, Kind::Index | Kind::CredentialId | Kind::KmId)
    }
}

/// Returns the columns that a table with this index column must have.
pub(super) fn required(index: &str) -> &'static [&'static str] {
    match index {
        "kpsa_id" => &["ae_id", "kpsa"],
        "ke_id" => &["ke"],
        "km_id" => &["km", "client_id"],
        _ => &[],
    }
}

/// Maximum length of a cell before it is parsed, in bytes.
pub(super) const MAX_CELL: usize = 1024;

/// Checks a cell and appends its stored form. The error describes the fault and never contains
/// digits of a key.
pub(super) fn append(column: Column, cell: &[u8], cells: &mut Arena) -> Result<(), String> {
    append_checked(column, cell, cells).map_err(|what| {
        // Invisible white space is reported first, whatever other fault it causes.
        let outer =
            [cell.first(), cell.last()].into_iter().flatten().find(|b| b.is_ascii_whitespace());
        match outer {
            Some(b' ') => "has a space before or after its value; remove it".into(),
            Some(_) => "has a tab or line break before or after its value; remove it".into(),
            None => what,
        }
    })
}

fn append_checked(column: Column, cell: &[u8], cells: &mut Arena) -> Result<(), String> {
    let text = || std::str::from_utf8(cell).map_err(|_| "is not UTF-8".to_string());
    match column.kind {
        Kind::Key => return append_key(column, cell, cells),
        Kind::CredentialId => drop(CredentialId::parse(text()?).map_err(|e| e.to_string())?),
        Kind::Index => KpsaId::check(text()?).map_err(|e| e.to_string())?,
        Kind::KmId => {
            let id = text()?;
            KpsaId::check(id).map_err(|e| e.to_string())?;
            let at = id.find('@').unwrap_or_default();
            let lower =
                id.char_indices().map(|(n, c)| if n < at { c.to_ascii_lowercase() } else { c });
            return append_text(lower.collect::<String>().as_bytes(), cells);
        }
        _ if cell.is_empty() => {}
        Kind::AbsoluteId => AbsoluteId::check(text()?).map_err(|e| e.to_string())?,
        Kind::Fqdn => {
            let name = text()?;
            check_fqdn(name).map_err(|e| e.to_string())?;
            return append_text(name.to_ascii_lowercase().as_bytes(), cells);
        }
        Kind::AeIdStem => AeIdStem::check(text()?).map_err(|e| e.to_string())?,
        Kind::AeIdStems => {
            for stem in text()?.split(' ') {
                AeIdStem::check(stem).map_err(|e| format!("has {stem:?}, which {e}"))?;
            }
        }
        Kind::CseId => {
            let cse = CseId::parse(text()?).map_err(|e| e.to_string())?;
            if cse.could_be_an_ae_id() {
                return Err("starts with S, which is reserved for AEs behind another CSE".into());
            }
            return append_text(cse.bare().as_bytes(), cells);
        }
        Kind::Time => {
            let at = timestamp::parse(text()?).map_err(|e| e.to_string())?;
            let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            return append_text(since.as_secs().to_string().as_bytes(), cells);
        }
        Kind::Text => text()?
            .chars()
            .all(|c| !c.is_control())
            .then_some(())
            .ok_or("has a control character")?,
    }
    append_text(cell, cells)
}

fn append_text(text: &[u8], cells: &mut Arena) -> Result<(), String> {
    cells.append(text).map_err(|e| e.to_string())
}

impl Column {
    /// Returns the minimum length of a key in a column of keys, in bytes.
    pub(super) fn min_key(self) -> usize {
        if self.name == "km" { PresharedKey::MIN_OF_MAF } else { PresharedKey::MIN_PROVISIONED }
    }
}

fn append_key(column: Column, digits: &[u8], cells: &mut Arena) -> Result<(), String> {
    let len = digits.len() / 2;
    if digits.is_empty() {
        return Err(format!("is empty; a key has at least {} bytes", column.min_key()));
    }
    if !digits.len().is_multiple_of(2) {
        return Err("has an odd number of hexadecimal digits".into());
    }
    if len > PresharedKey::MAX_LEN {
        return Err(format!("is longer than {} bytes", PresharedKey::MAX_LEN));
    }
    let place = cells.append_zeros(len).map_err(|e| e.to_string())?;
    if hex::decode_to_slice(digits, &mut *place).is_err() {
        return Err("has an invalid hexadecimal digit".into());
    }
    KeyStrength::of(place, column.min_key()).map(drop).map_err(|e| e.to_string())
}
