//! The records of the store, and the times in them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::credential::PresharedKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Seconds since 1970-01-01 UTC, the resolution of timestamps.
pub(crate) type Seconds = u64;

/// Converts a time to whole seconds. A time before 1970 counts as 1970.
pub(crate) fn seconds(time: SystemTime) -> Seconds {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Converts seconds to a time.
pub(crate) fn time(at: Seconds) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(UNIX_EPOCH)
}

/// A client with its registrations: one for each administrating stakeholder (TS-0003 clause 8.8.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredClient")]
pub(crate) struct ClientRecord {
    /// MAF Client ID.
    pub(crate) id: String,
    /// At least one registration, each with another adminFQDN. Some may have expired.
    pub(crate) registrations: Vec<Registration>,
}

/// A client registration (clause 8.8.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    /// mafClientRegID.
    #[serde(rename = "registration")]
    pub(crate) id: String,
    /// Credential-ID with which it was made.
    pub(crate) credential: String,
    /// End of the registration.
    pub(crate) expires: Seconds,
    pub(crate) labels: Vec<String>,
    pub(crate) admin: String,
}

/// A client as the store has it. In its first layout a client had one registration.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredClient {
    Several {
        id: String,
        registrations: Vec<Registration>,
    },
    Single {
        id: String,
        #[serde(flatten)]
        registration: Registration,
    },
}

impl From<StoredClient> for ClientRecord {
    fn from(stored: StoredClient) -> Self {
        match stored {
            StoredClient::Several { id, registrations } => Self { id, registrations },
            StoredClient::Single { id, registration } => {
                Self { id, registrations: vec![registration] }
            }
        }
    }
}

/// A key registration (clause 8.8.2.7), without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// RelativeKeyID.
    pub(crate) relative: String,
    /// Source MAF Client ID.
    pub(crate) source: String,
    pub(crate) created: Seconds,
    /// End of the key registration, which also ends with the registration of its source.
    pub(crate) expires: Seconds,
    pub(crate) labels: Vec<String>,
    pub(crate) admin: String,
    pub(crate) suid: u8,
    pub(crate) targets: Vec<String>,
    /// Whether the key was exported from a session, which could export it again.
    pub(crate) of_session: bool,
}

/// A key registration with its key. A removed registration has no key: its RelativeKeyID stays
/// reserved until the key would have expired.
pub(crate) struct StoredKey {
    pub(crate) record: KeyRecord,
    pub(crate) key: Option<PresharedKey>,
}

/// The error for an entry that differs from what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

impl Registration {
    /// Returns whether both adminFQDNs are the same domain name.
    pub(crate) fn is_for(&self, admin: &str) -> bool {
        self.admin.eq_ignore_ascii_case(admin)
    }
}

impl ClientRecord {
    /// Returns the first end of its registrations, which is its place in the expiry index.
    pub(crate) fn first_end(&self) -> Seconds {
        self.registrations.iter().map(|r| r.expires).min().unwrap_or_default()
    }

    /// Returns whether a registration is in force.
    pub(crate) fn is_registered(&self, now: Seconds) -> bool {
        self.registrations.iter().any(|r| r.expires > now)
    }

    /// Returns the registration for an administrating stakeholder, if it is in force.
    pub(crate) fn for_admin(&self, admin: &str, now: Seconds) -> Option<&Registration> {
        self.registrations.iter().find(|r| r.is_for(admin) && r.expires > now)
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>, Damaged> {
        serde_json::to_vec(self).map_err(|_| Damaged)
    }

    pub(crate) fn read(plain: &[u8]) -> Result<Self, Damaged> {
        serde_json::from_slice(plain).map_err(|_| Damaged)
    }
}

impl StoredKey {
    /// Serializes the key's length, the key, and the rest as JSON, so that no JSON parser copies
    /// the key.
    pub(crate) fn write(&self) -> Result<Zeroizing<Vec<u8>>, Damaged> {
        let rest = serde_json::to_vec(&self.record).map_err(|_| Damaged)?;
        let key = self.key.as_ref().map_or(&[][..], PresharedKey::expose);
        let mut plain = Zeroizing::new(Vec::with_capacity(1 + key.len() + rest.len()));
        plain.push(u8::try_from(key.len()).map_err(|_| Damaged)?);
        plain.extend_from_slice(key);
        plain.extend_from_slice(&rest);
        Ok(plain)
    }

    pub(crate) fn read(plain: &[u8]) -> Result<Self, Damaged> {
        let (length, behind) = plain.split_first().ok_or(Damaged)?;
        let (key, rest) = behind.split_at_checked(usize::from(*length)).ok_or(Damaged)?;
        let key = match key {
            [] => None,
            key => Some(PresharedKey::new(key).map_err(|_| Damaged)?),
        };
        Ok(Self { record: serde_json::from_slice(rest).map_err(|_| Damaged)?, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_record_round_trips() {
        let record = KeyRecord {
            relative: "A".into(),
            source: "//a.b/c".into(),
            created: 1,
            expires: 2,
            labels: vec!["x".into()],
            admin: "a.b".into(),
            suid: 32,
            targets: vec!["//a.b/d".into()],
            of_session: true,
        };
        for key in [None, Some(vec![1_u8; 1]), Some(vec![2; 64])] {
            let made = key.as_ref().map(|k| PresharedKey::new(k).unwrap());
            let written = StoredKey { record: record.clone(), key: made }.write().unwrap();
            let read = StoredKey::read(&written).ok().unwrap();
            assert_eq!(read.record, record);
            assert_eq!(read.key.map(|k| k.expose().to_vec()), key);
        }
        for bad in [&b""[..], b"\x05abc", b"\x00", b"\x00{}", b"\xff"] {
            assert!(StoredKey::read(bad).is_err());
        }
    }

    #[test]
    fn client_of_first_layout_is_read() {
        let old = br#"{"id":"//a.b/c","registration":"mcr-1","credential":"11-x@m.b","expires":7,"labels":["x"],"admin":"a.b"}"#;
        let registration = Registration {
            id: "mcr-1".into(),
            credential: "11-x@m.b".into(),
            expires: 7,
            labels: vec!["x".into()],
            admin: "a.b".into(),
        };
        let record = ClientRecord { id: "//a.b/c".into(), registrations: vec![registration] };
        assert_eq!(ClientRecord::read(old), Ok(record.clone()));
        assert_eq!(ClientRecord::read(&record.write().unwrap()), Ok(record));
        assert_eq!(ClientRecord::read(br#"{"id":"//a.b/c"}"#), Err(Damaged));
    }

    #[test]
    fn extreme_time_does_not_panic() {
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(1)), 0);
        let _ = time(u64::MAX);
        assert_eq!(seconds(time(5)), 5);
    }
}
