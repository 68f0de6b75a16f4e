//! What an operator chooses: who the CSE is, and how much it keeps.

use std::time::Duration;

use saegis_onem2m::id::{AeIdStem, CseId, IdError, OriginatorId, check_fqdn};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;

use crate::identifiers::{self, NameError};

/// The CSE type of an infrastructure node (m2m:CSETypeID of TS-0004 clause 6.3.4.2).
pub(crate) const INFRASTRUCTURE: u8 = 1;

/// The CSE type of an application service node.
pub(crate) const APPLICATION_NODE: u8 = 3;

/// Most policies that a resource names, and most other links.
pub(crate) const MAX_POLICIES: usize = 16;

/// Who this CSE is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The CSE-ID. It is also the resource-ID of the `<CSEBase>`.
    pub cse_id: CseId,
    /// The resource name of the `<CSEBase>`, such as `cse`: the first segment of structured
    /// addresses.
    pub csebase_name: String,
    /// The CSE type: 1 for an IN-CSE, 2 for an MN-CSE, 3 for an ASN-CSE.
    pub cse_type: u8,
    /// The service provider's domain name. Without one, absolute addresses lead nowhere.
    pub service_provider: Option<String>,
    /// The release versions that are spoken (`srv`), in ascending order. A request that names
    /// another is refused; one that names none is of a release before 2a, and is taken.
    pub release_versions: Vec<String>,
    /// Where the CSE can be reached (`poa`): URIs.
    pub points_of_access: Vec<String>,
    /// The AEs that may do anything with what is no registree's: the `<CSEBase>`, and what is below
    /// it but in no AE's or CSE's subtree. They alone may say who may register. An AE-ID that stands
    /// here must be one that a credential names, or else it is whoever's comes first.
    pub administrators: Vec<AeIdStem>,
    /// The policies of the `<CSEBase>` (`acpi`): addresses of `<accessControlPolicy>`s, of which those
    /// count that are in an administrator's subtree or in none. Without one
    /// that is there, registered AEs and CSEs may retrieve it and discover from it.
    pub csebase_policies: Vec<String>,
    /// What an AE is answered that asks for an AE-ID which is registered: 4117, or 4105 where
    /// TS-0018 is followed.
    pub ae_id_taken: Rsc,
    /// How much is kept, and for how long.
    pub limits: Limits,
}

/// How much a CSE keeps, and for how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long an AE's registration lasts that asks for no expiration time. What is below it
    /// and asks for none lasts as long as its parent.
    pub lifetime: Duration,
    /// How long a resource may ask to last. Who asks for more gets this, and is told so.
    pub max_lifetime: Duration,
    /// Most instances in a container, and the `mni` of one that asks for none.
    pub max_instances: u64,
    /// Most bytes of content in a container, and the `mbs` of one that asks for none.
    pub max_container_bytes: u64,
    /// Most bytes of content in one instance.
    pub max_content_bytes: u64,
    /// Most resources in the store.
    pub max_resources: u64,
    /// Most resources in the subtree of one AE or CSE.
    pub max_resources_per_registree: u64,
    /// Most bytes of the resources in the subtree of one AE or CSE, as they are stored.
    pub max_bytes_per_registree: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            lifetime: Duration::from_secs(30 * DAY),
            max_lifetime: Duration::from_secs(10 * 365 * DAY),
            max_instances: 1_000,
            max_container_bytes: 16 << 20,
            max_content_bytes: 64 << 10,
            max_resources: 1_000_000,
            max_resources_per_registree: 20_000,
            max_bytes_per_registree: 64 << 20,
        }
    }
}

/// Settings that make no CSE.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The name of the `<CSEBase>` is no resource name.
    #[error("the resource name of the CSEBase {0}")]
    Name(#[from] NameError),
    /// No such CSE type.
    #[error("the CSE type is {0}; it must be 1 (IN), 2 (MN) or 3 (ASN)")]
    CseType(u8),
    /// The service provider's name is no domain name.
    #[error("the service provider's domain name {0}")]
    ServiceProvider(IdError),
    /// No release version, so no request could be taken.
    #[error("there is no supported release version")]
    NoRelease,
    /// A code that does not say that an AE-ID is taken.
    #[error("an AE-ID that is taken can't be answered with {0}; it must be 4117 or 4105")]
    Taken(Rsc),
    /// Something that is no address of a policy, or too many of them.
    #[error("{0:?} can't be a policy of the CSEBase")]
    Policy(String),
    /// A limit under which nothing works.
    #[error("the limit {0} is zero")]
    Zero(&'static str),
}

impl Settings {
    /// An MN-CSE of release versions 2a to 5, with the default limits.
    #[must_use]
    pub fn new(cse_id: CseId, csebase_name: &str) -> Self {
        Self {
            cse_id,
            csebase_name: csebase_name.into(),
            cse_type: 2,
            service_provider: None,
            release_versions: ["2a", "3", "4", "5"].map(String::from).to_vec(),
            points_of_access: Vec::new(),
            administrators: Vec::new(),
            csebase_policies: Vec::new(),
            ae_id_taken: Rsc::OriginatorHasAlreadyRegistered,
            limits: Limits::default(),
        }
    }

    /// Brings the identifier of an AE or a CSE to the form in which it is compared.
    pub(crate) fn canonical_id(&self, text: &str) -> String {
        let own = self.service_provider.as_deref();
        match OriginatorId::parse(text) {
            Ok(OriginatorId::Absolute { sp, first, stem }) => {
                let rest = stem.map_or_else(|| first.to_owned(), |stem| format!("{first}/{stem}"));
                match own {
                    Some(own) if own.eq_ignore_ascii_case(sp) => format!("/{rest}"),
                    _ => format!("//{}/{rest}", sp.to_ascii_lowercase()),
                }
            }
            _ => text.into(),
        }
    }

    /// The CSE-ID in a text with its slash: one of our service provider's, or none.
    pub(crate) fn own_cse(&self, text: &str) -> Option<CseId> {
        let canonical = self.canonical_id(text);
        match OriginatorId::parse(&canonical) {
            Ok(OriginatorId::SpRelative(bare)) => CseId::parse(bare).ok(),
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        identifiers::check_name(&self.csebase_name)?;
        if !(1..=3).contains(&self.cse_type) {
            return Err(SettingsError::CseType(self.cse_type));
        }
        if let Some(sp) = &self.service_provider {
            check_fqdn(sp).map_err(SettingsError::ServiceProvider)?;
        }
        if self.release_versions.is_empty() {
            return Err(SettingsError::NoRelease);
        }
        if !matches!(self.ae_id_taken, Rsc::OriginatorHasAlreadyRegistered | Rsc::Conflict) {
            return Err(SettingsError::Taken(self.ae_id_taken));
        }
        let mut policies = self.csebase_policies.iter().enumerate();
        if let Some((_, bad)) =
            policies.find(|(n, text)| *n >= MAX_POLICIES || Target::from_address(text).is_err())
        {
            return Err(SettingsError::Policy(bad.clone()));
        }
        let limits = &self.limits;
        for (name, value) in [
            ("lifetime", limits.lifetime.as_secs()),
            ("max_lifetime", limits.max_lifetime.as_secs()),
            ("max_instances", limits.max_instances),
            ("max_container_bytes", limits.max_container_bytes),
            ("max_content_bytes", limits.max_content_bytes),
            ("max_resources", limits.max_resources),
            ("max_resources_per_registree", limits.max_resources_per_registree),
            ("max_bytes_per_registree", limits.max_bytes_per_registree),
        ] {
            if value == 0 {
                return Err(SettingsError::Zero(name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(CseId::parse("mn-cse-123456").unwrap(), "cse")
    }

    #[test]
    fn default_settings_are_valid() {
        settings().check().unwrap();
        let named = Settings { service_provider: Some("in.provider.com".into()), ..settings() };
        named.check().unwrap();
        let other = Settings { ae_id_taken: Rsc::Conflict, ..settings() };
        other.check().unwrap();
    }

    #[test]
    fn invalid_settings_are_refused() {
        use SettingsError as E;
        let bad = Settings { csebase_name: "la".into(), ..settings() };
        assert!(matches!(bad.check(), Err(E::Name(NameError::Reserved))));
        let bad = Settings { csebase_name: "c s".into(), ..settings() };
        assert!(matches!(bad.check(), Err(E::Name(NameError::Character(' ')))));
        let bad = Settings { cse_type: 4, ..settings() };
        assert!(matches!(bad.check(), Err(E::CseType(4))));
        let bad = Settings { service_provider: Some("a..b".into()), ..settings() };
        assert!(matches!(bad.check(), Err(E::ServiceProvider(_))));
        let bad = Settings { release_versions: vec![], ..settings() };
        assert!(matches!(bad.check(), Err(E::NoRelease)));
        let bad = Settings { ae_id_taken: Rsc::NotFound, ..settings() };
        assert!(matches!(bad.check(), Err(E::Taken(Rsc::NotFound))));
        let bad = Settings { csebase_policies: vec!["cse//acp".into()], ..settings() };
        assert!(matches!(bad.check(), Err(E::Policy(_))));
        let bad = Settings { csebase_policies: vec!["cse/acp".into(); 17], ..settings() };
        assert!(matches!(bad.check(), Err(E::Policy(_))));
        let mut bad = settings();
        bad.limits.max_instances = 0;
        assert!(matches!(bad.check(), Err(E::Zero("max_instances"))));
    }
}
