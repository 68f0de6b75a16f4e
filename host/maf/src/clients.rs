//! MAF client registrations (TS-0003 clauses 8.8.2.3 to 8.8.2.6).

use rand::RngExt;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp;
use serde_json::Map;

use crate::attributes::{put, put_labels, write};
use crate::context::{Caller, Outcome, bounded};
use crate::error::Refusal;
use crate::names;
use crate::record::{ClientRecord, Seconds, time};
use crate::removal;
use crate::request::{Change, NewClient};
use crate::state::State;

pub(crate) fn register(
    state: &State,
    who: &Caller<'_>,
    new: NewClient,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    let entry_id = state.entry_id(&who.id);
    let expires = bounded(new.expires, now, state.settings.max_registration_lifetime, now)?;
    let id: [u8; 16] = rand::rng().random();
    let record = ClientRecord {
        id: who.id.to_string(),
        registration: format!("{}{}", names::CLIENT_REGISTRATION_PREFIX, hex::encode(id)),
        credential: who.credential_id.to_string(),
        expires,
        labels: new.labels,
        admin: new.admin,
    };
    state.store.write(|writer| {
        match writer.client(&entry_id)? {
            Some(old) if old.expires > now => return Err(Refusal::AlreadyRegistered),
            // The keys of an expired registration must not become valid again.
            Some(old) => removal::remove_client(writer, &entry_id, &old, now)?,
            None => {}
        }
        if writer.clients()? >= state.settings.max_clients {
            return Err(Refusal::Full("client registrations"));
        }
        Ok(writer.put_client(&record)?)
    })?;
    tracing::info!(
        event = "maf.client.registered",
        client = %who.id,
        credential = %who.credential_id,
        "MAF client registered"
    );
    let location = Some(state.address(&record.registration));
    Ok(Outcome { location, ..representation(Rsc::Created, &record) })
}

pub(crate) fn retrieve(
    state: &State,
    who: &Caller<'_>,
    id: &str,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    let entry_id = state.entry_id(&who.id);
    let record = state.store.read(|snapshot| own(snapshot.client(&entry_id)?, id, now))?;
    Ok(representation(Rsc::Ok, &record))
}

pub(crate) fn update(
    state: &State,
    who: &Caller<'_>,
    id: &str,
    change: Change,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    let entry_id = state.entry_id(&who.id);
    let longest = state.settings.max_registration_lifetime;
    let record = state.store.write(|writer| {
        let mut record = own(writer.client(&entry_id)?, id, now)?;
        if let Some(asked) = change.expires {
            record.expires = bounded(asked, now, longest, now)?;
        }
        if let Some(labels) = change.labels {
            record.labels = labels;
        }
        writer.put_client(&record)?;
        Ok::<_, Refusal>(record)
    })?;
    Ok(representation(Rsc::Updated, &record))
}

pub(crate) fn deregister(
    state: &State,
    who: &Caller<'_>,
    id: &str,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    let entry_id = state.entry_id(&who.id);
    state.store.write(|writer| {
        let record = own(writer.client(&entry_id)?, id, now)?;
        Ok::<_, Refusal>(removal::remove_client(writer, &entry_id, &record, now)?)
    })?;
    tracing::info!(
        event = "maf.client.deregistered",
        client = %who.id,
        credential = %who.credential_id,
        "MAF client de-registered"
    );
    Ok(Outcome::deleted())
}

/// Returns a registration that is in force.
pub(crate) fn registered(
    record: Option<ClientRecord>,
    now: Seconds,
) -> Result<ClientRecord, Refusal> {
    record.filter(|record| record.expires > now).ok_or(Refusal::NotRegistered)
}

/// Returns the caller's registration, if `id` is its identifier. The registration of another client
/// looks as if it did not exist.
fn own(record: Option<ClientRecord>, id: &str, now: Seconds) -> Result<ClientRecord, Refusal> {
    let record = registered(record, now)?;
    if id == names::OWN_REGISTRATION || id == record.registration {
        Ok(record)
    } else {
        Err(Refusal::NotFound)
    }
}

fn representation(rsc: Rsc, record: &ClientRecord) -> Outcome {
    let mut attributes = Map::new();
    put(&mut attributes, names::CLIENT_REGISTRATION_ID, record.registration.as_str());
    put(&mut attributes, names::CLIENT_ID, record.id.as_str());
    put(&mut attributes, names::EXPIRATION_TIME, timestamp::format(time(record.expires)));
    put(&mut attributes, names::ADMIN_FQDN, record.admin.as_str());
    put_labels(&mut attributes, &record.labels);
    Outcome::with(rsc, write(names::CLIENT_REGISTRATION, attributes, None))
}
