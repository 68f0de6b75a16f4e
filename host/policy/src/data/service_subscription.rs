//! The service subscription: the AEs that may register with each credential (TS-0001 clauses 9.6.20
//! and 9.6.29).
//!
//! It is parsed from the policy file `service-subscription.toml` and indexed, so that a lookup does
//! not visit every rule.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use saegis_onem2m::app_rule::{allows_ae, may_be_an_app_id};
use saegis_onem2m::id::CseId;
use saegis_onem2m::wildcard::fits;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::data::document::Document;
use crate::data::fault::Fault;

/// Name of the policy file.
pub const FILE: &str = "service-subscription.toml";

/// Maximum number of rules that a lookup returns. Each of them allows the request, so one would
/// suffice.
const MAX_FOUND_RULES: usize = 8;
/// Maximum number of entries in a list of a rule, and maximum length of an entry in bytes. A module
/// can hold them.
const MAX_LIST_ENTRIES: usize = 64;
const MAX_ENTRY: usize = 256;

/// A rule: AEs with these AE-IDs may register with these credentials and App-IDs. An empty list
/// allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Credential-IDs, with wildcards.
    pub applicable_cred_ids: Vec<String>,
    /// App-IDs, with wildcards.
    pub allowed_app_ids: Vec<String>,
    /// AE-ID-Stems, with wildcards.
    pub allowed_aes: Vec<String>,
    /// Roles that its AEs may have in requests.
    pub allowed_role_ids: Vec<String>,
}

impl Rule {
    fn allows(&self, credential_id: &str, app_id: &str, from: Option<&str>) -> bool {
        self.applicable_cred_ids.iter().any(|p| fits(p, credential_id))
            && self.allowed_app_ids.iter().any(|p| fits(p, app_id))
            && self.allowed_aes.iter().any(|p| allows_ae(p, from))
    }
}

/// The service subscription has no node with the CSE-ID of this CSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoNode;

/// The part of the service subscription that applies to one CSE.
#[derive(Debug, Default)]
pub struct Subscription {
    /// Rules that the node of the CSE links; `None` without a node.
    rules: Option<Vec<Rule>>,
    credentials: Index,
    app_ids: Index,
    aes: Index,
    /// The same for each other CSE with a node.
    others: HashMap<CseId, Arc<Subscription>>,
}

/// Index of the patterns that may match a text: by the whole text, or by the part before their
/// asterisk.
#[derive(Debug, Default)]
struct Index {
    exact: HashMap<Box<str>, Vec<u32>>,
    prefixes: HashMap<Box<str>, Vec<u32>>,
    lengths: BTreeSet<usize>,
}

impl Index {
    fn add(&mut self, pattern: &str, rule: u32) {
        let rules = match pattern.split_once('*') {
            None => self.exact.entry(pattern.into()).or_default(),
            Some((prefix, _)) => {
                self.lengths.insert(prefix.len());
                self.prefixes.entry(prefix.into()).or_default()
            }
        };
        if rules.last() != Some(&rule) {
            rules.push(rule);
        }
    }

    fn candidates(&self, text: &str) -> Vec<&[u32]> {
        let by_prefix = self.lengths.iter().filter_map(|&n| self.prefixes.get(text.get(..n)?));
        self.exact.get(text).into_iter().chain(by_prefix).map(Vec::as_slice).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InFile {
    #[serde(default)]
    node: Vec<NodeInFile>,
    #[serde(default)]
    rule: Vec<RuleInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NodeInFile {
    #[serde(rename = "node-id")]
    _node_id: Option<String>,
    cse_id: Spanned<String>,
    #[serde(default)]
    rule_links: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleInFile {
    name: Spanned<String>,
    #[serde(default)]
    applicable_cred_ids: Vec<Spanned<String>>,
    #[serde(default)]
    allowed_app_ids: Vec<Spanned<String>>,
    #[serde(default)]
    allowed_aes: Vec<Spanned<String>>,
    #[serde(default)]
    allowed_role_ids: Vec<Spanned<String>>,
}

impl RuleInFile {
    fn lists(&self) -> [&[Spanned<String>]; 4] {
        [
            &self.applicable_cred_ids,
            &self.allowed_app_ids,
            &self.allowed_aes,
            &self.allowed_role_ids,
        ]
    }

    fn into_rule(self) -> Rule {
        let texts =
            |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
        Rule {
            name: self.name.into_inner(),
            applicable_cred_ids: texts(self.applicable_cred_ids),
            allowed_app_ids: texts(self.allowed_app_ids),
            allowed_aes: texts(self.allowed_aes),
            allowed_role_ids: texts(self.allowed_role_ids),
        }
    }
}

/// Checks the rules, and returns the position of each by its name.
fn rules_by_name(document: &mut Document<'_>, rules: &[RuleInFile]) -> HashMap<String, usize> {
    let mut by_name = HashMap::new();
    for (n, rule) in rules.iter().enumerate() {
        if by_name.insert(rule.name.get_ref().clone(), n).is_some() {
            document.add_fault_of(&rule.name, "is also the name of another rule");
        }
        for list in rule.lists() {
            if let Some(entry) = list.get(MAX_LIST_ENTRIES) {
                let what =
                    format!("exceeds the maximum number of entries of a list ({MAX_LIST_ENTRIES})");
                document.add_fault_of(entry, &what);
            }
            for entry in list.iter().filter(|e| e.get_ref().len() > MAX_ENTRY) {
                document.add_fault_of(entry, &format!("is longer than {MAX_ENTRY} bytes"));
            }
        }
        for entry in rule.allowed_app_ids.iter().filter(|e| !may_be_an_app_id(e.get_ref())) {
            document
                .add_fault_of(entry, "is not an App-ID: it must start with R, N or an asterisk");
        }
    }
    by_name
}

impl Subscription {
    /// Parses the part of the policy file that applies to the CSE `own`.
    ///
    /// # Errors
    /// Returns all faults.
    pub fn parse(file: &Path, text: &str, own: &CseId) -> Result<Self, Vec<Fault>> {
        let mut document = Document::parse(file, text);
        let Some(InFile { node, rule }) = document.read() else {
            return Err(document.into_faults());
        };
        let by_name = rules_by_name(&mut document, &rule);
        let mut linked = None;
        let mut others = Vec::new();
        let mut seen = Vec::new();
        // If a rule is invalid, a link to it is not a second fault.
        let rules_are_known = !document.is_faulty("rule");
        for NodeInFile { cse_id, rule_links, .. } in &node {
            let id = match CseId::parse(cse_id.get_ref()) {
                Ok(id) => id,
                Err(e) => {
                    document.add_fault_of(cse_id, &format!("is not a CSE-ID: {e}"));
                    continue;
                }
            };
            if seen.contains(&id) {
                document.add_fault_of(cse_id, "is also the CSE-ID of another node");
            }
            let mut numbers = Vec::new();
            for link in rule_links {
                match by_name.get(link.get_ref()) {
                    Some(&n) => numbers.push(n),
                    None if rules_are_known => {
                        document.add_fault_of(link, "is not the name of a rule")
                    }
                    None => {}
                }
            }
            if id == *own {
                linked = Some(numbers);
            } else {
                others.push((id.clone(), numbers));
            }
            seen.push(id);
        }
        let faults = document.into_faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut rule: Vec<_> = rule.into_iter().map(|r| Some(r.into_rule())).collect();
        let others = others.into_iter().map(|(cse, numbers)| {
            let rules = numbers.into_iter().filter_map(|n| rule.get(n)?.clone()).collect();
            (cse, Arc::new(Self::of(Some(rules))))
        });
        let others = others.collect();
        let rules = linked
            .map(|numbers| numbers.into_iter().filter_map(|n| rule.get_mut(n)?.take()).collect());
        Ok(Self { others, ..Self::of(rules) })
    }

    /// Creates the subscription with these rules for the CSE, or without a node for it.
    #[must_use]
    pub fn of(rules: Option<Vec<Rule>>) -> Self {
        let mut own = Self { rules: None, ..Self::default() };
        for (n, rule) in rules.iter().flatten().enumerate() {
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            rule.applicable_cred_ids.iter().for_each(|p| own.credentials.add(p, n));
            rule.allowed_app_ids.iter().for_each(|p| own.app_ids.add(p, n));
            rule.allowed_aes.iter().for_each(|p| own.aes.add(p, n));
        }
        Self { rules, ..own }
    }

    /// Returns the part for another CSE. Without a node there, it has none.
    #[must_use]
    pub fn of_cse(&self, cse: &CseId) -> Arc<Self> {
        self.others.get(cse).cloned().unwrap_or_default()
    }

    /// Returns the number of rules for the CSE.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules.as_ref().map_or(0, Vec::len)
    }

    /// Returns whether there is a rule for that credential.
    ///
    /// # Errors
    /// Fails if the CSE has no node.
    pub fn has_rule_for(&self, credential_id: &str) -> Result<bool, NoNode> {
        let rules = self.rules.as_ref().ok_or(NoNode)?;
        let fit = |n: &u32| {
            let rule = rules.get(*n as usize);
            rule.is_some_and(|r| r.applicable_cred_ids.iter().any(|p| fits(p, credential_id)))
        };
        Ok(self.credentials.candidates(credential_id).into_iter().flatten().any(fit))
    }

    /// Returns rules that allow a registration; if there are many, only some of them.
    ///
    /// # Errors
    /// Fails if the CSE has no node.
    pub fn find(
        &self,
        credential_id: &str,
        app_id: &str,
        from: Option<&str>,
    ) -> Result<Vec<&Rule>, NoNode> {
        let rules = self.rules.as_ref().ok_or(NoNode)?;
        let by = [
            self.credentials.candidates(credential_id),
            self.app_ids.candidates(app_id),
            // The prefix of patterns for all is empty or a single letter.
            self.aes.candidates(from.unwrap_or("C")),
        ];
        let size = |lists: &Vec<&[u32]>| lists.iter().map(|list| list.len()).sum::<usize>();
        let fewest = by.into_iter().min_by_key(size).unwrap_or_default();
        let mut found: Vec<&Rule> = Vec::new();
        for &n in fewest.into_iter().flatten() {
            let Some(rule) = rules.get(n as usize) else { continue };
            let known = || found.iter().any(|f| std::ptr::eq(*f, rule));
            if rule.allows(credential_id, app_id, from) && !known() {
                found.push(rule);
                if found.len() >= MAX_FOUND_RULES {
                    break;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
#[path = "service_subscription_tests.rs"]
mod tests;
