//! Connects the handshake with policy: queries the generation in force for a credential, and stores
//! the inputs to repeat the query with newer generations.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use saegis_certificate::{Identity, Rejection, VerifiedPeer};
use saegis_handshake::NoCredential;
use saegis_handshake::certificate::{
    CertificateMapping, Evidence, Identified, Identifying, Mapped, Shown,
};
use saegis_handshake::psk::{Answer, CredentialLookup, Looking, Query};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::{CredentialId, KpsaId};
use saegis_policy::{
    CertificateQuery, EXPIRED, Generation, Lookup, Mapping, ModuleFault, Policy, PskQuery, Refusal,
};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::subscription::source::{RulesUnavailable, ServiceSubscriptionSource};
use crate::telemetry::audit;

/// Inputs of a credential lookup, stored to repeat it with a newer generation.
pub struct CredentialRevalidation {
    /// Number of the generation that was queried.
    pub generation: u64,
    id: CredentialId,
    entity: Entity,
    expires: Option<SystemTime>,
    what: CredentialEvidence,
}

/// Credential for an association in which the gateway is the client.
pub enum ClientCredential {
    /// The shared key.
    Key {
        /// Identity of the key.
        identity: KpsaId,
        /// The key.
        key: PresharedKey,
    },
    /// Certificates on both sides. That of the peer must contain this identity.
    Certificate(Identity),
}

/// Subject of a lookup.
enum CredentialEvidence {
    /// A psk_identity, and a fingerprint of the key that was found.
    Key { query: PskQuery, key: Fingerprint },
    /// Certificate or raw public key that a peer presented.
    Certificate(PresentedCertificate),
}

/// Maximum number of attempts of a lookup that fails, rather than responds, before the association
/// is ended: a module under load may time out once.
const MAX_ATTEMPTS: usize = 3;

/// Why a credential is not verified for.
pub enum RevalidationError {
    /// Policy no longer has the credential, has another one, or a module fails.
    Gone(String),
    /// No sandbox was available: too many calls are active. The query must be repeated.
    NotAsked,
}

/// There was no sandbox for a query.
pub struct NotAsked;

impl CredentialRevalidation {
    /// Checks that `generation` has the same credential for the same query: the same key for the
    /// same entity.
    pub async fn revalidate(&self, generation: &Generation) -> Result<(), RevalidationError> {
        let mut answer = self.ask(generation).await;
        for _ in 1..MAX_ATTEMPTS {
            // If no sandbox is free, none will be free a moment later.
            if matches!(&answer, Err(NotFound::Failed { fault, .. }) if *fault != ModuleFault::Busy)
            {
                answer = self.ask(generation).await;
            }
        }
        let why = match answer {
            Err(NotFound::Failed { fault: ModuleFault::Busy, .. } | NotFound::NoRules) => {
                return Err(RevalidationError::NotAsked);
            }
            Err(why) => return Err(RevalidationError::Gone(why.to_string())),
            Ok(found) if !self.expires_as(found.expires) => "it expires at another time",
            Ok(found) if found.id != self.id => "another credential has the identity",
            Ok(found) if found.entity != self.entity => "the credential stands for another entity",
            Ok(Found { key: Some(changed), .. }) if changed => "the key was changed",
            Ok(_) => return Ok(()),
        };
        Err(RevalidationError::Gone(why.into()))
    }

    /// Returns whether policy refuses the credential for good, or gives it to another entity. That is not
    /// so for another key of the same credential, or if a module fails or depends on another system.
    ///
    /// # Errors
    /// Fails if there was no sandbox. The query must be repeated.
    pub async fn is_revoked_in(&self, generation: &Generation) -> Result<bool, NotAsked> {
        Ok(match self.ask(generation).await {
            Err(NotFound::Failed { fault: ModuleFault::Busy, .. }) => return Err(NotAsked),
            Ok(found) => found.id != self.id || found.entity != self.entity,
            Err(
                NotFound::Failed { .. }
                | NotFound::NoRules
                | NotFound::Certificate(Rejection::RevocationUnknown(_)),
            ) => false,
            Err(NotFound::Refused { module, reason }) => {
                reason == EXPIRED || !generation.depends_on_others(&module)
            }
            Err(
                NotFound::Unclaimed
                | NotFound::Certificate(_)
                | NotFound::Unmapped
                | NotFound::NoCertificates,
            ) => true,
        })
    }

    /// Returns the entity that the credential stands for.
    pub fn entity(&self) -> &Entity {
        &self.entity
    }

    /// Checks that the credential may be used to connect to its holder.
    ///
    /// # Errors
    /// Returns the reason if it may not.
    pub async fn is_good_in(&self, generation: &Generation) -> Result<(), String> {
        if self.expires.is_some_and(|at| at <= SystemTime::now()) {
            return Err("its credential has expired".into());
        }
        self.revalidate(generation).await.map_err(|not| match not {
            RevalidationError::Gone(why) => format!("its credential no longer holds: {why}"),
            RevalidationError::NotAsked => "policy could not be asked".into(),
        })
    }

    /// Returns the credential for an association with the holder.
    ///
    /// # Errors
    /// Returns the reason if there is none.
    pub async fn means(&self, generation: &Generation) -> Result<ClientCredential, String> {
        match &self.what {
            CredentialEvidence::Key { query, key } => {
                let identity = KpsaId::parse(&query.psk_identity).map_err(|e| e.to_string())?;
                let found = answered(generation.lookup_again(query).await);
                let found = found.map_err(|e| e.to_string())?;
                // The generation may be newer than the one in which the credential was checked.
                if found.id != self.id || found.entity != self.entity || !key.is_of(&found.key) {
                    return Err("another credential has the identity".into());
                }
                Ok(ClientCredential::Key { identity, key: found.key })
            }
            CredentialEvidence::Certificate(asked) => {
                self.is_good_in(generation).await?;
                let certificates = generation.certificates().ok_or(NotFound::NoCertificates);
                let certificates = certificates.map_err(|e| e.to_string())?;
                let verified = asked.evidence.verify(&certificates.trust, SystemTime::now());
                match verified.map_err(|e| e.to_string())?.identity {
                    Identity::PublicKey(_) => Err("it has a raw public key".into()),
                    identity => Ok(ClientCredential::Certificate(identity)),
                }
            }
        }
    }

    async fn ask(&self, generation: &Generation) -> Result<Found, NotFound> {
        match &self.what {
            CredentialEvidence::Key { query, key } => {
                let found = answered(generation.lookup_again(query).await)?;
                let changed = Some(!key.is_of(&found.key));
                Ok(Found {
                    id: found.id,
                    entity: found.entity,
                    expires: found.expires,
                    key: changed,
                })
            }
            CredentialEvidence::Certificate(asked) => {
                let mapped = asked.retry_revalidation(generation).await?;
                let (id, entity, expires) = (mapped.credential_id, mapped.entity, mapped.expires);
                Ok(Found { id, entity, expires, key: None })
            }
        }
    }

    /// A certificate may be valid for longer after the renewal of its authority. The association
    /// still ends at its own time.
    fn expires_as(&self, found: Option<SystemTime>) -> bool {
        match (&self.what, self.expires, found) {
            (CredentialEvidence::Certificate(_), Some(own), Some(found)) => found >= own,
            (CredentialEvidence::Certificate(_), _, None) => true,
            (_, own, found) => own == found,
        }
    }
}

/// Result of a generation.
struct Found {
    id: CredentialId,
    entity: Entity,
    expires: Option<SystemTime>,
    /// Whether the key differs.
    key: Option<bool>,
}

/// Fingerprint of a key, without the key: an HMAC with a key of this process.
struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(key: &PresharedKey) -> Self {
        static OWN: OnceLock<[u8; 32]> = OnceLock::new();
        let own = OWN.get_or_init(|| rand::rng().random());
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(own).expect("HMAC takes any key length");
        mac.update(key.expose());
        Self(mac.finalize().into_bytes().into())
    }

    fn is_of(&self, key: &PresharedKey) -> bool {
        self.0.ct_eq(&Self::of(key).0).into()
    }
}

/// Credential lookup for one connection.
pub struct PolicyLookup {
    policy: Arc<Policy>,
    peer: IpAddr,
    evidence: Arc<Mutex<Option<CredentialRevalidation>>>,
    has_started: AtomicBool,
}

impl PolicyLookup {
    /// Creates a lookup for a connection of `peer`.
    pub fn new(policy: Arc<Policy>, peer: IpAddr) -> Self {
        Self { policy, peer, evidence: Arc::default(), has_started: AtomicBool::default() }
    }

    /// Returns whether the lookup has started: the peer has presented a credential.
    pub fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }

    /// Returns the inputs of the lookup, if it found a credential.
    pub fn evidence(&self) -> Option<CredentialRevalidation> {
        self.evidence.lock().ok()?.take()
    }
}

impl CredentialLookup for PolicyLookup {
    fn lookup(&self, query: Query) -> Looking {
        self.has_started.store(true, Ordering::Relaxed);
        let query = PskQuery {
            psk_identity: query.psk_identity,
            server_name: query.server_name,
            peer: self.peer,
        };
        let (generation, place) = (self.policy.current(), self.evidence.clone());
        Box::pin(async move {
            match answered(generation.lookup(&query).await) {
                Err(why) => Answer::Refused(why.of_handshake()),
                Ok(credential) => {
                    let evidence = CredentialRevalidation {
                        generation: generation.number,
                        id: credential.id.clone(),
                        entity: credential.entity.clone(),
                        expires: credential.expires,
                        what: CredentialEvidence::Key {
                            query,
                            key: Fingerprint::of(&credential.key),
                        },
                    };
                    if let Ok(mut place) = place.lock() {
                        *place = Some(evidence);
                    }
                    Answer::Found(credential)
                }
            }
        })
    }
}

/// Certificate mapping for one connection.
pub struct PolicyMapping {
    generation: Arc<Generation>,
    rules: Arc<ServiceSubscriptionSource>,
    peer: IpAddr,
    evidence: Arc<Mutex<Option<CredentialRevalidation>>>,
    has_started: AtomicBool,
}

impl PolicyMapping {
    /// Creates a mapping for a connection of `peer`, with the generation whose trust anchors the
    /// engine uses.
    pub fn new(
        generation: Arc<Generation>,
        rules: Arc<ServiceSubscriptionSource>,
        peer: IpAddr,
    ) -> Self {
        Self {
            generation,
            rules,
            peer,
            evidence: Arc::default(),
            has_started: AtomicBool::default(),
        }
    }

    /// Returns whether the mapping has started: the peer has presented a credential.
    pub fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }

    /// Returns the inputs of the mapping, if the certificate was accepted.
    pub fn evidence(&self) -> Option<CredentialRevalidation> {
        self.evidence.lock().ok()?.take()
    }
}

impl CertificateMapping for PolicyMapping {
    fn identify(&self, shown: Shown) -> Identifying {
        self.has_started.store(true, Ordering::Relaxed);
        let (generation, place) = (self.generation.clone(), self.evidence.clone());
        let Shown { verified, evidence, server_name } = shown;
        let asked = PresentedCertificate {
            evidence,
            server_name,
            peer: self.peer,
            rules: self.rules.clone(),
        };
        Box::pin(async move {
            match asked.map(&generation, verified, Occasion::Handshake).await {
                Err(why) => Identified::Refused(why.of_handshake()),
                Ok(mapped) => {
                    let evidence = CredentialRevalidation {
                        generation: generation.number,
                        id: mapped.credential_id.clone(),
                        entity: mapped.entity.clone(),
                        expires: mapped.expires,
                        what: CredentialEvidence::Certificate(asked),
                    };
                    if let Ok(mut place) = place.lock() {
                        *place = Some(evidence);
                    }
                    Identified::As(mapped)
                }
            }
        })
    }
}

/// Situations in which policy maps a certificate to an entity.
#[derive(Clone, Copy)]
enum Occasion {
    Handshake,
    Revalidation,
}

/// Certificate that a peer presented and its address, stored to repeat the mapping.
struct PresentedCertificate {
    evidence: Evidence,
    server_name: Option<String>,
    peer: IpAddr,
    rules: Arc<ServiceSubscriptionSource>,
}

impl PresentedCertificate {
    /// Verifies and maps it again.
    async fn retry_revalidation(&self, generation: &Generation) -> Result<Mapped, NotFound> {
        let certificates = generation.certificates().ok_or(NotFound::NoCertificates)?;
        let verified = self.evidence.verify(&certificates.trust, SystemTime::now())?;
        self.map(generation, verified, Occasion::Revalidation).await
    }

    /// Maps it to its entity: the one that it names, or the one that policy names.
    async fn map(
        &self,
        generation: &Generation,
        verified: VerifiedPeer,
        occasion: Occasion,
    ) -> Result<Mapped, NotFound> {
        let VerifiedPeer { identity, until, .. } = verified;
        let credential_id = identity.credential_id().ok_or(NotFound::Unmapped)?;
        if generation.is_maf() {
            // A client of a MAF is identified by its absolute name.
            let own = generation.service_provider();
            let client = identity.absolute(own).ok_or(NotFound::Unmapped)?;
            return Ok(Mapped { entity: Entity::MafClient(client), credential_id, expires: until });
        }
        if let Some(entity) = identity.entity() {
            return Ok(Mapped { entity, credential_id, expires: until });
        }
        let query = CertificateQuery {
            flavour: identity.flavour(),
            credential_id: credential_id.clone(),
            server_name: self.server_name.clone(),
            peer: self.peer,
            rules: self.rules.rules().await.map_err(|RulesUnavailable| NotFound::NoRules)?,
        };
        let mapping = match occasion {
            Occasion::Handshake => generation.map_certificate(&query).await,
            Occasion::Revalidation => generation.map_certificate_again(&query).await,
        };
        match mapping {
            Mapping::As { entity, expires } => {
                let expires = [until, expires].into_iter().flatten().min();
                Ok(Mapped { entity, credential_id, expires })
            }
            Mapping::Unclaimed => Err(NotFound::Unmapped),
            Mapping::Refused(Refusal { module, reason }) => {
                Err(NotFound::Refused { module, reason })
            }
            Mapping::Failed { module, fault } => Err(NotFound::Failed { module, fault }),
        }
    }
}

/// Reason why no credential was found.
#[derive(Debug, thiserror::Error)]
enum NotFound {
    #[error("no module knows it")]
    Unclaimed,
    #[error("module {module} rejected it: {reason}")]
    Refused { module: String, reason: String },
    #[error("module {module} {fault}")]
    Failed { module: String, fault: ModuleFault },
    #[error("{0}")]
    Certificate(#[from] Rejection),
    #[error("no module and no rule maps it to an entity")]
    Unmapped,
    #[error("the gateway no longer accepts certificates")]
    NoCertificates,
    #[error("the rules of the service subscription are not available")]
    NoRules,
}

impl NotFound {
    /// Returns the reason of a refused handshake. Records the failure of a module.
    fn of_handshake(&self) -> NoCredential {
        if let Self::Failed { module, fault } = self {
            audit::module_failed(module, fault);
        }
        NoCredential { cause: self.cause(), why: self.to_string() }
    }

    /// Returns a short name for logs and counters.
    fn cause(&self) -> &'static str {
        match self {
            Self::Unclaimed => "unknown-identity",
            Self::Refused { reason, .. } if reason == EXPIRED => "expired",
            Self::Refused { .. } => "refused-by-module",
            Self::Failed { .. } => "module-failed",
            Self::Certificate(_) => "certificate",
            Self::Unmapped => "certificate-unmapped",
            Self::NoCertificates => "certificates-only",
            Self::NoRules => "rules-unavailable",
        }
    }
}

fn answered(lookup: Lookup) -> Result<Credential, NotFound> {
    match lookup {
        Lookup::Found(credential) => Ok(credential),
        Lookup::Unclaimed => Err(NotFound::Unclaimed),
        Lookup::Refused(Refusal { module, reason }) => Err(NotFound::Refused { module, reason }),
        Lookup::Failed { module, fault } => Err(NotFound::Failed { module, fault }),
    }
}
