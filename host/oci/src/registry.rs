//! The HTTPS client of a registry.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::error::PullError;

/// Maximum size of a file of authorities, in bytes.
const MAX_AUTHORITIES: u64 = 4 << 20;
/// Maximum size of a response with a token, in bytes.
const MAX_TOKEN: usize = 64 << 10;
/// Maximum number of redirects of a request. Most registries store files on other hosts.
const MAX_REDIRECTS: usize = 3;

/// Limits of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Timeout for an artifact as a whole, from the first connection.
    pub time: Duration,
    /// Maximum size of each file of an artifact, in bytes.
    pub file: u64,
}

/// A registry.
pub struct Registry {
    /// Host name, `host` or `host:port`.
    pub(crate) host: String,
    pub(crate) bounds: Bounds,
    credentials: Option<Credentials>,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// The reason why a client of a registry cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file of authorities is invalid.
    #[error("{}: {what}", .file.display())]
    Authorities {
        /// File.
        file: PathBuf,
        /// Reason.
        what: String,
    },
    /// The machine has no certificate authorities.
    #[error("this machine has no certificate authorities (ca-certificates); set ca-file")]
    NoAuthorities,
    /// TLS cannot be configured.
    #[error("cannot configure TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The value of the Authorization header field that the registry accepted.
pub(crate) type Authorization = Option<HeaderValue>;

impl Registry {
    /// Creates a client of a registry. `authorities` is the file of trusted certificate
    /// authorities; without it, the client trusts those of the machine.
    ///
    /// # Errors
    /// Returns the reason why the authorities cannot be used.
    pub fn new(
        host: String,
        credentials: Option<Credentials>,
        authorities: Option<&Path>,
        bounds: Bounds,
    ) -> Result<Self, RegistryError> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(file) => add_from(file, &mut roots)?,
            None => {
                let found = rustls_native_certs::load_native_certs();
                if roots.add_parsable_certificates(found.certs).0 == 0 {
                    return Err(RegistryError::NoAuthorities);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { host, bounds, credentials, client })
    }

    /// Fetches content of a repository, up to `limit` bytes. `authorization` is reused if the
    /// registry requested it before.
    pub(crate) async fn fetch(
        &self,
        repository: &str,
        what: &str,
        accept: &'static str,
        limit: u64,
        authorization: &mut Authorization,
    ) -> Result<Bytes, PullError> {
        let address = format!("https://{}/v2/{repository}/{what}", self.host);
        let mut response = self.get(&address, accept, authorization.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && authorization.is_none() {
            *authorization = Some(self.authorize(repository, &response).await?);
            response = self.get(&address, accept, authorization.as_ref()).await?;
        }
        for _ in 0..MAX_REDIRECTS {
            if !response.status().is_redirection() {
                break;
            }
            let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            let location = location.ok_or(PullError::Redirect)?;
            let location = if location.starts_with('/') {
                format!("https://{}{location}", self.host)
            } else {
                location.to_owned()
            };
            // Without the authorization, which is only for this registry.
            response = self.get(&location, accept, None).await?;
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(match self.credentials {
                    Some(_) => PullError::BadCredentials,
                    None => PullError::NoCredentials,
                });
            }
            StatusCode::NOT_FOUND => return Err(PullError::NotFound),
            status if status.is_redirection() => return Err(PullError::Redirect),
            status => return Err(PullError::Status(status.as_u16())),
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        content(response, limit).await
    }

    async fn get(
        &self,
        address: &str,
        accept: &'static str,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, PullError> {
        let address: Uri = address.parse().map_err(|_| PullError::Redirect)?;
        if address.scheme_str() != Some("https") {
            return Err(PullError::Redirect);
        }
        let mut request = Request::get(address).header(ACCEPT, accept);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|e| PullError::Failed(e.to_string()))?;
        self.client.request(request).await.map_err(|e| PullError::Failed(error_chain(&e)))
    }

    /// Returns the authorization that the registry requests: the password, or a token for it.
    async fn authorize(
        &self,
        repository: &str,
        refusal: &Response<Incoming>,
    ) -> Result<HeaderValue, PullError> {
        let asked = refusal.headers().get(WWW_AUTHENTICATE).and_then(|h| h.to_str().ok());
        let challenges = http_auth::parse_challenges(asked.unwrap_or_default());
        let challenges = challenges.map_err(|_| PullError::Challenge)?;
        let of = |scheme: &str| {
            challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
        };
        let own = self.credentials.as_ref().and_then(Credentials::header);
        if of("basic").is_some() {
            return own.ok_or(PullError::NoCredentials);
        }
        let bearer = of("bearer").ok_or(PullError::Challenge)?;
        let of_name = |name: &str| {
            let found = bearer.params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = of_name("realm").ok_or(PullError::Challenge)?;
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let separator = if realm.contains('?') { '&' } else { '?' };
        let scope = encoded(&format!("repository:{repository}:pull"));
        let mut address = format!("{realm}{separator}scope={scope}");
        if let Some(service) = of_name("service") {
            address.push_str(&format!("&service={}", encoded(&service)));
        }
        let answer = self.get(&address, "application/json", own.as_ref()).await?;
        if answer.status() != StatusCode::OK {
            return Err(match own {
                Some(_) => PullError::BadCredentials,
                None => PullError::NoCredentials,
            });
        }
        let text = content(answer, MAX_TOKEN).await?;
        let token: Token = serde_json::from_slice(&text).map_err(|_| PullError::Challenge)?;
        let token = token.token.or(token.access_token).ok_or(PullError::Challenge)?;
        let text = Zeroizing::new(format!("Bearer {}", *token));
        let mut value = HeaderValue::from_str(&text).map_err(|_| PullError::Challenge)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<Zeroizing<String>>,
    access_token: Option<Zeroizing<String>>,
}

/// Reads the content of a response, up to `limit` bytes. A declared length above it is rejected
/// before anything is read.
async fn content(response: Response<Incoming>, limit: usize) -> Result<Bytes, PullError> {
    let declared =
        response.headers().get(CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
    if declared.is_some_and(|declared: u64| declared > limit as u64) {
        return Err(PullError::TooLarge(limit as u64));
    }
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(PullError::TooLarge(limit as u64)),
        Err(e) => Err(PullError::Failed(error_chain(&*e))),
    }
}

fn add_from(file: &Path, roots: &mut RootCertStore) -> Result<(), RegistryError> {
    let bad = |what: String| RegistryError::Authorities { file: file.into(), what };
    let open = crate::open::regular(file).map_err(|e| bad(format!("cannot be opened: {e}")))?;
    let mut text = Vec::new();
    let read = open.take(MAX_AUTHORITIES + 1).read_to_end(&mut text);
    read.map_err(|e| bad(format!("cannot be read: {e}")))?;
    if text.len() as u64 > MAX_AUTHORITIES {
        return Err(bad(format!("is larger than {MAX_AUTHORITIES} bytes")));
    }
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|e| bad(format!("is not PEM: {e}")))?;
        roots.add(certificate).map_err(|e| bad(format!("has an invalid certificate: {e}")))?;
    }
    if roots.is_empty() {
        return Err(bad("has no certificates in PEM".into()));
    }
    Ok(())
}

/// Joins an error with its causes.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
