//! What an operator may set.

use std::time::Duration;

use saegis_onem2m::id::{IdError, check_fqdn};

/// Settings of a MAF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    fqdn: String,
    /// Longest time that a client registration lasts, from when it was made or last updated.
    pub max_registration_lifetime: Duration,
    /// Longest time that a key lasts, from when it was registered, however often it is updated.
    pub max_key_lifetime: Duration,
    /// Most client registrations. Each client has one.
    pub max_clients: u64,
    /// Most keys of all clients.
    pub max_keys: u64,
    /// Most keys of one client. All of them are removed in one transaction when it goes.
    pub max_keys_per_client: u16,
}

impl Settings {
    /// The settings of the MAF with that domain name: a year for a registration, 30 days for a key,
    /// 100,000 clients, 1,000,000 keys, 1,000 of one client.
    ///
    /// # Errors
    /// When it is no domain name.
    pub fn new(fqdn: &str) -> Result<Self, IdError> {
        const DAY: u64 = 24 * 60 * 60;
        check_fqdn(fqdn)?;
        Ok(Self {
            fqdn: fqdn.to_ascii_lowercase(),
            max_registration_lifetime: Duration::from_secs(365 * DAY),
            max_key_lifetime: Duration::from_secs(30 * DAY),
            max_clients: 100_000,
            max_keys: 1_000_000,
            max_keys_per_client: 1_000,
        })
    }

    /// The MAF-FQDN, in lower case.
    #[must_use]
    pub fn fqdn(&self) -> &str {
        &self.fqdn
    }
}
