//! The generation in force, its predecessors, reloads and rollouts.

use serde::{Deserialize, Serialize};

use super::outcome_count::OutcomeCount;

/// The content of a generation.
#[derive(Debug, Serialize, Deserialize)]
pub struct GenerationReport {
    /// Its number, if it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Warnings about it.
    pub warnings: Vec<String>,
    /// The number of rules of the service subscription.
    pub rules: Option<usize>,
    /// The certificates.
    pub certificates: Option<CertificateReport>,
    /// The modules.
    pub modules: Vec<ModuleEntry>,
    /// The replaced modules, which `module rollback` reactivates.
    pub replaced: Vec<String>,
    /// The shadow modules.
    pub shadows: Vec<ShadowEntry>,
    /// The tables.
    pub tables: Vec<TableEntry>,
}

/// The certificates of a generation.
#[derive(Debug, Serialize, Deserialize)]
pub struct CertificateReport {
    /// The certificates of the gateway itself.
    pub own: Vec<OwnCertificateEntry>,
    /// The number of trust anchors.
    pub anchors: usize,
    /// The number of pinned keys.
    pub pinned_keys: usize,
}

/// A certificate of the gateway.
#[derive(Debug, Serialize, Deserialize)]
pub struct OwnCertificateEntry {
    /// The names in the certificate.
    pub names: Vec<String>,
    /// The end of its validity.
    pub expires: String,
}

/// A module.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModuleEntry {
    /// Its name.
    pub name: String,
    /// The module that it replaces.
    pub replaces: Option<String>,
    /// Whether it was promoted, so that it can be rolled back.
    #[serde(default)]
    pub promoted: bool,
    /// Its hooks.
    pub hooks: Vec<String>,
    /// The capabilities that it may use.
    pub capabilities: Vec<String>,
    /// The digest of its file.
    pub sha256: String,
    /// The artifact that it comes from.
    pub source: Option<String>,
    /// The key that its manifest is signed with.
    pub signed_by: Option<String>,
    /// The time of the signature.
    pub signed_at: Option<String>,
    /// Its calls since the start, by hook.
    #[serde(default)]
    pub calls: Vec<HookTimes>,
    /// The causes of its failed calls since the start, with their numbers.
    #[serde(default)]
    pub failures: Vec<OutcomeCount>,
}

/// Calls of a hook of a module since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HookTimes {
    /// The hook.
    pub hook: String,
    /// The number of calls.
    pub calls: u64,
    /// The median duration in microseconds, from the question to the answer.
    pub median_us: f64,
    /// The duration in microseconds that 99 of 100 calls do not exceed.
    pub p99_us: f64,
}

/// A shadow module.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShadowEntry {
    /// Its name.
    pub name: String,
    /// The module that it would replace.
    pub replaces: Option<String>,
    /// Its hooks.
    pub hooks: Vec<String>,
    /// The capabilities that it may use.
    pub capabilities: Vec<String>,
    /// The digest of its file.
    pub sha256: String,
    /// The number of decisions in which it agreed.
    pub agreed: u64,
    /// The number of decisions in which it disagreed.
    pub disagreed: u64,
    /// The number of decisions that could not be compared.
    pub not_compared: u64,
    /// The number of decisions for which it was not called.
    pub dropped: u64,
    /// The faults that prevent it from being loaded.
    pub faults: Vec<String>,
    /// The last disagreements, the last one first.
    #[serde(default)]
    pub differences: Vec<ShadowDifference>,
}

/// A decision in which a shadow module disagreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowDifference {
    /// The time of the decision.
    pub at: String,
    /// The hook.
    pub hook: String,
    /// The question.
    pub question: String,
    /// The decision in force.
    pub in_force: String,
    /// The decision with the shadow module in force.
    pub shadow: String,
}

/// A table.
#[derive(Debug, Serialize, Deserialize)]
pub struct TableEntry {
    /// Its name.
    pub name: String,
    /// The number of its rows.
    pub rows: usize,
    /// The number of rows with a short key, or a key with a pattern.
    pub short_keys: usize,
    /// Whether every user of the machine can read its file.
    pub exposed: bool,
    /// The modules that read it.
    pub read_by: Vec<String>,
}

/// The outcome of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadOutcome {
    /// Nothing has changed.
    Unchanged,
    /// A new generation is in force.
    InForce,
    /// The files on disk were rejected.
    Refused,
}

/// The result of a reload.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Its outcome.
    pub outcome: ReloadOutcome,
    /// The generation in force.
    pub generation: u64,
    /// The changes, if a new generation is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
    /// Whether the files on disk are valid again, if nothing has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// The faults, or the files that are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<Vec<String>>,
    /// Whether the configuration has changed since the start.
    pub configuration_changed: bool,
}

/// The last generations.
#[derive(Debug, Serialize, Deserialize)]
pub struct GenerationList {
    /// The generations, the last one first.
    pub generations: Vec<GenerationEntry>,
}

/// A generation that came into force or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationEntry {
    /// Whether it came into force.
    pub outcome: ReloadOutcome,
    /// The number of the generation that was in force afterwards.
    pub generation: u64,
    /// The time.
    pub at: String,
    /// The changes in one line. The first generation has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
    /// The changed tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableChange>,
    /// The modules that were added, removed or changed, each after `+`, `-` or `~`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// The faults, or the files that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultEntry>,
}

/// Numbers of changed rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChange {
    /// The table.
    pub name: String,
    /// Rows with a new identifier.
    pub added: usize,
    /// Rows whose identifier is gone.
    pub removed: usize,
    /// Rows with another content.
    pub changed: usize,
}

/// A fault of a refused generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultEntry {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u64>,
    /// The column, in characters from 1.
    pub column: Option<u64>,
    /// The fault and its remedy.
    pub fault: String,
    /// The line itself, without keys.
    pub text: Option<String>,
}

/// Direction of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From shadow to in force.
    Promote,
    /// From in force to shadow.
    RollBack,
}

impl Direction {
    /// Returns the subcommand of `saegis module`.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::RollBack => "rollback",
        }
    }

    /// Returns the mode in the manifest after the change.
    #[must_use]
    pub fn mode(self) -> &'static str {
        match self {
            Self::Promote => "in-force",
            Self::RollBack => "shadow",
        }
    }
}

/// The result of a promotion or a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutReport {
    /// The module.
    pub module: String,
    /// Its mode now.
    pub mode: String,
    /// The module that it replaces now.
    pub replaced: Option<String>,
    /// The module that is in force again.
    pub reactivated: Option<String>,
    /// The generation in force, if a gateway is running.
    pub generation: Option<u64>,
}

impl RolloutReport {
    /// Returns it as a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let name = &self.module;
        let what = match (self.mode.as_str(), &self.replaced, &self.reactivated) {
            ("in-force", Some(former), _) => {
                format!("{name} is in force and replaces {former}, whose files stay")
            }
            ("in-force", None, _) => format!("{name} is in force"),
            (_, _, Some(former)) => {
                format!("{former} is in force again, and {name} is a shadow")
            }
            (_, _, None) => format!("{name} is a shadow again"),
        };
        let when = match self.generation {
            Some(generation) => format!("generation {generation}"),
            None => "no gateway is running; it comes into force at the next start".into(),
        };
        format!("{what}: {when}")
    }
}
