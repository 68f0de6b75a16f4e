//! Why a request is refused: the Response Status Code, and the reason that the originator is told.

use saegis_onem2m::id::IdError;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp::TimeFault;

use crate::store::StoreError;

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A Release Version Indicator that is not spoken here.
    #[error("the release version {0} is not supported")]
    Release(String),
    /// No From, where only an AE that registers may leave it out, or one that names nobody.
    #[error("the request has no From, or one that only asks for an AE-ID")]
    NoOriginator,
    /// A From in no known form.
    #[error("From {0}")]
    Originator(IdError),
    /// An AE that registers with a From that is none of an AE's.
    #[error("an AE that registers writes its AE-ID-Stem, C, S or nothing in From")]
    NoStem,
    /// The request says that it is of no use any more, or a time that is none.
    #[error(transparent)]
    Time(#[from] TimeFault),
    /// A parameter or an attribute that is wrong or not supported.
    #[error("{why}")]
    Invalid {
        /// The code to answer with.
        rsc: Rsc,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing is there.
    #[error("there is no such resource")]
    NotFound,
    /// The access rule says no.
    #[error("the originator has no privilege to {0} there")]
    NoPrivilege(&'static str),
    /// The operation makes no sense on this resource.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// A create without a resource type.
    #[error("a create needs a resource type")]
    NoResourceType,
    /// A resource type that is not hosted here.
    #[error("resources of the type {0} are not supported")]
    ResourceType(u16),
    /// The parent takes no such children.
    #[error("a {} has no child of the type {}", .parent.root(), .child.root())]
    InvalidChild {
        /// What was to be created.
        child: ResourceType,
        /// Where.
        parent: ResourceType,
    },
    /// The representation is no JSON object with the one member that it should have.
    #[error("the content must be one resource, a JSON object named {0}")]
    Content(&'static str),
    /// The name is in use.
    #[error("there is a resource of that name already")]
    Conflict,
    /// The identifier that the AE would get is that of another kind of resource.
    #[error("that AE-ID can't be had at this CSE")]
    AeIdTaken,
    /// The AE is registered. The settings say what it is answered.
    #[error("the originator is registered already")]
    AlreadyRegistered(Rsc),
    /// The CSE is registered.
    #[error("a CSE of that CSE-ID is registered already")]
    CseRegistered,
    /// An AE is announced that is registered here, or announced, be it by the same CSE.
    #[error("an AE of that AE-ID is registered or announced already: its CSE updates its AEAnnc")]
    AeAnnounced,
    /// An announcement with a From that asks for no S-type AE-ID.
    #[error("who announces an AE writes /CSE-ID/S, or the S-type AE-ID behind the CSE-ID, in From")]
    NoAnnouncer,
    /// An announcement by a CSE that is not registered.
    #[error("the CSE in From is not registered here, which it must be to announce an AE")]
    NoRegistree,
    /// A CSE has one node in the service subscriptions.
    #[error("there is a serviceSubscribedNode of that CSE-ID already")]
    NodeTaken,
    /// Something that the specification knows and this CSE does not.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// A subscription to something that takes none.
    #[error("there are no subscriptions to that")]
    NotSubscribable,
    /// A subscription to something that its originator may not see.
    #[error("the originator has no privilege to retrieve what it subscribes to")]
    SubscriberHasNoPrivilege,
    /// A subscription whose targets cannot be asked whether they want it, where it is created.
    #[error("the targets of the subscription could not be asked whether they want it")]
    Unverified,
    /// A subscription with a target that can't be asked.
    #[error("a target of the subscription can't be reached: {0}")]
    NoTarget(&'static str),
    /// An AE that can't be reached.
    #[error("the AE can't be reached: {0}")]
    AeUnreachable(&'static str),
    /// A result that cannot be sent to one of its targets.
    #[error("a target of the result can't be reached: {0}")]
    NoResultTarget(&'static str),
    /// More members than the group may have.
    #[error("the group has more members than it may have")]
    TooManyMembers,
    /// A member of a type that is not the group's.
    #[error("a member is not of the group's type")]
    MemberType,
    /// A member that the originator may not see.
    #[error("the originator has no privilege to retrieve a member")]
    MemberHidden,
    /// A request to the members of a group that has none.
    #[error("the group has no members")]
    NoMembers,
    /// Something that is at another CSE.
    #[error("it is at another CSE, to which no way is known")]
    OtherCse,
    /// A polling channel of another.
    #[error("a polling channel is its AE's alone")]
    NotOwnChannel,
    /// Over a limit of the container, the store or the answer.
    #[error("{0}")]
    NotAcceptable(&'static str),
    /// What is left of a deleted resource with that resource-ID has to be removed first.
    #[error("what was there before is still being removed: try again")]
    Remains(String),
    /// The store failed, and the originator learns no more than that; or the request had to stop.
    #[error("{}", of_store(.0))]
    Store(#[from] StoreError),
}

impl Refusal {
    /// The code to answer with.
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
            Self::NotFound => Rsc::NotFound,
            Self::NoPrivilege(_)
            | Self::NotOwnChannel
            | Self::NoRegistree
            | Self::SubscriberHasNoPrivilege => Rsc::OriginatorHasNoPrivilege,
            Self::NotAllowed(_) => Rsc::OperationNotAllowed,
            Self::InvalidChild { .. } => Rsc::InvalidChildResourceType,
            Self::Conflict | Self::AeIdTaken | Self::NodeTaken => Rsc::Conflict,
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

/// What the originator wrote, cut to a length that is fit for an answer.
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
