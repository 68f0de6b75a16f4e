//! The settings of a MAF.

use std::time::Duration;

use saegis_onem2m::id::{CseId, IdError, check_fqdn};

use crate::names;

/// The settings of a MAF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    fqdn: String,
    /// Base of the MAF, which takes the position of the CSE-ID in an address.
    pub base: CseId,
    /// Maximum lifetime of a client registration, from its creation or last update.
    pub max_registration_lifetime: Duration,
    /// Maximum lifetime of a key, from its registration on; updates do not extend it.
    pub max_key_lifetime: Duration,
    /// Maximum number of clients. Each has one registration for an administrating stakeholder, and
    /// at most eight in all.
    pub max_clients: u64,
    /// Maximum number of keys of all clients.
    pub max_keys: u64,
    /// Maximum number of keys of one client. All of them are removed in one transaction with the
    /// client.
    pub max_keys_per_client: u16,
}

impl Settings {
    /// Returns the settings of the MAF with this domain name: a year for a registration, 30 days
    /// for a key, 100,000 clients, 1,000,000 keys, 1,000 keys of one client.
    ///
    /// # Errors
    /// Returns an error if `fqdn` is not a domain name.
    pub fn new(fqdn: &str) -> Result<Self, IdError> {
        const DAY: u64 = 24 * 60 * 60;
        check_fqdn(fqdn)?;
        Ok(Self {
            fqdn: fqdn.to_ascii_lowercase(),
            base: names::default_base(),
            max_registration_lifetime: Duration::from_secs(365 * DAY),
            max_key_lifetime: Duration::from_secs(30 * DAY),
            max_clients: 100_000,
            max_keys: 1_000_000,
            max_keys_per_client: 1_000,
        })
    }

    /// Returns the MAF-FQDN, in lower case.
    #[must_use]
    pub fn fqdn(&self) -> &str {
        &self.fqdn
    }
}
