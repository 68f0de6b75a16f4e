//! The last requests, with the time of each step.

use serde::{Deserialize, Serialize};

/// The last requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestList {
    /// The requests, the last one first.
    pub requests: Vec<RequestEntry>,
}

/// A request, and its path through the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEntry {
    /// Its number.
    pub number: u64,
    /// The time at which it was decoded.
    pub at: String,
    /// The number of the association.
    pub association: u64,
    /// The entity that the credential stands for.
    pub entity: String,
    /// The Credential-ID.
    pub credential_id: String,
    /// The address of the peer.
    pub peer: String,
    /// The operation.
    pub operation: String,
    /// The target.
    pub to: String,
    /// The originator that the request names.
    pub from: Option<String>,
    /// The request identifier.
    pub request_id: String,
    /// The Response Status Code.
    pub rsc: u16,
    /// The time from the decoded request to the response, in microseconds.
    pub total_us: u64,
    /// The steps, in their order. The last one is the only one that can have refused the request.
    pub steps: Vec<RequestStep>,
}

impl RequestEntry {
    /// Returns whether it was not successful.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.rsc >= 4000
    }
}

/// A step of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStep {
    /// Its name.
    pub name: String,
    /// Its time in microseconds.
    pub us: u64,
    /// The reason, if it refused the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
