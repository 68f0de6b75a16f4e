//! Associations with AEs in which this gateway is the client.
//!
//! This is SA2 of TS-0003 clause 8.2, which follows SA1, the association of the AE, and uses the
//! same credential. It is established to send a request to an AE with an `https://` or `coaps://`
//! point of access, and is then pooled.
//!
//! With a key, the AE and the gateway prove possession of it. With certificates, both present one,
//! and that of the AE must contain the same identity as in its own association.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lru::LruCache;
use saegis_handshake::certificate::{self, Expected};
use saegis_handshake::{Connected, Suite, psk};
use saegis_onem2m::coap::Parts;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_policy::{Generation, Policy};
use tokio::net::TcpStream;

use super::ae_datagrams::DatagramPools;
use super::credential_holder;
use super::response::read;
use crate::config::bare;
use crate::notification::failure::Failure;
use crate::notification::resolver::Targets;
use crate::session::ae_id_store::AeIdStore;
use crate::session::registry::ActiveAssociation;
use crate::session::revalidation::{ClientCredential, CredentialRevalidation, NotAsked};
use saegis_client::error_chain;
use saegis_client::{Stream, within};

/// Maximum number of stored credentials and AE-IDs; the least recently used ones are evicted.
const MAX_CREDENTIALS: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// Maximum number of AEs with idle associations, idle associations per AE, and their idle timeout.
const MAX_CLIENTS: NonZeroUsize = NonZeroUsize::new(1_000).expect("it is not zero");
const MAX_IDLE: usize = 2;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

type Pool = Client<Connector, Full<Bytes>>;

/// AEs that have connected, and the associations with them.
pub struct Aes {
    policy: Arc<Policy>,
    bindings: AeIdStore,
    targets: Arc<Targets>,
    suites: Vec<Suite>,
    timeout: Duration,
    known: Mutex<Known>,
    datagrams: DatagramPools,
}

/// Stored data of AEs that have connected.
struct Known {
    credentials: LruCache<CredentialId, Arc<CredentialRevalidation>>,
    /// The credential that names the AE-ID. AE-IDs that registrations assigned are in the AE-ID
    /// store.
    of_ae: LruCache<AeIdStem, CredentialId>,
    pools: LruCache<CredentialId, CachedClient>,
}

/// Associations with one AE, and the inputs of their connector.
struct CachedClient {
    generation: u64,
    evidence: Arc<CredentialRevalidation>,
    pool: Pool,
}

impl Aes {
    /// Creates an empty store.
    pub fn new(
        policy: Arc<Policy>,
        bindings: AeIdStore,
        targets: Arc<Targets>,
        (suites, suites_of_datagrams): (Vec<Suite>, Vec<Suite>),
        timeout: Duration,
    ) -> Arc<Self> {
        let known = Mutex::new(Known {
            credentials: LruCache::new(MAX_CREDENTIALS),
            of_ae: LruCache::new(MAX_CREDENTIALS),
            pools: LruCache::new(MAX_CLIENTS),
        });
        let datagrams = DatagramPools::new(targets.clone(), suites_of_datagrams, timeout);
        Arc::new(Self { policy, bindings, targets, suites, timeout, known, datagrams })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the credential of an association.
    pub fn note(&self, live: &ActiveAssociation) {
        let credential = &live.association.credential_id;
        let mut known = self.known();
        known.credentials.put(credential.clone(), live.credential().clone());
        for stem in live.association.credential_entity().stems() {
            known.of_ae.put(stem.clone(), credential.clone());
        }
    }

    /// The credential of an AE that is registered here, by its AE-ID-Stem.
    ///
    /// # Errors
    /// When the AE has had no association since the start.
    pub fn holder(&self, ae: &str) -> Result<CredentialId, Failure> {
        let not_here = || {
            let why = "the AE has not connected since the gateway started";
            Failure::NoAssociation(why.into())
        };
        let stem = AeIdStem::parse(ae).map_err(|_| not_here())?;
        // If policy gives the AE-ID to another credential, it belongs to that one, even before its
        // AE connects.
        let bound = self.bindings.bound_to(&stem);
        match bound.filter(|_| !self.policy.current().reserves(&stem)) {
            Some(holder) => Ok(holder),
            None => self.known().of_ae.get(&stem).cloned().ok_or_else(not_here),
        }
    }

    /// Returns whether policy no longer has a credential. Returns `false` for one that has not been
    /// used since the start.
    ///
    /// # Errors
    /// Fails if there was no sandbox. The query must be repeated.
    pub async fn is_revoked(
        &self,
        credential: &CredentialId,
        generation: &Generation,
    ) -> Result<bool, NotAsked> {
        let evidence = self.known().credentials.peek(credential).cloned();
        match evidence {
            Some(evidence) => evidence.is_revoked_in(generation).await,
            None => Ok(false),
        }
    }

    /// Returns whether present policy no longer has a credential, as far as that is known.
    pub async fn is_revoked_now(&self, credential: &CredentialId) -> bool {
        self.is_revoked(credential, &self.policy.current()).await.unwrap_or(false)
    }

    /// Returns the known AEs of a credential.
    pub fn stems(&self, credential: &CredentialId) -> Vec<AeIdStem> {
        let known = self.known().credentials.peek(credential).cloned();
        let named = known.map(|evidence| evidence.entity().stems().to_vec()).unwrap_or_default();
        let generation = self.policy.current();
        let bound = self.bindings.of(credential).filter(|stem| !generation.reserves(stem));
        named.into_iter().chain(bound).collect()
    }

    /// Sends a request to the holder of a credential, and reads the response.
    pub async fn ask(
        &self,
        credential: &CredentialId,
        request: http::Request<Full<Bytes>>,
    ) -> Result<ResponsePrimitive, Failure> {
        let (evidence, generation) = self.evidence(credential).await?;
        let pool = self.pool(credential, evidence, generation.number);
        let response = pool.request(request).await;
        read(response.map_err(|e| Failure::NoAssociation(error_chain(&e)))?).await
    }

    /// Sends a request over CoAP to the holder of a credential, and reads the response.
    pub async fn ask_over_coap(
        &self,
        credential: &CredentialId,
        uri: &Uri,
        request: Parts,
    ) -> Result<ResponsePrimitive, Failure> {
        let (evidence, generation) = self.evidence(credential).await?;
        self.datagrams.ask((credential, evidence), &generation, uri, request).await
    }

    /// Returns the inputs of a credential that is valid now. It may have been revoked since the
    /// association was established.
    async fn evidence(
        &self,
        credential: &CredentialId,
    ) -> Result<(Arc<CredentialRevalidation>, Arc<Generation>), Failure> {
        let evidence = self.known().credentials.get(credential).cloned();
        let evidence = evidence.ok_or_else(|| {
            let why = "its credential has not been used since the gateway started";
            Failure::NoAssociation(why.into())
        })?;
        let generation = self.policy.current();
        if let Err(why) = evidence.is_good_in(&generation).await {
            self.known().pools.pop(credential);
            self.datagrams.end(credential);
            return Err(Failure::NoAssociation(why));
        }
        Ok((evidence, generation))
    }

    /// Returns the pool of associations with an AE. It is replaced with each generation, and when
    /// the AE has connected with another key or certificate.
    fn pool(
        &self,
        credential: &CredentialId,
        evidence: Arc<CredentialRevalidation>,
        generation: u64,
    ) -> Pool {
        let mut known = self.known();
        if let Some(kept) = known.pools.get(credential)
            && kept.generation == generation
            && Arc::ptr_eq(&kept.evidence, &evidence)
        {
            return kept.pool.clone();
        }
        let connector = Connector {
            credential: credential.clone(),
            evidence: evidence.clone(),
            policy: self.policy.clone(),
            targets: self.targets.clone(),
            suites: self.suites.clone(),
            timeout: self.timeout,
        };
        let pool = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let kept = CachedClient { generation, evidence, pool: pool.clone() };
        known.pools.put(credential.clone(), kept);
        pool
    }
}

/// Establishes associations with one AE.
#[derive(Clone)]
struct Connector {
    credential: CredentialId,
    evidence: Arc<CredentialRevalidation>,
    policy: Arc<Policy>,
    targets: Arc<Targets>,
    suites: Vec<Suite>,
    timeout: Duration,
}

impl Connector {
    async fn connect(self, url: Uri) -> io::Result<Stream> {
        let (credential, timeout) = (self.credential.clone(), self.timeout);
        let who = credential_holder::name(&credential);
        let connected = within(timeout, &who, self.associate(&url)).await?;
        let (protocol, suite) = (connected.protocol, &connected.suite);
        credential_holder::log_established(&credential, &url, protocol, suite);
        Ok(Stream::over(connected))
    }

    async fn associate(self, url: &Uri) -> Result<Connected<TcpStream>, String> {
        let address = self.targets.address(url).await.map_err(|e| e.to_string())?;
        let generation = self.policy.current();
        let means = self.evidence.means(&generation).await?;
        let socket = TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
        // Primitives are small and answered one by one.
        let _ = socket.set_nodelay(true);
        let host = bare(url.host().unwrap_or_default());
        match means {
            ClientCredential::Key { identity, key } => {
                let client = psk::Client::new(&self.suites, identity, key);
                let client = client.map_err(|e| e.to_string())?;
                let name = host.parse::<std::net::IpAddr>().is_err().then_some(host);
                client.connect(socket, name).await.map_err(|e| e.to_string())
            }
            ClientCredential::Certificate(identity) => {
                let (trust, own) = credential_holder::own_certificate(&generation)?;
                let client = certificate::Client::new(trust.clone(), own);
                let connected = client.connect(socket, host, Expected::Known(identity)).await;
                connected.map_err(|e| e.to_string())
            }
        }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        Box::pin(self.clone().connect(url))
    }
}
