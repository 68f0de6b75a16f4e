//! The container of a `<locationPolicy>` (TS-0004 clause 7.4.10.2).

use serde_json::Value;

use crate::record::{Attributes, Record};
use crate::resource::attributes::GivenAttributes;
use crate::resource::location_policy::{CONTAINER, CONTAINER_NAME, LOCATION_ID, STATUS};
use crate::resource::schema::POLICIES;
use crate::store::{Read, StoreError};

/// Value of `locationStatus`, which is a text without a specified form.
const SET_BY_AE: &str = "set by the AE";

/// Returns the attributes of the container of a location policy: it has the same policies, and
/// otherwise belongs to the originator.
pub(crate) fn container(policy: &Record) -> GivenAttributes {
    let mut attributes = Attributes::new();
    attributes.insert(LOCATION_ID.into(), policy.ri.as_str().into());
    if let Some(policies) = policy.attributes.get(POLICIES) {
        attributes.insert(POLICIES.into(), policies.clone());
    }
    let name = policy.attributes.get(CONTAINER_NAME).and_then(Value::as_str);
    GivenAttributes {
        name: name.map(Into::into),
        expires: policy.expires,
        creator: true,
        attributes,
    }
}

/// Enters the container into its location policy.
pub(crate) fn link(policy: &mut Record, container: &Record) {
    policy.attributes.insert(CONTAINER.into(), container.ri.as_str().into());
    policy.attributes.insert(CONTAINER_NAME.into(), container.name.as_str().into());
    policy.attributes.insert(STATUS.into(), SET_BY_AE.into());
}

/// Returns the container of a location policy, if it still exists.
pub(crate) fn container_of(read: &dyn Read, policy: &Record) -> Result<Option<String>, StoreError> {
    let Some(ri) = policy.attributes.get(CONTAINER).and_then(Value::as_str) else {
        return Ok(None);
    };
    let found = read.get(ri)?.filter(|container| {
        container.parent.is_some()
            && container.attributes.get(LOCATION_ID).and_then(Value::as_str) == Some(&policy.ri)
    });
    Ok(found.map(|container| container.ri))
}
