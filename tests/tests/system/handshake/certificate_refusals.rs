//! Certificates that nobody is let in with: both engines refuse them with the same alert, and the
//! log says why.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use saegis_test_ca::{
    Authority, ExtendedKeyUsagePurpose, Issued, Key, KeyUsagePurpose, Name, Request as Certificate,
    Validity,
};
use saegis_tests::certificates::{CERTIFICATES, Identity, Pki, Way, anchor};
use saegis_tests::{BOUND, Gateway, LIGHT1, Request, Setup, Tool, with_each_client};

with_each_client!(
    every_certificate_is_refused_alike,
    what_both_engines_lack_is_refused,
    a_key_in_tls_1_3_is_not_supported_and_told,
);

/// The AE-ID of the light.
const LIGHT: &str = "//in.provider.com/mn-cse-123456/Clight-AE1";

/// The ways that are compared: by rustls, by rustls, by OpenSSL.
const WAYS: [Way; 3] = [Way::Tls13, Way::Tls12, Way::Mandated];

/// What somebody shows, and what comes of it.
struct Case {
    what: &'static str,
    shows: Option<Identity>,
    /// The alerts, way by way.
    alerts: [Option<u8>; 3],
    cause: &'static str,
    why: &'static str,
}

/// The same alert each way, for a certificate.
const fn each(alert: u8) -> [Option<u8>; 3] {
    [Some(alert); 3]
}

fn root(name: &str) -> Authority {
    Authority::new(&Certificate::new(name)).unwrap()
}

/// A certificate of the light.
fn light() -> Certificate {
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

/// Authorities beside those of the worked example: what each of them vouches for, or for nothing.
struct Authorities {
    /// For AE-IDs, CSE-IDs and devices, without name constraints.
    free: Authority,
    /// For AE-IDs alone, without name constraints.
    of_aes: Authority,
    /// For AE-IDs, with keys of every kind.
    of_all_keys: Authority,
    /// For AE-IDs, with a P-384 key, which is not allowed.
    of_other_key: Authority,
    /// For AE-IDs, with a revocation list, and with one that is out of date.
    listing: Authority,
    stale: Authority,
    /// For servers.
    servers: Authority,
    /// Unknown; and with the name of one that is known.
    unknown: Authority,
    namesake: Authority,
}

impl Authorities {
    fn new() -> Self {
        Self {
            free: root("Free"),
            of_aes: root("AEs"),
            of_all_keys: root("All keys"),
            of_other_key: Authority::new(&Certificate::new("Other key").key(Key::P384)).unwrap(),
            listing: root("Listing"),
            stale: root("Stale"),
            servers: root("Servers"),
            unknown: root("Unknown"),
            namesake: root("Free"),
        }
    }

    /// A gateway that believes those that are known, and has these on the revocation list.
    fn gateway(&self, pki: &Pki, revoked: &Issued) -> Gateway {
        let setup = pki.setup().with("limits", "failed-handshakes-per-minute = 10000");
        let mut toml = fs::read_to_string(setup.path(CERTIFICATES)).unwrap();
        for (file, authority, flavours, more) in [
            ("free.pem", &self.free, &["ae-id", "cse-id", "device"][..], ""),
            ("of-aes.pem", &self.of_aes, &["ae-id"], ""),
            (
                "of-all-keys.pem",
                &self.of_all_keys,
                &["ae-id"],
                "keys = [\"P-256\", \"P-384\", \"RSA\"]",
            ),
            ("of-other-key.pem", &self.of_other_key, &["ae-id"], ""),
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

/// A chain with so many certificates.
fn long_chain(root: &Authority, length: usize) -> Issued {
    let names = (1..length - 1).map(|nth| Certificate::new(format!("Authority {nth}")));
    let first = root.sub_authority(&Certificate::new("Authority 0")).unwrap();
    let last = names.fold(first, |above, name| above.sub_authority(&name).unwrap());
    last.issue(&light()).unwrap()
}

/// Who holds or issues what in which way wrong.
fn cases(pki: &Pki, of: &Authorities, revoked: &Issued) -> Vec<Case> {
    use ExtendedKeyUsagePurpose::ServerAuth;
    let example = &pki.example;
    let certificate = |what, by: &Authority, request: Certificate, alert, why| {
        let shows = Some(pki.identity(&by.issue(&request).unwrap()));
        Case { what, shows, alerts: each(alert), cause: "certificate", why }
    };
    let names =
        |what, by: &Authority, names: &[Name], why| certificate(what, by, named(names), 42, why);
    let issued = |what, issued: &Issued, alert, why| {
        let shows = Some(pki.identity(issued));
        Case { what, shows, alerts: each(alert), cause: "certificate", why }
    };
    let of_kind = |key| light().key(key);
    let large = |size| light().extension("1.3.6.1.4.1.32473.2", false, vec![4; size]);
    let common_name = Certificate::new(LIGHT);
    vec![
        Case {
            what: "none",
            shows: None,
            // TLS 1.2 has no alert of its own for it, and one of the engines sends that of TLS 1.3.
            alerts: [Some(116), Some(116), Some(40)],
            cause: "certificate",
            why: "the peer showed no certificate",
        },
        certificate("unknown CA", &of.unknown, light(), 48, "no trust anchor has issued"),
        certificate("a namesake of a CA", &of.namesake, light(), 51, "a signature in the"),
        certificate("expired", &of.free, light().valid(valid(-48, -1)), 45, "has expired"),
        certificate("too early", &of.free, light().valid(valid(1, 48)), 45, "not valid yet"),
        issued("revoked", revoked, 44, "is revoked"),
        certificate("stale CRL", &of.stale, light(), 48, "its revocation list is out of date"),
        certificate(
            "wrong key usage",
            &of.free,
            light().usages([KeyUsagePurpose::KeyAgreement]),
            43,
            "lacks digitalSignature",
        ),
        certificate("no key usage", &of.free, light().usages([]), 43, "lacks digitalSignature"),
        certificate(
            "wrong extended key usage",
            &of.free,
            light().extended_usages([ServerAuth]),
            43,
            "extended key usage",
        ),
        certificate("RSA", &of.free, of_kind(Key::Rsa), 43, "a key of the kind RSA"),
        certificate("P-384", &of.free, of_kind(Key::P384), 43, "a key of the kind P-384"),
        certificate("CA of P-384", &of.of_other_key, light(), 43, "a key of the kind P-384"),
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
            "is of an AE of another service provider",
        ),
        names(
            "other CSE's AE",
            &of.free,
            &[Name::uri("//in.provider.com/mn-2/Clight-AE1")],
            "is of an AE at another CSE",
        ),
        names(
            "domain in capitals",
            &of.free,
            &[Name::uri("//IN.PROVIDER.COM/mn-cse-123456/Clight-AE1")],
            "is of an AE of another service provider",
        ),
        names(
            "two AE-IDs",
            &of.free,
            &[Name::uri(LIGHT), Name::uri("//in.provider.com/Slight")],
            "hold two identities",
        ),
        names(
            "AE-ID and CSE-ID",
            &of.free,
            &[Name::uri(LIGHT), Name::dns("mn-2.in.provider.com")],
            "hold two identities",
        ),
        names(
            "constraint of domains",
            &example.cse_authority,
            &[Name::dns("mn-2.example.org")],
            "not within the name constraints",
        ),
        names(
            "constraint of URIs",
            &example.ae_authority,
            &[Name::uri("//example.org/mn-cse-123456/Clight-AE1")],
            "not within the name constraints",
        ),
        names(
            "flavour that is not vouched for",
            &of.of_aes,
            &[Name::dns("mn-2.in.provider.com")],
            "that its trust anchor vouches for (ae-id)",
        ),
        issued("our own CSE-ID", &example.mn_cse, 42, "it is this very CSE"),
        names(
            "server",
            &of.servers,
            &[Name::dns("maf.in.provider.com")],
            "that its trust anchor vouches for (fqdn)",
        ),
        issued(
            "16 certificates",
            &long_chain(&of.free, 16),
            42,
            "certificates; at most 6 are read",
        ),
        certificate("20 KiB", &of.free, large(20 << 10), 42, "at most 16384 are read"),
        Case {
            what: "device without a row or a rule",
            shows: Some(pki.identity(&example.device)),
            // In TLS 1.3 the client speaks last: nothing tells it but that the connection ends.
            alerts: [None, Some(49), Some(49)],
            cause: "certificate-unmapped",
            why: "the device 1.3.6.1.4.1.32473.1-000001 was refused: no module and no rule",
        },
    ]
}

fn every_certificate_is_refused_alike(tool: Tool) {
    let (pki, of) = (Pki::new(), Authorities::new());
    let revoked = of.listing.issue(&light()).unwrap();
    let gateway = of.gateway(&pki, &revoked);
    let mut wrong = Vec::new();
    for case in cases(&pki, &of, &revoked) {
        // gnutls-cli reads six certificates and no more, and does not sign with such a key.
        let not_shown = ["16 certificates", "wrong key usage"].contains(&case.what);
        if tool == Tool::GnuTls && not_shown {
            continue;
        }
        let outcomes = WAYS.map(|way| {
            let mark = gateway.log().mark();
            let refused = pki.refused(tool, gateway.port(), case.shows.as_ref(), way);
            (refused.alert, gateway.handshake_refused(mark), refused.said)
        });
        for ((alert, event, said), (expected, way)) in
            outcomes.iter().zip(case.alerts.iter().zip(WAYS))
        {
            let fits = event.text("cause") == case.cause && event.message().contains(case.why);
            if alert != expected || !fits {
                wrong.push(format!("{} {way:?}: {alert:?} {event:?} {said}", case.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Each of those authorities is believed otherwise.
    for good in [
        of.free.issue(&light()),
        of.of_aes.issue(&light()),
        of.of_all_keys.issue(&light().key(Key::P384)),
        of.of_all_keys.issue(&light().key(Key::Rsa)),
        of.listing.issue(&light()),
    ] {
        let good = pki.identity(&good.unwrap());
        for way in WAYS {
            let mut client = pki.connect(tool, gateway.port(), &good, way);
            let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
            client.ask(&nothing).expect_refusal(404, 4004);
            client.close();
        }
    }
}

/// It is told apart from one that has forgotten its certificate; with a certificate it is let in.
fn a_key_in_tls_1_3_is_not_supported_and_told(tool: Tool) {
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
        Ok(client) => client.turned_away(),
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

fn what_both_engines_lack_is_refused(tool: Tool) {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    let offers: [(&[&str], &str); 4] = match tool {
        Tool::OpenSsl => [
            // The certificate has an ECDSA key.
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

/// A gateway that is not set up for certificates says so to each of them at once.
#[test]
fn without_a_policy_file_there_are_no_certificates() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = Setup::new().start();
    for way in Way::ALL {
        let mark = gateway.log().mark();
        let offers = way.offers(Tool::OpenSsl);
        let refused = pki.try_connect(Tool::OpenSsl, gateway.port(), Some(&light), &offers);
        assert_eq!(refused.err().unwrap().alert, Some(40), "{way:?}");
        assert_eq!(gateway.handshake_refused(mark).text("cause"), "certificates-only", "{way:?}");
    }
}

/// The first flight of a client of TLS 1.2 with one suite.
fn client_hello(suite: u16) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2]);
    body.extend(suite.to_be_bytes());
    body.extend([1, 0]);
    let extensions: [&[u8]; 3] = [
        // Groups: secp256r1. Points: uncompressed. Signatures: ECDSA with SHA-256.
        &[0, 10, 0, 4, 0, 2, 0, 23],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
    ];
    let extensions = extensions.concat();
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    record(&message(1, &body))
}

/// A handshake message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [0, length @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes() else { panic!("long") };
    [&[kind][..], &length, body].concat()
}

/// Records of the handshake.
fn record(message: &[u8]) -> Vec<u8> {
    let one = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 3][..], &length, part].concat()
    };
    message.chunks(1 << 14).flat_map(one).collect()
}

/// A Certificate message of TLS 1.2.
fn certificate_message(certificates: &[&[u8]]) -> Vec<u8> {
    let sized =
        |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..], bytes].concat();
    let list: Vec<u8> = certificates.iter().flat_map(|der| sized(der)).collect();
    message(11, &sized(&list))
}

/// Goes through the first flights, and then shows what is no certificate, or none that a client's
/// library would send. Tells the alert that comes of it.
fn shows(gateway: &Gateway, suite: u16, certificate: &[u8]) -> Vec<u8> {
    const SERVER_HELLO_DONE: &[u8] = &[14, 0, 0, 0];
    let mut socket = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.write_all(&client_hello(suite)).unwrap();
    let mut flight = Vec::new();
    while !flight.ends_with(SERVER_HELLO_DONE) {
        let mut chunk = [0; 4096];
        let read = socket.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "{flight:02x?}");
        flight.extend_from_slice(&chunk[..read]);
    }
    socket.write_all(&record(certificate)).unwrap();
    let mut alert = Vec::new();
    // A reset is an end as well.
    let _ = socket.read_to_end(&mut alert);
    alert
}

/// Neither engine lets anybody in who shows what is no certificate. They say so with an alert each
/// of its own, for OpenSSL reads certificates before it asks about them.
#[test]
fn what_is_no_certificate_is_refused() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let good = pki.example.ae.chain()[0].to_vec();
    let cut = &good[..good.len() - 1];
    let longer = [&good[..], &[0]].concat();
    for (what, message, alerts) in [
        ("rubbish", certificate_message(&[b"rubbish"]), [42, 50]),
        ("empty", certificate_message(&[b""]), [42, 50]),
        ("a sequence of nothing", certificate_message(&[&[0x30, 0]]), [42, 50]),
        ("cut", certificate_message(&[cut]), [42, 50]),
        ("longer", certificate_message(&[&longer]), [42, 50]),
        ("rubbish behind it", certificate_message(&[&good, b"rubbish"]), [42, 50]),
        ("no list", message(11, &[0, 0, 9, 1]), [50, 50]),
    ] {
        for (suite, alert) in [0xC02B, 0xC023].into_iter().zip(alerts) {
            let mark = gateway.log().mark();
            let came = shows(&gateway, suite, &message);
            assert_eq!(came, [21, 3, 3, 0, 2, 2, alert], "{what} {suite:04x}");
            let cause = gateway.handshake_refused(mark).text("cause");
            assert_eq!(cause, if alert == 42 { "certificate" } else { "protocol" }, "{what}");
        }
    }
    pki.connect(Tool::OpenSsl, gateway.port(), &pki.identity(&pki.example.ae), Way::Mandated);
}

/// More than rustls takes of any message, which it ends the connection for.
#[test]
fn a_certificate_larger_than_a_message_is_refused() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let large = light().extension("1.3.6.1.4.1.32473.2", false, vec![4; 64 << 10]);
    let large = pki.identity(&pki.example.ae_authority.issue(&large).unwrap());
    for (way, alert, why) in [
        (Way::Tls13, None, "HandshakePayloadTooLarge"),
        (Way::Tls12, None, "HandshakePayloadTooLarge"),
        (Way::Mandated, Some(42), "at most 16384 are read"),
    ] {
        let mark = gateway.log().mark();
        let refused = pki.refused(Tool::OpenSsl, gateway.port(), Some(&large), way);
        assert_eq!(refused.alert, alert, "{way:?}: {refused:?}");
        assert!(gateway.handshake_refused(mark).message().contains(why), "{way:?}");
    }
}

/// What people see who use curl. In TLS 1.3 it has sent its request by then.
#[test]
fn curl_and_python_are_told() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let unknown = pki.identity(&root("Unknown").issue(&light()).unwrap());
    for way in WAYS {
        let ran = pki.curl(gateway.port(), &unknown, way, "Clight-AE1", "/cse");
        let code = if way == Way::Tls13 { 56 } else { 35 };
        assert_eq!((ran.code, ran.out.as_str()), (code, "\n000 "), "{way:?}: {ran:?}");
        let refused = match pki.python(gateway.port(), &unknown, way) {
            Ok(client) if way == Way::Tls13 => client.turned_away(),
            Ok(_) => panic!("Python was let in by {way:?}"),
            Err(refused) => refused,
        };
        assert_eq!(refused.said.trim_end().rsplit(' ').next(), Some("TLSV1_ALERT_UNKNOWN_CA"));
    }
}
