use saegis_test_ca::{Authority as TestAuthority, Request};

use super::*;
use crate::route::Operation;
use crate::testing::{LIGHT, ask, service};

const KEY: &str = "11-light@mef.in.provider.com";

#[test]
fn client_accepts_what_service_issues() {
    let (service, _) = service(10);
    let name = SubjectName::AeId(LIGHT.into());
    let key = NewKey::generate(&name).unwrap();
    let enrolled = ask(&service, (LIGHT, KEY), Operation::Enroll, key.content()).unwrap();
    let authorities = ask(&service, (LIGHT, KEY), Operation::CaCertificates, "").unwrap();
    let accept = |key: &NewKey, name: &SubjectName, authorities: &str| {
        let (enrolled, authorities) = (enrolled.content.as_bytes(), authorities.as_bytes());
        key.accept(name, enrolled, authorities, SystemTime::now()).map(|chain| chain.len())
    };
    assert_eq!(accept(&key, &name, &authorities.content), Ok(1));
    let other_key = NewKey::generate(&name).unwrap();
    let refused = accept(&other_key, &name, &authorities.content);
    assert_eq!(refused, Err(ClientError::AnotherKey));
    let other = SubjectName::AeId("//in.provider.com/mn-1/Cother".into());
    let refused = accept(&key, &other, &authorities.content);
    assert!(matches!(refused, Err(ClientError::Rejected(_))), "{refused:?}");
    let unrelated = TestAuthority::new(&Request::new("AEs")).unwrap();
    let unrelated = certs_only::write(std::slice::from_ref(unrelated.der()));
    let refused = accept(&key, &name, &unrelated);
    assert!(matches!(refused, Err(ClientError::Rejected(_))), "{refused:?}");
    assert_eq!(accept(&key, &name, "garbage"), Err(ClientError::Malformed));
    // Two certificates, as in the response to cacerts of a service with an intermediate authority.
    let now = SystemTime::now();
    let refused = key.accept(&name, authorities.content.as_bytes(), b"", now);
    assert_eq!(refused.err(), Some(ClientError::AnotherKey));
}
