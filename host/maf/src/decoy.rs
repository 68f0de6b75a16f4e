//! A sealed key record that is decrypted if a lookup finds none.
//!
//! Without it, the time of a response would show a client which keys exist.

use saegis_onem2m::credential::PresharedKey;

use crate::kind::Kind;
use crate::record::{KeyRecord, Seconds, StoredKey};
use crate::store::StoreError;
use saegis_vault::{EntryId, SealError, Vault};

/// A sealed record that is never stored, and the entry ID that is authenticated with it.
pub(crate) struct Decoy {
    pub(crate) entry_id: EntryId,
    pub(crate) sealed: Vec<u8>,
}

impl Decoy {
    pub(crate) fn new(vault: &Vault) -> Result<Self, StoreError> {
        // The slash distinguishes it from each RelativeKeyID.
        let relative = "/decoy";
        let entry_id = vault.entry_id(Kind::Key, relative);
        // The lengths are those of a usual record, because they determine the time of decryption.
        let record = KeyRecord {
            relative: relative.into(),
            source: "//decoy.invalid/Cdecoy-of-a-usual-length".into(),
            created: 0,
            expires: Seconds::MAX,
            labels: Vec::new(),
            admin: "decoy.invalid".into(),
            suid: 32,
            targets: vec!["//decoy.invalid/decoy-of-a-usual-length".into()],
            of_session: true,
        };
        let key = PresharedKey::new(&[0; 32]).ok();
        let plain = StoredKey { record, key }.write()?;
        let sealed = vault.seal(Kind::Key, &entry_id, &plain);
        Ok(Self { entry_id, sealed: sealed.map_err(|SealError| StoreError::Seal)? })
    }
}
