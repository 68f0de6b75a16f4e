//! Associations with AEs over datagrams in which this gateway is the client.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use lru::LruCache;
use saegis_client::{CoapEndpoint, DatagramProof, connect_datagrams};
use saegis_handshake::Suite;
use saegis_handshake::certificate::Expected;
use saegis_handshake::dtls::Connected;
use saegis_onem2m::coap::Parts;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_policy::Generation;

use super::credential_holder;
use super::failure::Failure;
use super::resolver::Targets;
use super::response::MAX_CONTENT;
use crate::config::bare;
use crate::session::revalidation::{ClientCredential, CredentialRevalidation};

/// Maximum number of AEs with associations.
const MAX_CLIENTS: NonZeroUsize = NonZeroUsize::new(1_000).expect("it is not zero");
/// Maximum number of concurrent requests to one AE (RFC 7252 clause 4.7).
const MAX_CONCURRENT: usize = 1;

/// Associations with AEs.
pub struct DatagramPools {
    targets: Arc<Targets>,
    suites: Vec<Suite>,
    timeout: Duration,
    pools: Mutex<LruCache<CredentialId, CachedEndpoint>>,
}

/// The association with one AE, and the inputs of its handshake.
struct CachedEndpoint {
    generation: u64,
    evidence: Arc<CredentialRevalidation>,
    authority: String,
    endpoint: Arc<CoapEndpoint>,
}

impl DatagramPools {
    /// Creates an empty pool. An AE has `timeout` to respond.
    pub fn new(targets: Arc<Targets>, suites: Vec<Suite>, timeout: Duration) -> Self {
        Self { targets, suites, timeout, pools: Mutex::new(LruCache::new(MAX_CLIENTS)) }
    }

    fn pools(&self) -> MutexGuard<'_, LruCache<CredentialId, CachedEndpoint>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to the holder of a credential at a URI, and reads the response.
    pub async fn ask(
        &self,
        (credential, evidence): (&CredentialId, Arc<CredentialRevalidation>),
        generation: &Arc<Generation>,
        uri: &Uri,
        request: Parts,
    ) -> Result<ResponsePrimitive, Failure> {
        let endpoint = self.endpoint(credential, &evidence, generation.number, uri);
        let connect = |limit| self.associate((credential, &*evidence), generation, uri, limit);
        Ok(endpoint.ask(request, MAX_CONTENT, self.timeout, connect).await?)
    }

    /// Drops the association with the holder of a credential.
    pub fn end(&self, credential: &CredentialId) {
        self.pools().pop(credential);
    }

    /// Returns the endpoint of an AE. It is replaced with each generation, when the AE has connected
    /// with another key or certificate, and when its address changes.
    fn endpoint(
        &self,
        credential: &CredentialId,
        evidence: &Arc<CredentialRevalidation>,
        generation: u64,
        uri: &Uri,
    ) -> Arc<CoapEndpoint> {
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut pools = self.pools();
        if let Some(cached) = pools.get(credential)
            && cached.generation == generation
            && cached.authority == authority
            && Arc::ptr_eq(&cached.evidence, evidence)
        {
            return cached.endpoint.clone();
        }
        let endpoint = Arc::new(CoapEndpoint::new(MAX_CONCURRENT));
        let evidence = evidence.clone();
        let cached = CachedEndpoint { generation, evidence, authority, endpoint: endpoint.clone() };
        pools.put(credential.clone(), cached);
        endpoint
    }

    async fn associate(
        &self,
        (credential, evidence): (&CredentialId, &CredentialRevalidation),
        generation: &Generation,
        uri: &Uri,
        limit: Duration,
    ) -> Result<Connected, String> {
        let who = credential_holder::name(credential);
        let failed = |why: String| format!("no association with {who}: {why}");
        let address = self.targets.address(uri).await.map_err(|e| failed(e.to_string()))?;
        let host = bare(uri.host().unwrap_or_default());
        let proof = match evidence.means(generation).await.map_err(failed)? {
            ClientCredential::Key { identity, key } => {
                DatagramProof::Key(&self.suites, identity, key)
            }
            ClientCredential::Certificate(identity) => {
                let (trust, own) =
                    credential_holder::own_certificate(generation).map_err(failed)?;
                DatagramProof::Certificate(trust.clone(), own, Expected::Known(identity))
            }
        };
        let connected = connect_datagrams(address, Some(host), proof, limit).await;
        let connected = connected.map_err(failed)?;
        let (protocol, suite) = (connected.protocol, &connected.suite);
        credential_holder::log_established(credential, uri, protocol, suite);
        Ok(connected)
    }
}
