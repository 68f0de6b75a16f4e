//! Issuers of tokens (TS-0003 clause 7.3.2): the policy file `token-issuers.toml`.
//!
//! It pins the keys of each issuer, and with them the algorithms. It limits the lifetime of its
//! tokens, their holders, and the roles and privileges that they may give.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use saegis_jose::{Algorithm, VerificationKey};
use saegis_onem2m::id::CseId;
use saegis_onem2m::role::RoleId;
use saegis_onem2m::wildcard::fits;
use serde::Deserialize;
use toml::Spanned;

use crate::data::document::Document;
use crate::data::fault::Fault;

/// Name of the policy file.
pub const FILE: &str = "token-issuers.toml";

/// Maximum number of issuers, of keys of an issuer, of patterns in a list, and of revoked tokens.
const MAX_ISSUERS: usize = 64;
const MAX_KEYS: usize = 4;
const MAX_PATTERNS: usize = 64;
const MAX_REVOKED: usize = 10_000;

/// Maximum length of an identifier, a pattern and an address, in bytes.
const MAX_TEXT: usize = 256;

/// Lifetime of tokens, in seconds: by default at most a day, and never more than 31 days.
const DEFAULT_LIFE: u64 = 24 * 60 * 60;
const MAX_LIFE: u64 = 31 * DEFAULT_LIFE;

/// The issuers of tokens.
#[derive(Debug)]
pub struct TokenIssuers {
    issuers: HashMap<Box<str>, Issuer>,
    revoked: HashSet<Box<str>>,
    /// Addresses at which an originator can request a token.
    addresses: Vec<String>,
    pub(crate) cse: CseId,
    pub(crate) service_provider: Box<str>,
}

/// An issuer.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub keys: Vec<VerificationKey>,
    pub max_life: Duration,
    holders: Vec<Box<str>>,
    roles: Vec<Box<str>>,
    resources: Vec<Box<str>>,
}

impl Issuer {
    /// Returns whether its tokens may have a holder, given in its absolute form.
    pub fn may_name_holder(&self, holder: &str) -> bool {
        any_fits(&self.holders, holder)
    }

    /// Returns whether its tokens may give a role.
    pub fn may_give_role(&self, role: &RoleId) -> bool {
        any_fits(&self.roles, role.as_str())
    }

    /// Returns whether its tokens may give privileges for a resource, given as a CSE-relative address.
    pub fn may_give_privileges(&self, resource: &str) -> bool {
        any_fits(&self.resources, resource)
    }
}

fn any_fits(patterns: &[Box<str>], text: &str) -> bool {
    patterns.iter().any(|pattern| fits(pattern, text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InFile {
    #[serde(default)]
    revoked: Vec<Spanned<String>>,
    #[serde(default)]
    issuer: Vec<IssuerInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct IssuerInFile {
    id: Spanned<String>,
    key: Vec<KeyInFile>,
    max_life_seconds: Option<Spanned<u64>>,
    holders: Vec<Spanned<String>>,
    #[serde(default)]
    roles: Vec<Spanned<String>>,
    #[serde(default)]
    resources: Vec<Spanned<String>>,
    address: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyInFile {
    id: Option<Spanned<String>>,
    algorithm: Spanned<String>,
    public: Spanned<String>,
}

impl TokenIssuers {
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
        let Some(service_provider) = service_provider else {
            let what = "needs cse.service-provider, because tokens name absolute identifiers";
            return Err(vec![Fault::of(file, what)]);
        };
        let mut document = Document::parse(file, text);
        let Some(InFile { issuer: listed, revoked }) = document.read() else {
            return Err(document.into_faults());
        };
        let mut all = Self {
            issuers: HashMap::new(),
            revoked: HashSet::new(),
            addresses: Vec::new(),
            cse: cse.clone(),
            service_provider: service_provider.to_ascii_lowercase().into(),
        };
        for (n, issuer) in listed.into_iter().enumerate() {
            if n == MAX_ISSUERS {
                let what = format!("exceeds the maximum number of issuers ({MAX_ISSUERS})");
                document.add_fault_of(&issuer.id, &what);
                break;
            }
            check_text(&issuer.id, &mut document);
            if all.issuers.contains_key(issuer.id.get_ref().as_str()) {
                document.add_fault_of(&issuer.id, "is also the id of another issuer");
            }
            if let Some(address) = &issuer.address {
                check_text(address, &mut document);
                all.addresses.push(address.get_ref().clone());
            }
            let id = issuer.id.get_ref().as_str().into();
            let issuer = Issuer::of(issuer, &mut document);
            all.issuers.insert(id, issuer);
        }
        if let Some(token) = revoked.get(MAX_REVOKED) {
            let what = format!("exceeds the maximum number of revoked tokens ({MAX_REVOKED})");
            document.add_fault_of(token, &what);
        }
        for token in revoked {
            check_text(&token, &mut document);
            all.revoked.insert(token.into_inner().into());
        }
        let faults = document.into_faults();
        if faults.is_empty() { Ok(all) } else { Err(faults) }
    }

    /// Returns the number of issuers, and that of revoked tokens.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.issuers.len(), self.revoked.len())
    }

    /// Returns the addresses at which an originator can request a token.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(crate) fn issuer(&self, id: &str) -> Option<&Issuer> {
        self.issuers.get(id)
    }

    /// Returns whether a token with this Token-ID is revoked.
    pub(crate) fn is_revoked(&self, token_id: &str) -> bool {
        self.revoked.contains(token_id)
    }
}

impl Issuer {
    fn of(issuer: IssuerInFile, document: &mut Document<'_>) -> Self {
        let mut keys: Vec<VerificationKey> = Vec::new();
        for key in &issuer.key {
            let Some(key) = read_key(key, document) else { continue };
            keys.push(key);
        }
        if issuer.key.is_empty() {
            document.add_fault_of(&issuer.id, "has no key");
        }
        if let Some(key) = issuer.key.get(MAX_KEYS) {
            let what = format!("exceeds the maximum number of keys ({MAX_KEYS})");
            document.add_fault_of(&key.algorithm, &what);
        }
        for list in [&issuer.holders, &issuer.roles, &issuer.resources] {
            if let Some(entry) = list.get(MAX_PATTERNS) {
                let what = format!("exceeds the maximum number of entries ({MAX_PATTERNS})");
                document.add_fault_of(entry, &what);
            }
            for entry in list {
                check_text(entry, document);
            }
        }
        for holder in issuer.holders.iter().filter(|holder| !holder.get_ref().starts_with("//")) {
            let what = "is not an absolute AE-ID or CSE-ID: it must start with //";
            document.add_fault_of(holder, what);
        }
        let mut life = DEFAULT_LIFE;
        if let Some(given) = &issuer.max_life_seconds {
            life = *given.get_ref();
            if !(1..=MAX_LIFE).contains(&life) {
                document.add_fault_in(given, &format!("must be 1 to {MAX_LIFE} seconds"));
            }
        }
        let texts = |list: Vec<Spanned<String>>| {
            list.into_iter().map(|text| text.into_inner().into()).collect()
        };
        Self {
            keys,
            max_life: Duration::from_secs(life),
            holders: texts(issuer.holders),
            roles: texts(issuer.roles),
            resources: texts(issuer.resources),
        }
    }
}

fn read_key(key: &KeyInFile, document: &mut Document<'_>) -> Option<VerificationKey> {
    let algorithm = Algorithm::from_name(key.algorithm.get_ref());
    if algorithm.is_none() {
        document.add_fault_of(&key.algorithm, "is not ES256 or ES384");
    }
    let public = match VerificationKey::parse(key.public.get_ref()) {
        Ok(public) => public,
        Err(error) => {
            document.add_fault_in(&key.public, &error.to_string());
            return None;
        }
    };
    if let Some(algorithm) = algorithm
        && algorithm != public.algorithm()
    {
        document.add_fault_in(&key.public, &format!("is not a key of {algorithm}"));
    }
    let Some(id) = &key.id else { return Some(public) };
    check_text(id, document);
    Some(public.with_id(id.get_ref()))
}

fn check_text(text: &Spanned<String>, document: &mut Document<'_>) {
    if !is_identifier(text.get_ref()) {
        let what = format!("must have 1 to {MAX_TEXT} visible characters of ASCII");
        document.add_fault_of(text, &what);
    }
}

/// Returns whether a text may be the identifier of an issuer or a token.
pub(crate) fn is_identifier(text: &str) -> bool {
    let is_visible = |b: u8| (b'!'..=b'~').contains(&b);
    (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(is_visible)
}

#[cfg(test)]
#[path = "token_issuers_tests.rs"]
mod tests;
