//! Retrieve (TS-0004 clause 7.3.3): a resource, the instance behind `la` or `ol`, or, with a
//! result content that says so, what is below.

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;

use crate::access::{Access, demand};
use crate::address::{self, Place};
use crate::context::Context;
use crate::discovery;
use crate::options::ResultContent;
use crate::refusal::Refusal;
use crate::representation::{attributes, rooted};
use crate::store::Read;

/// Retrieves.
///
/// # Errors
/// Why nothing is given.
pub(crate) fn retrieve(
    read: &dyn Read,
    context: &Context<'_>,
) -> Result<ResponsePrimitive, Refusal> {
    let who = context.originator(read)?;
    let access = if context.options.discovery { Access::Discover } else { Access::Retrieve };
    let found = match context.target(read)? {
        Place::Resource(found) => {
            demand(&who, access, &found.record)?;
            found
        }
        // An instance has no access control of its own: its container's holds.
        Place::Instance { container, edge } => {
            demand(&who, access, &container.record)?;
            address::instance(read, &container, edge, context.now)?
        }
    };
    if context.options.discovery || context.options.content == ResultContent::References {
        return discovery::references(read, context, who, &found);
    }
    let own = attributes(context.settings, &found.record, found.expires);
    match context.options.content {
        ResultContent::AttributesAndChildren => discovery::nested(read, context, who, &found, own),
        ResultContent::Children => {
            discovery::nested(read, context, who, &found, Default::default())
        }
        ResultContent::AttributesAndReferences => {
            discovery::with_references(read, context, who, &found, own)
        }
        _ => Ok(context.answer(Rsc::Ok, Some(rooted(found.record.ty, own)))),
    }
}
