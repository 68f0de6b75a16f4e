//! The certificates of a generation: those that the gateway shows, and those that it trusts.

use std::collections::BTreeMap;
use std::sync::Arc;

use saegis_certificate::{OwnCertificate, Trust};

use crate::data::files::{Digest, Source};
use crate::generation::expiry::{Expiry, FileExpiry};

/// The certificates that the gateway shows and trusts.
pub struct Certificates {
    /// The trust anchors.
    pub trust: Arc<Trust>,
    /// Its own certificates: the first is for clients that indicate no server name.
    pub own: Vec<Arc<OwnCertificate>>,
    /// The digests of all files, by name.
    pub(crate) digests: BTreeMap<String, Digest>,
    /// The files without keys, by name, for when one of them is gone.
    pub(crate) sources: BTreeMap<String, Arc<Source>>,
    /// The files of each of its own: certificate and key.
    pub(crate) own_files: Vec<(String, String)>,
    /// When authorities and revocation lists end.
    pub(crate) expiries: Vec<FileExpiry>,
}

impl Certificates {
    /// Returns when its certificates and revocation lists expire.
    pub(crate) fn all_expiries(&self) -> impl Iterator<Item = Expiry> {
        let own = self.own.iter().map(|own| Expiry::of_own(own.to_string(), own.not_after()));
        own.chain(self.expiries.iter().map(FileExpiry::expiry))
    }
}
