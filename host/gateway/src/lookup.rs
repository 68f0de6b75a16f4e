//! Between handshake and policy: the engine's question becomes a query of the generation in
//! force, and what vouches for the credential is remembered for when generations change.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use saegis_handshake::psk::{Answer, CredentialLookup, Looking, Query};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::CredentialId;
use saegis_policy::{Generation, Lookup, Policy, PskQuery};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What vouched for a credential: enough to ask again.
pub struct Voucher {
    /// The number of the generation that was asked.
    pub generation: u64,
    query: PskQuery,
    id: CredentialId,
    entity: Entity,
    key: Fingerprint,
}

impl Voucher {
    /// Whether `generation` gives the same credential for the same query: the same key for the
    /// same entity. If not, the reason why not.
    pub async fn holds_in(&self, generation: &Generation) -> Result<(), String> {
        match ask(generation, &self.query).await {
            Err(why) => Err(why),
            Ok(found) if found.id != self.id => Err("another credential has the identity".into()),
            Ok(found) if found.entity != self.entity => {
                Err("the credential stands for another entity".into())
            }
            Ok(found) if !self.key.is_of(&found.key) => Err("the key was changed".into()),
            Ok(_) => Ok(()),
        }
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
                Err(why) => Answer::Refused(why),
                Ok(credential) => {
                    let voucher = Voucher {
                        generation: generation.number,
                        query,
                        id: credential.id.clone(),
                        entity: credential.entity.clone(),
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

async fn ask(generation: &Generation, query: &PskQuery) -> Result<Credential, String> {
    match generation.lookup(query).await {
        Lookup::Found(credential) => Ok(credential),
        Lookup::Unclaimed => Err("no module knows it".into()),
        Lookup::Refused(refusal) => {
            Err(format!("module {} refused it: {}", refusal.module, refusal.reason))
        }
        Lookup::Failed { module, fault } => Err(format!("module {module} {fault}")),
    }
}
