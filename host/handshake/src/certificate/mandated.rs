//! The server's end by OpenSSL: TLS 1.2 with the suites that TS-0003 clause 10.2.3 has and rustls
//! has not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509StoreContextRef};
use rustls::pki_types::CertificateDer;
use saegis_certificate::{KeyKind, OwnCertificate, Rejection, Trust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use super::Agreed;
use super::mapping::{Evidence, Gate, Slot};
use crate::accepted::{EngineError, export};
use crate::psk;
use crate::refusal::Refusal;
use crate::suite::MANDATED_OPENSSL;

/// Sets the engine up for a certificate of our own.
pub(super) fn context(own: &OwnCertificate, trust: &Trust) -> Result<SslContext, EngineError> {
    let mut builder = SslContext::builder(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(MANDATED_OPENSSL)?;
    builder.set_groups_list("X25519:P-256:P-384")?;
    let mut signatures = vec!["ECDSA+SHA256"];
    if trust.allows(KeyKind::P384) {
        signatures.push("ECDSA+SHA384");
    }
    if trust.allows(KeyKind::Rsa) {
        signatures.push("RSA-PSS+SHA256:RSA+SHA256:RSA+SHA384:RSA+SHA512");
    }
    builder.set_sigalgs_list(&signatures.join(":"))?;
    builder.set_options(
        SslOptions::NO_TICKET
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_mode(SslMode::RELEASE_BUFFERS);
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
    Ok(builder.build())
}

/// Does a handshake. What the peer showed is in the slot.
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
    let (slot, asked) = (slot.clone(), AtomicBool::new(false));
    let verify = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    ssl.set_verify_callback(verify, move |_, chain| {
        ask(&slot, &asked, chain);
        // What it was wrong about stays behind on this thread, and whoever reads next would be told.
        drop(ErrorStack::get());
        true
    });
    let mut stream = Box::pin(SslStream::new(ssl, gate).map_err(engine)?);
    stream.as_mut().accept().await.map_err(failed)?;
    stream.as_mut().get_pin_mut().get_mut().open();
    let (protocol, suite) = (stream.ssl().version_str(), psk::suite_name(stream.ssl()));
    let exported = exports.then(|| export(stream.ssl())).flatten();
    Ok(Agreed { stream, protocol, suite, exported })
}

fn failed(error: openssl::ssl::Error) -> Refusal {
    let reasons = error.ssl_error().map(|stack| stack.errors()).unwrap_or_default();
    let said = |what| reasons.iter().any(|e| e.reason().is_some_and(|r| r.contains(what)));
    if said("peer did not return a certificate") {
        Refusal::Certificate(Rejection::Missing)
    } else if said("no shared cipher") {
        Refusal::NoCommonSuite
    } else {
        psk::server::failed(error)
    }
}

/// Asks the one verification for a client's certificate, once. OpenSSL calls for each thing that it
/// finds wrong, and there is much, for it knows no trust anchor: what it thinks is passed over. The
/// gate refuses what is rejected, with the alert that the other engine sends.
fn ask(slot: &Slot, asked: &AtomicBool, context: &mut X509StoreContextRef) {
    if asked.swap(true, Ordering::Relaxed) {
        return;
    }
    let sent = context.chain().into_iter().flatten();
    let chain = sent.map(|x| x.to_der().map(CertificateDer::from)).collect::<Result<_, _>>();
    match chain {
        // The slot has what came of it.
        Ok(chain) => drop(slot.show(Evidence::Chain(chain), SystemTime::now())),
        Err(_) => slot.reject(Rejection::Malformed("it can't be written down")),
    }
}
