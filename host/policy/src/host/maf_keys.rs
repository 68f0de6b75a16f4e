//! Keys of M2M Authentication Functions, as the gateway fetches them for modules.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::credential::{Entity, PresharedKey};
use saegis_onem2m::id::CredentialId;

/// A key that a MAF gave us.
pub struct MafKey {
    /// The entity that registered it.
    pub source: Entity,
    /// The Credential-ID that it makes.
    pub credential_id: CredentialId,
    /// Its security usage.
    pub suid: u8,
    /// From when on it no longer holds.
    pub expires: SystemTime,
    /// The key.
    pub key: PresharedKey,
}

/// The state of a key, as known without asking its MAF.
pub enum Known {
    /// The key.
    Key(MafKey),
    /// No MAF with that domain name is configured.
    NoMaf,
    /// The MAF has to be asked.
    NotYet,
    /// The MAF has no such key for us, or not for this.
    Refused,
    /// The MAF can't be reached.
    Unreachable,
}

/// The keys of MAFs: those at hand, and the means to fetch others.
pub trait MafKeys: Send + Sync {
    /// Returns the state of a key.
    fn known(&self, maf: &str, relative_key_id: &str) -> Known;

    /// Asks the MAF, once for all who want the same key, and comes to an end in a bounded time. It goes
    /// on where nobody waits for it any more.
    fn fetch(
        self: Arc<Self>,
        maf: String,
        relative_key_id: String,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
