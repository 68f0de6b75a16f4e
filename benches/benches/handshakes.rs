//! A TLS-PSK handshake in memory, both ends, with the key at hand and with the look-up in a
//! sandbox.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at what is wrong"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use saegis_handshake::psk::{Answer, Client, CredentialLookup, Looking, Query, Server};
use saegis_handshake::{FirstFlight, Suite};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CredentialId, KpsaId};
use saegis_policy::{Lookup, Policy, PskQuery};

const ROW: usize = 77_777;

fn key() -> PresharedKey {
    PresharedKey::new(&saegis_benches::key(ROW).to_be_bytes()).expect("a key")
}

fn kpsa_id() -> KpsaId {
    KpsaId::parse(&saegis_benches::kpsa_id(ROW)).expect("a KpsaID")
}

/// The key at hand: what a handshake costs without a look-up.
struct AtHand;

impl CredentialLookup for AtHand {
    fn lookup(&self, _: Query) -> Looking {
        Box::pin(async {
            Answer::Found(Credential {
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

criterion_group!(benches, handshakes);
criterion_main!(benches);
