//! Resource types: their numbers and the root names of their JSON representations
//! (TS-0004 clauses 6.3.4.2.1 and 8.2).

/// A resource type that this project knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResourceType {
    /// Rules that say who may do what.
    AccessControlPolicy,
    /// A service subscription, the contract with the service provider.
    ServiceSubscriptionProfile,
    /// A node.
    Node,
    /// A CSE that is registered.
    RemoteCse,
    /// A rule that says which applications may register.
    ServiceSubscribedAppRule,
    /// A node of a service subscription.
    ServiceSubscribedNode,
    /// An application entity.
    Ae,
    /// A container of content instances.
    Container,
    /// A value in a container.
    ContentInstance,
    /// The root of a CSE's resources.
    CseBase,
    /// A group of resources that take one request together.
    Group,
    /// Where an AE that can't be reached fetches what is sent to it.
    PollingChannel,
    /// What sends notifications of changes.
    Subscription,
    /// An application entity that is registered at another CSE, announced here.
    AeAnnc,
}

impl ResourceType {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::AccessControlPolicy,
        Self::ServiceSubscriptionProfile,
        Self::Node,
        Self::RemoteCse,
        Self::ServiceSubscribedAppRule,
        Self::ServiceSubscribedNode,
        Self::Ae,
        Self::Container,
        Self::ContentInstance,
        Self::CseBase,
        Self::Group,
        Self::PollingChannel,
        Self::Subscription,
        Self::AeAnnc,
    ];

    /// The number on the wire (`ty`).
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::AccessControlPolicy => 1,
            Self::ServiceSubscriptionProfile => 11,
            Self::Node => 14,
            Self::RemoteCse => 16,
            Self::ServiceSubscribedAppRule => 19,
            Self::ServiceSubscribedNode => 20,
            Self::Ae => 2,
            Self::Container => 3,
            Self::ContentInstance => 4,
            Self::CseBase => 5,
            Self::Group => 9,
            Self::PollingChannel => 15,
            Self::Subscription => 23,
            Self::AeAnnc => 10002,
        }
    }

    /// The root name of its JSON representation.
    #[must_use]
    pub fn root(self) -> &'static str {
        match self {
            Self::AccessControlPolicy => "m2m:acp",
            Self::ServiceSubscriptionProfile => "m2m:mssp",
            Self::Node => "m2m:nod",
            Self::RemoteCse => "m2m:csr",
            Self::ServiceSubscribedAppRule => "m2m:asar",
            Self::ServiceSubscribedNode => "m2m:svsn",
            Self::Ae => "m2m:ae",
            Self::Container => "m2m:cnt",
            Self::ContentInstance => "m2m:cin",
            Self::CseBase => "m2m:cb",
            Self::Group => "m2m:grp",
            Self::PollingChannel => "m2m:pch",
            Self::Subscription => "m2m:sub",
            Self::AeAnnc => "m2m:aeA",
        }
    }

    /// The type with that number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.number() == number)
    }
}
