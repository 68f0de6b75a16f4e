//! Client side with a pre-shared key, for an AE or a registering CSE.

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder};
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::KpsaId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use crate::accepted::{ConnectError, Connected, EngineError, export, openssl_client};
use crate::suite::Suite;

/// The client side of handshakes with one credential.
pub struct Client {
    context: SslContext,
}

impl Client {
    /// Creates a client with a KpsaID and its Kpsa.
    ///
    /// # Errors
    /// Returns an error if OpenSSL does not support the suites.
    pub fn new(suites: &[Suite], id: KpsaId, key: PresharedKey) -> Result<Self, EngineError> {
        let mut builder = openssl_client(&Suite::openssl_list(suites))?;
        offer_key(&mut builder, id, key);
        Ok(Self { context: builder.build() })
    }

    /// Performs the handshake. A domain name in `server_name` is sent as server name indication
    /// (TS-0003 clause 10.2.1). The caller bounds the time.
    ///
    /// # Errors
    /// Returns the reason why no association was established.
    pub async fn connect<S>(
        &self,
        socket: S,
        server_name: Option<&str>,
    ) -> Result<Connected<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let engine = |e: ErrorStack| ConnectError::Failed(e.to_string());
        let mut ssl = Ssl::new(&self.context).map_err(engine)?;
        if let Some(name) = server_name {
            ssl.set_hostname(name).map_err(engine)?;
        }
        let mut stream = Box::pin(SslStream::new(ssl, socket).map_err(engine)?);
        stream.as_mut().connect().await.map_err(refused)?;
        let (protocol, suite) =
            (stream.ssl().version_str(), super::lookup::suite_name(stream.ssl()));
        let exported = export(stream.ssl());
        Ok(Connected { protocol, suite, stream, exported, until: None })
    }
}

/// Makes OpenSSL offer an identity and use its key.
pub(crate) fn offer_key(builder: &mut SslContextBuilder, id: KpsaId, key: PresharedKey) {
    builder.set_psk_client_callback(move |_, _hint, identity, key_buffer| {
        let (id, key) = (id.as_str().as_bytes(), key.expose());
        // The buffer must hold the identity and its terminating NUL. It may not be zeroed.
        let Some(whole) = identity.get_mut(..=id.len()) else { return Ok(0) };
        let Some(key_buffer) = key_buffer.get_mut(..key.len()) else { return Ok(0) };
        for (to, from) in whole.iter_mut().zip(id.iter().chain(&[0])) {
            *to = *from;
        }
        key_buffer.copy_from_slice(key);
        Ok(key_buffer.len())
    });
}

pub(crate) fn refused(error: openssl::ssl::Error) -> ConnectError {
    let text = error.to_string();
    let reasons = error.ssl_error().map(|stack| stack.errors()).unwrap_or_default();
    let has_reason =
        |alert: &str| reasons.iter().any(|e| e.reason().is_some_and(|r| r.contains(alert)));
    if has_reason("bad record mac")
        || has_reason("unknown psk identity")
        || has_reason("decrypt error")
    {
        ConnectError::Refused(text)
    } else if has_reason("handshake failure") || has_reason("insufficient security") {
        ConnectError::NoCommonSuite(text)
    } else {
        ConnectError::Failed(text)
    }
}
