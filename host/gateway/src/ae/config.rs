//! The configuration of an AE.

use std::path::Path;

use saegis_handshake::Suite;
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::{AeIdStem, AppId, CseId, KpsaId};
use saegis_policy::Faults;
use serde::de::{Deserialize, Deserializer, Error as _};
use zeroize::Zeroizing;

use crate::config::{parsed, read, suites};

/// The configuration of an AE.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AeConfig {
    /// Its registrar.
    pub registrar: Registrar,
    /// What it shares with the registrar.
    pub credential: Credential,
    /// Itself.
    pub ae: Ae,
}

/// The registrar.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registrar {
    /// Where it is: `host:port`. A host name is indicated in the handshake.
    pub address: String,
    /// The CSE-ID that the association stands for, from the AE's point of view.
    #[serde(deserialize_with = "parsed")]
    pub cse_id: CseId,
    /// How long to wait for the association, and for each answer, in seconds.
    #[serde(default = "patience")]
    pub timeout_seconds: u64,
}

/// A provisioned symmetric key.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Credential {
    /// The KpsaID.
    #[serde(deserialize_with = "parsed")]
    pub kpsa_id: KpsaId,
    /// The Kpsa, in hexadecimal digits.
    #[serde(deserialize_with = "key")]
    pub kpsa: PresharedKey,
    /// The cipher suites to offer, the preferred first.
    #[serde(default = "default_suites", deserialize_with = "suites")]
    pub suites: Vec<Suite>,
}

/// The AE.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ae {
    /// The AE-ID-Stem: what it writes as its From.
    #[serde(deserialize_with = "parsed")]
    pub ae_id: AeIdStem,
    /// The App-ID.
    #[serde(deserialize_with = "parsed")]
    pub app_id: AppId,
    /// The resource name of the AE; the AE-ID-Stem if there is none.
    name: Option<String>,
}

impl Ae {
    /// The resource name of the AE.
    pub fn resource_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.ae_id.as_str())
    }
}

impl AeConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        read(file)
    }
}

fn patience() -> u64 {
    10
}

fn default_suites() -> Vec<Suite> {
    Suite::DEFAULT.to_vec()
}

fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PresharedKey, D::Error> {
    let digits = Zeroizing::new(String::deserialize(deserializer)?);
    // The error of the decoder would show a digit of the key.
    let bytes = hex::decode(&*digits)
        .map_err(|_| D::Error::custom("the key is not an even number of hexadecimal digits"))?;
    PresharedKey::new(&Zeroizing::new(bytes)).map_err(D::Error::custom)
}
