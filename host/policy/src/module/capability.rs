//! Capabilities: each is an import of the contract in `wit/`.

use std::fmt;

use serde::Deserialize;

/// A capability: an interface that a module may import when its manifest asks for it and the
/// settings grant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Look rows up in policy tables.
    PolicyTables,
    /// Read the files that the manifest lists.
    PolicyFiles,
    /// Write lines to the log.
    Log,
    /// Read the clock.
    Clock,
    /// Make keys out of bytes: with it a module can let in whom it likes.
    SupplyKeyBytes,
    /// Read the bytes of keys in policy tables: with it a module can see them all.
    ReadStoredKeys,
    /// Find rules of the service subscription.
    ServiceSubscription,
    /// Get keys from M2M Authentication Functions.
    MafKeys,
    /// Send HTTP requests to hosts that the settings name: `wasi:http`.
    OutgoingHttp,
    /// Keep values in a small store of its own: `wasi:keyvalue`.
    KeyValue,
    /// Read the values and secrets that the settings have for it: `wasi:config`.
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

    /// Its name, which is that of its interface in `wit/`, where that is the contract's own.
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

    /// The package of WASI whose interfaces it stands for, where it is not the contract's own. Such a
    /// capability has limits, and is granted to a module by its name.
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

    /// The capability that an import of WASI needs; none, where it is of the WASI that everybody has
    /// and that has nothing in it.
    #[must_use]
    pub fn of_wasi(import: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.wasi().is_some_and(|package| import.starts_with(package)))
    }

    /// Whether calls with it wait for something and have effects outside of their sandbox.
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

    /// The capability of that name.
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
