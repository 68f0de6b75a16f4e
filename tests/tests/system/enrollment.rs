//! Certificates from a MEF by Enrollment over Secure Transport (RFC 7030, TS-0003 clause 8.3.6.2).

mod commands;
mod files;
mod refusals;
mod scene;

use saegis_test_ca::{Name, Request as CaRequest};
use saegis_tests::certificates::TlsProfile;
use saegis_tests::{Request, Tool, certification_request, openssl, with_each_client};
use scene::{CSE_DOMAIN, CSE_KPM, Csr, LIGHT, LIGHT_KPM, Scene, certificates};

/// A light with only a key gets a certificate with a request that OpenSSL made, and the gateway
/// accepts the certificate.
fn light_with_key_gets_certificate_for_gateway(tool: Tool) {
    let scene = Scene::start();
    let csr = Csr::new(&scene.pki, "light", &format!("URI:{LIGHT}"));
    let mut light = scene.connect(tool, LIGHT_KPM);
    let response = light.enroll("simpleenroll", &csr.text());
    assert_eq!(response.status(), 200, "{}", response.text());
    let kind = "application/pkcs7-mime; smime-type=certs-only";
    assert_eq!(response.header("content-type"), Some(kind));
    let identity = csr.certified(&scene.pki, &response.text());
    let issued = scene.mef.log().wait("certificate.issued");
    assert_eq!(issued.text("name"), LIGHT);
    assert_eq!(issued.text("operation"), "simpleenroll");
    assert_eq!(issued.text("entity"), format!("MAF client {LIGHT}"));
    let printed = openssl(&[
        "x509",
        "-in",
        identity.certificate.to_str().unwrap(),
        "-noout",
        "-serial",
        "-ext",
        "subjectAltName,keyUsage,extendedKeyUsage,basicConstraints",
    ])
    .expect(0)
    .out;
    let serial = issued.text("serial").to_uppercase();
    assert!(printed.contains(serial.trim_start_matches('0')), "{serial}: {printed}");
    for part in [&format!("URI:{LIGHT}"), "Digital Signature", "CA:FALSE", "Client Authentication"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let gateway = scene.pki.setup().start();
    for profile in [TlsProfile::Tls13, TlsProfile::Mandated] {
        let mut light = scene.pki.connect(tool, gateway.port(), &identity, profile);
        light.assert_served_as("Clight-AE1");
    }
    let established = gateway.log().wait("association.established");
    assert_eq!(established.text("entity"), "AE Clight-AE1");
}

with_each_client!(light_with_key_gets_certificate_for_gateway);

/// curl renews a certificate, with a request that OpenSSL made.
#[test]
fn curl_renews_certificate() {
    let scene = Scene::start();
    let current = scene.identity(&scene.pki.example.ae);
    let csr = Csr::new(&scene.pki, LIGHT, &format!("URI:{LIGHT}"));
    let (status, text) = scene.curl_enroll(&current, "simplereenroll", &csr);
    assert_eq!(status, 200, "{text}");
    let renewed = csr.certified(&scene.pki, &text);
    // The renewed certificate renews itself, and the gateway accepts it.
    let again = Csr::new(&scene.pki, LIGHT, &format!("URI:{LIGHT}"));
    let (status, text) = scene.curl_enroll(&renewed, "simplereenroll", &again);
    assert_eq!(status, 200, "{text}");
    let newest = again.certified(&scene.pki, &text);
    let gateway = scene.pki.setup().start();
    let shown = scene.pki.curl(gateway.port(), &newest, TlsProfile::Tls13, "Clight-AE1", "/cse/x");
    assert!(shown.out.ends_with("404 4004"), "{shown:?}");
    let log = scene.mef.log();
    let established = log.wait("association.established");
    assert_eq!(established.text("credential_id"), format!("33-{LIGHT}"));
}

/// The service accepts a request that the Python package `cryptography` made.
#[test]
fn request_of_python_cryptography_is_accepted() {
    let scene = Scene::start();
    let content = certification_request(LIGHT);
    let response = scene.connect(Tool::OpenSsl, LIGHT_KPM).enroll("simpleenroll", &content);
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(certificates(&scene.pki, &response.text()).matches("BEGIN").count(), 1);
}

/// `cacerts` and `csrattrs` describe the authority and the requests.
#[test]
fn authority_and_attributes_are_described() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    let get = |name: &str| Request::retrieve(&format!("/.well-known/est/{name}"));
    let response = light.ask(&get("cacerts"));
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("content-type"), Some("application/pkcs7-mime"));
    let authority = scene.pki.example.ae_authority.pem().replace('\r', "");
    assert_eq!(certificates(&scene.pki, &response.text()).trim(), authority.trim());
    let response = light.ask(&get("csrattrs"));
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("content-type"), Some("application/csrattrs"));
    let (text, der) = (scene.pki.write("attributes", response.text()), scene.pki.write("der", ""));
    let (text, der) = (text.to_str().unwrap(), der.to_str().unwrap());
    openssl(&["base64", "-d", "-in", text, "-out", der]).expect(0);
    let parsed = openssl(&["asn1parse", "-inform", "DER", "-in", der]).expect(0).out;
    for oid in
        ["id-ecPublicKey", "prime256v1", "X509v3 Subject Alternative Name", "ecdsa-with-SHA256"]
    {
        assert!(parsed.contains(oid), "{oid}: {parsed}");
    }
    assert!(!parsed.contains("challengePassword"), "{parsed}");
}

/// A CSE gets a certificate for its domain name, and the AE with the same authority does not.
#[test]
fn cse_gets_certificate_for_its_domain_name() {
    let scene = Scene::with(|pki| &pki.example.cse_authority, |setup| setup);
    let csr = Csr::new(&scene.pki, "x", &format!("DNS:{CSE_DOMAIN}"));
    let mut cse = scene.connect(Tool::OpenSsl, CSE_KPM);
    let response = cse.enroll("simpleenroll", &csr.text());
    assert_eq!(response.status(), 200, "{}", response.text());
    let identity = csr.certified(&scene.pki, &response.text());
    let again = Csr::new(&scene.pki, CSE_DOMAIN, &format!("DNS:{CSE_DOMAIN}"));
    let (status, text) = scene.curl_enroll(&identity, "simplereenroll", &again);
    assert_eq!(status, 200, "{text}");
    // Another domain name of the same CSE.
    let other = Csr::new(&scene.pki, "x", "DNS:mn-cse-123456.in.provider.com");
    assert_eq!(cse.enroll("simpleenroll", &other.text()).status(), 403);
}

/// A revoked credential gets no further certificate, also over an association that is open.
#[test]
fn revoked_key_gets_no_certificate() {
    let scene = Scene::start();
    let csr = Csr::new(&scene.pki, "light", &format!("URI:{LIGHT}"));
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    assert_eq!(light.enroll("simpleenroll", &csr.text()).status(), 200);
    scene.mef.in_force_after(|mef| mef.replace("policies/km-table.csv", "client_id,km,km_id\n"));
    let mark = scene.mef.log().mark();
    assert!(light.ends(&scene::enrollment("simpleenroll", &csr.text())));
    assert!(scene.mef.log().all(mark, "certificate.issued", 0).is_empty());
}

/// The MEF authenticates clients by certificates of its anchors only.
#[test]
fn unknown_certificate_gets_no_association() {
    let scene = Scene::start();
    let stranger = saegis_test_ca::Authority::new(&CaRequest::new("AEs")).unwrap();
    let stranger = stranger.issue(&CaRequest::new("x").name(Name::uri(LIGHT))).unwrap();
    let mark = scene.mef.log().mark();
    let identity = scene.identity(&stranger);
    let (status, _) = scene.curl(&identity, "cacerts", &[]);
    assert_eq!(status, 0);
    assert_eq!(scene.mef.handshake_refused(mark).text("cause"), "certificate");
}

/// Requests of oneM2M are refused: the MEF has no resources.
#[test]
fn request_for_resource_is_refused() {
    let scene = Scene::start();
    let mut light = scene.connect(Tool::OpenSsl, LIGHT_KPM);
    let request = Request::retrieve("/~/mef/x").from(LIGHT);
    let response = light.ask(&request);
    assert!(response.status() >= 400 && response.rsc().is_some(), "{response:?}");
    assert_eq!(light.ask(&Request::retrieve("/.well-known/core")).status(), 400);
}
