//! Delete (TS-0004 clause 7.3.3), and what goes by itself when its time is up.

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;

use crate::access::{Access, demand};
use crate::address::{self, Place};
use crate::context::Context;
use crate::discovery;
use crate::events;
use crate::instances::{self, Loss};
use crate::options::ResultContent;
use crate::record::{Record, Seconds};
use crate::refusal::Refusal;
use crate::representation::{attributes, rooted};
use crate::store::{StoreError, Writer};

/// Deletes a resource and all that is below it. To delete its `<AE>` is how an AE deregisters.
///
/// # Errors
/// Why it stays.
pub(crate) fn delete(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
) -> Result<ResponsePrimitive, Refusal> {
    let who = context.originator(writer.read())?;
    let found = match context.target(writer.read())? {
        Place::Resource(found) => {
            demand(&who, Access::Delete, &found.record)?;
            found
        }
        Place::Instance { container, edge } => {
            demand(&who, Access::Delete, &container.record)?;
            address::instance(writer.read(), &container, edge, context.now)?
        }
    };
    let record = &found.record;
    // As it is before it goes.
    let listing = discovery::list(writer.read(), context, who, &found)?;
    if record.ty != ResourceType::CseBase {
        events::deleted(writer, context, &found)?;
    }
    match record.ty {
        ResourceType::CseBase => return Err(Refusal::NotAllowed("a CSEBase can't be deleted")),
        ResourceType::ContentInstance => {
            instances::remove(writer, record, Loss::Deleted(context.now))?;
        }
        _ => {
            writer.remove_tree(&record.ri, usize::MAX)?;
        }
    }
    if let Some(listing) = listing {
        return Ok(listing.answer(context, Rsc::Deleted));
    }
    let content = match context.options.content {
        ResultContent::Attributes => {
            Some(rooted(record.ty, attributes(context.settings, record, found.expires)))
        }
        _ => None,
    };
    Ok(context.answer(Rsc::Deleted, content))
}

/// Removes a resource that has expired by itself, and all that is below it.
pub(crate) fn expired(writer: &mut Writer<'_>, record: &Record) -> Result<(), StoreError> {
    match record.ty {
        ResourceType::ContentInstance => instances::remove(writer, record, Loss::Expired),
        _ => writer.remove_tree(&record.ri, usize::MAX).map(|_| ()),
    }
}

/// Removes what has expired, but no more than `most` resources. Gives how many: fewer than
/// `most` means that nothing is left. A subtree may go in several calls; nobody sees what is left
/// of it in between, for its top goes last.
pub(crate) fn sweep(
    writer: &mut Writer<'_>,
    now: Seconds,
    most: usize,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    while removed < most {
        let Some(ri) = writer.first_expired(now)? else { break };
        let record = writer.read().get(&ri)?.ok_or_else(|| StoreError::Corrupt(ri.clone()))?;
        removed += match record.ty {
            ResourceType::ContentInstance => {
                instances::remove(writer, &record, Loss::Expired)?;
                1
            }
            _ => writer.remove_tree(&ri, most - removed)?,
        };
    }
    Ok(removed)
}
