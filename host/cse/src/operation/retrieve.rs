//! Retrieve (TS-0004 clause 7.3.3): a resource, the instance of `la` or `ol`, or, depending on the
//! result content, the resources below.

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;

use crate::access::allowed_attributes::{AllowedAttributes, require_attributes};
use crate::access::decision::require;
use crate::access::grants::Access;
use crate::error::{Refusal, quoted};
use crate::operation::discovery;
use crate::record::Record;
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{self, Resolved};
use crate::resource::attributes::is_known;
use crate::resource::content_instance;
use crate::resource::representation::in_root_element;
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
    // Access to some attributes suffices only for the attributes of the resource itself.
    let admit = |on: &Record| match context.options.content {
        ResultContent::Attributes => require_attributes(&who, access, on),
        _ => require(&who, access, on).map(|()| AllowedAttributes::All),
    };
    let (mut found, allowed) = match context.target(read)? {
        Resolved::Resource(found) => {
            let allowed = admit(&found.record)?;
            (found, allowed)
        }
        // The access control of the container applies to its instances.
        Resolved::Instance { container, edge } => {
            let allowed = admit(&container.record)?;
            (address::instance(read, &container, edge, context.now)?, allowed)
        }
    };
    content_instance::check_open(read, &found.record)?;
    if let Some(listing) = discovery::list(read, context, who, &found)? {
        return Ok(listing.answer(context, Rsc::Ok));
    }
    let mut own = context.retrieved(read, &mut found)?;
    match &context.options.attributes {
        Some(wanted) => allowed.require(access, wanted)?,
        None => allowed.require(access, own.keys())?,
    }
    if let Some(wanted) = &context.options.attributes {
        let is_custom =
            |n: &str| found.record.root.is_some() && context.settings.definitions.have_attribute(n);
        let unknown =
            |n: &&String| !own.contains_key(*n) && !is_known(found.record.ty, n) && !is_custom(n);
        if let Some(name) = wanted.iter().find(unknown) {
            let (of, name) = (found.record.ty, quoted(name));
            return Err(AttributeError::Unknown { of, name }.into());
        }
        own.retain(|name, _| wanted.contains(name));
    }
    Ok(context.answer(Rsc::Ok, Some(in_root_element(&found.record, own))))
}
