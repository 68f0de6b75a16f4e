//! What a gateway makes of a certificate or of a raw public key.

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

/// What came of it.
pub enum Verdict {
    /// An association is established.
    Accepted {
        /// Whom it names.
        identity: Identity,
        /// Its Credential-ID.
        id: CredentialId,
        /// Whom it stands for.
        entity: Entity,
        /// From when on no more.
        until: Option<SystemTime>,
    },
    /// It is what the gateway shows itself.
    Own,
    /// It is a trust anchor of the gateway.
    Anchor(Vec<Flavour>),
    /// There is no association.
    Refused {
        /// Why.
        why: String,
        /// What the peer is told.
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

    /// The same for programs.
    pub fn as_json(&self) -> Value {
        match self {
            Self::Accepted { identity, id, entity, until } => json!({
                "verdict": "accepted",
                "identity": identity.to_string(),
                "credential_id": id.to_string(),
                "flavour": identity.flavour().name(),
                "entity": entity.to_string(),
                "until": until.map(timestamp::format),
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
            Self::Own => f.write_str("the gateway's own, which it shows to its peers"),
            Self::Anchor(flavours) => {
                let flavours: Vec<_> = flavours.iter().map(|flavour| flavour.name()).collect();
                write!(f, "a trust anchor of the gateway, for {}", flavours.join(", "))
            }
            Self::Refused { why, alert } => write!(f, "refused: {why} (alert {})", alert.name()),
        }
    }
}

/// A gateway that is asked, without being run.
pub struct Judge {
    settings: Settings,
    certificates: Option<Arc<Certificates>>,
}

impl Judge {
    /// The gateway with that configuration.
    ///
    /// # Errors
    /// All that is wrong with the configuration, or with what it has to do with certificates.
    pub fn new(config: &Path) -> Result<Self, CertsError> {
        let settings = Config::load(config)?.policy_settings(None);
        let certificates = Certificates::load(&settings)?;
        Ok(Self { settings, certificates })
    }

    /// Judges a chain, the peer's own certificate first.
    ///
    /// # Errors
    /// All that is wrong with policy, where that has to be asked.
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

    /// Judges a raw public key, its SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// All that is wrong with policy, where that has to be asked.
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
            let why = "the gateway has no certificate of its own to show ([[own]] in \
                       certificates.toml)";
            return Ok(Verdict::refused(why, Alert::HandshakeFailure));
        }
        let VerifiedPeer { identity, until, .. } = match vouched {
            Ok(vouched) => vouched,
            Err(rejection) => return Ok(Verdict::rejected(&rejection)),
        };
        let Some(id) = identity.credential_id() else {
            let why = format!("{identity} is no entity that registers");
            return Ok(Verdict::refused(why, Alert::AccessDenied));
        };
        match identity.entity() {
            Some(entity) => Ok(Verdict::Accepted { identity, id, entity, until }),
            None => self.map(identity, id, until).await,
        }
    }

    /// Asks policy, all of it, whom it stands for.
    async fn map(
        &self,
        identity: Identity,
        id: CredentialId,
        until: Option<SystemTime>,
    ) -> Result<Verdict, CertsError> {
        // The compiled code that it leaves is for this user alone.
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
                format!("no module and no rule says whom {id} stands for")
            }
            Mapping::Unclaimed => format!(
                "no module says whom {id} stands for; the rules of the service subscription, which \
                 are no policy file, were not asked"
            ),
            Mapping::Refused(Refusal { module, reason }) => {
                format!("module {module} refused it: {reason}")
            }
            Mapping::Failed { module, fault } => format!("module {module} {fault}"),
        };
        Ok(Verdict::refused(why, Alert::AccessDenied))
    }
}

fn no_certificates() -> Verdict {
    let why = "the gateway takes no certificates: there is no certificates.toml in its policies \
               folder";
    Verdict::refused(why, Alert::HandshakeFailure)
}
