//! Delete (TS-0004 clause 7.3.3), and the removal of expired resources.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;

use crate::access::decision::require;
use crate::access::grants::Access;
use crate::budget::StopReason;
use crate::error::Refusal;
use crate::notification::events;
use crate::notification::outbox::Outbox;
use crate::notification::sending::Sending;
use crate::notification::waiting;
use crate::operation::discovery::{self, Listing};
use crate::operation::location;
use crate::operation::request_status;
use crate::record::{Record, Seconds};
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{self, Resolved, ResolvedResource};
use crate::resource::content_instance::{self, RemovalReason};
use crate::resource::representation::{self, in_root_element};
use crate::store::{Read, Store, StoreError, Writer};

/// Maximum number of resources that one call of [`EmbeddedCse::sweep`](crate::EmbeddedCse::sweep)
/// removes, and one commit of a large deletion. Other requests write in between.
pub const SWEEP_BATCH: usize = 256;

/// A subtree to delete, in its state before the deletion.
pub(crate) struct Deletion {
    top: ResolvedResource,
    listing: Option<Listing>,
}

/// Prepares the deletion of a resource other than an instance. Its subtree may be large, so it is
/// listed outside of a write transaction.
///
/// # Errors
/// Returns the reason why it is not deleted.
pub(crate) fn prepare(read: &dyn Read, context: &Context<'_>) -> Result<Option<Deletion>, Refusal> {
    let who = context.originator(read)?;
    let top = match context.target(read)? {
        Resolved::Resource(found) if !found.record.ty.is_instance() => found,
        Resolved::Resource(_) | Resolved::Instance { .. } => return Ok(None),
    };
    require(&who, Access::Delete, &top.record)?;
    if top.record.ty == ResourceType::CseBase {
        return Err(Refusal::NotAllowed("a CSEBase cannot be deleted"));
    }
    // The response has the state before the deletion.
    let listing = discovery::list(read, context, who, &top)?;
    Ok(Some(Deletion { top, listing }))
}

impl Deletion {
    /// Returns the resource-ID of the resource to delete.
    pub(crate) fn ri(&self) -> &str {
        &self.top.record.ri
    }

    /// Puts the notifications of the whole subtree's deletion into the outbox, with at limit half of
    /// the request's remaining steps. Further notifications are dropped.
    ///
    /// # Errors
    /// Returns an error if the store fails, or the request must stop.
    pub(crate) fn announce(
        &self,
        store: &Store,
        context: &Context<'_>,
        outbox: &Outbox,
    ) -> Result<(), Refusal> {
        let budget = context.budget.with_steps(context.budget.left() / 2);
        let snapshot = store.snapshot(&budget)?;
        let sending = Sending { settings: context.settings, now: context.now, outbox };
        match events::ended(snapshot.read(), &sending, &self.top) {
            Err(StoreError::Stopped(StopReason::Steps)) => outbox.count_dropped(),
            done => done?,
        }
        Ok(())
    }
}

/// Deletes a resource and everything below it. An AE deregisters by deleting its `<AE>`. Of a large
/// subtree, a first part is removed, and the rest detached.
///
/// # Errors
/// Returns the reason why it is not deleted.
pub(crate) fn delete(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    outbox: &Outbox,
    deletion: Option<Deletion>,
) -> Result<ResponsePrimitive, Refusal> {
    let who = context.originator(writer.read())?;
    let mut found = match context.target(writer.read())? {
        Resolved::Resource(found) => {
            require(&who, Access::Delete, &found.record)?;
            found
        }
        Resolved::Instance { container, edge } => {
            require(&who, Access::Delete, &container.record)?;
            address::instance(writer.read(), &container, edge, context.now)?
        }
    };
    content_instance::check_open(writer.read(), &found.record)?;
    request_status::check_deletion(&found.record, context.now)?;
    content_instance::without_expired(writer.read(), &mut found.record, context.now)?;
    let record = &found.record;
    let of_instance = match record.ty.is_instance() {
        true => discovery::list(writer.read(), context, who, &found)?,
        false => None,
    };
    let sending = Sending { settings: context.settings, now: context.now, outbox };
    events::deleted(writer, &sending, &found)?;
    let listing = match (record.ty.is_instance(), deletion) {
        (true, _) => {
            content_instance::remove(writer, record, RemovalReason::Deleted(context.now))?;
            of_instance
        }
        (_, Some(Deletion { top, listing })) if top.record.ri == record.ri => {
            let locations = match record.ty {
                ResourceType::LocationPolicy => location::container_of(writer.read(), record)?,
                _ => None,
            };
            discard(writer, &record.ri)?;
            if let Some(container) = locations {
                discard(writer, &container)?;
            }
            if record.ty == ResourceType::Schedule {
                waiting::schedule_changed(writer, &sending, record)?;
            }
            listing
        }
        // The prepared resource was removed in the meantime, and another one has its name.
        _ => return Err(Refusal::NotFound),
    };
    if let Some(listing) = listing {
        return Ok(listing.answer(context, Rsc::Deleted));
    }
    let content = match context.options.content {
        ResultContent::Attributes => Some(in_root_element(
            record,
            representation::of_resource(context.settings, record, found.expires),
        )),
        _ => None,
    };
    Ok(context.answer(Rsc::Deleted, content))
}

/// Removes a resource and everything below it. Of a large subtree, a first part is removed, and the
/// rest detached.
fn discard(writer: &mut Writer<'_>, ri: &str) -> Result<(), StoreError> {
    if writer.remove_tree(ri, SWEEP_BATCH)? < SWEEP_BATCH || writer.read().get(ri)?.is_none() {
        return Ok(());
    }
    writer.detach(ri)
}

/// Removes an expired resource and everything below it.
pub(crate) fn expired(writer: &mut Writer<'_>, record: &Record) -> Result<(), StoreError> {
    match record.ty.is_instance() {
        true => content_instance::remove(writer, record, RemovalReason::Expired),
        false => discard(writer, &record.ri),
    }
}

/// Removes the remains of a resource whose resource-ID is needed again.
///
/// # Errors
/// Returns [`Refusal::Remains`] if they are too large for one transaction.
pub(crate) fn remove_remains(writer: &mut Writer<'_>, ri: &str) -> Result<(), Refusal> {
    if writer.remove_tree(ri, SWEEP_BATCH)? < SWEEP_BATCH || writer.read().get(ri)?.is_none() {
        return Ok(());
    }
    Err(Refusal::Remains(ri.into()))
}

/// Removes up to `limit` expired resources. Returns their number; a smaller number means that none
/// is left. The resources below them are detached.
pub(crate) fn sweep(
    writer: &mut Writer<'_>,
    now: Seconds,
    limit: usize,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    // Each container is stored once.
    let mut containers: HashMap<String, Record> = HashMap::new();
    while removed < limit {
        let Some(ri) = writer.first_expired(now)? else { break };
        let record = writer.read().get(&ri)?.ok_or_else(|| StoreError::Corrupt(ri.clone()))?;
        if record.ty.is_instance() {
            let parent = record.parent.clone().ok_or_else(|| StoreError::Corrupt(ri.clone()))?;
            writer.remove_tree(&ri, 1)?;
            let container = match containers.entry(parent) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let found = writer.read().get(new.key())?;
                    let found = found.ok_or_else(|| StoreError::Corrupt(new.key().clone()))?;
                    new.insert(found)
                }
            };
            container.instances.get_or_insert_default().subtract(&record);
        } else {
            // The detachment stores the container.
            if let Some(container) = containers.remove(&ri) {
                writer.put(&container)?;
            }
            writer.detach(&ri)?;
        }
        removed += 1;
    }
    for container in containers.values() {
        writer.put(container)?;
    }
    Ok(removed)
}
