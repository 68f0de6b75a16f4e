//! The schema of a resource type: the rows of its attribute table, and errors of given attributes.

use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;

use crate::error::Refusal;
use crate::resource::values::Kind;

// Short names of attributes that code outside of the tables uses.

/// Members of a group (`memberIDs`).
pub(crate) const MEMBERS: &str = "mid";

/// Targets of a subscription (`notificationURI`).
pub(crate) const TARGETS: &str = "nu";

/// Target of the notification that a subscription was deleted (`subscriberURI`).
pub(crate) const SUBSCRIBER: &str = "su";

/// Targets to which the group of a subscription forwards its notifications
/// (`notificationForwardingURI`).
pub(crate) const FORWARDING: &str = "nfu";

/// Group through which a subscription was created (`groupID`).
pub(crate) const GROUP_ID: &str = "gpi";

/// Key of the originator that named the targets of a subscription. It is not an attribute, and no
/// attribute has this name.
pub(crate) const NAMED_BY: &str = "named-by";

/// Access control policies of a resource (`accessControlPolicyIDs`).
pub(crate) const POLICIES: &str = "acpi";

/// Custodian of a resource (`custodian`).
pub(crate) const CUSTODIAN: &str = "cstn";

/// Originator of a non-blocking request (`originator`).
pub(crate) const ORIGINATOR: &str = "org";

/// Creator of a resource (`creator`).
pub(crate) const CREATOR: &str = "cr";

/// Definition of a `<flexContainer>` (`containerDefinition`).
pub(crate) const DEFINITION: &str = "cnd";

/// The CSEs and resources to which a resource is announced (`announceTo`).
pub(crate) const ANNOUNCE_TO: &str = "at";

/// The optional attributes that are announced (`announcedAttribute`).
pub(crate) const ANNOUNCED: &str = "aa";

/// The address of the original of an announcement (`link`).
pub(crate) const LINK: &str = "lnk";

/// Content type of a subscription's notifications (`notificationContentType`). The CSE adds it if
/// it is absent.
pub(crate) const NOTIFICATION_CONTENT: &str = "nct";

/// The presence of an attribute in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Mandatory (M).
    M,
    /// Optional (O).
    O,
    /// Not present (NP).
    NP,
}

/// A row of an attribute table.
pub(crate) struct Row {
    /// Short name.
    pub(crate) name: &'static str,
    /// Kind of the value.
    pub(crate) kind: Kind,
    /// Presence in a create.
    pub(crate) create: Presence,
    /// Presence in an update.
    pub(crate) update: Presence,
}

/// Creates a row.
pub(crate) const fn row(name: &'static str, kind: Kind, create: Presence, update: Presence) -> Row {
    Row { name, kind, create, update }
}

/// The reason why a given attribute is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttributeError {
    /// The attribute does not exist.
    #[error("a {} has no attribute {name}", .of.root())]
    Unknown {
        /// Type of the resource.
        of: ResourceType,
        /// Given name.
        name: String,
    },
    /// The attribute must not be given.
    #[error("the attribute {0} must not be given")]
    NotPermitted(&'static str),
    /// A mandatory attribute is missing.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// The attribute cannot be removed.
    #[error("the attribute {0} cannot be null")]
    Null(&'static str),
    /// The value is invalid.
    #[error("the attribute {name} {why}")]
    Value {
        /// Attribute.
        name: &'static str,
        /// Description of a valid value.
        why: String,
    },
    /// The value of a custom attribute is invalid, or missing.
    #[error("the attribute {name} {why}")]
    Custom {
        /// Attribute.
        name: String,
        /// Description of a valid value.
        why: String,
    },
    /// The attribute is specified, but not supported.
    #[error("the attribute {0} is not supported yet")]
    Unsupported(&'static str),
}

impl AttributeError {
    /// Creates the error of a value that violates a rule outside of the tables.
    pub(crate) fn value(name: &'static str, why: &str) -> Self {
        Self::Value { name, why: why.into() }
    }

    /// Returns the Response Status Code (TS-0004 clause 7.3.3), which distinguishes unsupported
    /// attributes from invalid ones.
    pub(crate) fn rsc(&self) -> Rsc {
        match self {
            Self::Unsupported(_) => Rsc::NotImplemented,
            Self::Unknown { .. }
            | Self::NotPermitted(_)
            | Self::Missing(_)
            | Self::Null(_)
            | Self::Custom { .. }
            | Self::Value { .. } => Rsc::BadRequest,
        }
    }
}

impl From<AttributeError> for Refusal {
    fn from(error: AttributeError) -> Self {
        Self::Invalid { rsc: error.rsc(), why: error.to_string() }
    }
}
