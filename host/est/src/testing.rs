//! Authorities, clients and requests for tests.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use saegis_onem2m::id::{AbsoluteId, CredentialId};
use saegis_test_ca::{Authority as TestAuthority, Name, Request};

use crate::authority::{Authority, AuthorityError, Provider};
use crate::certs_only::in_lines;
use crate::client_names::Client;
use crate::error::Refusal;
use crate::route::Operation;
use crate::service::{EnrollmentService, Response, Settings};

pub const LIGHT: &str = "//in.provider.com/mn-1/Clight";
pub const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

pub fn provider() -> Provider {
    let id = |text: &str| text.parse().unwrap();
    Provider { domain: "in.provider.com".into(), in_cse: Some(id("/in-cse")), own: id("/mef") }
}

pub fn root() -> TestAuthority {
    TestAuthority::new(&Request::new("AEs").permit(Name::uri("in.provider.com"))).unwrap()
}

pub fn key_of(ca: &TestAuthority) -> rustls::pki_types::PrivateKeyDer<'static> {
    saegis_certificate::pem::private_key(ca.key_pem().as_bytes()).unwrap()
}

pub fn authority_of(ca: &TestAuthority) -> Result<Authority, AuthorityError> {
    Authority::new(vec![ca.der().clone()], key_of(ca), &provider(), MONTH, SystemTime::now())
}

pub fn service(requests_per_hour: u32) -> (EnrollmentService, TestAuthority) {
    let ca = root();
    let settings = Settings {
        allowed: vec!["//in.provider.com/mn-1/C*".parse().unwrap()],
        in_cse: Some("in-cse".into()),
        requests_per_hour,
    };
    (EnrollmentService::new(authority_of(&ca).unwrap(), settings), ca)
}

/// Sends a request as the client with this identifier and credential.
pub fn ask(
    service: &EnrollmentService,
    (id, credential): (&str, &str),
    operation: Operation,
    content: &str,
) -> Result<Response, Refusal> {
    let id = AbsoluteId::parse(id).unwrap();
    let credential = CredentialId::parse(credential).unwrap();
    let client = Client { id: &id, credential: &credential };
    service.handle(&client, operation, content.as_bytes(), SystemTime::now())
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// Parameters of a request with these names.
pub fn params(names: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = names.to_vec();
    params
}

/// Parameters of a request with this common name and name.
pub fn params_of(common_name: &str, name: &str) -> CertificateParams {
    let mut params = params(&[uri(name)]);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

pub fn content(params: &CertificateParams) -> String {
    content_by(params, &KeyPair::generate().unwrap())
}

pub fn content_by(params: &CertificateParams, key: &KeyPair) -> String {
    in_lines(params.serialize_request(key).unwrap().der())
}
