//! The entry that a failed lookup decrypts instead, so that it takes the same time.

use saegis_onem2m::credential::PresharedKey;

use crate::record::{KeyRecord, Seconds, StoredKey};
use crate::store::StoreError;
use crate::vault::{Kind, Slot, Vault};

/// An entry that a lookup without a result decrypts, so that it does the same work.
pub(crate) struct Decoy {
    pub(crate) slot: Slot,
    pub(crate) sealed: Vec<u8>,
}

impl Decoy {
    pub(crate) fn new(vault: &Vault) -> Result<Self, StoreError> {
        // A RelativeKeyID has no slash.
        let relative = "/decoy";
        let slot = vault.slot(Kind::Key, relative);
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
        Ok(Self { slot, sealed: vault.seal(Kind::Key, &slot, &plain)? })
    }
}
