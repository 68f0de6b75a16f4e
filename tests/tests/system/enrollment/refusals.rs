//! Requests that the MEF refuses. No certificate is issued, and the audit trail has the reason.

use saegis_tests::{Mark, Request, Tool};

use super::scene::{Csr, LIGHT, LIGHT_KPM, OTHER, OTHER_KPM, Scene, enrollment};

const P256: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn names_other_than_the_own_are_refused() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    for (names, status, why) in [
        (format!("URI:{OTHER}"), 403, "for //in.provider.com/mn-cse-123456/Clight-AE1 only"),
        (format!("DNS:{}", super::CSE_DOMAIN), 403, "only"),
        (String::new(), 400, "no subject alternative name"),
        (format!("URI:{LIGHT},URI:{OTHER}"), 400, "more than one"),
        (format!("URI:{LIGHT},URI:{LIGHT}"), 400, "more than one"),
        (format!("URI:{LIGHT},DNS:localhost"), 400, "more than one"),
        ("DNS:*.in.provider.com".into(), 400, "wildcard"),
        ("IP:127.0.0.1".into(), 400, "neither a URI nor a domain name"),
    ] {
        light.refused(&Csr::new(&scene.pki, "x", &names).text(), status, why);
    }
    assert!(scene.mef.log().all(Mark::START, "certificate.issued", 0).is_empty());
    let refused = scene.mef.log().wait("enrollment.refused");
    assert_eq!((refused.number("status"), refused.text("operation")), (403, "simpleenroll".into()));
    assert!(refused.message().contains("only"), "{refused:?}");
}

#[test]
fn other_extensions_are_refused() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    let name = format!("subjectAltName=URI:{LIGHT}");
    for (extension, oid) in [
        ("basicConstraints=critical,CA:TRUE", "2.5.29.19"),
        ("basicConstraints=CA:FALSE", "2.5.29.19"),
        ("keyUsage=keyCertSign", "2.5.29.15"),
        ("extendedKeyUsage=codeSigning", "2.5.29.37"),
        ("nameConstraints=permitted;DNS:x.com", "2.5.29.30"),
    ] {
        let extensions = format!("{name}\n{extension}");
        light.refused(&Csr::with(&scene.pki, "x", &extensions, P256).text(), 400, oid);
    }
    let password = format!(
        "[req]\nprompt=no\ndistinguished_name=name\nreq_extensions=extensions\n\
         attributes=attributes\n[name]\nCN=x\n[extensions]\n{name}\n\
         [attributes]\nchallengePassword=secret\n"
    );
    let csr = Csr::configured(&scene.pki, &password, P256);
    light.refused(&csr.text(), 400, "attribute");
}

#[test]
fn other_keys_are_refused() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    let name = format!("subjectAltName=URI:{LIGHT}");
    for key in [
        &["-newkey", "rsa:2048"][..],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-newkey", "ed25519"],
    ] {
        light.refused(&Csr::with(&scene.pki, "x", &name, key).text(), 400, "P-256");
    }
    let sha384 = [P256, &["-sha384"]].concat();
    let csr = Csr::with(&scene.pki, "x", &name, &sha384);
    light.refused(&csr.text(), 400, "SHA-256");
}

#[test]
fn malformed_requests_are_refused() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::GnuTls, LIGHT_KPM);
    let csr = Csr::new(&scene.pki, "x", &format!("URI:{LIGHT}"));
    let good = csr.text();
    // The last byte of the signature.
    let text: String = good.split_whitespace().collect();
    let changed = {
        let end = text.trim_end_matches('=').len() - 2;
        let mut bytes = text.into_bytes();
        bytes[end] = if bytes[end] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    light.refused(&changed, 400, "");
    light.refused("", 400, "not a PKCS #10 request");
    light.refused("not base64!", 400, "not base64");
    light.refused("bm8gcmVxdWVzdA==", 400, "not a PKCS #10 request");
    light.refused(&format!("-----BEGIN CERTIFICATE REQUEST-----\n{good}"), 400, "PEM");
    light.refused(&good[..good.len() / 2], 400, "");
    // The association still serves valid requests.
    assert_eq!(light.enroll("simpleenroll", &good).status(), 200);
}

#[test]
fn oversized_request_is_refused() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    light.refused(&"A".repeat(64 << 10), 413, "larger than 16384 bytes");
}

#[test]
fn wrong_methods_and_types_are_refused() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    let csr = Csr::new(&scene.pki, "x", &format!("URI:{LIGHT}")).text();
    let path = |name: &str| format!("/.well-known/est/{name}");
    let post = |name: &str| enrollment(name, &csr);
    for (request, status) in [
        (Request::new("GET", &path("simpleenroll")), 405),
        (Request::new("PUT", &path("simpleenroll")).body(&csr), 405),
        (Request::new("POST", &path("cacerts")).body(""), 405),
        (Request::new("POST", &path("simpleenroll")).body(&csr), 415),
        (post("simpleenroll").without("Content-Type").header("Content-Type", "text/plain"), 415),
        (post("simpleenroll").header("Content-Encoding", "gzip"), 415),
        (post("serverkeygen"), 501),
        (post("fullcmc"), 501),
        (post("label/simpleenroll"), 404),
        (post("other"), 404),
    ] {
        let response = light.ask(&request);
        assert_eq!(response.status(), status, "{request:?}");
        assert_eq!(response.header("www-authenticate"), None);
        if status == 405 {
            assert!(response.header("allow").is_some_and(|allow| ["GET", "POST"].contains(&allow)));
        }
    }
}

/// HTTP authentication is forbidden by TS-0003 clause 8.3.6.2.
#[test]
fn http_credentials_are_refused() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    let csr = Csr::new(&scene.pki, "x", &format!("URI:{LIGHT}")).text();
    let request = enrollment("simpleenroll", &csr).header("Authorization", "Basic bGlnaHQ6eA==");
    let response = light.ask(&request);
    assert_eq!(response.status(), 400);
    assert!(response.text().contains("HTTP authentication"), "{}", response.text());
}

#[test]
fn renewal_without_own_certificate_is_refused() {
    let scene = Scene::start();
    let csr = Csr::new(&scene.pki, LIGHT, &format!("URI:{LIGHT}"));
    let response = scene.connect(Tool::OpenSsl, LIGHT_KPM).enroll("simplereenroll", &csr.text());
    assert_eq!(response.status(), 403);
    assert!(response.text().contains("use simpleenroll"), "{}", response.text());
    // With a certificate, and for another name or subject.
    let current = scene.identity(&scene.pki.example.ae);
    for (common_name, name) in [(OTHER, OTHER), ("other", LIGHT)] {
        let csr = Csr::new(&scene.pki, common_name, &format!("URI:{name}"));
        let (status, text) = scene.curl_enroll(&current, "simplereenroll", &csr);
        assert_eq!(status, 403, "{text}");
    }
}

#[test]
fn client_whose_name_is_not_allowed_is_refused() {
    let scene = Scene::start();
    let csr = Csr::new(&scene.pki, "x", &format!("URI:{OTHER}"));
    let response = scene.connect(Tool::OpenSsl, OTHER_KPM).enroll("simpleenroll", &csr.text());
    assert_eq!(response.status(), 403);
    assert!(response.text().contains("allowed-names"), "{}", response.text());
}

#[test]
fn requests_of_each_client_are_limited() {
    let scene = Scene::with(
        |pki| &pki.example.ae_authority,
        |setup| setup.with("mef.est", "requests-per-hour = 2"),
    );
    let csr = Csr::new(&scene.pki, "x", &format!("URI:{LIGHT}")).text();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    light.refused("garbage!", 400, "");
    assert_eq!(light.enroll("simpleenroll", &csr).status(), 200);
    // Another association of the same client.
    let response = scene.connect(Tool::OpenSsl, LIGHT_KPM).enroll("simpleenroll", &csr);
    assert_eq!(response.status(), 429);
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
    // Other clients have their own limit.
    let response = scene.connect(Tool::OpenSsl, OTHER_KPM).enroll("simpleenroll", &csr);
    assert_eq!(response.status(), 403);
}
