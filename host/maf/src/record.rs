//! What the store holds, and the times in it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_onem2m::credential::PresharedKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Seconds since 1970-01-01 UTC: a timestamp is written to the second.
pub(crate) type Seconds = u64;

/// A time in whole seconds; one before 1970 counts as 1970.
pub(crate) fn seconds(time: SystemTime) -> Seconds {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time of so many seconds.
pub(crate) fn time(at: Seconds) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(UNIX_EPOCH)
}

/// A client registration (TS-0003 clause 8.8.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientRecord {
    /// The MAF Client ID.
    pub(crate) id: String,
    /// The mafClientRegID.
    pub(crate) registration: String,
    /// The Credential-ID that it was made with.
    pub(crate) credential: String,
    /// From when on it does not exist.
    pub(crate) expires: Seconds,
    pub(crate) labels: Vec<String>,
    pub(crate) admin: String,
}

/// A key registration (clause 8.8.2.7), without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// The RelativeKeyID.
    pub(crate) relative: String,
    /// The Source MAF Client ID.
    pub(crate) source: String,
    pub(crate) created: Seconds,
    /// From when on it does not exist. It does not exist without its source's registration either.
    pub(crate) expires: Seconds,
    pub(crate) labels: Vec<String>,
    pub(crate) admin: String,
    pub(crate) suid: u8,
    pub(crate) targets: Vec<String>,
    /// It was exported from a session, which could give it again.
    pub(crate) of_session: bool,
}

/// A key registration with its key. One whose key is gone was removed: nothing but its RelativeKeyID
/// counts, which is not given again until its time is over.
pub(crate) struct StoredKey {
    pub(crate) record: KeyRecord,
    pub(crate) key: Option<PresharedKey>,
}

/// An entry that is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

impl ClientRecord {
    pub(crate) fn write(&self) -> Result<Vec<u8>, Damaged> {
        serde_json::to_vec(self).map_err(|_| Damaged)
    }

    pub(crate) fn read(plain: &[u8]) -> Result<Self, Damaged> {
        serde_json::from_slice(plain).map_err(|_| Damaged)
    }
}

impl StoredKey {
    /// The key's length, the key, and then the rest: so no reader of JSON makes a copy of the key.
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
    fn extreme_time_does_not_panic() {
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(1)), 0);
        let _ = time(u64::MAX);
        assert_eq!(seconds(time(5)), 5);
    }
}
