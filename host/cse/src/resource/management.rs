//! `<mgmtObj>`: the properties of a device (TS-0004 clause 7.4.15 and Annex D).
//!
//! The CSE stores the values and reports changes. It does not manage devices itself: the AE of the
//! device writes its state, and subscribes to requests such as a reboot.

use serde_json::Value;

use crate::record::Attributes;
use crate::resource::schema::Presence::{M, NP, O};
use crate::resource::schema::{AttributeError, Row, row};
use crate::resource::values::Kind::{Boolean, Count, Object, Text, Texts, Time};

/// The kind of a management object (`mgmtDefinition`).
pub(crate) const DEFINITION: &str = "mgd";

/// Maximum length of a text, in bytes.
const TEXT: usize = 1024;

/// A kind of management objects.
pub(crate) struct ManagementKind {
    /// Number (`mgd`).
    number: u64,
    /// Root name of the representation.
    pub(crate) root: &'static str,
    /// Attributes of the kind.
    pub(crate) rows: &'static [Row],
}

/// Supported kinds.
const KINDS: [ManagementKind; 5] = [
    ManagementKind { number: 1001, root: "m2m:fwr", rows: FIRMWARE },
    ManagementKind { number: 1002, root: "m2m:swr", rows: SOFTWARE },
    ManagementKind { number: 1006, root: "m2m:bat", rows: BATTERY },
    ManagementKind { number: 1007, root: "m2m:dvi", rows: DEVICE_INFO },
    ManagementKind { number: 1009, root: "m2m:rbo", rows: REBOOT },
];

/// `[firmware]` (clause D.2).
const FIRMWARE: &[Row] = &[
    row("vr", Text(TEXT), M, O),
    row("fwn", Text(TEXT), M, O),
    row("url", Text(TEXT), M, O),
    row("ud", Boolean, M, O),
    row("uds", Object, NP, O),
];

/// `[software]` (clause D.3).
const SOFTWARE: &[Row] = &[
    row("vr", Text(TEXT), M, O),
    row("swn", Text(TEXT), M, O),
    row("url", Text(TEXT), M, O),
    row("in", Boolean, NP, O),
    row("un", Boolean, NP, O),
    row("ins", Object, NP, O),
    row("act", Boolean, NP, O),
    row("dea", Boolean, NP, O),
    row("acts", Object, NP, O),
];

/// `[battery]` (clause D.7).
const BATTERY: &[Row] = &[row("btl", Count, M, O), row("bts", Count, M, O)];

/// `[deviceInfo]` (clause D.8).
const DEVICE_INFO: &[Row] = &[
    row("dlb", Text(TEXT), M, O),
    row("man", Text(TEXT), M, NP),
    row("mfdl", Text(TEXT), O, O),
    row("mfd", Time, O, NP),
    row("mod", Text(TEXT), M, NP),
    row("smod", Text(TEXT), O, NP),
    row("dty", Text(TEXT), M, O),
    row("dvnm", Text(TEXT), O, O),
    row("fwv", Text(TEXT), O, O),
    row("swv", Text(TEXT), O, O),
    row("hwv", Text(TEXT), O, NP),
    row("osv", Text(TEXT), O, O),
    row("cnty", Text(TEXT), O, NP),
    row("loc", Text(TEXT), O, O),
    row("syst", Time, O, O),
    row("spur", Text(TEXT), O, O),
    row("purl", Text(TEXT), O, O),
    row("ptl", Texts, O, O),
];

/// `[reboot]` (clause D.10).
const REBOOT: &[Row] = &[row("rbo", Boolean, O, O), row("far", Boolean, O, O)];

/// Attributes that cannot both be true in a request (clauses D.3 and D.10).
const EXCLUSIVE: [(&str, &str); 3] = [("in", "un"), ("act", "dea"), ("rbo", "far")];

/// Attributes with the status of an action (m2m:actionStatus), and the maximum number of a status
/// (m2m:status).
const STATUSES: [&str; 3] = ["uds", "ins", "acts"];
const MAX_STATUS: u64 = 3;

/// Returns whether a value is the status of an action: its address, and a number.
fn is_action_status(value: &Value) -> bool {
    let fits = |(name, value): (&String, &Value)| match name.as_str() {
        "acn" => value.as_str().is_some_and(|text| text.len() <= TEXT),
        "sus" => value.as_u64().is_some_and(|status| status <= MAX_STATUS),
        _ => false,
    };
    value.as_object().is_some_and(|members| members.iter().all(fits))
}

/// Returns the kind of a management object with these attributes; `None` if it is not supported.
///
/// # Errors
/// Returns an error if the attribute is missing or is not a number.
pub(crate) fn kind(all: &Attributes) -> Result<Option<&'static ManagementKind>, AttributeError> {
    let number = all.get(DEFINITION).ok_or(AttributeError::Missing(DEFINITION))?;
    let number = number.as_u64();
    let number = number.ok_or_else(|| AttributeError::value(DEFINITION, "must be a number"))?;
    Ok(KINDS.iter().find(|kind| kind.number == number))
}

/// Returns the attributes of all kinds.
pub(crate) fn all_rows() -> impl Iterator<Item = &'static Row> {
    KINDS.iter().flat_map(|kind| kind.rows)
}

/// Checks the attributes in a request.
///
/// # Errors
/// Returns an error if a value is out of its range, or two of them exclude each other.
pub(crate) fn check(given: &Attributes) -> Result<(), AttributeError> {
    let is_true = |name: &str| given.get(name) == Some(&Value::Bool(true));
    if let Some((name, other)) = EXCLUSIVE.into_iter().find(|(a, b)| is_true(a) && is_true(b)) {
        return Err(AttributeError::value(name, &format!("cannot be true together with {other}")));
    }
    let number = |name: &str| given.get(name).and_then(Value::as_u64);
    if number("btl").is_some_and(|level| level > 100) {
        return Err(AttributeError::value("btl", "must be a number from 0 to 100"));
    }
    if number("bts").is_some_and(|status| !(1..=7).contains(&status)) {
        return Err(AttributeError::value("bts", "must be a number from 1 to 7"));
    }
    for name in ["rbo", "far"] {
        if given.get(name) == Some(&Value::Bool(false)) {
            return Err(AttributeError::value(name, "must be true"));
        }
    }
    let is_wrong = |name: &&str| given.get(*name).is_some_and(|value| !is_action_status(value));
    if let Some(name) = STATUSES.into_iter().find(is_wrong) {
        let why = "must have only an address acn, and a status sus from 0 to 3";
        return Err(AttributeError::value(name, why));
    }
    Ok(())
}
