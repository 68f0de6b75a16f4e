//! Refusals: the Response Status Code, and the reason that the originator receives.

use std::borrow::Cow;

use saegis_onem2m::id::IdError;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp::TimeFault;

use crate::store::StoreError;

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The release version is not supported.
    #[error("the release version {0} is not supported")]
    Release(String),
    /// From is absent, although only a registering AE may omit it, or does not name an entity.
    #[error("the request has no From, or one that only requests an AE-ID")]
    NoOriginator,
    /// The form of From is unknown.
    #[error("From {0}")]
    Originator(IdError),
    /// A registering AE has a From that is not one of an AE.
    #[error("the From of a registering AE must be its AE-ID-Stem, C, S or absent")]
    NoStem,
    /// The request has expired, or has a malformed time.
    #[error(transparent)]
    Time(#[from] TimeFault),
    /// A parameter or an attribute is invalid or not supported.
    #[error("{why}")]
    Invalid {
        /// Response Status Code.
        rsc: Rsc,
        /// Reason.
        why: String,
    },
    /// The resource does not exist.
    #[error("there is no such resource")]
    NotFound,
    /// The access rule does not allow the operation.
    #[error("the originator has no privilege to {0} at this resource")]
    NoPrivilege(&'static str),
    /// The resource does not allow the operation.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// A create has no resource type.
    #[error("a create needs a resource type")]
    NoResourceType,
    /// The resource type is not supported.
    #[error("resources of the type {0} are not supported")]
    ResourceType(u16),
    /// The parent does not accept such children.
    #[error("a {} has no child of the type {}", .parent.root(), .child.root())]
    InvalidChild {
        /// Type of the child.
        child: ResourceType,
        /// Type of the parent.
        parent: ResourceType,
    },
    /// The representation is not a JSON object with the expected member.
    #[error("the content must be one resource, a JSON object named {0}")]
    Content(Cow<'static, str>),
    /// There is no definition of this `<flexContainer>`.
    #[error("there is no definition {0}: the attribute cnd must name a known one")]
    NoDefinition(String),
    /// The name is in use.
    #[error("a resource with this name exists already")]
    Conflict,
    /// The `<timeSeries>` has an instance with this generation time.
    #[error("an instance with this dataGenerationTime exists already")]
    SameGenerationTime,
    /// The identifier for the AE is that of another kind of resource.
    #[error("this AE-ID is not available at this CSE")]
    AeIdTaken,
    /// The AE is registered. The settings define the Response Status Code.
    #[error("the originator is registered already")]
    AlreadyRegistered(Rsc),
    /// The CSE is registered.
    #[error("a CSE with this CSE-ID is registered already")]
    CseRegistered,
    /// An announced AE is registered or announced already, possibly by the same CSE.
    #[error("an AE with this AE-ID is registered or announced already: its CSE updates its AEAnnc")]
    AeAnnounced,
    /// The From of an announcement does not request an S-type AE-ID.
    #[error(
        "the From of an announcement must be /CSE-ID/S, or the CSE-ID followed by the S-type AE-ID"
    )]
    NoAnnouncer,
    /// The announcing CSE is not registered.
    #[error("the CSE in From must be registered here to announce an AE")]
    NoRegistree,
    /// Announcements belong to one registered CSE.
    #[error("only the registered CSE that announces its resources may do this")]
    NotAnnouncer,
    /// A CSE has only one node in the service subscriptions.
    #[error("a serviceSubscribedNode with this CSE-ID exists already")]
    NodeTaken,
    /// The feature is specified, but not implemented.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// The resource does not accept subscriptions.
    #[error("the resource does not accept subscriptions")]
    NotSubscribable,
    /// The originator of a subscription must not retrieve the subscribed-to resource.
    #[error("the originator has no privilege to retrieve the subscribed-to resource")]
    SubscriberHasNoPrivilege,
    /// The targets of a subscription cannot be verified on this path of execution.
    #[error("the targets of the subscription could not be verified")]
    Unverified,
    /// A target of a subscription cannot be reached for verification.
    #[error("a target of the subscription cannot be reached: {0}")]
    NoTarget(&'static str),
    /// The AE cannot be reached.
    #[error("the AE cannot be reached: {0}")]
    AeUnreachable(&'static str),
    /// The result cannot be sent to one of its targets.
    #[error("a target of the result cannot be reached: {0}")]
    NoResultTarget(&'static str),
    /// The group would exceed its maximum number of members.
    #[error("the group exceeds its maximum number of members")]
    TooManyMembers,
    /// The type of a member differs from that of the group.
    #[error("the type of a member differs from that of the group")]
    MemberType,
    /// The originator must not retrieve a member.
    #[error("the originator has no privilege to retrieve a member")]
    MemberHidden,
    /// A request to the members of a group without members.
    #[error("the group has no members")]
    NoMembers,
    /// The `<request>` belongs to a request that is being executed.
    #[error("the request is being executed and cannot be recalled")]
    NotRecalled,
    /// The resource has another subscription that blocks updates.
    #[error("the resource has a subscription already that blocks updates")]
    BlockingSubscriptionExists,
    /// The target of a subscription that blocks updates may not update the resource itself.
    #[error("the target of a blocking subscription must have the privilege to update the resource")]
    BlockerHasNoPrivilege,
    /// The target that must approve an update cannot be reached.
    #[error("the target that must approve the update cannot be reached")]
    NoApproval,
    /// The request waits for another one on a path of execution that does not wait.
    #[error("the resource waits for its notification target: try again")]
    Awaits,
    /// The target is at another CSE.
    #[error("the target is at another CSE, to which no route is known")]
    OtherCse,
    /// The polling channel belongs to another AE.
    #[error("a polling channel belongs to its AE only")]
    NotOwnChannel,
    /// A limit of the container, the store or the response is exceeded.
    #[error("{0}")]
    NotAcceptable(&'static str),
    /// The remains of a deleted resource with this resource-ID must be removed first.
    #[error("a former resource is still being removed: try again")]
    Remains(String),
    /// The store failed, without further details for the originator; or the request had to stop.
    #[error("{}", of_store(.0))]
    Store(#[from] StoreError),
}

impl Refusal {
    /// Returns the Response Status Code.
    pub(crate) fn rsc(&self) -> Rsc {
        match self {
            Self::Release(_) => Rsc::ReleaseVersionNotSupported,
            Self::NoOriginator
            | Self::Originator(_)
            | Self::NoStem
            | Self::NoAnnouncer
            | Self::NoResourceType
            | Self::Content(_) => Rsc::BadRequest,
            Self::Time(fault) => fault.rsc(),
            Self::Invalid { rsc, .. } => *rsc,
            Self::NoDefinition(_) => Rsc::SpecializationSchemaNotFound,
            Self::NotFound => Rsc::NotFound,
            Self::NoPrivilege(_)
            | Self::NotOwnChannel
            | Self::NoRegistree
            | Self::NotAnnouncer
            | Self::BlockerHasNoPrivilege
            | Self::SubscriberHasNoPrivilege => Rsc::OriginatorHasNoPrivilege,
            Self::NotAllowed(_) => Rsc::OperationNotAllowed,
            Self::InvalidChild { .. } => Rsc::InvalidChildResourceType,
            Self::Conflict | Self::SameGenerationTime | Self::AeIdTaken | Self::NodeTaken => {
                Rsc::Conflict
            }
            Self::AlreadyRegistered(rsc) => *rsc,
            Self::CseRegistered | Self::AeAnnounced => Rsc::OriginatorHasAlreadyRegistered,
            Self::ResourceType(_) | Self::NotImplemented(_) => Rsc::NotImplemented,
            Self::NotAcceptable(_) | Self::Remains(_) => Rsc::NotAcceptable,
            Self::TooManyMembers => Rsc::MaxNumberOfMemberExceeded,
            Self::MemberType => Rsc::GroupMemberTypeInconsistent,
            Self::MemberHidden => Rsc::ReceiverHasNoPrivileges,
            Self::NoMembers => Rsc::NoMembers,
            Self::OtherCse | Self::AeUnreachable(_) | Self::NoResultTarget(_) => {
                Rsc::TargetNotReachable
            }
            Self::BlockingSubscriptionExists => Rsc::BlockingSubscriptionAlreadyExists,
            Self::NoApproval => Rsc::RemoteEntityNotReachable,
            Self::Awaits => Rsc::NotAcceptable,
            Self::NotRecalled => Rsc::UnableToRecallRequest,
            Self::NotSubscribable => Rsc::TargetNotSubscribable,
            Self::Unverified | Self::NoTarget(_) => Rsc::SubscriptionVerificationInitiationFailed,
            Self::Store(StoreError::Stopped(stop)) => stop.rsc(),
            Self::Store(_) => Rsc::InternalServerError,
        }
    }
}

fn of_store(error: &StoreError) -> String {
    match error {
        StoreError::Stopped(stop) => stop.to_string(),
        _ => "the CSE's store failed".into(),
    }
}

/// Returns text of the originator, shortened for a response.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_QUOTED: usize = 64;
    if text.chars().count() <= MAX_QUOTED {
        return text.into();
    }
    text.chars().take(MAX_QUOTED).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_hides_internal_details() {
        let store = Refusal::from(StoreError::Corrupt("Clight-AE1".into()));
        assert_eq!(store.to_string(), "the CSE's store failed");
        assert_eq!(store.rsc().code(), 5000);
        assert_eq!(quoted("short"), "short");
        assert_eq!(quoted(&"x".repeat(65)).chars().count(), 65);
        assert_eq!(quoted(&"é".repeat(64)), "é".repeat(64));
    }
}
