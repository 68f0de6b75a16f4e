//! The configuration of a MAF, and what a gateway's says of MAFs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use saegis_maf::Settings;
use saegis_onem2m::id::{MAX_KEY_ID_LEN, check_fqdn};
use saegis_policy::{Fault, Faults};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Which MAF this is.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafSettings {
    /// Its domain name, the MAF-FQDN.
    #[serde(deserialize_with = "domain_name")]
    pub fqdn: String,
    /// The domain name of the service provider, whose AEs and CSEs may be clients with certificates.
    pub service_provider: Option<String>,
    /// The file of registrations and keys.
    #[serde(default = "store")]
    pub store: PathBuf,
    /// The file with the store's key: 64 hexadecimal digits, or base64. Without it the key is in the
    /// environment variable `SAEGIS_MAF_STORE_KEY`.
    pub store_key_file: Option<PathBuf>,
    /// Longest time that a registration lasts, in seconds.
    pub longest_registration_seconds: Option<u64>,
    /// Longest time that a key lasts, in seconds.
    pub longest_key_seconds: Option<u64>,
}

fn store() -> PathBuf {
    "state/maf.redb".into()
}

/// Longest MAF-FQDN, in bytes: the identifier of a key has a RelativeKeyID of 32 digits and `@` in front.
const MAX_FQDN: usize = MAX_KEY_ID_LEN - 33;

fn domain_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    check_fqdn(&name).map_err(|e| D::Error::custom(format!("{name:?} {e}")))?;
    if name.len() > MAX_FQDN {
        let what = format!(
            "{name:?} is longer than {MAX_FQDN} bytes, so that identifiers of keys are too long"
        );
        return Err(D::Error::custom(what));
    }
    Ok(name.to_ascii_lowercase())
}

impl MafSettings {
    /// The settings of the MAF.
    ///
    /// # Errors
    /// When its name is none.
    pub fn settings(&self) -> Result<Settings, Faults> {
        let fault = |what: String| Faults(vec![Fault::of(&self.store, what)]);
        let mut settings = Settings::new(&self.fqdn).map_err(|e| fault(e.to_string()))?;
        if let Some(seconds) = self.longest_registration_seconds {
            settings.max_registration_lifetime = Duration::from_secs(seconds);
        }
        if let Some(seconds) = self.longest_key_seconds {
            settings.max_key_lifetime = Duration::from_secs(seconds);
        }
        Ok(settings)
    }
}

/// `[[maf-peer]]` in a gateway's configuration: a MAF whose keys are taken.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafPeer {
    /// Its domain name, the MAF-FQDN.
    #[serde(deserialize_with = "domain_name")]
    pub fqdn: String,
    /// Where it takes associations: `host:port`.
    pub address: String,
    /// KmID and Km, what this CSE shares with it; left out, the two show each other certificates.
    #[serde(default, deserialize_with = "crate::config::shared_if_there")]
    pub credential: Option<Arc<saegis_client::Credential>>,
    /// How long a handshake waits for a key, in seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
    /// What of a distributed key is Kc: TS-0003 clause 8.2.2.3 says all of it, clause 8.8.1 the first
    /// half where one key is needed.
    #[serde(default)]
    pub key: KeyPart,
    /// What the Credential-ID is of: clauses 8.2.1 and 10.4 part.
    #[serde(default)]
    pub credential_id: CredentialOf,
    /// How often keys in use are asked for again, in seconds; an association whose key is registered
    /// no more ends then. 0: it goes on until the key expires.
    #[serde(default)]
    pub recheck_seconds: u64,
}

fn timeout() -> u64 {
    3
}

/// What of a distributed key is Kc.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPart {
    /// All of it.
    #[default]
    Whole,
    /// Its first half.
    FirstHalf,
}

impl KeyPart {
    /// That part of a key.
    #[must_use]
    pub fn of(self, whole: &[u8]) -> &[u8] {
        match self {
            Self::Whole => whole,
            Self::FirstHalf => whole.get(..whole.len() / 2).unwrap_or_default(),
        }
    }
}

/// What the Credential-ID of an association with a distributed key is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialOf {
    /// The key: `12-RelativeKeyID@MAF-FQDN`.
    #[default]
    Kc,
    /// The source, by its MAF client identifier: `11-…`, the same whatever key it has.
    Source,
}
