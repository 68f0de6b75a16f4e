//! The settings of a CSE: its identity and its limits.

use std::sync::Arc;
use std::time::Duration;

use saegis_onem2m::id::{AeIdStem, CseId, IdError, OriginatorId, check_fqdn};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;

use crate::definitions::Definitions;
use crate::identifiers::{self, NameError};

/// CSE type of an infrastructure node (m2m:CSETypeID of TS-0004 clause 6.3.4.2).
pub(crate) const INFRASTRUCTURE: u8 = 1;

/// CSE type of an application service node.
pub(crate) const APPLICATION_NODE: u8 = 3;

/// Maximum number of policies, and of other links, that a resource names.
pub(crate) const MAX_POLICIES: usize = 16;

/// The settings of a CSE.
#[derive(Debug, Clone)]
pub struct Settings {
    /// CSE-ID. It is also the resource-ID of the `<CSEBase>`.
    pub cse_id: CseId,
    /// Resource name of the `<CSEBase>`, such as `cse`: the first segment of structured addresses.
    pub csebase_name: String,
    /// CSE type: 1 for an IN-CSE, 2 for an MN-CSE, 3 for an ASN-CSE.
    pub cse_type: u8,
    /// Domain name of the service provider. Without it, absolute addresses cannot be resolved.
    pub service_provider: Option<String>,
    /// Supported release versions (`srv`), in ascending order. A request with another version is
    /// refused. A request without one belongs to a release before 2a, and is accepted.
    pub release_versions: Vec<String>,
    /// URIs at which the CSE is reachable (`poa`).
    pub points_of_access: Vec<String>,
    /// AEs with all privileges for resources without an owner: the `<CSEBase>`, and resources below
    /// it outside of AE and CSE subtrees. Only administrators may change who may register. A
    /// credential must name each of these AE-IDs, or else the first AE to register it is the
    /// administrator.
    pub administrators: Vec<AeIdStem>,
    /// AEs of the operator that may retrieve and discover all resources, independently of policies,
    /// except polling channels and results. A credential must name each of these AE-IDs as well.
    pub observers: Vec<AeIdStem>,
    /// Addresses of the `<accessControlPolicy>`s of the `<CSEBase>` (`acpi`), of which only those
    /// in an administrator's subtree or in none apply. If none exists, registered AEs and CSEs may
    /// retrieve the `<CSEBase>`, and start a discovery there.
    pub csebase_policies: Vec<String>,
    /// Registrar CSE, to which resources are announced.
    pub registrar: Option<CseId>,
    /// Response to an AE that requests an AE-ID in use: 4117, or 4105 according to TS-0018.
    pub ae_id_taken: Rsc,
    /// Definitions of `<flexContainer>`s.
    pub definitions: Arc<Definitions>,
    /// Limits of stored data.
    pub limits: StorageLimits,
    /// Whether the operator changes the resources of a CSE that does not run. All requests have all
    /// privileges then.
    pub(crate) is_operated: bool,
}

/// The limits of stored data.
#[derive(Debug, Clone)]
pub struct StorageLimits {
    /// Lifetime of an AE's registration without a requested expiration time. Resources below it
    /// without one expire with their parent.
    pub lifetime: Duration,
    /// Maximum lifetime that a resource may request. A longer one is shortened, which the response
    /// shows.
    pub max_lifetime: Duration,
    /// Maximum number of instances in a container, and the default of `mni`.
    pub max_instances: u64,
    /// Maximum size of content in a container in bytes, and the default of `mbs`.
    pub max_container_bytes: u64,
    /// Maximum size of content in one instance, in bytes.
    pub max_content_bytes: u64,
    /// Maximum number of resources in the store.
    pub max_resources: u64,
    /// Maximum number of resources in the subtree of one AE or CSE.
    pub max_resources_per_registree: u64,
    /// Maximum stored size of the resources in the subtree of one AE or CSE, in bytes.
    pub max_bytes_per_registree: u64,
}

impl Default for StorageLimits {
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

/// The reason why settings are invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The name of the `<CSEBase>` is not a resource name.
    #[error("the resource name of the CSEBase {0}")]
    Name(#[from] NameError),
    /// The CSE type does not exist.
    #[error("the CSE type is {0}; it must be 1 (IN), 2 (MN) or 3 (ASN)")]
    CseType(u8),
    /// The service provider's name is not a domain name.
    #[error("the service provider's domain name {0}")]
    ServiceProvider(IdError),
    /// No release version is supported, so every request would be refused.
    #[error("no release version is supported")]
    NoRelease,
    /// The Response Status Code does not mean that an AE-ID is in use.
    #[error("the response to an AE-ID in use cannot be {0}; it must be 4117 or 4105")]
    Taken(Rsc),
    /// The policy of the `<CSEBase>` has an invalid address, or exceeds the maximum number.
    #[error("{0:?} cannot be a policy of the CSEBase")]
    Policy(String),
    /// The limit is zero.
    #[error("the limit {0} is zero")]
    Zero(&'static str),
}

impl Settings {
    /// Returns the settings of an MN-CSE for release versions 2a to 5, with the default limits.
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
            observers: Vec::new(),
            csebase_policies: Vec::new(),
            registrar: None,
            ae_id_taken: Rsc::OriginatorHasAlreadyRegistered,
            definitions: Arc::new(Definitions::home()),
            limits: StorageLimits::default(),
            is_operated: false,
        }
    }

    /// Converts the identifier of an AE or a CSE to the form in which it is compared.
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

    /// Converts the identifier of an originator to the form in which it is compared, which is the
    /// stem for an AE of this CSE.
    pub(crate) fn originator_id(&self, text: &str) -> String {
        let canonical = self.canonical_id(text);
        match OriginatorId::parse(&canonical) {
            Ok(OriginatorId::SpRelativeAe { cse, stem }) if cse == self.cse_id.bare() => {
                stem.into()
            }
            Ok(OriginatorId::SpRelative(stem)) if stem.starts_with('S') => stem.into(),
            _ => canonical,
        }
    }

    /// Returns the CSE-ID in a text with a slash, if the CSE belongs to this service provider.
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
