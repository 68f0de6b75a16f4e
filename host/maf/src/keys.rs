//! MAF key registrations (TS-0003 clauses 8.8.2.7 to 8.8.2.10).

use rand::RngExt;
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::AbsoluteId;
use saegis_onem2m::rsc::Rsc;
use serde_json::Map;

use crate::attributes::{put, put_labels, put_targets, put_time, write};
use crate::clients::registered;
use crate::context::{Caller, Outcome, bounded};
use crate::error::Refusal;
use crate::kind::Kind;
use crate::names;
use crate::record::{ClientRecord, KeyRecord, Registration, Seconds, StoredKey, time};
use crate::removal;
use crate::request::{Change, KeyOrigin, KeyRegistration, NewKey, has_single_target};
use crate::settings::Settings;
use crate::state::State;
use crate::store::{StoreError, Writer, open_key};
use saegis_vault::EntryId;

/// A key in force, with its record and its end.
struct ActiveKey {
    record: KeyRecord,
    key: PresharedKey,
    expires: Seconds,
}

/// The role of a client for a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Source,
    Target,
}

impl Role {
    fn matches(self, record: &KeyRecord, who: &AbsoluteId) -> bool {
        match self {
            Self::Source => record.source == who.as_str(),
            Self::Target => record.targets.iter().any(|target| target == who.as_str()),
        }
    }
}

pub(crate) fn register(
    state: &State,
    who: &Caller<'_>,
    new: NewKey,
    allowed: Option<&KeyRegistration>,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    if allowed != Some(&new.registration()) {
        return Err(Refusal::NotDecided);
    }
    let source = state.entry_id(&who.id);
    // Checked first, so that a caller that is not a client learns nothing else and does not wait
    // for the disk.
    state.store.read(|snapshot| {
        let client = registered(snapshot.client(&source)?, now)?;
        registered_for(&client, &new.admin, now).map(|_| ())
    })?;
    let of_session = new.key.is_none();
    let (key, relative) = match new.key {
        Some(key) => (key, random_id()),
        None => {
            let exported = who.exported.ok_or(Refusal::NoExport)?;
            (exported.key().ok_or(Refusal::NoExport)?, exported.relative_key_id())
        }
    };
    let record = KeyRecord {
        relative,
        source: who.id.to_string(),
        created: now,
        expires: bounded(new.expires, now, state.settings.max_key_lifetime, now)?,
        labels: new.labels,
        admin: new.admin,
        suid: new.suid,
        targets: new.targets.iter().map(ToString::to_string).collect(),
        of_session,
    };
    let record =
        state.store.write(|writer| insert(writer, &state.settings, &source, record, key, now))?;
    tracing::info!(
        event = "maf.key.registered",
        client = %who.id,
        credential = %who.credential_id,
        relative_key_id = record.relative,
        suid = record.suid,
        "MAF client registered a key"
    );
    if new.is_weak {
        tracing::warn!(
            event = "maf.weak-key",
            client = %who.id,
            credential = %who.credential_id,
            relative_key_id = record.relative,
            "MAF client registered a key of less than 16 bytes, or with a pattern, which can be \
             guessed; let it register the key of its TLS session"
        );
    }
    let location = Some(state.address(&record.relative));
    Ok(Outcome { location, ..registration(&record) })
}

/// Returns the registration of a client that a key needs: the one for the same administrating
/// stakeholder.
fn registered_for<'c>(
    client: &'c ClientRecord,
    admin: &str,
    now: Seconds,
) -> Result<&'c Registration, Refusal> {
    client.for_admin(admin, now).ok_or(Refusal::NotRegisteredFor)
}

/// Stores a new key, if its source may have another one.
fn insert(
    writer: &mut Writer<'_>,
    settings: &Settings,
    source: &EntryId,
    mut record: KeyRecord,
    key: PresharedKey,
    now: Seconds,
) -> Result<KeyRecord, Refusal> {
    let client = registered(writer.client(source)?, now)?;
    record.expires = record.expires.min(registered_for(&client, &record.admin, now)?.expires);
    // A RelativeKeyID is not reused as long as a client may hold the former key.
    while let Some(old) = key_at(writer, &record.relative)? {
        if old.record.expires <= now {
            let entry_id = writer.vault().entry_id(Kind::Key, &record.relative);
            writer.remove_key(&entry_id, &old)?;
            break;
        } else if record.of_session {
            return Err(Refusal::SameSession);
        }
        record.relative = random_id();
    }
    let limit = usize::from(settings.max_keys_per_client);
    if writer.owned(source, limit)?.len() >= limit {
        return Err(Refusal::Full("keys of this client"));
    }
    if writer.keys()? >= settings.max_keys {
        return Err(Refusal::Full("keys"));
    }
    let stored = StoredKey { record, key: Some(key) };
    writer.put_key(&stored)?;
    Ok(stored.record)
}

fn key_at(writer: &Writer<'_>, relative: &str) -> Result<Option<StoredKey>, StoreError> {
    writer.key(&writer.vault().entry_id(Kind::Key, relative))
}

pub(crate) fn retrieve(
    state: &State,
    who: &Caller<'_>,
    relative: &str,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    let active = find(state, &who.id, relative, Role::Target, now)?;
    let record = &active.record;
    tracing::info!(
        event = "maf.key.retrieved",
        client = %who.id,
        credential = %who.credential_id,
        relative_key_id = record.relative,
        suid = record.suid,
        "MAF client retrieved a key"
    );
    let mut attributes = Map::new();
    put_time(&mut attributes, active.expires);
    put(&mut attributes, names::SOURCE_ID, record.source.as_str());
    put(&mut attributes, names::ADMIN_FQDN, record.admin.as_str());
    put(&mut attributes, names::SUID, record.suid);
    put_labels(&mut attributes, &record.labels);
    Ok(Outcome::with(Rsc::Ok, write(names::KEY_REGISTRATION, attributes, Some(&active.key))))
}

pub(crate) fn update(
    state: &State,
    who: &Caller<'_>,
    relative: &str,
    change: Change,
    allowed: Option<&KeyRegistration>,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    // A client other than the source learns nothing, not even from the time of a disk access.
    find(state, &who.id, relative, Role::Source, now)?;
    let source = state.entry_id(&who.id);
    let mut answer = Map::new();
    state.store.write(|writer| {
        let client = registered(writer.client(&source)?, now)?;
        let stored = key_at(writer, relative)?.filter(|s| s.record.expires > now);
        let Some(mut stored) = stored.filter(|s| owns(s, who)) else {
            return Err(Refusal::NotFound);
        };
        // Policy may have been asked before the key was registered, or before another update.
        if with_change(&stored.record, &change).as_ref() != allowed {
            return Err(Refusal::NotDecided);
        }
        let record = &mut stored.record;
        let end = registered_for(&client, &record.admin, now)?.expires;
        if let Some(asked) = change.expires {
            let longest = state.settings.max_key_lifetime;
            record.expires = bounded(asked, record.created, longest, now)?;
        }
        // The key must not become valid again when the registration of its source is extended.
        record.expires = record.expires.min(end);
        if change.expires.is_some() {
            put_time(&mut answer, record.expires);
        }
        if let Some(labels) = change.labels {
            put(&mut answer, names::LABELS, labels.as_slice());
            record.labels = labels;
        }
        if let Some(targets) = change.targets {
            // A former target has the key, and could act as the source towards the new one.
            if has_single_target(record.suid) {
                return Err(Refusal::FixedTarget(record.suid));
            }
            record.targets = targets.iter().map(ToString::to_string).collect();
            put_targets(&mut answer, &record.targets);
        }
        Ok(writer.put_key(&stored)?)
    })?;
    Ok(Outcome::with(Rsc::Updated, write(names::KEY_REGISTRATION, answer, None)))
}

/// Returns the key registration that an update of the targets results in; `None` if the caller has
/// no such key, or the store failed, which the update itself reports.
pub(crate) fn with_targets(
    state: &State,
    who: &AbsoluteId,
    relative: &str,
    change: &Change,
    now: Seconds,
) -> Option<KeyRegistration> {
    change.targets.as_ref()?;
    with_change(&find(state, who, relative, Role::Source, now).ok()?.record, change)
}

/// Returns the key registration that an update of the targets results in; `None` if it leaves them.
fn with_change(record: &KeyRecord, change: &Change) -> Option<KeyRegistration> {
    Some(KeyRegistration {
        suid: record.suid,
        targets: change.targets.clone()?,
        expires: time(change.expires.unwrap_or(record.expires)),
        labels: change.labels.clone().unwrap_or_else(|| record.labels.clone()),
        admin_fqdn: record.admin.clone(),
        origin: KeyOrigin::Stored,
    })
}

pub(crate) fn deregister(
    state: &State,
    who: &Caller<'_>,
    relative: &str,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    find(state, &who.id, relative, Role::Source, now)?;
    let source = state.entry_id(&who.id);
    state.store.write(|writer| {
        let entry_id = writer.vault().entry_id(Kind::Key, relative);
        let stored = writer.key(&entry_id)?.filter(|stored| owns(stored, who));
        stored.ok_or(Refusal::NotFound)?;
        Ok::<_, Refusal>(removal::remove_key(writer, &source, &entry_id, now)?)
    })?;
    tracing::info!(
        event = "maf.key.deregistered",
        client = %who.id,
        credential = %who.credential_id,
        relative_key_id = relative,
        "MAF client de-registered a key"
    );
    Ok(Outcome::deleted())
}

/// Returns a key that is in force, if the caller has this role for it.
///
/// Unknown, expired, removed and other clients' keys are refused alike and by the same steps: three
/// entries are decrypted, and two times compared.
fn find(
    state: &State,
    who: &AbsoluteId,
    relative: &str,
    role: Role,
    now: Seconds,
) -> Result<ActiveKey, Refusal> {
    let vault = state.store.vault();
    let own = state.entry_id(who);
    let entry_id = vault.entry_id(Kind::Key, relative);
    state.store.read(|snapshot| {
        registered(snapshot.client(&own)?, now)?;
        let sealed = snapshot.sealed_key(&entry_id)?;
        let stored = match &sealed {
            Some(sealed) => open_key(vault, &entry_id, sealed)?,
            None => open_key(vault, &state.decoy.entry_id, &state.decoy.sealed)?,
        };
        let source = vault.entry_id(Kind::Client, &stored.record.source);
        // The decoy has no source. The caller's registration, which exists, is read instead.
        let source = snapshot.client(if sealed.is_some() { &source } else { &own })?;
        let registration = source.as_ref().and_then(|s| s.for_admin(&stored.record.admin, now));
        let end = registration.map_or(0, |r| r.expires).min(stored.record.expires);
        let is_allowed = role.matches(&stored.record, who);
        match stored.key {
            Some(key) if is_allowed && end > now && sealed.is_some() => {
                Ok(ActiveKey { record: stored.record, key, expires: end })
            }
            _ => Err(Refusal::NotFound),
        }
    })
}

/// Returns whether a key exists and the caller is its source.
fn owns(stored: &StoredKey, who: &Caller<'_>) -> bool {
    stored.key.is_some() && Role::Source.matches(&stored.record, &who.id)
}

/// Returns a new RelativeKeyID: 16 random octets, in the format of session keys.
fn random_id() -> String {
    hex::encode_upper(rand::rng().random::<[u8; 16]>())
}

/// Returns the representation for the source, without the key.
fn registration(record: &KeyRecord) -> Outcome {
    let mut attributes = Map::new();
    put(&mut attributes, names::RESOURCE_ID, record.relative.as_str());
    put_time(&mut attributes, record.expires);
    put(&mut attributes, names::SOURCE_ID, record.source.as_str());
    put(&mut attributes, names::ADMIN_FQDN, record.admin.as_str());
    put(&mut attributes, names::SUID, record.suid);
    put_labels(&mut attributes, &record.labels);
    put_targets(&mut attributes, &record.targets);
    Outcome::with(Rsc::Created, write(names::KEY_REGISTRATION, attributes, None))
}
