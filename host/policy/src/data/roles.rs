//! Roles and their holders (TS-0003 clause 7.4.3): the policy file `roles.toml`.
//!
//! A role is assigned to AEs and CSEs by their identifiers, to the holders of credentials, and to AEs
//! by their App-IDs. A role that a request claims has an effect only if it is assigned.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use saegis_onem2m::app_rule::may_be_an_app_id;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::CseId;
use saegis_onem2m::role::{AssignedRole, RoleId};
use saegis_onem2m::routing::canonical_originator;
use saegis_onem2m::wildcard::fits;
use serde::Deserialize;
use toml::Spanned;

use crate::data::document::Document;
use crate::data::fault::Fault;

/// Name of the policy file.
pub const FILE: &str = "roles.toml";

/// Maximum number of roles.
const MAX_ROLES: usize = 1_000;

/// Maximum number of holders of a role in each of its lists, and how many of these can have
/// wildcards. Each of the latter is compared with each claim.
const MAX_HOLDERS: usize = 10_000;
const MAX_PATTERNS: usize = 64;

/// Maximum length of a holder, in bytes.
const MAX_HOLDER: usize = 256;

/// The roles, with their holders.
#[derive(Debug, Default)]
pub struct Roles {
    roles: HashMap<RoleId, Holders>,
    cse: Option<CseId>,
    service_provider: Option<String>,
}

/// The holders of a role.
#[derive(Debug, Default)]
struct Holders {
    /// AEs and CSEs, by their canonical identifiers.
    originators: HashSet<Box<str>>,
    credentials: Patterns,
    app_ids: Option<Arc<[Box<str>]>>,
}

/// Texts, some of them with wildcards.
#[derive(Debug, Default)]
struct Patterns {
    exact: HashSet<Box<str>>,
    wildcards: Vec<Box<str>>,
}

impl Patterns {
    fn of(texts: Vec<Spanned<String>>) -> Self {
        let mut all = Self::default();
        for text in texts.into_iter().map(Spanned::into_inner) {
            if text.contains('*') {
                all.wildcards.push(text.into());
            } else {
                all.exact.insert(text.into());
            }
        }
        all
    }

    fn match_text(&self, text: &str) -> bool {
        self.exact.contains(text) || self.wildcards.iter().any(|pattern| fits(pattern, text))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InFile {
    #[serde(default)]
    role: Vec<RoleInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RoleInFile {
    id: Spanned<String>,
    #[serde(default)]
    originators: Vec<Spanned<String>>,
    #[serde(default)]
    credentials: Vec<Spanned<String>>,
    #[serde(default)]
    app_ids: Vec<Spanned<String>>,
}

impl Roles {
    /// Parses the policy file of the CSE `cse`.
    ///
    /// # Errors
    /// Returns all faults.
    pub fn parse(
        file: &Path,
        text: &str,
        cse: &CseId,
        service_provider: Option<&str>,
    ) -> Result<Self, Vec<Fault>> {
        let mut document = Document::parse(file, text);
        let Some(InFile { role: listed }) = document.read() else {
            return Err(document.into_faults());
        };
        let mut roles = HashMap::new();
        for (n, role) in listed.into_iter().enumerate() {
            if n == MAX_ROLES {
                let what = format!("exceeds the maximum number of roles ({MAX_ROLES})");
                document.add_fault_of(&role.id, &what);
                break;
            }
            let id = match RoleId::parse(role.id.get_ref()) {
                Ok(id) => id,
                Err(e) => {
                    document.add_fault_of(&role.id, &e.to_string());
                    continue;
                }
            };
            if roles.contains_key(&id) {
                document.add_fault_of(&role.id, "is also the id of another role");
            }
            roles.insert(id, Holders::of(role, (cse, service_provider), &mut document));
        }
        let faults = document.into_faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let service_provider = service_provider.map(Into::into);
        Ok(Self { roles, cse: Some(cse.clone()), service_provider })
    }

    /// Returns the number of roles.
    #[must_use]
    pub fn count(&self) -> usize {
        self.roles.len()
    }

    /// Returns those of the claimed roles that are assigned to an originator, each once. The caller
    /// has checked that the association may use the originator.
    #[must_use]
    pub fn assigned<'c>(
        &self,
        association: &SecurityAssociation,
        originator: &str,
        claims: impl Iterator<Item = &'c str>,
    ) -> Vec<AssignedRole> {
        let Some(holder) = self.holder(association, originator) else { return Vec::new() };
        let mut assigned: Vec<AssignedRole> = Vec::new();
        for claim in claims {
            if assigned.iter().any(|role| role.id.as_str() == claim) {
                continue;
            }
            let Ok(claim) = RoleId::parse(claim) else { continue };
            let Some((id, holders)) = self.roles.get_key_value(&claim) else { continue };
            if holders.include(&holder) {
                assigned.push(AssignedRole { id: id.clone(), app_ids: None });
            } else if let Some(app_ids) = holders.app_ids.clone().filter(|_| holder.is_ae_here) {
                assigned.push(AssignedRole { id: id.clone(), app_ids: Some(app_ids) });
            }
        }
        assigned
    }

    /// Returns the properties of an originator by which roles are assigned.
    fn holder(&self, association: &SecurityAssociation, originator: &str) -> Option<Holder> {
        let provider = self.service_provider.as_deref();
        let canonical = |id: &str| canonical_originator(self.cse.as_ref()?, provider, id);
        let id = canonical(originator)?;
        // An AE-ID that a credential got by registering may belong to another AE later, and its
        // roles would pass on to that AE.
        let is_fixed = association.credential_entity() != &Entity::NotYetKnown;
        let is_itself = match association.entity() {
            Entity::Ae(_) | Entity::Aes(_) => true,
            // A CSE also forwards requests of others.
            Entity::Cse(cse) => canonical(&cse.to_string()).is_some_and(|own| own == id),
            Entity::NotYetKnown | Entity::MafClient(_) => false,
        };
        Some(Holder {
            originator: is_fixed.then_some(id),
            credential: is_itself.then(|| association.credential_id.to_string()),
            is_ae_here: is_itself && !matches!(association.entity(), Entity::Cse(_)),
        })
    }
}

/// An originator that may have roles.
struct Holder {
    /// Canonical identifier, if it belongs to the originator permanently.
    originator: Option<String>,
    /// Credential-ID of the association, if it is the originator's own.
    credential: Option<String>,
    /// Whether it is an AE of this CSE.
    is_ae_here: bool,
}

impl Holders {
    fn of(
        role: RoleInFile,
        (cse, service_provider): (&CseId, Option<&str>),
        document: &mut Document<'_>,
    ) -> Self {
        let mut originators = HashSet::new();
        for list in [&role.originators, &role.credentials, &role.app_ids] {
            check_list(list, document);
        }
        for entry in &role.originators {
            match canonical_originator(cse, service_provider, entry.get_ref()) {
                Some(id) => {
                    originators.insert(id.into());
                }
                None => document.add_fault_of(entry, "is not an AE-ID or a CSE-ID"),
            }
        }
        for entry in role.app_ids.iter().filter(|e| !may_be_an_app_id(e.get_ref())) {
            document
                .add_fault_of(entry, "is not an App-ID: it must start with R, N or an asterisk");
        }
        if let Some(entry) = role.app_ids.get(MAX_PATTERNS) {
            let what = format!("exceeds the maximum number of App-IDs of a role ({MAX_PATTERNS})");
            document.add_fault_of(entry, &what);
        }
        let app_ids: Vec<Box<str>> =
            role.app_ids.into_iter().map(|app_id| app_id.into_inner().into()).collect();
        Self {
            originators,
            credentials: Patterns::of(role.credentials),
            app_ids: (!app_ids.is_empty()).then(|| app_ids.into()),
        }
    }

    fn include(&self, holder: &Holder) -> bool {
        let by_id = |id: &String| self.originators.contains(id.as_str());
        holder.originator.as_ref().is_some_and(by_id)
            || holder.credential.as_ref().is_some_and(|id| self.credentials.match_text(id))
    }
}

/// Checks the lengths of a list and of its entries.
fn check_list(list: &[Spanned<String>], document: &mut Document<'_>) {
    if let Some(entry) = list.get(MAX_HOLDERS) {
        let what = format!("exceeds the maximum number of entries of a list ({MAX_HOLDERS})");
        document.add_fault_of(entry, &what);
    }
    let mut patterns = list.iter().filter(|entry| entry.get_ref().contains('*'));
    if let Some(entry) = patterns.nth(MAX_PATTERNS) {
        let what = format!("exceeds the maximum number of entries with wildcards ({MAX_PATTERNS})");
        document.add_fault_of(entry, &what);
    }
    for entry in list {
        let length = entry.get_ref().len();
        if !(1..=MAX_HOLDER).contains(&length) {
            document.add_fault_of(entry, &format!("must have 1 to {MAX_HOLDER} bytes"));
        }
    }
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
