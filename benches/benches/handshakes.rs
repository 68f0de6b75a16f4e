//! In-memory handshakes with both sides: with a pre-shared key in memory, with a look-up in a
//! sandbox, and with certificates on both sides by each engine.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at what is wrong"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use openssl::pkey::PKey;
use openssl::ssl::{SslContext, SslMethod, SslVersion};
use openssl::x509::X509;
use saegis_certificate::{Anchor, Flavour, KeyKind, Names, OwnCertificate, TrustBuilder, pem};
use saegis_handshake::certificate::{
    self, CertificateMapping, Identified, Identifying, Mapped, Shown,
};
use saegis_handshake::psk::{Answer, Client, CredentialLookup, Looking, Query, Server};
use saegis_handshake::{FirstFlight, Suite};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CredentialId, CseId, KpsaId};
use saegis_policy::{Lookup, Policy, PskQuery};
use saegis_test_ca::{Example, ExampleNames};

const ROW: usize = 77_777;

fn key() -> PresharedKey {
    PresharedKey::new(&saegis_benches::key(ROW).to_be_bytes()).expect("a key")
}

fn kpsa_id() -> KpsaId {
    KpsaId::parse(&saegis_benches::kpsa_id(ROW)).expect("a KpsaID")
}

/// A key in memory, for handshakes without a look-up.
struct AtHand;

impl CredentialLookup for AtHand {
    fn lookup(&self, _: Query) -> Looking {
        Box::pin(async {
            Answer::Found(Credential {
                saef: saegis_onem2m::saef::Saef::ProvisionedSymmetricKey,
                entity: Entity::Ae(AeIdStem::parse("Clight-AE1").expect("a stem")),
                id: CredentialId::of_kpsa(&kpsa_id()),
                expires: None,
                key: key(),
            })
        })
    }
}

/// The look-up of the shipped module, in its sandbox.
struct Sandboxed(Arc<Policy>);

impl CredentialLookup for Sandboxed {
    fn lookup(&self, query: Query) -> Looking {
        let generation = self.0.current();
        Box::pin(async move {
            let query = PskQuery {
                psk_identity: query.psk_identity,
                server_name: query.server_name,
                peer: Ipv4Addr::LOCALHOST.into(),
            };
            match generation.lookup(&query).await {
                Lookup::Found(credential) => Answer::Found(credential),
                _ => panic!("not found"),
            }
        })
    }
}

async fn handshake(
    server: &Server,
    client: &Client,
    lookup: Arc<dyn CredentialLookup + Send + Sync>,
) {
    let (near, mut far) = tokio::io::duplex(16 << 10);
    let serve = async {
        let flight = FirstFlight::read(&mut far).await.expect("a first flight");
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        server.accept(1, peer, far, flight, lookup).await.expect("an association")
    };
    let (accepted, connected) = tokio::join!(serve, client.connect(near, None));
    connected.expect("an association");
    drop(accepted);
}

fn handshakes(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (policy, _folder) = runtime.block_on(saegis_benches::policy(100_000)).expect("a policy");
    let policy = Arc::new(policy);
    for suite in [Suite::PskAes128Cbc, Suite::PskAes128Gcm, Suite::EcdhePskChacha20Poly1305] {
        let server = Server::new(&[suite]).expect("an engine");
        let client = Client::new(&[suite], kpsa_id(), key()).expect("an engine");
        let mut group = c.benchmark_group(format!("handshake/{suite}"));
        let at_hand: Arc<dyn CredentialLookup + Send + Sync> = Arc::new(AtHand);
        group.bench_function("key at hand", |b| {
            b.to_async(&runtime).iter(|| handshake(&server, &client, at_hand.clone()));
        });
        let sandboxed: Arc<dyn CredentialLookup + Send + Sync> =
            Arc::new(Sandboxed(policy.clone()));
        group.bench_function("look-up among 100000 rows in a sandbox", |b| {
            b.to_async(&runtime).iter(|| handshake(&server, &client, sandboxed.clone()));
        });
        group.finish();
    }
}

/// The certificate of an AE names its entity.
struct InIt;

impl CertificateMapping for InIt {
    fn identify(&self, shown: Shown) -> Identifying {
        Box::pin(async move {
            let identity = shown.verified.identity;
            Identified::As(Mapped {
                entity: identity.entity().expect("an entity"),
                credential_id: identity.credential_id().expect("a Credential-ID"),
                expires: shown.verified.until,
            })
        })
    }
}

/// Returns an OpenSSL client with a certificate that offers these versions and suites.
fn certificate_client(
    example: &Example,
    version: SslVersion,
    ciphers: Option<&str>,
) -> openssl::ssl::SslContext {
    let mut builder = SslContext::builder(SslMethod::tls_client()).expect("a context");
    builder.set_min_proto_version(Some(version)).expect("a version");
    builder.set_max_proto_version(Some(version)).expect("a version");
    if let Some(ciphers) = ciphers {
        builder.set_cipher_list(ciphers).expect("suites");
    }
    let own = X509::from_der(example.ae.der()).expect("a certificate");
    builder.set_certificate(&own).expect("a certificate");
    let key = PKey::private_key_from_pem(example.ae.key_pem().as_bytes()).expect("a key");
    builder.set_private_key(&key).expect("a key");
    let root = X509::from_der(example.cse_authority.der()).expect("an authority");
    builder.cert_store_mut().add_cert(root).expect("an authority");
    builder.set_verify(openssl::ssl::SslVerifyMode::PEER);
    builder.build()
}

fn certificates(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let example = Example::new(&ExampleNames::default()).expect("certificates");
    let names = ExampleNames::default();
    let own =
        Names::of(CseId::parse(&names.mn_cse).expect("a CSE-ID"), Some(names.service_provider));
    let mut trust = TrustBuilder::new(own);
    let authority = example.ae_authority.der().clone();
    let anchor = Anchor::new(authority, &[Flavour::AeId], &[KeyKind::P256], &[]);
    trust.add_anchor(anchor.expect("an anchor"));
    let chain = example.mn_cse.chain().to_vec();
    let key = pem::private_key(example.mn_cse.key_pem().as_bytes()).expect("a key");
    let own = Arc::new(OwnCertificate::new(chain, key).expect("a certificate"));
    let server = certificate::Server::new(Arc::new(trust.build()), &[own]).expect("engines");
    let mapping: Arc<dyn CertificateMapping + Send + Sync> = Arc::new(InIt);
    let mut group = c.benchmark_group("handshake/mutual P-256");
    for (name, version, ciphers) in [
        ("rustls, TLS 1.3", SslVersion::TLS1_3, None),
        ("rustls, TLS 1.2", SslVersion::TLS1_2, Some("ECDHE-ECDSA-AES128-GCM-SHA256")),
        ("OpenSSL, the mandated suite", SslVersion::TLS1_2, Some("ECDHE-ECDSA-AES128-SHA256")),
    ] {
        let client = certificate_client(&example, version, ciphers);
        group.bench_function(name, |b| {
            b.to_async(&runtime).iter(|| mutual(&server, &client, mapping.clone()));
        });
    }
    group.finish();
}

async fn mutual(
    server: &certificate::Server,
    client: &SslContext,
    mapping: Arc<dyn CertificateMapping + Send + Sync>,
) {
    let (near, mut far) = tokio::io::duplex(16 << 10);
    let serve = async {
        let flight = FirstFlight::read(&mut far).await.expect("a first flight");
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        server.accept(1, peer, far, flight, mapping).await.expect("an association")
    };
    let connect = async {
        let ssl = openssl::ssl::Ssl::new(client).expect("a client");
        let mut stream = Box::pin(tokio_openssl::SslStream::new(ssl, near).expect("a stream"));
        stream.as_mut().connect().await.expect("an association");
        stream
    };
    let (accepted, connected) = tokio::join!(serve, connect);
    drop((accepted, connected));
}

criterion_group!(benches, handshakes, certificates);
criterion_main!(benches);
