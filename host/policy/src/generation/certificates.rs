//! Certificates of a generation: those of the gateway, and trust anchors.

use std::collections::BTreeMap;
use std::sync::Arc;

use saegis_certificate::{OwnCertificate, Trust};

use crate::data::files::{Digest, Source};
use crate::generation::expiry::{Expiry, FileExpiry};

/// Certificates of the gateway, and trust anchors.
pub struct Certificates {
    /// The trust anchors.
    pub trust: Arc<Trust>,
    /// Certificates of the gateway. The first is for clients that send no server name (SNI).
    pub own: Vec<Arc<OwnCertificate>>,
    /// Digests of all files, by name.
    pub(crate) digests: BTreeMap<String, Digest>,
    /// Files without keys, by name, to be reused when one of them is missing.
    pub(crate) sources: BTreeMap<String, Arc<Source>>,
    /// Files of each certificate of the gateway: certificate and key.
    pub(crate) own_files: Vec<(String, String)>,
    /// Expiration times of authorities and revocation lists.
    pub(crate) expiries: Vec<FileExpiry>,
}

impl Certificates {
    /// Returns the expiration times of its certificates and revocation lists.
    pub(crate) fn all_expiries(&self) -> impl Iterator<Item = Expiry> {
        let own = self.own.iter().map(|own| Expiry::of_own(own.to_string(), own.not_after()));
        own.chain(self.expiries.iter().map(FileExpiry::expiry))
    }
}
