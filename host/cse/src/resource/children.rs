//! The child resource types of each resource type (tables 7.4.x.1-4 of TS-0004).

use saegis_onem2m::resource::ResourceType;

use crate::resource::children;

/// Returns whether this CSE can create a resource of type `child` below one of type `parent`.
pub(crate) fn is_child(child: ResourceType, parent: ResourceType) -> bool {
    use ResourceType::{
        AccessControlPolicy, Ae, AeAnnc, Container, ContainerAnnc, ContentInstance,
        ContentInstanceAnnc, CseBase, CseBaseAnnc, FlexContainer, FlexContainerAnnc, Group,
        LocationPolicy, ManagementObject, Node, PollingChannel, RemoteCse, Schedule,
        ServiceSubscribedAppRule, ServiceSubscribedNode, ServiceSubscriptionProfile, Subscription,
        TimeSeries, TimeSeriesInstance,
    };
    if child == Subscription {
        return children::is_subscribable(parent);
    }
    matches!(
        (parent, child),
        (CseBase | Ae | RemoteCse, Container | FlexContainer | Group | AccessControlPolicy)
            | (CseBase, Ae | RemoteCse | ServiceSubscriptionProfile | ServiceSubscribedAppRule)
            | (CseBase | Ae | RemoteCse | Container | FlexContainer, TimeSeries)
            | (TimeSeries, TimeSeriesInstance)
            | (CseBase | RemoteCse, Node | AeAnnc)
            | (Node, ManagementObject)
            | (Ae, PollingChannel)
            | (Subscription | CseBase | Node, Schedule)
            | (CseBase, LocationPolicy | CseBaseAnnc)
            | (CseBaseAnnc | ContainerAnnc | FlexContainerAnnc, ContainerAnnc | FlexContainerAnnc)
            | (ContainerAnnc, ContentInstanceAnnc)
            | (Container, Container | ContentInstance | FlexContainer)
            | (FlexContainer, Container | FlexContainer)
            | (ServiceSubscriptionProfile, ServiceSubscribedNode)
    )
}

/// Returns whether the specification allows children of the type with this number below `parent`,
/// even if this CSE does not host them.
pub(crate) fn may_have(parent: ResourceType, child: u64) -> bool {
    let hosted = u16::try_from(child).ok().and_then(ResourceType::from_number);
    hosted.is_some_and(|child| is_child(child, parent)) || known(parent).contains(&child)
}

/// Returns the numbers of the child types in the table of a type, as in TS-0004 table 6.3.4.2.1-1.
fn known(parent: ResourceType) -> &'static [u64] {
    use ResourceType as T;
    match parent {
        T::CseBase => &[
            1, 2, 3, 6, 9, 10, 11, 12, 14, 16, 17, 18, 19, 21, 22, 23, 26, 28, 29, 31, 32, 34, 35,
            36, 37, 38, 40, 41, 43, 45, 48, 49, 50, 51, 10005, 10016,
        ],
        T::RemoteCse => &[
            1, 3, 9, 15, 23, 28, 29, 34, 40, 41, 48, 50, 51, 10001, 10002, 10003, 10009, 10010,
            10014, 10016, 10028, 10029, 10038, 10040, 10041,
        ],
        T::Ae => &[1, 3, 9, 15, 23, 24, 28, 29, 34, 41, 46, 47, 48, 50, 51],
        T::AeAnnc => {
            &[1, 3, 9, 23, 24, 28, 29, 41, 50, 51, 10001, 10003, 10009, 10024, 10028, 10029, 10041]
        }
        T::CseBaseAnnc => &[
            1, 3, 9, 23, 28, 29, 10001, 10002, 10003, 10009, 10010, 10013, 10014, 10016, 10018,
            10024, 10028, 10029,
        ],
        T::ContainerAnnc => &[3, 4, 23, 24, 28, 29, 10003, 10004, 10024, 10028, 10029],
        T::FlexContainerAnnc => &[3, 23, 24, 28, 29, 10003, 10024, 10028, 10029],
        T::ContentInstanceAnnc => &[24, 10024],
        T::LocationPolicy => &[23, 51],
        T::Container => &[3, 4, 23, 24, 28, 29, 51],
        T::FlexContainer => &[3, 23, 24, 28, 29, 48, 51, 58],
        T::TimeSeries => &[23, 24, 30, 51],
        T::Group => &[23, 24, 51],
        T::Node => &[13, 18, 23, 24, 51],
        T::ManagementObject => &[23, 24, 51],
        T::ServiceSubscriptionProfile => &[20, 23, 51],
        T::AccessControlPolicy | T::ServiceSubscribedNode | T::ServiceSubscribedAppRule => {
            &[23, 51]
        }
        T::ContentInstance
        | T::FlexContainerInstance
        | T::PollingChannel
        | T::TimeSeriesInstance => &[],
        T::Request | T::Schedule => &[23],
        T::Subscription => &[18],
    }
}

/// Returns whether a resource type can be subscribed to (TS-0001 clause 9.6).
pub(crate) fn is_subscribable(ty: ResourceType) -> bool {
    use ResourceType::{ContentInstanceAnnc, PollingChannel, Schedule, Subscription};
    !ty.is_instance()
        && !matches!(ty, ContentInstanceAnnc | PollingChannel | Schedule | Subscription)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creatable_child_types_can_be_subscribed_to() {
        for parent in ResourceType::ALL {
            for child in ResourceType::ALL.into_iter().filter(|child| is_child(*child, parent)) {
                assert!(may_have(parent, child.number().into()), "{parent:?} {child:?}");
            }
            assert!(!may_have(parent, 5), "{parent:?}: a CSEBase is below nothing");
            assert!(!may_have(parent, 99_999) && !may_have(parent, 65_536 + 4), "{parent:?}");
        }
        assert!(may_have(ResourceType::Container, 28), "a flexContainer");
        assert!(!may_have(ResourceType::Ae, 4));
        assert!(!may_have(ResourceType::Container, 2));
    }
}
