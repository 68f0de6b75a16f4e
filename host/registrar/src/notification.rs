//! A notification that is to be sent, and where to.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Uri};
use saegis_onem2m::http::{JSON, ORIGIN, RELEASE, REQUEST_ID};

/// Who named the address that a notification goes to. Whatever they name, the registrar asks the
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

/// A notify request that is to be sent over HTTP.
///
/// **The address comes from outside.** Someone who may create a resource can name any address that
/// the sender can reach, in its own network too, and have it sent requests: server-side request
/// forgery. So a sender must have a rule that says which addresses it sends to, that allows none by
/// default, and that looks at [`url`](Self::url) and [`named_by`](Self::named_by); it must apply it
/// to what the name in the address resolves to, and follow no redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Where to: an absolute URL with the scheme `http`, and without a user.
    pub url: Uri,
    /// Whose word the address is.
    pub named_by: NamedBy,
    /// The subscription that it is sent for: its SP-relative address, as in the content (`sur`).
    pub subscription: String,
    /// From: the CSE-ID of this CSE.
    pub from: String,
    /// The Request Identifier, which the answer repeats.
    pub request_id: String,
    /// The Release Version Indicator.
    pub release: String,
    /// The content: an `m2m:sgn` in JSON.
    pub content: Bytes,
}

impl Notification {
    /// The HTTP request that carries it, to the absolute URL (TS-0009 clause 6.2).
    ///
    /// # Errors
    /// When a value can't stand in a header field; none of this registrar's is such.
    pub fn to_http(&self) -> Result<http::Request<Bytes>, http::Error> {
        http::Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(ORIGIN, &self.from)
            .header(REQUEST_ID, &self.request_id)
            .header(RELEASE, &self.release)
            .header(ACCEPT, JSON)
            .header(CONTENT_TYPE, JSON)
            .body(self.content.clone())
    }
}
