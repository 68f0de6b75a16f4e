//! Retrieve (TS-0004 clause 7.3.3): a resource, the instance of `la` or `ol`, or, depending on the
//! result content, the resources below.

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;

use crate::access::decision::require;
use crate::access::grants::Access;
use crate::error::{Refusal, quoted};
use crate::operation::discovery;
use crate::request::context::Context;
use crate::resource::address::{self, Resolved};
use crate::resource::attributes::is_known;
use crate::resource::content_instance;
use crate::resource::representation::{self, in_root_element};
use crate::resource::schema::AttributeError;
use crate::store::Read;

/// Retrieves a resource.
///
/// # Errors
/// Returns the reason why it is not retrieved.
pub(crate) fn retrieve(
    read: &dyn Read,
    context: &Context<'_>,
) -> Result<ResponsePrimitive, Refusal> {
    let who = context.originator(read)?;
    let access = if context.options.discovery { Access::Discover } else { Access::Retrieve };
    let mut found = match context.target(read)? {
        Resolved::Resource(found) => {
            require(&who, access, &found.record)?;
            found
        }
        // The access control of the container applies to its instances.
        Resolved::Instance { container, edge } => {
            require(&who, access, &container.record)?;
            address::instance(read, &container, edge, context.now)?
        }
    };
    if let Some(listing) = discovery::list(read, context, who, &found)? {
        return Ok(listing.answer(context, Rsc::Ok));
    }
    content_instance::without_expired(read, &mut found.record, context.now)?;
    let mut own = representation::of_resource(context.settings, &found.record, found.expires);
    if let Some(wanted) = &context.options.attributes {
        let unknown = |n: &&String| !own.contains_key(*n) && !is_known(found.record.ty, n);
        if let Some(name) = wanted.iter().find(unknown) {
            let (of, name) = (found.record.ty, quoted(name));
            return Err(AttributeError::Unknown { of, name }.into());
        }
        own.retain(|name, _| wanted.contains(name));
    }
    Ok(context.answer(Rsc::Ok, Some(in_root_element(found.record.ty, own))))
}
