use rcgen::{BasicConstraints, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::*;
use crate::certs_only::in_lines;
use crate::testing::{LIGHT, ask, content, content_by, dns, params, params_of, service, uri};

const KEY: &str = "11-light@mef.in.provider.com";
const CERTIFICATE: &str = "33-//in.provider.com/mn-1/Clight";

/// Returns the status of the refusal.
fn refused(content: &str) -> (u16, String) {
    let (service, _) = service(10);
    let refusal = ask(&service, (LIGHT, KEY), Operation::Enroll, content).unwrap_err();
    (refusal.status.as_u16(), refusal.why)
}

#[test]
fn client_gets_certificate_for_its_name() {
    let (service, ca) = service(10);
    for (credential, operation, params) in [
        (KEY, Operation::Enroll, params(&[uri(LIGHT)])),
        (KEY, Operation::Enroll, params_of("anything", LIGHT)),
        (CERTIFICATE, Operation::Enroll, params(&[uri(LIGHT)])),
        (CERTIFICATE, Operation::Reenroll, params_of(LIGHT, LIGHT)),
    ] {
        let response = ask(&service, (LIGHT, credential), operation, &content(&params)).unwrap();
        let (name, issued) = response.issued.unwrap();
        assert_eq!(name, SubjectName::AeId(LIGHT.into()));
        assert_eq!(certs_only::read(response.content.as_bytes()), Some(vec![issued.der]));
    }
    let authorities = ask(&service, (LIGHT, KEY), Operation::CaCertificates, "").unwrap();
    let authorities = certs_only::read(authorities.content.as_bytes());
    assert_eq!(authorities, Some(vec![ca.der().clone()]));
}

#[test]
fn only_own_name_is_certified() {
    let own = uri(LIGHT);
    let other = "//in.provider.com/mn-1/Cother";
    for (names, status) in [
        (vec![uri(other)], 403),
        (vec![uri("//in.provider.com/mn-1/clight")], 403),
        (vec![dns("mn-1.in-cse.in.provider.com")], 403),
        (vec![], 400),
        (vec![own.clone(), uri(other)], 400),
        (vec![own.clone(), own.clone()], 400),
        (vec![own.clone(), SanType::IpAddress([127, 0, 0, 1].into())], 400),
        (vec![uri("//in.provider.com/mn-1/C*")], 400),
        (vec![dns("*.in.provider.com")], 400),
        (vec![SanType::Rfc822Name("light@provider.com".try_into().unwrap())], 400),
    ] {
        let (found, why) = refused(&content(&params(&names)));
        assert_eq!(found, status, "{names:?}: {why}");
    }
}

#[test]
fn other_extensions_and_attributes_are_refused() {
    let with = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = params(&[uri(LIGHT)]);
        change(&mut params);
        refused(&content(&params))
    };
    let ca = with(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(ca.0, 400);
    assert!(ca.1.contains("2.5.29.19"), "{}", ca.1);
    assert_eq!(with(&|params| params.is_ca = IsCa::ExplicitNoCa).0, 400);
    assert_eq!(with(&|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]).0, 400);
    let constraint = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], vec![0x30, 0]);
    assert_eq!(with(&|params| params.custom_extensions = vec![constraint.clone()]).0, 400);
    // A second subject alternative name extension.
    let second = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0]);
    assert_eq!(with(&|params| params.custom_extensions = vec![second.clone()]).0, 400);
    let password = rcgen::Attribute {
        oid: &[1, 2, 840, 113_549, 1, 9, 7],
        values: vec![0x31, 3, 0x13, 1, b'x'],
    };
    let key = KeyPair::generate().unwrap();
    let request = params(&[uri(LIGHT)]);
    let request = request.serialize_request_with_attributes(&key, vec![password]).unwrap();
    assert_eq!(refused(&in_lines(request.der())).0, 400);
}

#[test]
fn other_keys_and_wrong_signatures_are_refused() {
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ED25519]
    {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let (status, why) = refused(&content_by(&params(&[uri(LIGHT)]), &key));
        assert_eq!(status, 400);
        assert!(why.contains("P-256"), "{why}");
    }
    let key = KeyPair::generate().unwrap();
    let good = params(&[uri(LIGHT)]).serialize_request(&key).unwrap().der().to_vec();
    let mut bad = good.clone();
    // The last byte is in the second number of the signature.
    *bad.last_mut().unwrap() ^= 1;
    let (status, why) = refused(&in_lines(&bad));
    assert_eq!(status, 400);
    assert!(why.contains("signature"), "{why}");
    // The key of another request, with the same signature.
    let other = KeyPair::generate().unwrap();
    let at = |whole: &[u8], part: &[u8]| whole.windows(part.len()).position(|w| w == part).unwrap();
    let mut replaced = good.clone();
    let (old, new) =
        (rcgen::PublicKeyData::der_bytes(&key), rcgen::PublicKeyData::der_bytes(&other));
    let start = at(&good, old);
    replaced.splice(start..start + old.len(), new.iter().copied());
    assert_eq!(refused(&in_lines(&replaced)).0, 400);
}

#[test]
fn malformed_requests_are_refused() {
    let good = content(&params(&[uri(LIGHT)]));
    let pem =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{good}-----END CERTIFICATE REQUEST-----");
    let trailing = in_lines(&[&base64_of(&good)[..], &[0]].concat());
    for bad in ["", "garbage!", "MAA=", "AAAA", &pem, &trailing, &good[..good.len() / 2]] {
        assert_eq!(refused(bad).0, 400, "{bad}");
    }
    assert_eq!(refused(&"A".repeat(crate::MAX_REQUEST + 1)).0, 413);
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn renewal_needs_certificate_and_its_names() {
    let (service, _) = service(10);
    let renew = |credential: &str, params: &rcgen::CertificateParams| {
        let asked = ask(&service, (LIGHT, credential), Operation::Reenroll, &content(params));
        asked.map(drop).map_err(|refusal| refusal.status.as_u16())
    };
    assert_eq!(renew(KEY, &params_of(LIGHT, LIGHT)), Err(403));
    assert_eq!(renew(CERTIFICATE, &params_of("other", LIGHT)), Err(403));
    assert_eq!(renew(CERTIFICATE, &params(&[uri(LIGHT)])), Err(403));
    let other = "//in.provider.com/mn-1/Cother";
    assert_eq!(renew(CERTIFICATE, &params_of(other, other)), Err(403));
    assert_eq!(renew(CERTIFICATE, &params_of(LIGHT, LIGHT)), Ok(()));
}

#[test]
fn name_that_is_not_allowed_is_refused() {
    let (service, _) = service(10);
    let other = "//in.provider.com/mn-2/Clight";
    let request = content(&params(&[uri(other)]));
    let refusal = ask(&service, (other, KEY), Operation::Enroll, &request).unwrap_err();
    assert_eq!(refusal.status, StatusCode::FORBIDDEN);
    assert!(refusal.why.contains("allowed-names"), "{refusal}");
}

#[test]
fn requests_of_client_are_limited() {
    let (service, _) = service(1);
    let request = content(&params(&[uri(LIGHT)]));
    assert!(ask(&service, (LIGHT, KEY), Operation::Enroll, &request).is_ok());
    let refusal = ask(&service, (LIGHT, KEY), Operation::Enroll, &request).unwrap_err();
    assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refusal.retry_after.is_some_and(|seconds| seconds <= 3600));
    // Refusals count too, and other operations do not.
    assert!(ask(&service, (LIGHT, KEY), Operation::CaCertificates, "").is_ok());
    assert!(ask(&service, (LIGHT, CERTIFICATE), Operation::Enroll, "garbage").is_err());
    let again = ask(&service, (LIGHT, CERTIFICATE), Operation::Enroll, &request).unwrap_err();
    assert_eq!(again.status, StatusCode::TOO_MANY_REQUESTS);
}

#[test]
fn attributes_are_those_of_the_profile() {
    let (service, _) = service(1);
    let response = ask(&service, (LIGHT, KEY), Operation::CsrAttributes, "").unwrap();
    assert_eq!(response.content_type, "application/csrattrs");
    let hex = hex::encode(base64_of(&response.content));
    for oid in ["06072a8648ce3d0201", "06082a8648ce3d030107", "0603551d11", "06082a8648ce3d040302"]
    {
        assert!(hex.contains(oid), "{hex}");
    }
}

#[test]
fn allowed_names_are_parsed() {
    let allowed = |text: &str| text.parse::<Allowed>().ok();
    assert_eq!(allowed("//sp/*"), Some(Allowed::Prefix("//sp/".into())));
    assert_eq!(allowed("//sp/Sx"), Some(Allowed::Name("//sp/Sx".into())));
    for bad in ["", "*", "a*b", "*a", "a**", "a b"] {
        assert_eq!(allowed(bad), None, "{bad}");
    }
}
