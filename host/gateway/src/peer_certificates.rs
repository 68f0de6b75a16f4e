//! The certificates in force, for associations in which this process is the client.

use std::sync::Arc;

use saegis_client::{CertificateSource, PeerCertificates};
use saegis_policy::Policy;

/// Returns a source of the certificates of the generation in force.
pub fn in_force(policy: &Arc<Policy>) -> CertificateSource {
    let policy = policy.clone();
    Arc::new(move || {
        let generation = policy.current();
        let certificates = generation.certificates()?;
        let own = certificates.own.first().cloned();
        Some(PeerCertificates { trust: certificates.trust.clone(), own })
    })
}
