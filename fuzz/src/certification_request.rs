//! Requests for certificates (PKCS #10), and the service of EST that reads them.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{Attribute, CertificateParams, KeyPair};
use saegis_certificate::{pem, summary};
use saegis_est::client::NewKey;
use saegis_est::{
    Authority, CertificationRequest, Client, EnrollmentService, Operation, Provider, Settings,
    SubjectName,
};
use saegis_onem2m::id::{AbsoluteId, CredentialId};
use saegis_test_ca::{Authority as TestAuthority, Request};

const LIGHT: &str = "//provider.com/mn-1/Clight";
/// extensionRequest.
const EXTENSION_REQUEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 14];

/// A service with an authority of its own, without a limit on requests.
static SERVICE: LazyLock<EnrollmentService> = LazyLock::new(|| {
    let ca = TestAuthority::new(&Request::new("ours")).expect("an authority can be made");
    let key = pem::private_key(ca.key_pem().as_bytes()).expect("a key");
    let provider = Provider {
        domain: "provider.com".into(),
        in_cse: None,
        own: "/mef".parse().expect("a CSE-ID"),
    };
    let (lifetime, now) = (Duration::from_secs(3600), SystemTime::now());
    let authority = Authority::new(vec![ca.der().clone()], key, &provider, lifetime, now);
    let allowed = vec!["//provider.com/*".parse().expect("a name")];
    let settings = Settings { allowed, in_cse: None, requests_per_hour: u32::MAX };
    EnrollmentService::new(authority.expect("it can issue"), settings)
});

/// A key that signs any request.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().expect("a key can be made"));

/// Reader of requests, and the service behind it. The input is a content, a request in DER, the
/// extensions of a request that the target signs, and a response that a client reads. A certificate
/// has the name of its client and nothing that the request asked for.
pub fn certification_request(input: &[u8]) {
    enroll(input);
    enroll(STANDARD.encode(input).as_bytes());
    let attribute = Attribute { oid: EXTENSION_REQUEST, values: input.to_vec() };
    let signed =
        CertificateParams::default().serialize_request_with_attributes(&*KEY, vec![attribute]);
    if let Ok(signed) = signed {
        enroll(STANDARD.encode(signed.der()).as_bytes());
    }
    let name = SubjectName::AeId(LIGHT.into());
    let key = NewKey::generate(&name).expect("a key can be made");
    let accepted = key.accept(&name, input, input, SystemTime::now());
    assert!(accepted.is_err(), "a certificate for a key that nobody has seen");
}

fn enroll(content: &[u8]) {
    let id = AbsoluteId::parse(LIGHT).expect("an identifier");
    let credential = CredentialId::parse("11-light@mef.provider.com").expect("an identifier");
    let client = Client { id: &id, credential: &credential };
    let name = SubjectName::AeId(LIGHT.into());
    let is_for = CertificationRequest::read(content).is_ok_and(|request| request.is_for(&name));
    match SERVICE.handle(&client, Operation::Enroll, content, SystemTime::now()) {
        Ok(response) => {
            assert!(is_for, "a certificate without a request for its name");
            let (_, issued) = response.issued.expect("a certificate was requested");
            let issued = summary(&issued.der).expect("it can be read");
            assert_eq!(issued.names, [format!("URI {LIGHT}")]);
            assert!(!issued.is_ca && issued.may_sign, "{issued:?}");
            assert_eq!(issued.usage.len(), 1, "{issued:?}");
        }
        Err(refusal) => {
            assert!(!is_for, "{refusal}");
            assert!(refusal.status.is_client_error(), "{refusal}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_extensions_are_issued() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let corpus = corpus.join("corpus/certification_request/names.der");
        let values = std::fs::read(corpus).expect("a file");
        let attribute = Attribute { oid: EXTENSION_REQUEST, values };
        let params = CertificateParams::default();
        let signed = params.serialize_request_with_attributes(&*KEY, vec![attribute]);
        let content = STANDARD.encode(signed.expect("a request").der());
        let request = CertificationRequest::read(content.as_bytes()).expect("it is accepted");
        assert!(request.is_for(&SubjectName::AeId(LIGHT.into())));
    }
}
