//! A certificate is public. A client that presents one must not learn anything before it has proved
//! possession of the key.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use openssl::ec::EcKey;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVersion};
use openssl::x509::X509;
use saegis_handshake::certificate::{
    CertificateMapping, Identified, Identifying, Mapped, Server, Shown,
};
use saegis_handshake::{Accepted, FirstFlight, Refusal};
use saegis_test_ca::{Example, ExampleNames};
use tokio::io::DuplexStream;

use crate::setup::{server_certificate, trust};

/// A client configuration for each engine.
const ENGINES: [(SslVersion, &str); 3] = [
    (SslVersion::TLS1_3, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (SslVersion::TLS1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (SslVersion::TLS1_2, "ECDHE-ECDSA-AES128-SHA256"),
];

/// A mapping that counts its calls.
#[derive(Default)]
struct Counting(Arc<AtomicUsize>);

impl CertificateMapping for Counting {
    fn identify(&self, shown: Shown) -> Identifying {
        let asked = self.0.clone();
        let mut identity = Some(shown.verified.identity);
        Box::pin(poll_fn(move |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            let mapped = identity.take().and_then(|identity| {
                let (entity, id) = (identity.entity()?, identity.credential_id()?);
                Some(Mapped { entity, credential_id: id, expires: None })
            });
            Poll::Ready(mapped.map_or_else(|| Identified::Refused("nobody".into()), Identified::As))
        }))
    }
}

fn server(example: &Example) -> Server {
    Server::new(trust(example), &[server_certificate(example)]).expect("engines")
}

/// Returns another private key that claims the public key of the certificate. OpenSSL refuses to
/// present a certificate with a key that does not match.
fn forged(certificate: &X509, real: &PKey<Private>) -> PKey<Private> {
    let public = certificate.public_key().and_then(|key| key.ec_key()).expect("a P-256 key");
    let real = real.ec_key().expect("a P-256 key");
    let other = EcKey::generate(public.group()).expect("a key");
    assert_ne!(other.private_key(), real.private_key());
    let forged =
        EcKey::from_private_components(public.group(), other.private_key(), public.public_key());
    PKey::from_ec_key(forged.expect("a key")).expect("a key")
}

fn client(example: &Example, (version, suites): (SslVersion, &str), forge: bool) -> SslContext {
    let mut builder = SslContext::builder(SslMethod::tls_client()).expect("a context");
    builder.set_min_proto_version(Some(version)).expect("a version");
    builder.set_max_proto_version(Some(version)).expect("a version");
    builder.set_cipher_list(suites).expect("suites");
    let shown = X509::from_der(example.ae.der()).expect("a certificate");
    let key = PKey::private_key_from_pem(example.ae.key_pem().as_bytes()).expect("a key");
    let key = if forge { forged(&shown, &key) } else { key };
    builder.set_certificate(&shown).expect("a certificate");
    builder.set_private_key(&key).expect("a key");
    builder.build()
}

/// Performs one handshake. Returns the server's refusal, if any, and the number of mappings.
async fn handshake(server: &Server, client: &SslContext) -> (Option<Refusal>, usize) {
    let (near, mut far): (DuplexStream, DuplexStream) = tokio::io::duplex(16 << 10);
    let mapping = Arc::new(Counting::default());
    let asked = mapping.0.clone();
    let serve = async {
        let flight = FirstFlight::read(&mut far).await.expect("a first flight");
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        server.accept(1, peer, far, flight, mapping).await
    };
    let connect = async {
        let ssl = Ssl::new(client).expect("a client");
        let mut stream = Box::pin(tokio_openssl::SslStream::new(ssl, near).expect("a stream"));
        // In TLS 1.3 this succeeds before the server has verified. Only the server's result counts.
        let _ = stream.as_mut().connect().await;
        stream
    };
    let (accepted, _stream): (Result<Accepted<_>, Refusal>, _) = tokio::join!(serve, connect);
    (accepted.err(), asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn policy_is_called_after_proof_of_key() {
    let example = Example::new(&ExampleNames::default()).expect("certificates");
    let server = server(&example);
    for engine in ENGINES {
        let (refused, asked) = handshake(&server, &client(&example, engine, false)).await;
        assert!(refused.is_none(), "{engine:?}: {refused:?}");
        assert_eq!(asked, 1, "{engine:?}");
    }
}

#[tokio::test]
async fn policy_is_not_called_without_proof_of_key() {
    let example = Example::new(&ExampleNames::default()).expect("certificates");
    let server = server(&example);
    for engine in ENGINES {
        let (refused, asked) = handshake(&server, &client(&example, engine, true)).await;
        assert!(matches!(refused, Some(Refusal::Protocol(_))), "{engine:?}: {refused:?}");
        assert_eq!(asked, 0, "{engine:?}");
    }
}
