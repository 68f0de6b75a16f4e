//! The service: decides on requests of authenticated clients, and issues certificates.

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use yasna::models::ObjectIdentifier;

use crate::authority::{Authority, AuthorityError, Issued};
use crate::certs_only;
use crate::client_names::Client;
use crate::error::Refusal;
use crate::rate::RateLimit;
use crate::request::CertificationRequest;
use crate::route::Operation;
use crate::subject::SubjectName;

/// Settings of the service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names that may be certified.
    pub allowed: Vec<Allowed>,
    /// CSE-ID of the IN-CSE without a slash, if known.
    pub in_cse: Option<String>,
    /// Maximum number of requests for certificates of a client in an hour.
    pub requests_per_hour: u32,
}

/// A name that may be certified, or the beginning of such names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Exactly this name.
    Name(String),
    /// All names that begin with this text.
    Prefix(String),
}

/// The error for a text that is neither a name nor the beginning of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is neither a name nor the beginning of names with one * at its end")]
pub struct AllowedError;

impl std::str::FromStr for Allowed {
    type Err = AllowedError;

    fn from_str(text: &str) -> Result<Self, AllowedError> {
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b'*') {
            return Err(AllowedError);
        }
        Ok(if is_prefix { Self::Prefix(name.into()) } else { Self::Name(name.into()) })
    }
}

impl Allowed {
    fn covers(&self, name: &SubjectName) -> bool {
        match self {
            Self::Name(only) => name.as_str() == only,
            Self::Prefix(start) => name.as_str().starts_with(start.as_str()),
        }
    }
}

/// The response to a request.
#[derive(Debug, Clone)]
pub struct Response {
    /// Content type.
    pub content_type: &'static str,
    /// Content, in base64.
    pub content: String,
    /// The issued certificate, if the request was for one, and its name.
    pub issued: Option<(SubjectName, Issued)>,
}

/// The service of EST.
pub struct EnrollmentService {
    authority: Authority,
    settings: Settings,
    rate: RateLimit,
}

impl EnrollmentService {
    /// Creates a service.
    #[must_use]
    pub fn new(authority: Authority, settings: Settings) -> Self {
        Self { authority, rate: RateLimit::new(settings.requests_per_hour), settings }
    }

    /// Returns the authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Handles a request of an authenticated client.
    ///
    /// # Errors
    /// Refuses a request that is invalid, or that the client may not make.
    pub fn handle(
        &self,
        client: &Client<'_>,
        operation: Operation,
        content: &[u8],
        now: SystemTime,
    ) -> Result<Response, Refusal> {
        match operation {
            Operation::CaCertificates => Ok(Response {
                content_type: "application/pkcs7-mime",
                content: self.authority.certificates(),
                issued: None,
            }),
            Operation::CsrAttributes => Ok(Response {
                content_type: "application/csrattrs",
                content: certs_only::in_lines(&attributes()),
                issued: None,
            }),
            Operation::Enroll | Operation::Reenroll => {
                self.rate.count(client.id, Instant::now()).map_err(too_many)?;
                let (name, issued) = self.issue(client, operation, content, now)?;
                Ok(Response {
                    content_type: "application/pkcs7-mime; smime-type=certs-only",
                    content: certs_only::write(std::slice::from_ref(&issued.der)),
                    issued: Some((name, issued)),
                })
            }
        }
    }

    fn issue(
        &self,
        client: &Client<'_>,
        operation: Operation,
        content: &[u8],
        now: SystemTime,
    ) -> Result<(SubjectName, Issued), Refusal> {
        let name = client.name(operation, self.settings.in_cse.as_deref())?;
        if !self.settings.allowed.iter().any(|allowed| allowed.covers(&name)) {
            let why = format!("{name} may not be certified (mef.est.allowed-names)");
            return Err(Refusal::forbidden(why));
        }
        let request = CertificationRequest::read(content)?;
        if !request.is_for(&name) {
            return Err(Refusal::forbidden(format!(
                "the client may request a certificate for {name} only, and not for {}",
                request.requested_name()
            )));
        }
        // RFC 7030 clause 4.2.2. The certificates that this service issues have this subject.
        if operation == Operation::Reenroll && !request.has_subject_of(&name) {
            let why = "the subject of the request is not that of the certificate to renew";
            return Err(Refusal::forbidden(why));
        }
        let issued = self.authority.issue(&name, request.key(), now).map_err(unissued)?;
        Ok((name, issued))
    }
}

/// Returns the attributes that a request should have, in DER (RFC 7030 clause 4.5.2): a P-256 key, the
/// extension subjectAltName, and a signature with SHA-256. challengePassword is not among them: it
/// would link the request to a TLS session by tls-unique, which TLS 1.3 does not define.
fn attributes() -> Vec<u8> {
    const EC_PUBLIC_KEY: &[u64] = &[1, 2, 840, 10_045, 2, 1];
    const SECP256R1: &[u64] = &[1, 2, 840, 10_045, 3, 1, 7];
    const EXTENSION_REQUEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 14];
    const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
    const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10_045, 4, 3, 2];
    let oid = ObjectIdentifier::from_slice;
    yasna::construct_der(|all| {
        all.write_sequence(|all| {
            for (kind, value) in [(EC_PUBLIC_KEY, SECP256R1), (EXTENSION_REQUEST, SUBJECT_ALT_NAME)]
            {
                all.next().write_sequence(|attribute| {
                    attribute.next().write_oid(&oid(kind));
                    attribute.next().write_set(|values| values.next().write_oid(&oid(value)));
                });
            }
            all.next().write_oid(&oid(ECDSA_WITH_SHA256));
        });
    })
}

fn too_many(left: Duration) -> Refusal {
    let why = "too many requests of this client (mef.est.requests-per-hour)";
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, why);
    Refusal { retry_after: Some(left.as_secs().max(1)), ..refusal }
}

fn unissued(error: AuthorityError) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("no certificate was issued: {error}"))
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
