//! The difference between a generation and the one before it, for the operator.

use std::fmt;

use crate::data::table::RowChanges;

/// The difference between a generation and the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GenerationDifference {
    /// Changes of each changed table, by its name.
    pub tables: Vec<(String, RowChanges)>,
    /// Names of modules that were added, removed or changed, each after `+`, `-` or `~`.
    pub modules: Vec<String>,
    /// Whether the service subscription has changed.
    pub rules: bool,
    /// Whether the roles or their holders have changed.
    pub roles: bool,
    /// Whether the issuers of tokens, or the revoked tokens, have changed.
    pub token_issuers: bool,
    /// Whether certificates, authorities or revocation lists have changed.
    pub certificates: bool,
}

/// Formats it as `psk-lookup-table +3 -1 ~2 rows; modules +quota`.
impl fmt::Display for GenerationDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (name, RowChanges { added, removed, changed }) in &self.tables {
            parts.push(format!("{name} +{added} -{removed} ~{changed} rows"));
        }
        if !self.modules.is_empty() {
            parts.push(format!("modules {}", self.modules.join(" ")));
        }
        if self.rules {
            parts.push("service subscription".into());
        }
        if self.roles {
            parts.push("roles".into());
        }
        if self.token_issuers {
            parts.push("token issuers".into());
        }
        if self.certificates {
            parts.push("certificates".into());
        }
        if parts.is_empty() {
            parts.push("names of files, manifests or shadows".into());
        }
        f.write_str(&parts.join("; "))
    }
}
