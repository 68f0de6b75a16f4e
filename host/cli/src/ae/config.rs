//! Configuration of an AE.

use std::path::{Path, PathBuf};

use saegis_handshake::Suite;
use saegis_maf::names::default_base;
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::{AbsoluteId, AeIdStem, AppId, CseId, KpsaId};
use saegis_policy::{Fault, Faults};
use serde::de::{Deserialize, Deserializer, Error as _};

use saegis_client::{Credential, Peer, key, suites_if_there};
use saegis_gateway::config::maf::KeyPart;
use saegis_gateway::config::read;
use saegis_onem2m::serde::parsed;

/// Configuration of an AE.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AeConfig {
    /// Registrar CSE.
    pub registrar: Registrar,
    /// Credential of the AE: for the registrar, or for the MAF that distributes a key for both.
    pub credential: Proof,
    /// MAF that distributes the key, if any.
    pub maf: Option<Maf>,
    /// MEF that issues the certificate, if any.
    pub mef: Option<Mef>,
    /// The AE itself.
    pub ae: Ae,
}

/// MAF that distributes the key which the AE shares with its registrar (TS-0003 clause 8.2.2.3).
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Maf {
    /// Domain name of the MAF (MAF-FQDN).
    pub fqdn: String,
    /// Address of the MAF: `host:port`.
    pub address: String,
    /// First segment of the addresses of the MAF, where those of a CSE have its CSE-ID.
    #[serde(default = "default_base", deserialize_with = "parsed")]
    pub base: CseId,
    /// Absolute AE-ID by which the MAF identifies the AE.
    #[serde(deserialize_with = "parsed")]
    pub client_id: AbsoluteId,
    /// Absolute CSE-ID of the registrar, the only target of the key.
    #[serde(deserialize_with = "parsed")]
    pub target: AbsoluteId,
    /// Requested lifetime of a key, in seconds.
    #[serde(default = "an_hour", deserialize_with = "lifetime")]
    pub lifetime_seconds: u64,
    /// Part of the key that is Kc, the same as at the registrar.
    #[serde(default)]
    pub key: KeyPart,
    /// File that stores the key between two runs, relative to the folder of the configuration. Only
    /// its owner can read it.
    #[serde(default = "key_file")]
    pub key_file: PathBuf,
    /// Timeout for the association and for each response, in seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
}

/// MEF that issues the certificate of the AE (TS-0003 clause 8.3.6.2).
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mef {
    /// Domain name of the MEF (MEF-FQDN).
    pub fqdn: String,
    /// Address of the MEF: `host:port`.
    pub address: String,
    /// Absolute AE-ID of the AE, which is the name in its certificate.
    #[serde(deserialize_with = "parsed")]
    pub client_id: AbsoluteId,
    /// Credential for the first certificate: the key that the AE shares with the MEF, or another
    /// certificate.
    pub credential: Option<Proof>,
    /// Authorities that issue the certificates of MEFs. A renewal needs them, because both sides show
    /// a certificate.
    pub trust_anchors: Vec<PathBuf>,
    /// Timeout for the association and for each response, in seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
}

fn an_hour() -> u64 {
    3600
}

/// Maximum requested lifetime of a key: ten years, far beyond the lifetime that a MAF grants.
const LONGEST: u64 = 10 * 365 * 24 * 3600;

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    if (1..=LONGEST).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(D::Error::custom(format!("a key has a lifetime from 1 to {LONGEST} seconds")))
    }
}

fn key_file() -> PathBuf {
    "maf-key.toml".into()
}

/// Registrar CSE.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registrar {
    /// Address: `host:port`. A host name is sent as SNI in the handshake.
    pub address: String,
    /// CSE-ID that the association stands for, from the point of view of the AE.
    #[serde(deserialize_with = "parsed")]
    pub cse_id: CseId,
    /// Domain name that the certificate of the registrar must contain, if certificates are used.
    pub domain_name: Option<String>,
    /// Timeout for the association and for each response, in seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
}

impl Registrar {
    /// Returns the peer to connect to.
    pub fn peer(&self) -> Peer {
        Peer {
            address: self.address.clone(),
            cse_id: self.cse_id.clone(),
            timeout: std::time::Duration::from_secs(self.timeout_seconds),
        }
    }
}

/// Credential of an AE.
#[derive(serde::Deserialize)]
#[serde(try_from = "ProofInFile")]
pub enum Proof {
    /// Key shared with the registrar.
    Key(Credential),
    /// Certificate, and trust anchors for that of the registrar. Files are relative to the folder
    /// of the configuration.
    Certificate(CertificateFiles),
}

/// Files of a certificate credential.
#[derive(Debug)]
pub struct CertificateFiles {
    /// Certificate with its chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Authorities that issue certificates of CSEs.
    pub trust_anchors: Vec<PathBuf>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ProofInFile {
    #[serde(default, alias = "kpm-id", deserialize_with = "id_if_there")]
    kpsa_id: Option<KpsaId>,
    #[serde(default, alias = "kpm", deserialize_with = "key_if_there")]
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
            } => Ok(Self::Key(Credential { kpsa_id, kpsa, suites })),
            ProofInFile {
                kpsa_id: None,
                kpsa: None,
                suites: None,
                certificate: Some(certificate),
                key: Some(key),
                trust_anchors: Some(trust_anchors),
            } => Ok(Self::Certificate(CertificateFiles { certificate, key, trust_anchors })),
            _ => {
                Err("has either kpsa-id and kpsa (and optionally suites), or certificate, key and \
                      trust-anchors"
                    .into())
            }
        }
    }
}

/// The AE.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ae {
    /// AE-ID-Stem, sent as From.
    #[serde(deserialize_with = "parsed")]
    pub ae_id: AeIdStem,
    /// App-ID.
    #[serde(deserialize_with = "parsed")]
    pub app_id: AppId,
    /// Resource name of the AE; defaults to the AE-ID-Stem.
    name: Option<String>,
}

impl Ae {
    /// Returns the resource name of the AE.
    pub fn resource_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.ae_id.as_str())
    }
}

impl AeConfig {
    /// Loads a configuration.
    ///
    /// # Errors
    /// Returns all faults of the configuration.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        let mut config: Self = read(file)?;
        if let Proof::Certificate(CertificateFiles { certificate, key, trust_anchors }) =
            &mut config.credential
        {
            if config.registrar.domain_name.is_none() && config.maf.is_none() {
                let what = "registrar.domain-name is missing: it must be in the \
                            certificate of the registrar, such as in-cse.provider.com";
                return Err(Faults(vec![Fault::of(file, what)]));
            }
            if config.mef.is_some() && certificate != key {
                let what = "credential.certificate and credential.key must be the same file: the MEF \
                            issues a certificate for a new key, and both are replaced at once";
                return Err(Faults(vec![Fault::of(file, what)]));
            }
            place([certificate, key].into_iter().chain(trust_anchors), file);
        }
        if let Some(mef) = &mut config.mef {
            if let Some(Proof::Certificate(files)) = &mut mef.credential {
                let CertificateFiles { certificate, key, trust_anchors } = files;
                place([certificate, key].into_iter().chain(trust_anchors), file);
            }
            place(mef.trust_anchors.iter_mut(), file);
        }
        if let Some(maf) = &mut config.maf {
            maf.key_file = file.parent().unwrap_or(Path::new("")).join(&maf.key_file);
        }
        Ok(config)
    }
}

/// Resolves paths relative to the folder of the configuration.
fn place<'a>(paths: impl Iterator<Item = &'a mut PathBuf>, file: &Path) {
    let base = file.parent().unwrap_or(Path::new(""));
    paths.for_each(|path| *path = base.join(&*path));
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
