//! Configuration of a MAF, and of the MAFs that a gateway uses.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use saegis_maf::Settings;
use saegis_maf::names::default_base;
use saegis_onem2m::id::{CseId, MAX_KEY_ID_LEN, check_fqdn};
use saegis_onem2m::serde::parsed;
use saegis_policy::{Fault, Faults};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Identity and limits of the MAF.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafSettings {
    /// Domain name of the MAF, the MAF-FQDN.
    #[serde(deserialize_with = "domain_name")]
    pub fqdn: String,
    /// First segment of the addresses of the MAF, where those of a CSE have its CSE-ID.
    #[serde(default = "default_base", deserialize_with = "parsed")]
    pub base: CseId,
    /// Domain name of the service provider whose AEs and CSEs may use certificates.
    pub service_provider: Option<String>,
    /// File of registrations and keys, encrypted.
    #[serde(default = "store")]
    pub store: PathBuf,
    /// File with the key of the store: 64 hexadecimal digits, or base64. Without it, the key comes
    /// from the environment variable `SAEGIS_MAF_STORE_KEY`.
    pub store_key_file: Option<PathBuf>,
    /// Maximum lifetime of a registration. The default is a year.
    pub longest_registration_seconds: Option<u64>,
    /// Maximum lifetime of a key. The default is 30 days.
    pub longest_key_seconds: Option<u64>,
}

fn store() -> PathBuf {
    "state/maf.redb".into()
}

/// Maximum length of a MAF-FQDN, in bytes: the identifier of a key prepends a RelativeKeyID of 32
/// digits and `@`.
const MAX_FQDN: usize = MAX_KEY_ID_LEN - 33;

fn domain_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    check_fqdn(&name).map_err(|e| D::Error::custom(format!("{name:?} {e}")))?;
    if name.len() > MAX_FQDN {
        let what = format!(
            "{name:?} is longer than {MAX_FQDN} bytes, which makes key identifiers too long"
        );
        return Err(D::Error::custom(what));
    }
    Ok(name.to_ascii_lowercase())
}

impl MafSettings {
    /// Returns the settings of the MAF.
    ///
    /// # Errors
    /// Fails if its name is invalid.
    pub fn settings(&self) -> Result<Settings, Faults> {
        let fault = |what: String| Faults(vec![Fault::of(&self.store, what)]);
        let mut settings = Settings::new(&self.fqdn).map_err(|e| fault(e.to_string()))?;
        settings.base = self.base.clone();
        if let Some(seconds) = self.longest_registration_seconds {
            settings.max_registration_lifetime = Duration::from_secs(seconds);
        }
        if let Some(seconds) = self.longest_key_seconds {
            settings.max_key_lifetime = Duration::from_secs(seconds);
        }
        Ok(settings)
    }
}

/// MAF whose keys this gateway accepts.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafPeer {
    /// Domain name of the MAF, the MAF-FQDN.
    #[serde(deserialize_with = "domain_name")]
    pub fqdn: String,
    /// First segment of its addresses, where those of a CSE have its CSE-ID.
    #[serde(default = "default_base", deserialize_with = "parsed")]
    pub base: CseId,
    /// Address of its TLS listener: `host:port`.
    pub address: String,
    /// KmID and Km that this CSE shares with the MAF. Without it both use certificates.
    #[serde(default, deserialize_with = "crate::config::shared_if_there")]
    pub credential: Option<Arc<saegis_client::Credential>>,
    /// Timeout for fetching a key during a handshake.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
    /// Part of a distributed key that is Kc. TS-0003 clause 8.2.2.3 uses the whole key, and clause
    /// 8.8.1 the first half if one key is needed.
    #[serde(default)]
    pub key: KeyPart,
    /// Source of the Credential-ID: the key (`12-`), or the MAF client that registered it (`11-`).
    /// Clauses 8.2.1 and 10.4 differ.
    #[serde(default)]
    pub credential_id: CredentialOf,
    /// Interval for revalidating keys in use at the MAF. An association ends once its key is no
    /// longer registered. With 0 it lasts until the key expires.
    #[serde(default)]
    pub recheck_seconds: u64,
}

fn timeout() -> u64 {
    3
}

/// Part of a distributed key that is Kc.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPart {
    /// The whole key.
    #[default]
    Whole,
    /// The first half.
    FirstHalf,
}

impl KeyPart {
    /// Returns that part of a key.
    #[must_use]
    pub fn of(self, whole: &[u8]) -> &[u8] {
        match self {
            Self::Whole => whole,
            Self::FirstHalf => whole.get(..whole.len() / 2).unwrap_or_default(),
        }
    }
}

/// Subject of the Credential-ID of an association with a distributed key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialOf {
    /// The key: `12-RelativeKeyID@MAF-FQDN`.
    #[default]
    Kc,
    /// The source, by its MAF client identifier: `11-…`, independent of the key.
    Source,
}
