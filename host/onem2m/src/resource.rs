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
    /// `<flexContainer>`: a data model, such as the state of a light.
    FlexContainer,
    /// `<flexContainerInstance>`: an earlier state of a `<flexContainer>`.
    FlexContainerInstance,
    /// `<group>`: resources that take requests together.
    Group,
    /// `<mgmtObj>`: a property of a device, such as its battery.
    ManagementObject,
    /// `<pollingChannel>`: the queue from which an AE without a point of access fetches requests.
    PollingChannel,
    /// `<request>`: the state and the result of a non-blocking request.
    Request,
    /// `<schedule>`: the times at which a subscription may notify.
    Schedule,
    /// `<subscription>`: the request to be notified of changes.
    Subscription,
    /// `<timeSeries>`: data that are generated at regular intervals.
    TimeSeries,
    /// `<timeSeriesInstance>`: a value in a `<timeSeries>`.
    TimeSeriesInstance,
    /// `<AEAnnc>`: the announcement of an AE that is registered at another CSE.
    AeAnnc,
    /// `<CSEBaseAnnc>`: the announcement of a CSE that announces resources.
    CseBaseAnnc,
    /// `<containerAnnc>`: the announcement of a container of another CSE.
    ContainerAnnc,
    /// `<contentInstanceAnnc>`: the announcement of a content instance of another CSE.
    ContentInstanceAnnc,
    /// `<flexContainerAnnc>`: the announcement of a `<flexContainer>` of another CSE.
    FlexContainerAnnc,
    /// `<locationPolicy>`: the location of a device.
    LocationPolicy,
}

impl ResourceType {
    /// All supported types.
    pub const ALL: [Self; 26] = [
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
        Self::FlexContainer,
        Self::FlexContainerInstance,
        Self::Group,
        Self::ManagementObject,
        Self::PollingChannel,
        Self::Request,
        Self::Schedule,
        Self::Subscription,
        Self::TimeSeries,
        Self::TimeSeriesInstance,
        Self::AeAnnc,
        Self::CseBaseAnnc,
        Self::ContainerAnnc,
        Self::ContentInstanceAnnc,
        Self::FlexContainerAnnc,
        Self::LocationPolicy,
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
            Self::FlexContainer => 28,
            Self::FlexContainerInstance => 58,
            Self::Group => 9,
            Self::ManagementObject => 13,
            Self::PollingChannel => 15,
            Self::Request => 17,
            Self::Schedule => 18,
            Self::Subscription => 23,
            Self::TimeSeries => 29,
            Self::TimeSeriesInstance => 30,
            Self::AeAnnc => 10002,
            Self::CseBaseAnnc => 10005,
            Self::ContainerAnnc => 10003,
            Self::ContentInstanceAnnc => 10004,
            Self::FlexContainerAnnc => 10028,
            Self::LocationPolicy => 10,
        }
    }

    /// Returns the root name of the JSON representation. A `<flexContainer>`, its instances and
    /// a `<mgmtObj>` have that of their definition instead.
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
            Self::FlexContainer => "m2m:fcnt",
            Self::FlexContainerInstance => "m2m:fci",
            Self::Group => "m2m:grp",
            Self::ManagementObject => "m2m:mgo",
            Self::PollingChannel => "m2m:pch",
            Self::Request => "m2m:req",
            Self::Schedule => "m2m:sch",
            Self::Subscription => "m2m:sub",
            Self::TimeSeries => "m2m:ts",
            Self::TimeSeriesInstance => "m2m:tsi",
            Self::AeAnnc => "m2m:aeA",
            Self::CseBaseAnnc => "m2m:cbA",
            Self::ContainerAnnc => "m2m:cntA",
            Self::ContentInstanceAnnc => "m2m:cinA",
            Self::FlexContainerAnnc => "m2m:fcntA",
            Self::LocationPolicy => "m2m:lcp",
        }
    }

    /// Returns the type of the instances that a resource of this type can have. The virtual
    /// resources `la` and `ol` denote them.
    #[must_use]
    pub fn instances(self) -> Option<Self> {
        match self {
            Self::Container => Some(Self::ContentInstance),
            Self::FlexContainer => Some(Self::FlexContainerInstance),
            Self::TimeSeries => Some(Self::TimeSeriesInstance),
            _ => None,
        }
    }

    /// Returns whether resources of this type are instances: they have no children, and the access
    /// rule of their parent.
    #[must_use]
    pub fn is_instance(self) -> bool {
        matches!(
            self,
            Self::ContentInstance | Self::FlexContainerInstance | Self::TimeSeriesInstance
        )
    }

    /// Returns the type of the announcements of resources of this type at other CSEs, if this CSE
    /// announces them.
    #[must_use]
    pub fn announced(self) -> Option<Self> {
        match self {
            Self::Container => Some(Self::ContainerAnnc),
            Self::ContentInstance => Some(Self::ContentInstanceAnnc),
            Self::FlexContainer => Some(Self::FlexContainerAnnc),
            _ => None,
        }
    }

    /// Returns whether resources of this type announce resources of another CSE, which alone
    /// changes them. An `<AEAnnc>` follows its own rules.
    #[must_use]
    pub fn is_announcement(self) -> bool {
        matches!(
            self,
            Self::CseBaseAnnc
                | Self::ContainerAnnc
                | Self::ContentInstanceAnnc
                | Self::FlexContainerAnnc
        )
    }

    /// Returns the type with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.number() == number)
    }
}
