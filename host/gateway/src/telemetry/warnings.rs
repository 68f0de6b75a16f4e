//! Warnings about valid settings, for the log, `saegis check` and `saegis status`.

use std::fmt;
use std::time::SystemTime;

use saegis_onem2m::timestamp;
use saegis_policy::{Expiry, ExpiryKind, Fault, Generation};

use saegis_policy::summary::rows;

/// A warning for the operator.
pub enum Warning {
    /// A shadow module is not called.
    ShadowRefused {
        /// The module.
        module: String,
        /// Reason.
        fault: Fault,
    },
    /// Keys are short enough to be guessed.
    ShortKeys {
        /// The table.
        table: String,
        /// Number of short keys.
        keys: usize,
        /// Number of rows.
        rows: usize,
        /// Line of the first one.
        line: u64,
    },
    /// Every user of the machine can read the keys.
    Exposed {
        /// The table.
        table: String,
    },
    /// No module reads a table.
    Unread {
        /// The table.
        table: String,
        /// Number of its rows.
        rows: usize,
    },
    /// A certificate, a revocation list or a row expires soon or has expired.
    Expires(Expiry),
}

/// Returns all warnings about a generation.
pub fn of(generation: &Generation) -> Vec<Warning> {
    let mut found = Vec::new();
    for shadow in generation.shadows() {
        let module = &shadow.name;
        let refused = |fault| Warning::ShadowRefused { module: module.clone(), fault };
        found.extend(shadow.faults.into_iter().map(refused));
    }
    for of in generation.tables() {
        let (table, rows) = (of.name, of.rows);
        if of.short_keys > 0 {
            let (table, keys) = (table.clone(), of.short_keys);
            let line = of.first_short_key.unwrap_or_default();
            found.push(Warning::ShortKeys { table, keys, rows, line });
        }
        if of.exposed {
            found.push(Warning::Exposed { table: table.clone() });
        }
        if of.read_by.is_empty() {
            found.push(Warning::Unread { table, rows });
        }
    }
    found.extend(of_expiry(generation));
    found
}

/// Returns the warnings about expiry.
pub fn of_expiry(generation: &Generation) -> Vec<Warning> {
    let now = SystemTime::now();
    let due = generation.expiries(now).into_iter().filter(|expiry| expiry.is_due(now));
    due.map(Warning::Expires).collect()
}

impl Warning {
    /// Writes it to the log.
    pub fn log(&self) {
        match self {
            Self::ShadowRefused { module, .. } => {
                tracing::warn!(event = "shadow.refused", module, "{self}");
            }
            Self::ShortKeys { table, keys, line, .. } => {
                tracing::warn!(event = "policy.short-keys", table, keys, line, "{self}");
            }
            Self::Exposed { table } => tracing::warn!(event = "policy.exposed", table, "{self}"),
            Self::Unread { table, rows } => {
                tracing::warn!(event = "policy.table-unused", table, rows, "{self}");
            }
            Self::Expires(Expiry { kind: ExpiryKind::OwnCertificate, name, at, .. }) => {
                let ends = at.map(timestamp::format);
                tracing::warn!(event = "policy.certificate-expires", names = name, ends, "{self}");
            }
            Self::Expires(Expiry {
                kind: ExpiryKind::Rows,
                name,
                at,
                expired_rows,
                expiring_rows,
                ..
            }) => {
                let ends = at.map(timestamp::format);
                tracing::warn!(
                    event = "policy.rows-expire",
                    file = name,
                    ends,
                    expired = expired_rows,
                    expiring = expiring_rows,
                    "{self}"
                );
            }
            Self::Expires(Expiry { kind, name, at, .. }) => {
                let ends = at.map(timestamp::format);
                let kind = kind.name();
                tracing::warn!(event = "policy.expires", kind, file = name, ends, "{self}");
            }
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShadowRefused { module, fault } => {
                write!(f, "the shadow module {module} is not called: {fault}")
            }
            Self::ShortKeys { table, keys, rows, line } => write!(
                f,
                "{keys} of {rows} keys in {table} have less than 16 bytes, or a pattern; they can be guessed from \
                 a recorded handshake; the first is in line {line}"
            ),
            Self::Exposed { table } => write!(
                f,
                "every user of this machine can read the keys in {table}; remove that permission \
                 (chmod o= {table}.csv)"
            ),
            Self::Unread { table, rows: count } => write!(
                f,
                "no module reads the table {table} ({}), so it has no effect; check that its file has the \
                 name that a module expects",
                rows(*count)
            ),
            Self::Expires(expiry) => write_expiry(f, expiry),
        }
    }
}

fn write_expiry(f: &mut fmt::Formatter<'_>, expiry: &Expiry) -> fmt::Result {
    let Expiry { kind, name, at, expired_rows, expiring_rows, .. } = expiry;
    let ends = at.map(timestamp::format).unwrap_or_default();
    let is_over = at.is_some_and(|at| at <= SystemTime::now());
    match kind {
        ExpiryKind::OwnCertificate => {
            write!(f, "the gateway's own certificate ({name}) is valid until {ends}; replace it")
        }
        ExpiryKind::Anchor if is_over => write!(
            f,
            "the authority in {name} expired at {ends}; its certificates are refused; replace it"
        ),
        ExpiryKind::Anchor => write!(
            f,
            "the authority in {name} is valid until {ends}; afterwards its certificates are refused; \
             replace it in time"
        ),
        ExpiryKind::RevocationList if is_over => write!(
            f,
            "the revocation list {name} expired at {ends}; the certificates of its authority \
             are refused; replace it"
        ),
        ExpiryKind::RevocationList => write!(
            f,
            "the revocation list {name} is valid until {ends}; afterwards the certificates of its authority \
             are refused; replace it in time"
        ),
        ExpiryKind::Rows => {
            let mut parts = Vec::new();
            if *expired_rows > 0 {
                parts.push(format!("{} of {name} expired", rows(*expired_rows)));
            }
            if *expiring_rows > 0 {
                let count = rows(*expiring_rows);
                parts.push(format!(
                    "{count} of {name} will expire within a week, the first at {ends}"
                ));
            }
            write!(f, "{}; renew or remove them", parts.join("; "))
        }
    }
}
