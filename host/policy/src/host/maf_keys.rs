//! Keys of M2M Authentication Functions, which the gateway fetches for modules.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::credential::{Entity, PresharedKey};
use saegis_onem2m::id::CredentialId;

/// Key that a MAF distributes.
pub struct MafKey {
    /// The entity that registered it.
    pub source: Entity,
    /// Credential-ID that it defines.
    pub credential_id: CredentialId,
    /// Its security usage.
    pub suid: u8,
    /// Expiration time.
    pub expires: SystemTime,
    /// The key.
    pub key: PresharedKey,
}

/// State of a MAF key, as far as known without a request to the MAF.
pub enum MafKeyState {
    /// The key.
    Key(MafKey),
    /// There is no configured MAF with that domain name.
    NoMaf,
    /// No request to the MAF has returned yet.
    NotFetched,
    /// The MAF does not provide the key to this CSE, or not for this purpose.
    Refused,
    /// The MAF cannot be reached.
    Unreachable,
}

/// Keys of MAFs: cached ones, and a way to fetch others.
pub trait MafKeys: Send + Sync {
    /// Returns the state of a key.
    fn state(&self, maf: &str, relative_key_id: &str) -> MafKeyState;

    /// Requests a key from the MAF, once for all callers that need it, within a time limit. The
    /// request continues if a caller is dropped.
    fn fetch(
        self: Arc<Self>,
        maf: String,
        relative_key_id: String,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
