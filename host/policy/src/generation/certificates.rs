//! The certificates of a generation: those that the gateway shows, and those that it trusts.

use std::collections::BTreeMap;
use std::sync::Arc;

use saegis_certificate::{OwnCertificate, Trust};

use crate::data::files::{Digest, Source};
use crate::generation::expiry::{Expiry, FileExpiry};

/// What the gateway shows and whom it believes.
pub struct Certificates {
    /// Whom it believes.
    pub trust: Arc<Trust>,
    /// What it shows: the first to clients that ask for no server by name.
    pub own: Vec<Arc<OwnCertificate>>,
    /// What all of it was read from, by the file's name.
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
