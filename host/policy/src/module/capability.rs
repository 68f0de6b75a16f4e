//! Capabilities: each is an import of the contract in `wit/`.

use std::fmt;

use serde::Deserialize;

/// A capability: an interface that a module may import if its manifest requests it and the settings
/// grant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Finds rows in policy tables.
    PolicyTables,
    /// Reads the files that the manifest lists.
    PolicyFiles,
    /// Writes lines to the log.
    Log,
    /// Reads the clock.
    Clock,
    /// Creates keys from bytes: a module with it can accept any client.
    SupplyKeyBytes,
    /// Reads the bytes of keys in policy tables: a module with it can see all keys.
    ReadStoredKeys,
    /// Finds rules of the service subscription.
    ServiceSubscription,
    /// Gets keys from M2M Authentication Functions.
    MafKeys,
    /// Sends HTTP requests to configured hosts: `wasi:http`.
    OutgoingHttp,
    /// Stores values in a small store of the module: `wasi:keyvalue`.
    KeyValue,
    /// Reads configured values and secrets: `wasi:config`.
    Config,
}

impl Capability {
    /// All capabilities.
    pub const ALL: [Self; 11] = [
        Self::PolicyTables,
        Self::PolicyFiles,
        Self::Log,
        Self::Clock,
        Self::SupplyKeyBytes,
        Self::ReadStoredKeys,
        Self::ServiceSubscription,
        Self::MafKeys,
        Self::OutgoingHttp,
        Self::KeyValue,
        Self::Config,
    ];

    /// Returns its name, which is that of its interface in `wit/` if that belongs to the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PolicyTables => "policy-tables",
            Self::PolicyFiles => "policy-files",
            Self::Log => "log",
            Self::Clock => "clock",
            Self::SupplyKeyBytes => "supply-key-bytes",
            Self::ReadStoredKeys => "read-stored-keys",
            Self::ServiceSubscription => "service-subscription",
            Self::MafKeys => "maf-keys",
            Self::OutgoingHttp => "outgoing-http",
            Self::KeyValue => "key-value",
            Self::Config => "config",
        }
    }

    /// Returns the WASI package that it stands for, if it does not belong to the contract. Such a
    /// capability has limits and is granted to a module by name.
    #[must_use]
    pub fn wasi(self) -> Option<&'static str> {
        match self {
            Self::OutgoingHttp => Some("wasi:http/"),
            Self::KeyValue => Some("wasi:keyvalue/"),
            Self::Config => Some("wasi:config/"),
            Self::PolicyTables
            | Self::PolicyFiles
            | Self::Log
            | Self::Clock
            | Self::SupplyKeyBytes
            | Self::ReadStoredKeys
            | Self::ServiceSubscription
            | Self::MafKeys => None,
        }
    }

    /// Returns the capability that a WASI import needs. Returns `None` for the empty WASI, which
    /// every module may import.
    #[must_use]
    pub fn of_wasi(import: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.wasi().is_some_and(|package| import.starts_with(package)))
    }

    /// Returns whether calls with it can wait and have effects outside their sandbox.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, Self::OutgoingHttp | Self::KeyValue)
    }

    /// Whether it only reads constant parts of a generation.
    #[must_use]
    pub fn is_pure(self) -> bool {
        match self {
            Self::PolicyFiles | Self::ServiceSubscription | Self::Config => true,
            // Rows of tables can expire.
            Self::PolicyTables
            | Self::SupplyKeyBytes
            | Self::ReadStoredKeys
            | Self::Log
            | Self::Clock
            | Self::MafKeys
            | Self::OutgoingHttp
            | Self::KeyValue => false,
        }
    }

    /// Returns the capability of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_files_are_those_of_the_contract() {
        #[derive(Deserialize)]
        struct One {
            c: Capability,
        }
        for c in Capability::ALL {
            assert_eq!(Capability::from_name(c.name()), Some(c));
            assert_eq!(toml::from_str::<One>(&format!("c = \"{c}\"")).unwrap().c, c);
        }
        assert_eq!(Capability::from_name("all"), None);
    }
}
