//! MAF key registrations (TS-0003 clauses 8.8.2.7 to 8.8.2.10).

use rand::RngExt;
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::AbsoluteId;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp;
use serde_json::Map;

use crate::attributes::{put, put_labels, write};
use crate::clients::registered;
use crate::maf::{Caller, Done, Maf, bounded};
use crate::names;
use crate::record::{KeyRecord, Seconds, StoredKey, time};
use crate::refusal::Refusal;
use crate::store::{StoreError, Writer, open_key};
use crate::vault::{Kind, Slot, Vault};
use crate::wanted::{Change, NewKey};

/// An entry that a look-up which finds none opens in its place, so that it does the same work.
pub(crate) struct Decoy {
    slot: Slot,
    sealed: Vec<u8>,
}

impl Decoy {
    pub(crate) fn new(vault: &Vault) -> Result<Self, StoreError> {
        // No RelativeKeyID has a slash.
        let relative = "/decoy";
        let slot = vault.slot(Kind::Key, relative);
        let record = KeyRecord {
            relative: relative.into(),
            source: "//decoy.invalid/Cdecoy-of-a-usual-length".into(),
            created: 0,
            expires: Seconds::MAX,
            labels: Vec::new(),
            admin: "decoy.invalid".into(),
            suid: 32,
            targets: vec!["//decoy.invalid/decoy-of-a-usual-length".into()],
            of_session: true,
        };
        let key = PresharedKey::new(&[0; 32]).ok();
        let plain = StoredKey { record, key }.write()?;
        Ok(Self { slot, sealed: vault.seal(Kind::Key, &slot, &plain)? })
    }
}

/// A key that is in force, and until when.
struct Live {
    record: KeyRecord,
    key: PresharedKey,
    expires: Seconds,
}

/// Whose business a key is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    Source,
    Target,
}

impl As {
    fn fits(self, record: &KeyRecord, who: &AbsoluteId) -> bool {
        match self {
            Self::Source => record.source == who.as_str(),
            Self::Target => record.targets.iter().any(|target| target == who.as_str()),
        }
    }
}

impl Maf {
    pub(crate) fn register_key(
        &self,
        who: &Caller<'_>,
        new: NewKey,
        now: Seconds,
    ) -> Result<Done, Refusal> {
        let source = self.slot(&who.id);
        // Asked first, so that who is no client learns nothing else and does not wait for the disk.
        self.store.read(|snapshot| registered(snapshot.client(&source)?, now))?;
        let of_session = new.key.is_none();
        let (key, relative) = match new.key {
            Some(key) => (key, random_id()),
            None => {
                let exported = who.exported.ok_or(Refusal::NoExport)?;
                (exported.key().ok_or(Refusal::NoExport)?, exported.relative_key_id())
            }
        };
        let mut record = KeyRecord {
            relative,
            source: who.id.to_string(),
            created: now,
            expires: bounded(new.expires, now, self.settings.longest_key, now)?,
            labels: new.labels,
            admin: new.admin,
            suid: new.suid,
            targets: new.targets.iter().map(ToString::to_string).collect(),
            of_session,
        };
        let record = self.store.write(|writer| {
            let client = registered(writer.client(&source)?, now)?;
            record.expires = record.expires.min(client.expires);
            // A RelativeKeyID is used once, as long as somebody may hold the key of before.
            while let Some(old) = self.key_at(writer, &record.relative)? {
                if old.record.expires <= now {
                    let slot = writer.vault().slot(Kind::Key, &record.relative);
                    writer.remove_key(&slot, &old)?;
                    break;
                } else if of_session {
                    return Err(Refusal::SameSession);
                }
                record.relative = random_id();
            }
            let most = usize::from(self.settings.most_keys_per_client);
            if writer.owned(&source, most)?.len() >= most {
                return Err(Refusal::Full("keys of this client"));
            }
            if writer.keys()? >= self.settings.most_keys {
                return Err(Refusal::Full("keys"));
            }
            let stored = StoredKey { record, key: Some(key) };
            writer.put_key(&stored)?;
            Ok(stored.record)
        })?;
        tracing::info!(
            event = "maf.key.registered",
            client = %who.id,
            credential = %who.credential_id,
            relative_key_id = record.relative,
            suid = record.suid,
            "a MAF client registered a key"
        );
        if new.is_weak {
            tracing::warn!(
                event = "maf.weak-key",
                client = %who.id,
                credential = %who.credential_id,
                relative_key_id = record.relative,
                "a MAF client registered a key of less than 16 bytes, or with a pattern, which can be \
                 guessed; let it register the key of its TLS session"
            );
        }
        let location = Some(self.address(&record.relative));
        Ok(Done { location, ..registration(Rsc::Created, &record, record.expires) })
    }

    fn key_at(&self, writer: &Writer<'_>, relative: &str) -> Result<Option<StoredKey>, StoreError> {
        writer.key(&self.store.vault().slot(Kind::Key, relative))
    }

    pub(crate) fn retrieve_key(
        &self,
        who: &Caller<'_>,
        relative: &str,
        now: Seconds,
    ) -> Result<Done, Refusal> {
        let live = self.find(who, relative, As::Target, now)?;
        let record = &live.record;
        tracing::info!(
            event = "maf.key.retrieved",
            client = %who.id,
            credential = %who.credential_id,
            relative_key_id = record.relative,
            suid = record.suid,
            "a key was given to its target"
        );
        let mut attributes = Map::new();
        put(&mut attributes, names::EXPIRATION_TIME, timestamp::format(time(live.expires)));
        put(&mut attributes, names::SOURCE_ID, record.source.as_str());
        put(&mut attributes, names::ADMIN_FQDN, record.admin.as_str());
        put(&mut attributes, names::SUID, record.suid);
        put_labels(&mut attributes, &record.labels);
        Ok(Done::with(Rsc::Ok, write(names::KEY_REGISTRATION, attributes, Some(&live.key))))
    }

    pub(crate) fn update_key(
        &self,
        who: &Caller<'_>,
        relative: &str,
        change: Change,
        now: Seconds,
    ) -> Result<Done, Refusal> {
        // Those whose key it is not learn nothing, not even by waiting for the disk.
        self.find(who, relative, As::Source, now)?;
        let source = self.slot(&who.id);
        let record = self.store.write(|writer| {
            let client = registered(writer.client(&source)?, now)?;
            let stored = self.key_at(writer, relative)?.filter(|s| s.record.expires > now);
            let Some(mut stored) = stored.filter(|s| owns(s, who)) else {
                return Err(Refusal::NotFound);
            };
            let record = &mut stored.record;
            if let Some(asked) = change.expires {
                let longest = self.settings.longest_key;
                record.expires = bounded(asked, record.created, longest, now)?;
            }
            // It is not to come back when the registration that it was under is extended.
            record.expires = record.expires.min(client.expires);
            if let Some(labels) = change.labels {
                record.labels = labels;
            }
            writer.put_key(&stored)?;
            Ok(stored.record)
        })?;
        Ok(registration(Rsc::Updated, &record, record.expires))
    }

    pub(crate) fn deregister_key(
        &self,
        who: &Caller<'_>,
        relative: &str,
        now: Seconds,
    ) -> Result<Done, Refusal> {
        self.find(who, relative, As::Source, now)?;
        let source = self.slot(&who.id);
        self.store.write(|writer| {
            let slot = writer.vault().slot(Kind::Key, relative);
            let stored = writer.key(&slot)?.filter(|stored| owns(stored, who));
            stored.ok_or(Refusal::NotFound)?;
            Ok::<_, Refusal>(remove(writer, &source, &slot, now)?)
        })?;
        tracing::info!(
            event = "maf.key.deregistered",
            client = %who.id,
            credential = %who.credential_id,
            relative_key_id = relative,
            "a MAF client de-registered a key"
        );
        Ok(Done::deleted())
    }

    /// A key that is in force and the caller's business. Unknown, expired, removed and somebody
    /// else's come to the same refusal by the same steps: three entries are opened and two times
    /// compared, whatever was found.
    fn find(
        &self,
        who: &Caller<'_>,
        relative: &str,
        role: As,
        now: Seconds,
    ) -> Result<Live, Refusal> {
        let vault = self.store.vault();
        let own = self.slot(&who.id);
        let slot = vault.slot(Kind::Key, relative);
        self.store.read(|snapshot| {
            registered(snapshot.client(&own)?, now)?;
            let sealed = snapshot.sealed_key(&slot)?;
            let stored = match &sealed {
                Some(sealed) => open_key(vault, &slot, sealed)?,
                None => open_key(vault, &self.decoy.slot, &self.decoy.sealed)?,
            };
            let source = vault.slot(Kind::Client, &stored.record.source);
            // A decoy has no source: another registration is read for it, which there is.
            let source = snapshot.client(if sealed.is_some() { &source } else { &own })?;
            let end = source.map_or(0, |source| source.expires).min(stored.record.expires);
            let fits = role.fits(&stored.record, &who.id);
            match stored.key {
                Some(key) if fits && end > now && sealed.is_some() => {
                    Ok(Live { record: stored.record, key, expires: end })
                }
                _ => Err(Refusal::NotFound),
            }
        })
    }
}

/// Whether a key is there and has that source.
fn owns(stored: &StoredKey, who: &Caller<'_>) -> bool {
    stored.key.is_some() && As::Source.fits(&stored.record, &who.id)
}

/// Removes a key of a source. The RelativeKeyID of a session's key stays taken until the key's time
/// is over: the session could give the same key again, for another target, while the first one still
/// holds it. It counts as a key until then. Whether an entry is damaged makes no difference here.
pub(crate) fn remove(
    writer: &mut Writer<'_>,
    source: &Slot,
    slot: &Slot,
    now: Seconds,
) -> Result<(), StoreError> {
    match writer.key(slot) {
        Ok(Some(stored)) if stored.record.of_session && stored.record.expires > now => {
            writer.put_key(&StoredKey { record: stored.record, key: None })
        }
        Ok(Some(stored)) => writer.remove_key(slot, &stored),
        Ok(None) | Err(StoreError::Damaged) => writer.take_off(source, slot),
        Err(other) => Err(other),
    }
}

/// A RelativeKeyID that nobody has had: 16 random octets, written as those of sessions are.
fn random_id() -> String {
    hex::encode_upper(rand::rng().random::<[u8; 16]>())
}

/// What the source is told. Never the key.
fn registration(rsc: Rsc, record: &KeyRecord, expires: Seconds) -> Done {
    let mut attributes = Map::new();
    put(&mut attributes, names::RELATIVE_KEY_ID, record.relative.as_str());
    put(&mut attributes, names::EXPIRATION_TIME, timestamp::format(time(expires)));
    put(&mut attributes, names::SOURCE_ID, record.source.as_str());
    put(&mut attributes, names::ADMIN_FQDN, record.admin.as_str());
    put(&mut attributes, names::SUID, record.suid);
    put_labels(&mut attributes, &record.labels);
    if !record.targets.is_empty() {
        put(&mut attributes, names::TARGET_IDS, record.targets.as_slice());
    }
    Done::with(rsc, write(names::KEY_REGISTRATION, attributes, None))
}
