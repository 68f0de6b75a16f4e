//! The state that operations use.

use saegis_onem2m::id::AbsoluteId;

use crate::decoy::Decoy;
use crate::kind::Kind;
use crate::settings::Settings;
use crate::store::Store;
use saegis_vault::EntryId;

/// The state of a MAF.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) decoy: Decoy,
}

impl State {
    /// Returns the entry ID of a client's entry.
    pub(crate) fn entry_id(&self, client: &AbsoluteId) -> EntryId {
        self.store.vault().entry_id(Kind::Client, client.as_str())
    }

    /// Returns the address of a resource below the base.
    pub(crate) fn address(&self, name: &str) -> String {
        format!("//{}/{}/{name}", self.settings.fqdn(), self.settings.base.bare())
    }
}
