//! Configuration of an M2M Enrolment Function (MEF).

use std::path::PathBuf;
use std::time::Duration;

use saegis_est::Allowed;
use saegis_onem2m::id::{CseId, check_fqdn};
use saegis_onem2m::serde::{all_parsed, parsed};
use saegis_policy::Document;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Identity and certification authority of the MEF.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MefSettings {
    /// Domain name of the MEF, the MEF-FQDN.
    #[serde(deserialize_with = "domain_name")]
    pub fqdn: String,
    /// Domain name of the service provider whose AEs and CSEs are enrolled.
    #[serde(deserialize_with = "domain_name")]
    pub service_provider: String,
    /// CSE-ID of the service provider's IN-CSE, which is a part of the domain names of CSEs. Without
    /// it, only AEs get a certificate.
    #[serde(default, deserialize_with = "id_if_there")]
    pub in_cse: Option<CseId>,
    /// Enrollment over Secure Transport (RFC 7030).
    pub est: EstSettings,
}

/// Enrollment over Secure Transport (RFC 7030).
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EstSettings {
    /// Certificate of the certification authority in PEM, followed by those of the authorities above
    /// it.
    pub ca_certificate: PathBuf,
    /// Key of the certification authority in PEM: P-256, readable by its owner only.
    pub ca_key: PathBuf,
    /// Names that may be certified, or the beginnings of such names with a `*` at the end:
    /// absolute AE-IDs, and domain names of CSEs. A client gets a certificate for its own name only.
    #[serde(deserialize_with = "all_parsed")]
    pub allowed_names: Vec<Allowed>,
    /// Validity of a certificate in days. It ends with the certificate of the authority at the
    /// latest.
    #[serde(default = "lifetime_days")]
    pub lifetime_days: u32,
    /// Maximum number of requests for certificates of a client in an hour.
    #[serde(default = "requests_per_hour")]
    pub requests_per_hour: u32,
}

fn lifetime_days() -> u32 {
    90
}

fn requests_per_hour() -> u32 {
    20
}

fn domain_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    check_fqdn(&name).map_err(|e| D::Error::custom(format!("{name:?} {e}")))?;
    Ok(name)
}

fn id_if_there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<CseId>, D::Error> {
    parsed(from).map(Some)
}

impl MefSettings {
    /// Returns the first segment of the addresses of the MEF, where those of a CSE have its CSE-ID.
    pub fn base() -> CseId {
        #[expect(clippy::expect_used, reason = "the text is a CSE-ID")]
        CseId::parse("mef").expect("a CSE-ID")
    }

    /// Returns the files of the authority, to resolve their paths.
    pub fn paths_mut(&mut self) -> [&mut PathBuf; 2] {
        [&mut self.est.ca_certificate, &mut self.est.ca_key]
    }

    /// Adds a fault for each invalid option.
    pub(super) fn check(&self, document: &mut Document<'_>) {
        let est = &self.est;
        if est.allowed_names.is_empty() {
            document.add_fault("mef.est.allowed-names", "is empty, so nobody could be enrolled");
        }
        if !(1..=3650).contains(&est.lifetime_days) {
            document.add_fault("mef.est.lifetime-days", "must be from 1 to 3650");
        }
        if !(1..=10_000).contains(&est.requests_per_hour) {
            document.add_fault("mef.est.requests-per-hour", "must be from 1 to 10000");
        }
    }
}

impl EstSettings {
    /// Returns the validity of a certificate.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        DAY * self.lifetime_days
    }
}
