//! The roles of an originator (TS-0003 clause 7.4.3).
//!
//! The originator claims them in the request, and the caller of this CSE has found that policy
//! assigns them. A role holds for the request that claims it: notifications of a subscription are
//! sent with the privileges that the subscriber has without roles.

use saegis_onem2m::role::{AssignedRole, RoleId};
use saegis_onem2m::wildcard::fits;
use serde_json::Value;

use crate::record::Record;

/// The attribute of an `<AE>` with its App-ID.
const APP_ID: &str = "api";

/// Returns the roles that an originator holds. `ae` is its registration, if it is an AE of this CSE.
pub(crate) fn held(assigned: &[AssignedRole], ae: Option<&Record>) -> Vec<RoleId> {
    let app_id = ae.and_then(|ae| ae.attributes.get(APP_ID)).and_then(Value::as_str);
    let holds = |role: &&AssignedRole| match &role.app_ids {
        None => true,
        Some(app_ids) => app_id.is_some_and(|id| app_ids.iter().any(|pattern| fits(pattern, id))),
    };
    assigned.iter().filter(holds).map(|role| role.id.clone()).collect()
}
