//! A notification that is to be sent, and where to.

use bytes::Bytes;
use saegis_onem2m::point_of_access::PointOfAccess;
use saegis_onem2m::target::Target;

/// Who named the address that a notification goes to. Whatever they name, the CSE asks the
/// sender to send there: which addresses are fit is the sender's to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NamedBy {
    /// The originator who created the subscription, or last changed its targets: the address
    /// stands in its `nu` or its `su`.
    Subscriber(String),
    /// The AE with that AE-ID-Stem: the address is one of its points of access.
    Ae(String),
}

/// Where a notification goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To a point of access. One over a security association is that of an AE, and the association is
    /// with that very AE (SA2 of TS-0003 clause 8.2).
    PointOfAccess(PointOfAccess),
    /// To an AE that is registered at another CSE of this service provider, which that CSE passes it on
    /// to. An S-type AE-ID in its SP-relative form has the place of a CSE-ID.
    Elsewhere(Target),
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PointOfAccess(there) => there.fmt(f),
            Self::Elsewhere(target) => target.fmt(f),
        }
    }
}

/// A notify request that is to be sent.
///
/// **The address comes from outside.** Someone who may create a resource can name any address that
/// the sender can reach, in its own network too, and have it sent requests: server-side request
/// forgery. So a sender must have a rule that says which addresses it sends to, that allows none by
/// default, and that looks at [`to`](Self::to) and [`named_by`](Self::named_by); it must apply it
/// to what the name in a URL resolves to, and follow no redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Where to.
    pub to: Destination,
    /// Whose word the address is.
    pub named_by: NamedBy,
    /// What it is sent for: the SP-relative address of a subscription, as in the content (`sur`), or
    /// that of the AE to which somebody else's notification is passed on.
    pub about: String,
    /// From: the CSE-ID of this CSE, or the originator of what is passed on.
    pub from: String,
    /// The Request Identifier, which the answer repeats.
    pub request_id: String,
    /// The Release Version Indicator.
    pub release: String,
    /// The content in JSON, mostly an `m2m:sgn`.
    pub content: Bytes,
}
