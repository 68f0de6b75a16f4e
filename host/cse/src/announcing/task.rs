//! The tasks that keep announcements synchronized, and their outcomes.

use std::collections::BTreeSet;
use std::time::Duration;

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::record::Seconds;
use crate::store::DueAnnouncement;

/// A request to the registrar CSE.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnnouncementTask {
    /// Delete the announcement at an address.
    Delete(Deletion),
    /// Create the announcement of a resource, or update it.
    Synchronize(Box<Synchronization>),
}

/// The deletion of an announcement.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// SP-relative address.
    pub address: String,
    pub(super) turn: Turn,
}

/// The turn of the owner of a resource, in which a task is performed.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) entry: DueAnnouncement,
    pub(super) registrant: Option<String>,
}

impl AnnouncementTask {
    /// Returns the owner of the resource. The next task is that of another owner, if there is one.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.turn().entry.owner
    }

    /// Returns the Credential-ID of the owner, if known.
    #[must_use]
    pub fn registrant(&self) -> Option<&str> {
        self.turn().registrant.as_deref()
    }

    /// Returns the identifier of the task: the resource-ID of the resource, or the address of the
    /// announcement to delete.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.turn().entry.what
    }

    pub(super) fn turn(&self) -> &Turn {
        match self {
            Self::Delete(deletion) => &deletion.turn,
            Self::Synchronize(synchronization) => &synchronization.turn,
        }
    }
}

/// The creation or the update of an announcement.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Synchronization {
    /// Type of the announcement.
    pub kind: ResourceType,
    /// SP-relative address of the original.
    pub link: String,
    /// Representation, in its root element.
    pub representation: Value,
    /// A change of the policies, in the root element. It is a request of its own (TS-0001 clause
    /// 9.6.1.3.2).
    pub policies: Option<Value>,
    /// Position of the announcement.
    pub position: Position,
    /// Whether it may have been created by a request without a response.
    pub may_exist: bool,
    pub(super) turn: Turn,
    pub(super) version: u64,
    pub(super) sent: BTreeSet<String>,
    pub(super) sent_policies: Value,
    pub(super) expires: Option<Seconds>,
}

/// The position of an announcement at the registrar CSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// It exists at this address.
    At(String),
    /// It is created below the announcement at this address, of the resource's parent.
    Below(String),
    /// It is created below the `<CSEBaseAnnc>` of this CSE.
    BelowCse,
}

/// The outcome of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnouncementOutcome {
    /// The creation is about to be requested.
    Attempted,
    /// The announcement exists at this address, and has the state of the resource.
    Done(String),
    /// The announcement exists at this address, and has the state of the last attempt to create it.
    Found(String),
    /// The announcement does not exist any more.
    Gone,
    /// The registrar CSE cannot accept it, whenever it is repeated.
    Refused,
    /// It is repeated later.
    Delayed,
    /// There was no response. It is repeated after this time, even if the resource has changed.
    Failed(Duration),
}

/// The announcement of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnnouncementStatus {
    /// Whether its last change is not announced yet.
    pub is_pending: bool,
    /// Address of the announcement, if it exists.
    pub address: Option<String>,
}
