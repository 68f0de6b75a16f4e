//! MAF client registrations (TS-0003 clauses 8.8.2.3 to 8.8.2.6).

use rand::RngExt;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp;
use serde_json::Map;

use crate::attributes::{put, put_labels, write};
use crate::maf::{Caller, Done, Maf, bounded};
use crate::names;
use crate::record::{ClientRecord, Seconds, time};
use crate::refusal::Refusal;
use crate::store::{StoreError, Writer};
use crate::vault::Slot;
use crate::wanted::{Change, NewClient};

impl Maf {
    pub(crate) fn register_client(
        &self,
        who: &Caller<'_>,
        new: NewClient,
        now: Seconds,
    ) -> Result<Done, Refusal> {
        let slot = self.slot(&who.id);
        let expires = bounded(new.expires, now, self.settings.longest_registration, now)?;
        let id: [u8; 16] = rand::rng().random();
        let record = ClientRecord {
            id: who.id.to_string(),
            registration: format!("{}{}", names::CLIENT_REGISTRATION_PREFIX, hex::encode(id)),
            credential: who.credential_id.to_string(),
            expires,
            labels: new.labels,
            admin: new.admin,
        };
        self.store.write(|writer| {
            match writer.client(&slot)? {
                Some(old) if old.expires > now => return Err(Refusal::AlreadyRegistered),
                // What has expired takes its keys with it, or they would come to life again.
                Some(old) => remove(writer, &slot, &old, now)?,
                None => {}
            }
            if writer.clients()? >= self.settings.most_clients {
                return Err(Refusal::Full("client registrations"));
            }
            Ok(writer.put_client(&record)?)
        })?;
        tracing::info!(
            event = "maf.client.registered",
            client = %who.id,
            credential = %who.credential_id,
            "a MAF client registered"
        );
        let location = Some(self.address(&record.registration));
        Ok(Done { location, ..representation(Rsc::Created, &record) })
    }

    pub(crate) fn retrieve_client(
        &self,
        who: &Caller<'_>,
        id: &str,
        now: Seconds,
    ) -> Result<Done, Refusal> {
        let slot = self.slot(&who.id);
        let record = self.store.read(|snapshot| own(snapshot.client(&slot)?, id, now))?;
        Ok(representation(Rsc::Ok, &record))
    }

    pub(crate) fn update_client(
        &self,
        who: &Caller<'_>,
        id: &str,
        change: Change,
        now: Seconds,
    ) -> Result<Done, Refusal> {
        let slot = self.slot(&who.id);
        let longest = self.settings.longest_registration;
        let record = self.store.write(|writer| {
            let mut record = own(writer.client(&slot)?, id, now)?;
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

    pub(crate) fn deregister_client(
        &self,
        who: &Caller<'_>,
        id: &str,
        now: Seconds,
    ) -> Result<Done, Refusal> {
        let slot = self.slot(&who.id);
        self.store.write(|writer| {
            let record = own(writer.client(&slot)?, id, now)?;
            Ok::<_, Refusal>(remove(writer, &slot, &record, now)?)
        })?;
        tracing::info!(
            event = "maf.client.deregistered",
            client = %who.id,
            credential = %who.credential_id,
            "a MAF client de-registered"
        );
        Ok(Done::deleted())
    }
}

/// A registration that is in force.
pub(crate) fn registered(
    record: Option<ClientRecord>,
    now: Seconds,
) -> Result<ClientRecord, Refusal> {
    record.filter(|record| record.expires > now).ok_or(Refusal::NotRegistered)
}

/// The caller's registration, if that is what is asked for. Another's looks as if there were none.
fn own(record: Option<ClientRecord>, id: &str, now: Seconds) -> Result<ClientRecord, Refusal> {
    let record = registered(record, now)?;
    if id == names::OWN_REGISTRATION || id == record.registration {
        Ok(record)
    } else {
        Err(Refusal::NotFound)
    }
}

/// Removes a registration with its keys. One whose entry is damaged is taken off all the same.
pub(crate) fn remove(
    writer: &mut Writer<'_>,
    slot: &Slot,
    record: &ClientRecord,
    now: Seconds,
) -> Result<(), StoreError> {
    for key in writer.owned(slot, usize::MAX)? {
        crate::keys::remove(writer, slot, &key, now)?;
    }
    writer.remove_client(slot, record)
}

fn representation(rsc: Rsc, record: &ClientRecord) -> Done {
    let mut attributes = Map::new();
    put(&mut attributes, names::CLIENT_REGISTRATION_ID, record.registration.as_str());
    put(&mut attributes, names::CLIENT_ID, record.id.as_str());
    put(&mut attributes, names::EXPIRATION_TIME, timestamp::format(time(record.expires)));
    put(&mut attributes, names::ADMIN_FQDN, record.admin.as_str());
    put_labels(&mut attributes, &record.labels);
    Done::with(rsc, write(names::CLIENT_REGISTRATION, attributes, None))
}
