//! What a module may ask for: each capability is an import of the contract in `wit/`.

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
}

impl Capability {
    /// All capabilities.
    pub const ALL: [Self; 8] = [
        Self::PolicyTables,
        Self::PolicyFiles,
        Self::Log,
        Self::Clock,
        Self::SupplyKeyBytes,
        Self::ReadStoredKeys,
        Self::ServiceSubscription,
        Self::MafKeys,
    ];

    /// Its name, which is that of its interface in `wit/`.
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
