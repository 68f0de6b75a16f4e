//! A notification to send, and its destination.

use bytes::Bytes;
use saegis_onem2m::parameter::{Parameter, Parameters};
use saegis_onem2m::point_of_access::PointOfAccess;
use saegis_onem2m::target::Target;

use crate::receipts::Receipt;

/// The entity that named the address of a notification. It may name any address; the sender decides
/// to which addresses it sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NamedBy {
    /// The originator that created the subscription, or last changed its targets. The address is
    /// from its `nu` or `su`.
    Subscriber(String),
    /// A registered AE. The address is one of its points of access.
    Ae {
        /// AE-ID-Stem.
        stem: String,
        /// Credential-ID to which the AE-ID must still belong; none, where policy decides that.
        registrant: Option<String>,
    },
}

impl std::fmt::Display for NamedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Subscriber(from) => write!(f, "subscriber {from}"),
            Self::Ae { stem, .. } => write!(f, "AE {stem}"),
        }
    }
}

/// The destination of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A point of access. One over a security association belongs to an AE, and the association is
    /// with this AE (SA2 of TS-0003 clause 8.2).
    PointOfAccess(PointOfAccess),
    /// An AE that is registered at another CSE of this service provider, which forwards the
    /// notification. An S-type AE-ID in its SP-relative form takes the position of a CSE-ID.
    Elsewhere(Target),
    /// To the AE with that AE-ID-Stem, over the connection that it has opened itself (WebSocket, TS-0020
    /// clause 5.2). An AE that takes requests and names no point of access is reached so.
    Connection(String),
    /// Into the queue of a polling channel. Only a notification whose response is awaited has this
    /// destination: see [`EmbeddedCse::ask_over_channel`](crate::EmbeddedCse::ask_over_channel).
    PollingChannel {
        /// Resource-ID of the channel.
        ri: String,
        /// AE-ID-Stem of its AE.
        ae: String,
    },
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PointOfAccess(there) => there.fmt(f),
            Self::Elsewhere(target) => target.fmt(f),
            Self::Connection(ae) | Self::PollingChannel { ae, .. } => ae.fmt(f),
        }
    }
}

/// A notify request to send.
///
/// **The address is untrusted.** An originator that may create a resource can name any address that
/// the sender can reach, including its internal network, and cause requests to it: server-side
/// request forgery. So a sender must have an allowlist, empty by default, that checks
/// [`to`](Self::to) and [`named_by`](Self::named_by). It must apply the allowlist to the resolved
/// address of a host name, and must not follow redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Destination.
    pub to: Destination,
    /// Entity that named the destination.
    pub named_by: NamedBy,
    /// Cause: the SP-relative address of the subscription, as in the content (`sur`), or that of
    /// the AE to which another entity's notification is forwarded.
    pub about: String,
    /// From: the CSE-ID of this CSE, or the originator of a forwarded notification.
    pub from: String,
    /// Request Identifier, which the response repeats.
    pub request_id: String,
    /// Release Version Indicator.
    pub release: String,
    /// Event Category, if the subscription determines one.
    pub category: Option<u16>,
    /// Receipt of the response, for the statistics of the subscription.
    pub receipt: Receipt,
    /// Content in JSON, usually an `m2m:sgn`.
    pub content: Bytes,
}

impl Notification {
    /// Returns the parameters of the request.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let category =
            self.category.map(|category| (Parameter::EventCategory, category.to_string()));
        category.into_iter().collect()
    }
}
