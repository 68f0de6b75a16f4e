//! Server side on OpenSSL: TLS 1.2 with the suites of TS-0003 clause 10.2.3 that rustls does not
//! have.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslRef, SslVerifyMode};
use openssl::x509::{X509, X509StoreContextRef};
use rustls::pki_types::CertificateDer;
use saegis_certificate::{KeyKind, MAX_CHAIN, OwnCertificate, Rejection, Trust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use super::agreed::Agreed;
use super::mapping::{Evidence, Gate, Slot};
use crate::accepted::{EngineError, export, openssl_server};
use crate::psk;
use crate::refusal::Refusal;
use crate::suite::MANDATED_OPENSSL;

/// Creates the OpenSSL context for a server certificate.
pub(super) fn context(own: &OwnCertificate, trust: &Trust) -> Result<SslContext, EngineError> {
    Ok(with_certificate(openssl_server(MANDATED_OPENSSL)?, own, trust)?.build())
}

/// Adds a server certificate to a configuration.
pub(crate) fn with_certificate(
    mut builder: SslContextBuilder,
    own: &OwnCertificate,
    trust: &Trust,
) -> Result<SslContextBuilder, EngineError> {
    let mut signatures = vec!["ECDSA+SHA256"];
    if trust.allows(KeyKind::P384) {
        signatures.push("ECDSA+SHA384");
    }
    if trust.allows(KeyKind::Rsa) {
        signatures.push("RSA-PSS+SHA256:RSA+SHA256:RSA+SHA384:RSA+SHA512");
    }
    builder.set_sigalgs_list(&signatures.join(":"))?;
    builder.set_verify_depth(u32::try_from(MAX_CHAIN).unwrap_or(u32::MAX));
    for (nth, der) in own.chain().iter().enumerate() {
        let certificate = X509::from_der(der)?;
        if nth == 0 {
            builder.set_certificate(&certificate)?;
        } else {
            builder.add_extra_chain_cert(certificate)?;
        }
    }
    let key = PKey::private_key_from_der(own.expose_key())?;
    builder.set_private_key(&key)?;
    builder.check_private_key()?;
    Ok(builder)
}

/// The number of certificates that were verified in a handshake.
pub(crate) struct VerifiedCount(Arc<AtomicUsize>);

/// Verifies the client's certificate in a handshake. The slot receives it.
pub(crate) fn verify_client(ssl: &mut Ssl, slot: &Arc<Slot>) -> VerifiedCount {
    let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    let slot = slot.clone();
    verify_peer(ssl, mode, move |chain| match chain {
        Ok(chain) => slot.present(Evidence::Chain(chain), SystemTime::now()).is_ok(),
        Err(rejection) => {
            slot.reject(rejection);
            false
        }
    })
}

/// Verifies the peer's certificate in a handshake, with a function that returns whether the
/// certificates that OpenSSL put together are accepted.
pub(crate) fn verify_peer(
    ssl: &mut Ssl,
    mode: SslVerifyMode,
    verify: impl Fn(Result<Vec<CertificateDer<'static>>, Rejection>) -> bool + Send + Sync + 'static,
) -> VerifiedCount {
    let verified_count = Arc::new(AtomicUsize::new(0));
    let (answer, count) = (OnceLock::new(), verified_count.clone());
    ssl.set_verify_callback(mode, move |_, context| {
        let answer = *answer.get_or_init(|| {
            let chain = built_chain(context);
            count.store(chain.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
            verify(chain)
        });
        // The verification leaves errors in the thread's queue, where the next reader would find
        // them.
        drop(ErrorStack::get());
        answer
    });
    VerifiedCount(verified_count)
}

impl VerifiedCount {
    /// Returns what the peer sent, if it sent more than was verified. OpenSSL passes on only the
    /// chain that it built. So both engines accept the same input.
    pub(crate) fn rest(
        &self,
        ssl: &SslRef,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, Rejection> {
        let sent = sent(ssl)?;
        Ok((sent.len() != self.0.load(Ordering::Relaxed)).then_some(sent))
    }

    /// Verifies what the client sent, if it sent more than was verified.
    pub(crate) fn check_rest(&self, ssl: &SslRef, trust: &Trust) -> Result<(), Rejection> {
        if let Some(sent) = self.rest(ssl)? {
            Evidence::Chain(sent).verify(trust, SystemTime::now())?;
        }
        Ok(())
    }
}

/// Performs a handshake. The slot receives the client's certificate.
pub(super) async fn accept<S>(
    context: &SslContext,
    exports: bool,
    gate: Gate<S>,
    slot: &Arc<Slot>,
) -> Result<Agreed<S>, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let engine = |e: ErrorStack| Refusal::Protocol(e.to_string());
    let mut ssl = Ssl::new(context).map_err(engine)?;
    let verified = verify_client(&mut ssl, slot);
    let mut stream = Box::pin(SslStream::new(ssl, gate).map_err(engine)?);
    stream.as_mut().accept().await.map_err(failed)?;
    verified.check_rest(stream.ssl(), slot.trust()).map_err(Refusal::Certificate)?;
    stream.as_mut().get_pin_mut().get_mut().open();
    let (protocol, suite) = (stream.ssl().version_str(), psk::suite_name(stream.ssl()));
    let exported = exports.then(|| export(stream.ssl())).flatten();
    Ok(Agreed { stream, protocol, suite, resumed: false, exported })
}

pub(crate) fn failed(error: openssl::ssl::Error) -> Refusal {
    let reasons = error.ssl_error().map(|stack| stack.errors()).unwrap_or_default();
    let has_reason = |what| reasons.iter().any(|e| e.reason().is_some_and(|r| r.contains(what)));
    if has_reason("peer did not return a certificate") {
        Refusal::Certificate(Rejection::Missing)
    } else if has_reason("no shared cipher") {
        Refusal::NoCommonSuite
    } else {
        psk::server::failed(error)
    }
}

/// Returns the chain that OpenSSL built.
///
/// OpenSSL calls back for each error that it finds. It has no trust anchors, so it finds many, and
/// its result is ignored. A rejected certificate fails the handshake at once, before OpenSSL parses
/// anything else from an unauthenticated peer. On the server side, the gate then replaces OpenSSL's
/// alert with the one that the rustls engine sends.
fn built_chain(
    context: &mut X509StoreContextRef,
) -> Result<Vec<CertificateDer<'static>>, Rejection> {
    let made = context.chain().into_iter().flatten();
    let chain = made.map(|x| x.to_der().map(CertificateDer::from)).collect::<Result<_, _>>();
    chain.map_err(|_| NOT_ENCODED)
}

const NOT_ENCODED: Rejection = Rejection::Malformed("it cannot be encoded");

/// Returns all certificates that the peer sent, its own first. On the client side, OpenSSL's list
/// of the others starts with it.
fn sent(ssl: &SslRef) -> Result<Vec<CertificateDer<'static>>, Rejection> {
    let own = ssl.peer_certificate().ok_or(Rejection::Missing)?;
    let is_own_listed = !ssl.is_server();
    let others = ssl.peer_cert_chain().into_iter().flatten().skip(is_own_listed.into());
    let all = std::iter::once(own.to_der()).chain(others.map(|x| x.to_der()));
    let all = all.map(|der| der.map(CertificateDer::from)).collect::<Result<_, _>>();
    all.map_err(|_| NOT_ENCODED)
}
