//! MAF client registrations (TS-0003 clauses 8.8.2.3 to 8.8.2.6).

use rand::RngExt;
use saegis_onem2m::rsc::Rsc;
use serde_json::Map;

use crate::attributes::{put, put_labels, put_time, write};
use crate::context::{Caller, Outcome, bounded};
use crate::error::Refusal;
use crate::names;
use crate::record::{ClientRecord, Registration, Seconds};
use crate::removal;
use crate::request::{Change, NewClient};
use crate::state::State;

/// Maximum number of registrations of a client, each for another administrating stakeholder. Keys of
/// all of them count towards the keys of the client.
pub(crate) const MAX_REGISTRATIONS: usize = 8;

pub(crate) fn register(
    state: &State,
    who: &Caller<'_>,
    new: NewClient,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    let entry_id = state.entry_id(&who.id);
    let expires = bounded(new.expires, now, state.settings.max_registration_lifetime, now)?;
    let id: [u8; 16] = rand::rng().random();
    let registration = Registration {
        id: format!("{}{}", names::CLIENT_REGISTRATION_PREFIX, hex::encode(id)),
        credential: who.credential_id.to_string(),
        expires,
        labels: new.labels,
        admin: new.admin,
    };
    state.store.write(|writer| {
        let found = match writer.client(&entry_id)? {
            // The keys of an expired registration must not become valid again.
            Some(record) => removal::remove_expired(writer, &entry_id, record, now)?,
            None => None,
        };
        let mut record = match found {
            Some(record) => record,
            None if writer.clients()? >= state.settings.max_clients => {
                return Err(Refusal::Full("clients"));
            }
            None => ClientRecord { id: who.id.to_string(), registrations: Vec::new() },
        };
        if record.for_admin(&registration.admin, now).is_some() {
            return Err(Refusal::AlreadyRegistered);
        }
        if record.registrations.len() >= MAX_REGISTRATIONS {
            return Err(Refusal::Full("registrations of this client"));
        }
        record.registrations.push(registration.clone());
        Ok(writer.put_client(&record)?)
    })?;
    tracing::info!(
        event = "maf.client.registered",
        client = %who.id,
        credential = %who.credential_id,
        admin_fqdn = registration.admin,
        "MAF client registered"
    );
    let location = Some(state.address(&registration.id));
    Ok(Outcome { location, ..representation(Rsc::Created, who, &registration) })
}

pub(crate) fn retrieve(
    state: &State,
    who: &Caller<'_>,
    id: &str,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    let entry_id = state.entry_id(&who.id);
    state.store.read(|snapshot| {
        let mut record = registered(snapshot.client(&entry_id)?, now)?;
        Ok(representation(Rsc::Ok, who, own(&mut record, id, now)?))
    })
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
    let mut answer = Map::new();
    state.store.write(|writer| {
        let mut record = registered(writer.client(&entry_id)?, now)?;
        let registration = own(&mut record, id, now)?;
        if let Some(asked) = change.expires {
            registration.expires = bounded(asked, now, longest, now)?;
            put_time(&mut answer, registration.expires);
        }
        if let Some(labels) = change.labels {
            put(&mut answer, names::LABELS, labels.as_slice());
            registration.labels = labels;
        }
        Ok::<_, Refusal>(writer.put_client(&record)?)
    })?;
    Ok(Outcome::with(Rsc::Updated, write(names::CLIENT_REGISTRATION, answer, None)))
}

pub(crate) fn deregister(
    state: &State,
    who: &Caller<'_>,
    id: &str,
    now: Seconds,
) -> Result<Outcome, Refusal> {
    let entry_id = state.entry_id(&who.id);
    let admin = state.store.write(|writer| {
        let mut record = registered(writer.client(&entry_id)?, now)?;
        let admin = own(&mut record, id, now)?.admin.clone();
        removal::remove_registration(writer, &entry_id, record, &admin, now)?;
        Ok::<_, Refusal>(admin)
    })?;
    tracing::info!(
        event = "maf.client.deregistered",
        client = %who.id,
        credential = %who.credential_id,
        admin_fqdn = admin,
        "MAF client de-registered"
    );
    Ok(Outcome::deleted())
}

/// Returns a client that has a registration in force.
pub(crate) fn registered(
    record: Option<ClientRecord>,
    now: Seconds,
) -> Result<ClientRecord, Refusal> {
    record.filter(|record| record.is_registered(now)).ok_or(Refusal::NotRegistered)
}

/// Returns the caller's registration with this mafClientRegID. An expired registration, and that of
/// another client, look as if they did not exist.
fn own<'r>(
    record: &'r mut ClientRecord,
    id: &str,
    now: Seconds,
) -> Result<&'r mut Registration, Refusal> {
    let found = record.registrations.iter_mut().find(|r| r.id == id && r.expires > now);
    found.ok_or(Refusal::NotFound)
}

fn representation(rsc: Rsc, who: &Caller<'_>, registration: &Registration) -> Outcome {
    let mut attributes = Map::new();
    put(&mut attributes, names::RESOURCE_ID, registration.id.as_str());
    put(&mut attributes, names::CLIENT_ID, who.id.as_str());
    put_time(&mut attributes, registration.expires);
    put(&mut attributes, names::ADMIN_FQDN, registration.admin.as_str());
    put_labels(&mut attributes, &registration.labels);
    Outcome::with(rsc, write(names::CLIENT_REGISTRATION, attributes, None))
}
