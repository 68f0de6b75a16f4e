//! Expiry of certificates, revocation lists and rows of tables.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::data::table::Table;

/// An item that expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its kind.
    pub kind: ExpiryKind,
    /// Names in a certificate of the gateway, or the file of any other item.
    pub name: String,
    /// Expiration time; of rows, the next one.
    pub at: Option<SystemTime>,
    /// Time from which the operator is warned.
    pub warn_from: Option<SystemTime>,
    /// Number of expired rows.
    pub expired_rows: usize,
    /// Number of rows that expire in the warning period.
    pub expiring_rows: usize,
}

/// Kind of an item that expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryKind {
    /// Certificate of the gateway.
    OwnCertificate,
    /// The certificate of an authority.
    Anchor,
    /// A revocation list.
    RevocationList,
    /// Rows of a policy table.
    Rows,
}

impl ExpiryKind {
    /// Returns its name in metrics and logs.
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
/// Warning period of a certificate.
const CERTIFICATE_AHEAD: Duration = DAY.saturating_mul(30);
/// Warning period of rows.
const ROWS_AHEAD: Duration = DAY.saturating_mul(7);

/// Expiration time of a file of authorities or a revocation list, determined when it is loaded.
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

    /// Creates the expiry of a revocation list that was issued at `issued`. The warning period is
    /// the last part of its validity, because lists may be valid for a day or for a year.
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

    /// Creates the expiry of a certificate of the gateway.
    pub(crate) fn of_own(name: String, at: SystemTime) -> Self {
        Self::whole(ExpiryKind::OwnCertificate, name, at, CERTIFICATE_AHEAD)
    }

    /// Returns the expiry of the rows of a table at a time. Visits all rows with an expiration
    /// time.
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

    /// Returns whether the operator must be warned at that time.
    #[must_use]
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.expired_rows > 0 || self.warn_from.is_some_and(|from| from <= now)
    }
}
