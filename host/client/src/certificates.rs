//! The certificates that a client uses.

use std::sync::Arc;

use saegis_certificate::{OwnCertificate, Trust};

/// The certificates that a client authenticates with and by.
#[derive(Clone)]
pub struct PeerCertificates {
    /// The trust anchors and revocation lists for the other side.
    pub trust: Arc<Trust>,
    /// The certificate to show, where there is one.
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

/// Returns the certificates in force, where there are any.
pub type CertificateSource = Arc<dyn Fn() -> Option<PeerCertificates> + Send + Sync>;
