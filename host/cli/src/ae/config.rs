//! The configuration of an AE.

use std::path::{Path, PathBuf};

use saegis_handshake::Suite;
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::{AbsoluteId, AeIdStem, AppId, CseId, KpsaId};
use saegis_policy::{Fault, Faults};
use serde::de::{Deserialize, Deserializer, Error as _};

use saegis_client::{Credential, Peer, default_suites, key};
use saegis_gateway::config::maf::KeyPart;
use saegis_gateway::config::read;
use saegis_handshake::suites;
use saegis_onem2m::serde::parsed;

/// The configuration of an AE.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AeConfig {
    /// Its registrar.
    pub registrar: Registrar,
    /// What it proves itself by: to its registrar, or to the MAF that has a key for both of them.
    pub credential: Proof,
    /// The MAF that distributes the key, if one does.
    pub maf: Option<Maf>,
    /// Itself.
    pub ae: Ae,
}

/// A MAF that distributes the key which the AE and its registrar share (TS-0003 clause 8.2.2.3).
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Maf {
    /// Its domain name, the MAF-FQDN.
    pub fqdn: String,
    /// Where it is: `host:port`.
    pub address: String,
    /// The AE as the MAF knows it, by its absolute AE-ID.
    #[serde(deserialize_with = "parsed")]
    pub client_id: AbsoluteId,
    /// The registrar, by its absolute CSE-ID: the one target of the key.
    #[serde(deserialize_with = "parsed")]
    pub target: AbsoluteId,
    /// How long a key is asked for, in seconds.
    #[serde(default = "an_hour", deserialize_with = "lifetime")]
    pub lifetime_seconds: u64,
    /// What of the key is Kc, as the registrar has it.
    #[serde(default)]
    pub key: KeyPart,
    /// The file in which the key is kept between two runs, relative to the configuration's own folder.
    /// Nobody but its owner can read it.
    #[serde(default = "key_file")]
    pub key_file: PathBuf,
    /// How long to wait for the association, and for each answer, in seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
}

fn an_hour() -> u64 {
    3600
}

/// Longest time that a key is asked for: ten years, far beyond what a MAF gives.
const LONGEST: u64 = 10 * 365 * 24 * 3600;

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    if (1..=LONGEST).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(D::Error::custom(format!("a key lasts from 1 to {LONGEST} seconds")))
    }
}

fn key_file() -> PathBuf {
    "maf-key.toml".into()
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
    /// The domain name that the registrar's certificate must prove, where there are certificates.
    pub domain_name: Option<String>,
    /// How long to wait for the association, and for each answer, in seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
}

impl Registrar {
    /// Whom to connect to.
    pub fn peer(&self) -> Peer {
        Peer {
            address: self.address.clone(),
            cse_id: self.cse_id.clone(),
            timeout: std::time::Duration::from_secs(self.timeout_seconds),
        }
    }
}

/// What an AE proves itself by.
#[derive(serde::Deserialize)]
#[serde(try_from = "ProofInFile")]
pub enum Proof {
    /// A key that it shares with the registrar.
    Key(Credential),
    /// A certificate, and the authorities of the registrar's. Files are relative to the
    /// configuration's own folder.
    Certificate(CertificateFiles),
}

/// A certificate and what goes with it.
#[derive(Debug)]
pub struct CertificateFiles {
    /// The certificate, and its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that issue certificates of CSEs.
    pub trust_anchors: Vec<PathBuf>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ProofInFile {
    #[serde(default, deserialize_with = "id_if_there")]
    kpsa_id: Option<KpsaId>,
    #[serde(default, deserialize_with = "key_if_there")]
    kpsa: Option<PresharedKey>,
    #[serde(default, deserialize_with = "suites_if_there")]
    suites: Option<Vec<Suite>>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    trust_anchors: Option<Vec<PathBuf>>,
}

impl TryFrom<ProofInFile> for Proof {
    type Error = String;

    fn try_from(given: ProofInFile) -> Result<Self, String> {
        match given {
            ProofInFile {
                kpsa_id: Some(kpsa_id),
                kpsa: Some(kpsa),
                suites,
                certificate: None,
                key: None,
                trust_anchors: None,
            } => {
                let suites = suites.unwrap_or_else(default_suites);
                Ok(Self::Key(Credential { kpsa_id, kpsa, suites }))
            }
            ProofInFile {
                kpsa_id: None,
                kpsa: None,
                suites: None,
                certificate: Some(certificate),
                key: Some(key),
                trust_anchors: Some(trust_anchors),
            } => Ok(Self::Certificate(CertificateFiles { certificate, key, trust_anchors })),
            _ => Err(
                "has either kpsa-id and kpsa (and suites, if need be), or certificate, key and \
                      trust-anchors"
                    .into(),
            ),
        }
    }
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
        let mut config: Self = read(file)?;
        if let Proof::Certificate(CertificateFiles { certificate, key, trust_anchors }) =
            &mut config.credential
        {
            if config.registrar.domain_name.is_none() && config.maf.is_none() {
                let what = "registrar.domain-name is missing: the registrar's certificate must \
                            prove it, such as in-cse.provider.com";
                return Err(Faults(vec![Fault::of(file, what)]));
            }
            let base = file.parent().unwrap_or(Path::new(""));
            for path in [certificate, key].into_iter().chain(trust_anchors) {
                *path = base.join(&*path);
            }
        }
        if let Some(maf) = &mut config.maf {
            maf.key_file = file.parent().unwrap_or(Path::new("")).join(&maf.key_file);
        }
        Ok(config)
    }
}

fn timeout() -> u64 {
    10
}

fn id_if_there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<KpsaId>, D::Error> {
    parsed(from).map(Some)
}

fn key_if_there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PresharedKey>, D::Error> {
    key(from).map(Some)
}

fn suites_if_there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Suite>>, D::Error> {
    suites(from).map(Some)
}
