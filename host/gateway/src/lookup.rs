//! Between handshake and policy: the engine's question becomes a query of the generation in
//! force, and what vouches for the credential is remembered for when generations change.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use saegis_handshake::psk::{Answer, CredentialLookup, Looking, Query};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::CredentialId;
use saegis_policy::{Generation, Lookup, ModuleFault, Policy, PskQuery, Refusal};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What vouched for a credential: enough to ask again.
pub struct Voucher {
    /// The number of the generation that was asked.
    pub generation: u64,
    query: PskQuery,
    id: CredentialId,
    entity: Entity,
    expires: Option<SystemTime>,
    key: Fingerprint,
}

/// How often a look-up is tried that failed, rather than was answered, before the association is
/// given up: a module under load may be late once.
const TRIES: usize = 3;

/// Why a credential is not vouched for.
pub enum NotVouched {
    /// Policy does not give it any more, or gives another, or a module fails at it.
    Gone(String),
    /// Policy could not be asked: too many calls are under way. Ask again.
    NotAsked,
}

impl Voucher {
    /// Whether `generation` gives the same credential for the same query: the same key for the
    /// same entity. If not, the reason why not.
    pub async fn holds_in(&self, generation: &Generation) -> Result<(), NotVouched> {
        let mut answer = ask(generation, &self.query).await;
        for _ in 1..TRIES {
            if matches!(answer, Err(NotFound::Failed { .. })) {
                answer = ask(generation, &self.query).await;
            }
        }
        let why = match answer {
            Err(NotFound::Failed { fault: ModuleFault::Busy, .. }) => {
                return Err(NotVouched::NotAsked);
            }
            Err(why) => return Err(NotVouched::Gone(why.to_string())),
            Ok(found) if found.expires != self.expires => "it expires at another time",
            Ok(found) if found.id != self.id => "another credential has the identity",
            Ok(found) if found.entity != self.entity => "the credential stands for another entity",
            Ok(found) if !self.key.is_of(&found.key) => "the key was changed",
            Ok(_) => return Ok(()),
        };
        Err(NotVouched::Gone(why.into()))
    }
}

/// Recognises a key without keeping it: an HMAC under a key of this process.
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

/// Looks up for one connection.
pub struct PolicyLookup {
    policy: Arc<Policy>,
    peer: IpAddr,
    voucher: Arc<Mutex<Option<Voucher>>>,
}

impl PolicyLookup {
    /// A look-up for a connection of `peer`.
    pub fn new(policy: Arc<Policy>, peer: IpAddr) -> Self {
        Self { policy, peer, voucher: Arc::default() }
    }

    /// What vouched for the credential that was found, if one was.
    pub fn voucher(&self) -> Option<Voucher> {
        self.voucher.lock().ok()?.take()
    }
}

impl CredentialLookup for PolicyLookup {
    fn lookup(&self, query: Query) -> Looking {
        let query = PskQuery {
            psk_identity: query.psk_identity,
            server_name: query.server_name,
            peer: self.peer,
        };
        let (generation, place) = (self.policy.current(), self.voucher.clone());
        Box::pin(async move {
            match ask(&generation, &query).await {
                Err(why) => Answer::Refused(why.to_string()),
                Ok(credential) => {
                    let voucher = Voucher {
                        generation: generation.number,
                        query,
                        id: credential.id.clone(),
                        entity: credential.entity.clone(),
                        expires: credential.expires,
                        key: Fingerprint::of(&credential.key),
                    };
                    if let Ok(mut place) = place.lock() {
                        *place = Some(voucher);
                    }
                    Answer::Found(credential)
                }
            }
        })
    }
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
enum NotFound {
    #[error("no module knows it")]
    Unclaimed,
    #[error("module {module} refused it: {reason}")]
    Refused { module: String, reason: String },
    #[error("module {module} {fault}")]
    Failed { module: String, fault: ModuleFault },
}

async fn ask(generation: &Generation, query: &PskQuery) -> Result<Credential, NotFound> {
    match generation.lookup(query).await {
        Lookup::Found(credential) => Ok(credential),
        Lookup::Unclaimed => Err(NotFound::Unclaimed),
        Lookup::Refused(Refusal { module, reason }) => Err(NotFound::Refused { module, reason }),
        Lookup::Failed { module, fault } => Err(NotFound::Failed { module, fault }),
    }
}
