//! The rule that decides on the access to a resource: its policies, or its custodian and creator.

use std::rc::Rc;

use serde_json::Value;

use crate::access::grants::Grants;
use crate::record::Record;
use crate::record::names::Registrants;
use crate::resource::schema::{CREATOR, CUSTODIAN};

/// The access rule of a resource.
#[derive(Clone)]
pub(crate) enum Rule {
    /// One of these policies must allow the access; each has its resource-ID.
    Policies(Rc<[(String, Rc<Grants>)]>),
    /// The policy with this resource-ID must allow the access, by its `pvs`.
    Own(String),
    /// No policy applies.
    Default {
        /// Custodian of the resource or of one above it.
        custodian: Option<NamedOriginator>,
        /// Creator, if stored.
        creator: Option<NamedOriginator>,
    },
}

/// An originator that an attribute names, with its registrant at the time of storing.
#[derive(Clone)]
pub(crate) struct NamedOriginator {
    pub(crate) id: Rc<str>,
    pub(crate) registrants: Option<Registrants>,
}

impl NamedOriginator {
    /// Returns the originator `id` in an attribute of a record.
    pub(crate) fn of(record: &Record, attribute: &str, id: &str) -> Self {
        Self { id: id.into(), registrants: record.names.registrants(attribute).cloned() }
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self::Default { custodian: None, creator: None }
    }
}

/// Returns the rule of a resource that inherits from its parent.
pub(crate) fn inherit(on: &Record, above: Rule) -> Rule {
    let named = |attribute: &str| {
        let id = on.attributes.get(attribute).and_then(Value::as_str)?;
        Some(NamedOriginator::of(on, attribute, id))
    };
    match above {
        // An instance has the rule of its container, independently of its creator.
        _ if on.ty.is_instance() => above,
        Rule::Default { custodian, .. } => {
            Rule::Default { custodian: named(CUSTODIAN).or(custodian), creator: named(CREATOR) }
        }
        Rule::Policies(_) | Rule::Own(_) => above,
    }
}
