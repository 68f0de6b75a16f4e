//! Expiry of certificates, revocation lists and rows of tables.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::data::table::Table;

/// Something that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its kind.
    pub kind: ExpiryKind,
    /// The names of a certificate of the gateway's own, or the file of all else.
    pub name: String,
    /// When it ends; of rows, when the first of those does that have not ended yet.
    pub at: Option<SystemTime>,
    /// From when on the operator should know.
    pub warn_from: Option<SystemTime>,
    /// How many rows have ended.
    pub expired_rows: usize,
    /// How many rows end while the operator should know.
    pub expiring_rows: usize,
}

/// The kind of an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryKind {
    /// A certificate of the gateway's own.
    OwnCertificate,
    /// The certificate of an authority.
    Anchor,
    /// A revocation list.
    RevocationList,
    /// Rows of a policy table.
    Rows,
}

impl ExpiryKind {
    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnCertificate => "own-certificate",
            Self::Anchor => "anchor",
            Self::RevocationList => "revocation-list",
            Self::Rows => "rows",
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long before its end the operator should know of a certificate.
const CERTIFICATE_AHEAD: Duration = DAY.saturating_mul(30);
/// The same of rows.
const ROWS_AHEAD: Duration = DAY.saturating_mul(7);

/// The end of a file of authorities, as it is found when it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileExpiry {
    kind: ExpiryKind,
    file: String,
    at: SystemTime,
    ahead: Duration,
}

impl FileExpiry {
    pub fn of_anchor(file: &str, at: SystemTime) -> Self {
        Self { kind: ExpiryKind::Anchor, file: file.into(), at, ahead: CERTIFICATE_AHEAD }
    }

    /// Of a list that was issued then. Lists are issued anew in the last part of their time, be it a day
    /// or a year.
    pub fn of_list(file: &str, issued: SystemTime, at: SystemTime) -> Self {
        let lifetime = at.duration_since(issued).unwrap_or_default();
        let ahead = (lifetime / 5).min(ROWS_AHEAD);
        Self { kind: ExpiryKind::RevocationList, file: file.into(), at, ahead }
    }

    pub fn expiry(&self) -> Expiry {
        Expiry::whole(self.kind, self.file.clone(), self.at, self.ahead)
    }
}

impl Expiry {
    fn whole(kind: ExpiryKind, name: String, at: SystemTime, ahead: Duration) -> Self {
        let warn_from = Some(at.checked_sub(ahead).unwrap_or(UNIX_EPOCH));
        Self { kind, name, at: Some(at), warn_from, expired_rows: 0, expiring_rows: 0 }
    }

    /// The end of a certificate of the gateway's own.
    pub(crate) fn of_own(name: String, at: SystemTime) -> Self {
        Self::whole(ExpiryKind::OwnCertificate, name, at, CERTIFICATE_AHEAD)
    }

    /// The ends of the rows of a table, as seen at a time. Goes through all rows that have one.
    pub(crate) fn of_rows(table_name: &str, table: &Table, now: SystemTime) -> Option<Self> {
        let (mut first, mut expired_rows, mut expiring_rows) = (None, 0, 0);
        for at in table.expiries() {
            if at <= now {
                expired_rows += 1;
            } else {
                expiring_rows += usize::from(at <= now + ROWS_AHEAD);
                first = Some(first.map_or(at, |first: SystemTime| first.min(at)));
            }
        }
        let warn_from = first.map(|at| at.checked_sub(ROWS_AHEAD).unwrap_or(UNIX_EPOCH));
        let (kind, name) = (ExpiryKind::Rows, format!("{table_name}.csv"));
        let found = Self { kind, name, at: first, warn_from, expired_rows, expiring_rows };
        (first.is_some() || expired_rows > 0).then_some(found)
    }

    /// Whether the operator should know at that time.
    #[must_use]
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.expired_rows > 0 || self.warn_from.is_some_and(|from| from <= now)
    }
}
