//! The schema of a resource type: the rows of its table of attributes, and what can be wrong with
//! one that is given.

use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;

use crate::error::Refusal;
use crate::resource::values::Kind;

/// The members of a group.
pub(crate) const MEMBERS: &str = "mid";

/// The targets of a subscription, and its subscriber.
pub(crate) const TARGETS: &str = "nu";

pub(crate) const SUBSCRIBER: &str = "su";

/// Who named the targets of a subscription: no attribute, so no attribute has this name.
pub(crate) const NAMED_BY: &str = "named-by";

/// The attribute that names the policies of a resource.
pub(crate) const POLICIES: &str = "acpi";

/// The attribute that names the custodian of a resource.
pub(crate) const CUSTODIAN: &str = "cstn";

/// The attribute that names the creator of a resource.
pub(crate) const CREATOR: &str = "cr";

/// An attribute that a subscription always has, though nobody has to give it.
pub(crate) const NOTIFICATION_CONTENT: &str = "nct";

/// Whether an attribute may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Must be given (M).
    M,
    /// May be given (O).
    O,
    /// Must not be given (NP).
    NP,
}

/// A row of a table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) create: Presence,
    pub(crate) update: Presence,
}

pub(crate) const fn row(name: &'static str, kind: Kind, create: Presence, update: Presence) -> Row {
    Row { name, kind, create, update }
}

/// What is wrong with an attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttributeError {
    /// No such attribute.
    #[error("a {} has no attribute {name}", .of.root())]
    Unknown {
        /// The type of the resource.
        of: ResourceType,
        /// What was given.
        name: String,
    },
    /// One that must not be given.
    #[error("the attribute {0} must not be given")]
    NotPermitted(&'static str),
    /// One that is missing.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// One that can't be removed.
    #[error("the attribute {0} can't be null")]
    Null(&'static str),
    /// A value of the wrong kind.
    #[error("the attribute {name} {why}")]
    Value {
        /// The attribute.
        name: &'static str,
        /// What it should be.
        why: String,
    },
    /// Known to the specification, not supported here.
    #[error("the attribute {0} is not supported yet")]
    Unsupported(&'static str),
}

impl AttributeError {
    /// A value that is wrong for a reason that no table knows.
    pub(crate) fn value(name: &'static str, why: &str) -> Self {
        Self::Value { name, why: why.into() }
    }

    /// The code to answer with (TS-0004 clause 7.3.3): the specification tells attributes that a
    /// CSE does not support from those that are wrong.
    pub(crate) fn rsc(&self) -> Rsc {
        match self {
            Self::Unsupported(_) => Rsc::NotImplemented,
            Self::Unknown { .. }
            | Self::NotPermitted(_)
            | Self::Missing(_)
            | Self::Null(_)
            | Self::Value { .. } => Rsc::BadRequest,
        }
    }
}

impl From<AttributeError> for Refusal {
    fn from(error: AttributeError) -> Self {
        Self::Invalid { rsc: error.rsc(), why: error.to_string() }
    }
}
