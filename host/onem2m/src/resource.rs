//! Resource types: their numbers and the root names of their JSON representations
//! (TS-0004 clauses 6.3.4.2.1 and 8.2).

/// A supported resource type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResourceType {
    /// `<accessControlPolicy>`: the privileges of originators.
    AccessControlPolicy,
    /// `<m2mServiceSubscriptionProfile>`: the contract with the service provider.
    ServiceSubscriptionProfile,
    /// `<node>`: the device that an AE or CSE runs on.
    Node,
    /// `<remoteCSE>`: a registered CSE.
    RemoteCse,
    /// `<serviceSubscribedAppRule>`: the applications that may register.
    ServiceSubscribedAppRule,
    /// `<serviceSubscribedNode>`: a node of a service subscription.
    ServiceSubscribedNode,
    /// `<AE>`: an application entity.
    Ae,
    /// `<container>`: a container of content instances.
    Container,
    /// `<contentInstance>`: a value in a container.
    ContentInstance,
    /// `<CSEBase>`: the root of a CSE's resources.
    CseBase,
    /// `<group>`: resources that take requests together.
    Group,
    /// `<pollingChannel>`: the queue from which an AE without a point of access fetches requests.
    PollingChannel,
    /// `<subscription>`: the request to be notified of changes.
    Subscription,
    /// `<AEAnnc>`: the announcement of an AE that is registered at another CSE.
    AeAnnc,
}

impl ResourceType {
    /// All supported types.
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

    /// Returns the number on the wire (`ty`).
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

    /// Returns the root name of the JSON representation.
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

    /// Returns the type with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.number() == number)
    }
}
