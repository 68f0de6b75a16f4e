//! The certificates that a client uses.

use std::sync::Arc;

use saegis_certificate::{OwnCertificate, Trust};

/// The certificates with which a client authenticates itself and the server.
#[derive(Clone)]
pub struct PeerCertificates {
    /// Trust anchors and revocation lists for the server.
    pub trust: Arc<Trust>,
    /// Certificate of the client, if any.
    pub own: Option<Arc<OwnCertificate>>,
}

impl PeerCertificates {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_same_own = match (&self.own, &other.own) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        is_same_own && Arc::ptr_eq(&self.trust, &other.trust)
    }
}

/// A function that returns the certificates in force, if any.
pub type CertificateSource = Arc<dyn Fn() -> Option<PeerCertificates> + Send + Sync>;
