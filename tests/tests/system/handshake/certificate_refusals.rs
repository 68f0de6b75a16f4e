//! Refused certificates. Both engines send the same alert, and the log states the reason.

use std::fs;
use std::time::{Duration, SystemTime};

use saegis_test_ca::{
    Authority, ExtendedKeyUsagePurpose, Issued, Key, KeyUsagePurpose, Name, Request as Certificate,
    Validity,
};
use saegis_tests::certificates::{CERTIFICATES, Identity, Pki, TlsProfile, anchor};
use saegis_tests::{Gateway, LIGHT1, Request, Setup, Tool, with_each_client};

with_each_client!(
    invalid_certificate_is_refused_alike_by_engines,
    unsupported_suite_is_refused,
    tls13_psk_is_refused_with_its_own_cause,
);

/// AE-ID of the light.
const LIGHT: &str = "//in.provider.com/mn-cse-123456/Clight-AE1";

/// The compared profiles: rustls, rustls, OpenSSL.
const PROFILES: [TlsProfile; 3] = [TlsProfile::Tls13, TlsProfile::Tls12, TlsProfile::Mandated];

/// A client certificate and the expected refusal.
struct Case {
    what: &'static str,
    identity: Option<Identity>,
    /// The alert of each profile.
    alerts: [Option<u8>; 3],
    cause: &'static str,
    why: &'static str,
}

/// Returns the same alert for each profile.
const fn all_profiles(alert: u8) -> [Option<u8>; 3] {
    [Some(alert); 3]
}

fn root(name: &str) -> Authority {
    Authority::new(&Certificate::new(name)).unwrap()
}

/// Returns the certificate request of a light.
fn light_request() -> Certificate {
    named(&[Name::uri(LIGHT)])
}

fn named(names: &[Name]) -> Certificate {
    names.iter().cloned().fold(Certificate::new("light"), Certificate::name)
}

fn valid(from_hours: i64, until_hours: i64) -> Validity {
    let at = |hours: i64| {
        let by = Duration::from_secs(3600 * hours.unsigned_abs());
        if hours < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    };
    Validity { from: at(from_hours), until: at(until_hours) }
}

/// Additional authorities beside those of the worked example.
struct Authorities {
    /// Trusted for AE-IDs, CSE-IDs and devices, without name constraints.
    free: Authority,
    /// Trusted for AE-IDs only, without name constraints.
    aes_only: Authority,
    /// Trusted for AE-IDs, with keys of every kind.
    any_key: Authority,
    /// Trusted for AE-IDs, with a P-384 key, which is not allowed.
    p384_authority: Authority,
    /// Trusted for AE-IDs, one with a current revocation list and one with an outdated list.
    listing: Authority,
    stale: Authority,
    /// Trusted for servers.
    servers: Authority,
    /// Not trusted. The second has the name of a trusted authority.
    unknown: Authority,
    namesake: Authority,
}

impl Authorities {
    fn new() -> Self {
        Self {
            free: root("Free"),
            aes_only: root("AEs"),
            any_key: root("All keys"),
            p384_authority: Authority::new(&Certificate::new("Other key").key(Key::P384)).unwrap(),
            listing: root("Listing"),
            stale: root("Stale"),
            servers: root("Servers"),
            unknown: root("Unknown"),
            namesake: root("Free"),
        }
    }

    /// Starts a gateway that trusts the known authorities, with one revoked certificate.
    fn gateway(&self, pki: &Pki, revoked: &Issued) -> Gateway {
        let setup = pki.setup().with("limits", "failed-handshakes-per-minute = 10000");
        let mut toml = fs::read_to_string(setup.path(CERTIFICATES)).unwrap();
        for (file, authority, flavours, more) in [
            ("free.pem", &self.free, &["ae-id", "cse-id", "device"][..], ""),
            ("of-aes.pem", &self.aes_only, &["ae-id"], ""),
            (
                "of-all-keys.pem",
                &self.any_key,
                &["ae-id"],
                "keys = [\"P-256\", \"P-384\", \"RSA\"]",
            ),
            ("of-other-key.pem", &self.p384_authority, &["ae-id"], ""),
            ("listing.pem", &self.listing, &["ae-id"], "crls = [\"listing.crl\"]"),
            ("stale.pem", &self.stale, &["ae-id"], "crls = [\"stale.crl\"]"),
            ("servers.pem", &self.servers, &["fqdn"], ""),
        ] {
            setup.write(&format!("policies/{file}"), authority.pem().as_bytes());
            toml += &format!("{}{more}\n", anchor(file, flavours));
        }
        let list = self.listing.revoke(&[revoked.serial()]).unwrap();
        setup.write("policies/listing.crl", list.pem().as_bytes());
        let list = self.stale.revoke_for(&[], valid(-48, -24)).unwrap();
        setup.write("policies/stale.crl", list.der());
        setup.write(CERTIFICATES, toml.as_bytes());
        setup.start()
    }
}

/// Returns a chain of this length.
fn long_chain(root: &Authority, length: usize) -> Issued {
    let names = (1..length - 1).map(|nth| Certificate::new(format!("Authority {nth}")));
    let first = root.sub_authority(&Certificate::new("Authority 0")).unwrap();
    let last = names.fold(first, |above, name| above.sub_authority(&name).unwrap());
    last.issue(&light_request()).unwrap()
}

/// Returns a case for each kind of invalid certificate.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn cases(pki: &Pki, of: &Authorities, revoked: &Issued) -> Vec<Case> {
    use ExtendedKeyUsagePurpose::ServerAuth;
    let example = &pki.example;
    let certificate = |what, by: &Authority, request: Certificate, alert, why| {
        let identity = Some(pki.identity(&by.issue(&request).unwrap()));
        let cause = if why == "has expired" { "expired" } else { "certificate" };
        Case { what, identity, alerts: all_profiles(alert), cause, why }
    };
    let names =
        |what, by: &Authority, names: &[Name], why| certificate(what, by, named(names), 42, why);
    let issued = |what, issued: &Issued, alert, why| {
        let identity = Some(pki.identity(issued));
        let cause = if alert == 44 { "revoked" } else { "certificate" };
        Case { what, identity, alerts: all_profiles(alert), cause, why }
    };
    let of_kind = |key| light_request().key(key);
    let large = |size| light_request().extension("1.3.6.1.4.1.32473.2", false, vec![4; size]);
    let common_name = Certificate::new(LIGHT);
    vec![
        Case {
            what: "none",
            identity: None,
            // TLS 1.2 has no alert for a missing certificate, and one engine sends the alert of TLS
            // 1.3.
            alerts: [Some(116), Some(116), Some(40)],
            cause: "certificate",
            why: "the peer presented no certificate",
        },
        certificate("unknown CA", &of.unknown, light_request(), 48, "no trust anchor has issued"),
        certificate("a namesake of a CA", &of.namesake, light_request(), 51, "a signature in the"),
        certificate("expired", &of.free, light_request().valid(valid(-48, -1)), 45, "has expired"),
        certificate(
            "too early",
            &of.free,
            light_request().valid(valid(1, 48)),
            45,
            "not valid yet",
        ),
        issued("revoked", revoked, 44, "is revoked"),
        certificate(
            "stale CRL",
            &of.stale,
            light_request(),
            48,
            "its revocation list is out of date",
        ),
        certificate(
            "wrong key usage",
            &of.free,
            light_request().usages([KeyUsagePurpose::KeyAgreement]),
            43,
            "lacks digitalSignature",
        ),
        certificate(
            "no key usage",
            &of.free,
            light_request().usages([]),
            43,
            "lacks digitalSignature",
        ),
        certificate(
            "wrong extended key usage",
            &of.free,
            light_request().extended_usages([ServerAuth]),
            43,
            "extended key usage",
        ),
        certificate("RSA", &of.free, of_kind(Key::Rsa), 43, "a key of the kind RSA"),
        certificate("P-384", &of.free, of_kind(Key::P384), 43, "a key of the kind P-384"),
        certificate(
            "CA of P-384",
            &of.p384_authority,
            light_request(),
            43,
            "a key of the kind P-384",
        ),
        names("no name", &of.free, &[], "no subject alternative name is an identity"),
        certificate("common name", &of.free, common_name, 42, "no subject alternative name"),
        names(
            "wildcard of CSEs",
            &of.free,
            &[Name::dns("*.in.provider.com")],
            "\"*.in.provider.com\" has a wildcard",
        ),
        names(
            "wildcard of AEs",
            &of.free,
            &[Name::uri("//in.provider.com/mn-cse-123456/C*")],
            "has a wildcard",
        ),
        names(
            "wildcard beside an identity",
            &of.free,
            &[Name::uri(LIGHT), Name::dns("*.example.org")],
            "\"*.example.org\" has a wildcard",
        ),
        names(
            "other service provider",
            &of.free,
            &[Name::uri("//provider.com/mn-cse-123456/Clight-AE1")],
            "the AE belongs to another service provider",
        ),
        names(
            "other CSE's AE",
            &of.free,
            &[Name::uri("//in.provider.com/mn-2/Clight-AE1")],
            "the AE belongs to another CSE",
        ),
        names(
            "domain in capitals",
            &of.free,
            &[Name::uri("//IN.PROVIDER.COM/mn-cse-123456/Clight-AE1")],
            "the AE belongs to another service provider",
        ),
        names(
            "two AE-IDs",
            &of.free,
            &[Name::uri(LIGHT), Name::uri("//in.provider.com/Slight")],
            "have two identities",
        ),
        names(
            "AE-ID and CSE-ID",
            &of.free,
            &[Name::uri(LIGHT), Name::dns("mn-2.in.provider.com")],
            "have two identities",
        ),
        names(
            "constraint of domains",
            &example.cse_authority,
            &[Name::dns("mn-2.example.org")],
            "violate the name constraints",
        ),
        names(
            "constraint of URIs",
            &example.ae_authority,
            &[Name::uri("//example.org/mn-cse-123456/Clight-AE1")],
            "violate the name constraints",
        ),
        names(
            "flavor that the anchor may not issue",
            &of.aes_only,
            &[Name::dns("mn-2.in.provider.com")],
            "that the trust anchor may issue (ae-id)",
        ),
        issued("our own CSE-ID", &example.mn_cse, 42, "it is this CSE itself"),
        names(
            "server",
            &of.servers,
            &[Name::dns("maf.in.provider.com")],
            "that the trust anchor may issue (fqdn)",
        ),
        issued("16 certificates", &long_chain(&of.free, 16), 42, "certificates; the maximum is 6"),
        certificate("20 KiB", &of.free, large(20 << 10), 42, "the maximum is 16384"),
        Case {
            what: "device without a row or a rule",
            identity: Some(pki.identity(&example.device)),
            // In TLS 1.3 the client finishes the handshake, and the gateway only closes the
            // connection.
            alerts: [None, Some(49), Some(49)],
            cause: "certificate-unmapped",
            why: "the device 1.3.6.1.4.1.32473.1-000001 was refused: no module and no rule",
        },
    ]
}

fn invalid_certificate_is_refused_alike_by_engines(tool: Tool) {
    let (pki, of) = (Pki::new(), Authorities::new());
    let revoked = of.listing.issue(&light_request()).unwrap();
    let gateway = of.gateway(&pki, &revoked);
    let mut wrong = Vec::new();
    for case in cases(&pki, &of, &revoked) {
        // gnutls-cli reads at most six certificates, and does not sign with a key of another usage.
        let not_shown = ["16 certificates", "wrong key usage"].contains(&case.what);
        if tool == Tool::GnuTls && not_shown {
            continue;
        }
        let outcomes = PROFILES.map(|profile| {
            let mark = gateway.log().mark();
            let refused = pki.refused(tool, gateway.port(), case.identity.as_ref(), profile);
            (refused.alert, gateway.handshake_refused(mark), refused.output)
        });
        for ((alert, event, said), (expected, profile)) in
            outcomes.iter().zip(case.alerts.iter().zip(PROFILES))
        {
            let fits = event.text("cause") == case.cause && event.message().contains(case.why);
            if alert != expected || !fits {
                wrong.push(format!("{} {profile:?}: {alert:?} {event:?} {said}", case.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The same authorities are trusted for valid certificates.
    for good in [
        of.free.issue(&light_request()),
        of.aes_only.issue(&light_request()),
        of.any_key.issue(&light_request().key(Key::P384)),
        of.any_key.issue(&light_request().key(Key::Rsa)),
        of.listing.issue(&light_request()),
    ] {
        let good = pki.identity(&good.unwrap());
        for profile in PROFILES {
            let mut client = pki.connect(tool, gateway.port(), &good, profile);
            let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
            client.ask(&nothing).expect_refusal(404, 4004);
            client.close();
        }
    }
}

/// The log distinguishes this client from one without a certificate. With a certificate, the
/// gateway accepts it.
fn tls13_psk_is_refused_with_its_own_cause(tool: Tool) {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    let offers: &[&str] = match tool {
        Tool::OpenSsl => &["-tls1_3", "-psk_identity", LIGHT1.identity, "-psk", LIGHT1.key],
        Tool::GnuTls => &[
            "--priority",
            "NORMAL:-VERS-ALL:+VERS-TLS1.3:+PSK:+DHE-PSK",
            "--pskusername",
            LIGHT1.identity,
            "--pskkey",
            LIGHT1.key,
        ],
    };
    let offers: Vec<_> = offers.iter().map(ToString::to_string).collect();
    let mark = gateway.log().mark();
    let refused = match pki.try_connect(tool, gateway.port(), None, &offers) {
        Ok(client) => client.rejected_after_handshake(),
        Err(refused) => refused,
    };
    assert_eq!(refused.alert, Some(116), "{refused:?}");
    let event = gateway.handshake_refused(mark);
    assert_eq!(event.text("cause"), "tls13-psk");
    assert!(event.message().contains("TLS 1.2"), "{event:?}");
    let client = pki.try_connect(tool, gateway.port(), Some(&light), &offers);
    let mut client = client.unwrap_or_else(|e| panic!("{tool:?}: {e:?}"));
    let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
    client.ask(&nothing).expect_refusal(404, 4004);
}

fn unsupported_suite_is_refused(tool: Tool) {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    let offers: [(&[&str], &str); 4] = match tool {
        Tool::OpenSsl => [
            // The gateway's certificate has an ECDSA key.
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "protocol"),
            (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], "no-common-suite"),
            (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-CCM"], "no-common-suite"),
            (&["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"], "no-common-suite"),
        ],
        Tool::GnuTls => [
            (
                &[
                    "--priority",
                    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA:-CIPHER-ALL:+AES-128-GCM",
                ],
                "protocol",
            ),
            (
                &[
                    "--priority",
                    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA1",
                ],
                "no-common-suite",
            ),
            (
                &[
                    "--priority",
                    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:-CIPHER-ALL:+AES-256-CCM",
                ],
                "no-common-suite",
            ),
            (
                &["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-CCM"],
                "no-common-suite",
            ),
        ],
    };
    for (offers, cause) in offers {
        let mark = gateway.log().mark();
        let offers: Vec<_> = offers.iter().map(ToString::to_string).collect();
        let refused = pki.try_connect(tool, gateway.port(), Some(&light), &offers);
        let refused = refused.err().unwrap();
        assert_eq!(refused.alert, Some(40), "{offers:?}: {refused:?}");
        assert_eq!(gateway.handshake_refused(mark).text("cause"), cause, "{offers:?}");
    }
}

/// A gateway without certificates refuses each client that offers only certificates.
#[test]
fn certificate_without_policy_file_is_refused() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = Setup::new().start();
    for profile in TlsProfile::ALL {
        let mark = gateway.log().mark();
        let offers = profile.offers(Tool::OpenSsl);
        let refused = pki.try_connect(Tool::OpenSsl, gateway.port(), Some(&light), &offers);
        assert_eq!(refused.err().unwrap().alert, Some(40), "{profile:?}");
        assert_eq!(
            gateway.handshake_refused(mark).text("cause"),
            "certificates-only",
            "{profile:?}"
        );
    }
}

/// rustls limits the size of a message, and closes the connection.
#[test]
fn oversized_certificate_is_refused() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let large = light_request().extension("1.3.6.1.4.1.32473.2", false, vec![4; 64 << 10]);
    let large = pki.identity(&pki.example.ae_authority.issue(&large).unwrap());
    for (profile, alert, why) in [
        (TlsProfile::Tls13, None, "HandshakePayloadTooLarge"),
        (TlsProfile::Tls12, None, "HandshakePayloadTooLarge"),
        (TlsProfile::Mandated, Some(42), "the maximum is 16384"),
    ] {
        let mark = gateway.log().mark();
        let refused = pki.refused(Tool::OpenSsl, gateway.port(), Some(&large), profile);
        assert_eq!(refused.alert, alert, "{profile:?}: {refused:?}");
        assert!(gateway.handshake_refused(mark).message().contains(why), "{profile:?}");
    }
}

/// The errors that curl and Python report. With TLS 1.3, curl has sent its request before the alert
/// arrives.
#[test]
fn curl_and_python_report_alert() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let unknown = pki.identity(&root("Unknown").issue(&light_request()).unwrap());
    for profile in PROFILES {
        let ran = pki.curl(gateway.port(), &unknown, profile, "Clight-AE1", "/cse");
        let code = if profile == TlsProfile::Tls13 { 56 } else { 35 };
        assert_eq!((ran.code, ran.out.as_str()), (code, "\n000 "), "{profile:?}: {ran:?}");
        let refused = match pki.python(gateway.port(), &unknown, profile) {
            Ok(client) if profile == TlsProfile::Tls13 => client.rejected_after_handshake(),
            Ok(_) => panic!("Python was let in by {profile:?}"),
            Err(refused) => refused,
        };
        assert_eq!(refused.output.trim_end().rsplit(' ').next(), Some("TLSV1_ALERT_UNKNOWN_CA"));
    }
}
