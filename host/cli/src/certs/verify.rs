//! Verifies certificates and raw public keys as a gateway does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use saegis_certificate::{Flavour, Identity, Purpose, Rejection, VerifiedPeer};
use saegis_handshake::Alert;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::timestamp;
use saegis_policy::{CertificateQuery, Certificates, Mapping, Policy, Refusal, Rules, Settings};
use serde_json::{Value, json};

use super::error::CertsError;
use saegis_gateway::config::Config;

/// Result of a verification.
pub enum Verdict {
    /// The gateway would establish an association.
    Accepted {
        /// Identity in the certificate.
        identity: Identity,
        /// Credential-ID.
        id: CredentialId,
        /// Entity that the credential stands for.
        entity: Entity,
        /// Time at which it expires.
        until: Option<SystemTime>,
    },
    /// It is the certificate of the gateway itself.
    Own,
    /// It is a trust anchor of the gateway.
    Anchor(Vec<Flavour>),
    /// The gateway would reject the handshake.
    Refused {
        /// Cause.
        why: String,
        /// TLS alert that is sent to the peer.
        alert: Alert,
    },
}

impl Verdict {
    fn refused(why: impl Into<String>, alert: Alert) -> Self {
        Self::Refused { why: why.into(), alert }
    }

    fn rejected(rejection: &Rejection) -> Self {
        Self::refused(rejection.to_string(), Alert::of(rejection))
    }

    /// Returns the verdict as JSON.
    pub fn as_json(&self) -> Value {
        match self {
            Self::Accepted { identity, id, entity, until } => json!({
                "verdict": "accepted",
                "identity": identity.to_string(),
                "credential_id": id.to_string(),
                "flavour": identity.flavour().name(),
                "entity": entity.to_string(),
                "expires": until.map(timestamp::format),
            }),
            Self::Own => json!({ "verdict": "own" }),
            Self::Anchor(flavours) => {
                let flavours: Vec<_> = flavours.iter().map(|flavour| flavour.name()).collect();
                json!({ "verdict": "trust-anchor", "flavours": flavours })
            }
            Self::Refused { why, alert } => {
                json!({ "verdict": "refused", "why": why, "alert": alert.name() })
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { identity, id, entity, until } => {
                let flavour = identity.flavour();
                write!(f, "accepted as {identity} ({id}), flavour {flavour}, stands for {entity}")?;
                match until {
                    Some(until) => write!(f, ", until {}", timestamp::format(*until)),
                    None => Ok(()),
                }
            }
            Self::Own => f.write_str("the gateway's own certificate"),
            Self::Anchor(flavours) => {
                let flavours: Vec<_> = flavours.iter().map(|flavour| flavour.name()).collect();
                write!(f, "a trust anchor of the gateway, for {}", flavours.join(", "))
            }
            Self::Refused { why, alert } => write!(f, "refused: {why} (alert {})", alert.name()),
        }
    }
}

/// Verification settings of a gateway that is not running.
pub struct CertificateVerifier {
    settings: Settings,
    certificates: Option<Arc<Certificates>>,
}

impl CertificateVerifier {
    /// Loads the gateway with that configuration.
    ///
    /// # Errors
    /// Returns all faults of the configuration, or of the policy files about certificates.
    pub fn new(config: &Path) -> Result<Self, CertsError> {
        let settings = Config::load(config)?.policy_settings(None);
        let certificates = Certificates::load(&settings)?;
        Ok(Self { settings, certificates })
    }

    /// Verifies a chain, whose first certificate is that of the peer.
    ///
    /// # Errors
    /// Returns all faults of the policy, if it has to be loaded.
    pub async fn chain(&self, chain: &[CertificateDer<'_>]) -> Result<Verdict, CertsError> {
        let Some(certificates) = &self.certificates else { return Ok(no_certificates()) };
        let [first, ..] = chain else { return Ok(Verdict::rejected(&Rejection::Missing)) };
        if certificates.own.iter().any(|own| own.chain().first() == Some(first)) {
            return Ok(Verdict::Own);
        }
        let anchors = certificates.trust.anchors().iter();
        let mut anchors = anchors.filter(|anchor| anchor.certificate() == first).peekable();
        if anchors.peek().is_some() {
            let flavours = anchors.flat_map(|anchor| anchor.flavours()).copied().collect();
            return Ok(Verdict::Anchor(flavours));
        }
        self.shown(
            certificates,
            certificates.trust.verify(chain, Purpose::Client, SystemTime::now()),
        )
        .await
    }

    /// Verifies a raw public key, given as SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// Returns all faults of the policy, if it has to be loaded.
    pub async fn key(&self, spki: &[u8]) -> Result<Verdict, CertsError> {
        let Some(certificates) = &self.certificates else { return Ok(no_certificates()) };
        self.shown(certificates, certificates.trust.verify_key(spki)).await
    }

    async fn shown(
        &self,
        certificates: &Certificates,
        vouched: Result<VerifiedPeer, Rejection>,
    ) -> Result<Verdict, CertsError> {
        if certificates.own.is_empty() {
            let why = "the gateway has no certificate of its own ([[own]] in \
                       certificates.toml)";
            return Ok(Verdict::refused(why, Alert::HandshakeFailure));
        }
        let VerifiedPeer { identity, until, .. } = match vouched {
            Ok(vouched) => vouched,
            Err(rejection) => return Ok(Verdict::rejected(&rejection)),
        };
        let Some(id) = identity.credential_id() else {
            let why = format!("{identity} is not an entity that registers");
            return Ok(Verdict::refused(why, Alert::AccessDenied));
        };
        match identity.entity() {
            Some(entity) => Ok(Verdict::Accepted { identity, id, entity, until }),
            None => self.map(identity, id, until).await,
        }
    }

    /// Loads the whole policy and maps the credential to its entity.
    async fn map(
        &self,
        identity: Identity,
        id: CredentialId,
        until: Option<SystemTime>,
    ) -> Result<Verdict, CertsError> {
        // The compiled code that this leaves must be private to this user.
        saegis_gateway::hardening::make_new_files_private();
        let policy = Policy::open(self.settings.clone()).await?;
        let query = CertificateQuery {
            flavour: identity.flavour(),
            credential_id: id.clone(),
            server_name: None,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            rules: Rules::OfGeneration,
        };
        let why = match policy.current().map_certificate(&query).await {
            Mapping::As { entity, expires } => {
                let until = [until, expires].into_iter().flatten().min();
                return Ok(Verdict::Accepted { identity, id, entity, until });
            }
            Mapping::Unclaimed if self.settings.subscription_file => {
                format!("no module and no rule maps {id} to an entity")
            }
            Mapping::Unclaimed => format!(
                "no module maps {id} to an entity; the rules of the service subscription, which \
                 are not in a policy file, were not evaluated"
            ),
            Mapping::Refused(Refusal { module, reason }) => {
                format!("module {module} rejected it: {reason}")
            }
            Mapping::Failed { module, fault } => format!("module {module} {fault}"),
        };
        Ok(Verdict::refused(why, Alert::AccessDenied))
    }
}

fn no_certificates() -> Verdict {
    let why = "the gateway accepts no certificates: its policies folder has no \
               certificates.toml";
    Verdict::refused(why, Alert::HandshakeFailure)
}
