//! Changes of certificates, trust anchors, revocation lists and mappings at run time. Valid changes
//! take effect at once, also on associations, and invalid ones change nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_test_ca::{Authority, Issued, Name, Request as Certificate, Validity};
use saegis_tests::certificates::{
    CERTIFICATE_TABLE, CERTIFICATES, GATEWAY_NAME, Identity, Pki, TlsProfile, anchor, credential,
    write_key,
};
use saegis_tests::{
    Client, Gateway, LIGHT2, Mark, Request, Tool, openssl, saegis, with_each_client,
};

with_each_client!(
    removed_anchor_ends_its_associations_only,
    revocation_list_ends_listed_associations,
    changed_certificate_row_ends_association,
);

/// One profile for each engine.
const ENGINES: [TlsProfile; 2] = [TlsProfile::Tls13, TlsProfile::Mandated];

fn toml(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.path(CERTIFICATES)).unwrap()
}

/// Returns the certificate request of an AE at this CSE.
fn of_ae(stem: &str) -> Certificate {
    let id = format!("//in.provider.com/mn-cse-123456/{stem}");
    Certificate::new(stem).name(Name::uri(id))
}

/// Asserts that the associations of a credential end for a reason with these words.
#[track_caller]
fn assert_revoked(
    gateway: &Gateway,
    clients: impl IntoIterator<Item = Client>,
    credential_id: &str,
    why: &str,
) {
    for mut client in clients {
        client.ended();
    }
    let of = |event: &saegis_tests::Event| event.text("credential_id") == credential_id;
    let revoked = gateway.log().wait_for(Mark::START, "association.revoked", of);
    assert!(revoked.text("why").contains(why), "{revoked:?}");
    let ended = gateway.log().wait_for(Mark::START, "association.ended", of);
    assert_eq!(ended.text("why"), "revoked");
}

/// Asserts that both engines refuse a certificate.
#[track_caller]
fn assert_refused(pki: &Pki, tool: Tool, gateway: &Gateway, identity: &Identity, alert: u8) {
    for profile in ENGINES {
        let refused = pki.refused(tool, gateway.port(), Some(identity), profile);
        assert_eq!(refused.alert, Some(alert), "{profile:?}: {refused:?}");
    }
}

fn removed_anchor_ends_its_associations_only(tool: Tool) {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let (light, peer) = (pki.identity(&pki.example.ae), pki.identity(&pki.example.in_cse));
    let lights = ENGINES.map(|profile| pki.connect(tool, gateway.port(), &light, profile));
    let mut peers = ENGINES.map(|profile| pki.connect(tool, gateway.port(), &peer, profile));
    let mut with_key = tool.connect(gateway.port(), LIGHT2);
    gateway.log().all(Mark::START, "association.established", 5);
    let text = toml(&gateway);
    let without = text.replace(&anchor("aes.pem", &["ae-id"]), "");
    assert_ne!(text, without);
    gateway.in_force_after(|g| g.replace(CERTIFICATES, without));
    assert_revoked(&gateway, lights, credential::AE, "no trust anchor has issued the certificate");
    assert_refused(&pki, tool, &gateway, &light, 48);
    peers.iter_mut().for_each(|peer| peer.assert_served_as("/in-cse"));
    with_key.assert_served_as("Clight-AE2");
    // The file of a trusted authority gets another certificate, and then the policy file is
    // removed.
    let other = Authority::new(&Certificate::new("Another")).unwrap();
    gateway.in_force_after(|g| g.replace_anchor("cses.pem", &other));
    assert_revoked(&gateway, peers, credential::CSE, "no trust anchor has issued the certificate");
    assert_refused(&pki, tool, &gateway, &peer, 48);
    gateway.remove(CERTIFICATES);
    assert_refused_by_server_hello(&pki, tool, &gateway, &peer);
    with_key.assert_served_as("Clight-AE2");
    gateway.in_force_after(|g| g.replace(CERTIFICATES, &text));
    pki.connect(tool, gateway.port(), &light, TlsProfile::Mandated).close();
}

/// Asserts the alert of a gateway without certificates, which arrives before a TLS 1.3 handshake is
/// complete.
#[track_caller]
fn assert_refused_by_server_hello(pki: &Pki, tool: Tool, gateway: &Gateway, identity: &Identity) {
    for profile in ENGINES {
        let offers = profile.offers(tool);
        let refused = pki.try_connect(tool, gateway.port(), Some(identity), &offers);
        assert_eq!(refused.err().unwrap().alert, Some(40), "{profile:?}");
    }
}

fn revocation_list_ends_listed_associations(tool: Tool) {
    let pki = Pki::new();
    let authority = &pki.example.ae_authority;
    let gateway = pki.setup_with_list().start();
    let first = &pki.example.ae;
    let second = authority.issue(&of_ae("Cother")).unwrap();
    let (light, other) = (pki.identity(first), pki.identity(&second));
    let lights = ENGINES.map(|profile| pki.connect(tool, gateway.port(), &light, profile));
    let mut others = ENGINES.map(|profile| pki.connect(tool, gateway.port(), &other, profile));
    gateway.log().all(Mark::START, "association.established", 4);
    let list = authority.revoke(&[first.serial()]).unwrap();
    gateway.in_force_after(|g| g.replace("policies/aes.crl", list.der()));
    assert_revoked(&gateway, lights, credential::AE, "is revoked");
    assert_refused(&pki, tool, &gateway, &light, 44);
    others.iter_mut().for_each(|other| other.assert_served_as("Cother"));
    // With an outdated list, no certificate of the authority is accepted.
    let past = SystemTime::now() - Duration::from_secs(60);
    let old = Validity { from: past - Duration::from_secs(3600), until: past };
    let list = authority.revoke_for(&[], old).unwrap();
    gateway.in_force_after(|g| g.replace("policies/aes.crl", list.pem()));
    assert_revoked(
        &gateway,
        others,
        "33-//in.provider.com/mn-cse-123456/Cother",
        "list is out of date",
    );
    assert_refused(&pki, tool, &gateway, &other, 48);
    gateway.in_force_after(|g| g.replace("policies/aes.crl", authority.revoke(&[]).unwrap().pem()));
    pki.connect(tool, gateway.port(), &light, TlsProfile::Tls12).close();
}

fn changed_certificate_row_ends_association(tool: Tool) {
    let pki = Pki::new();
    let rows = |node: &str, device: &str| {
        let (of_node, of_device) = (credential::NODE, credential::DEVICE);
        let device =
            if device.is_empty() { device.into() } else { format!("{of_device},,{device},\n") };
        format!("credential_id,ae_id,ae_ids,comment\n{of_node},{node},,\n{device}")
    };
    let gateway = pki.setup().file("certificate-table.csv", &rows("Cnode", "Cone Ctwo")).start();
    let (node, device) = (pki.identity(&pki.example.node), pki.identity(&pki.example.device));
    let nodes = ENGINES.map(|profile| pki.connect(tool, gateway.port(), &node, profile));
    let mut devices = ENGINES.map(|profile| pki.connect(tool, gateway.port(), &device, profile));
    gateway.log().all(Mark::START, "association.established", 4);
    gateway.in_force_after(|g| g.replace(CERTIFICATE_TABLE, rows("Cother", "Cone Ctwo")));
    assert_revoked(&gateway, nodes, credential::NODE, "the credential stands for another entity");
    devices.iter_mut().for_each(|device| device.assert_served_as("Ctwo"));
    for profile in ENGINES {
        let mut node = pki.connect(tool, gateway.port(), &node, profile);
        node.assert_served_as("Cother");
        node.close();
    }
    gateway.in_force_after(|g| g.replace(CERTIFICATE_TABLE, rows("Cother", "")));
    assert_revoked(&gateway, devices, credential::DEVICE, "no module and no rule maps");
    let mark = gateway.log().mark();
    let refused = pki.refused(tool, gateway.port(), Some(&device), TlsProfile::Mandated);
    assert_eq!(refused.alert, Some(49), "{refused:?}");
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "certificate-unmapped");
}

/// Returns the identifier of the raw public key in base64, which GnuTLS does not print.
fn pin(pki: &Pki) -> String {
    let public = pki.write("public.pem", pki.example.raw_key.public_pem());
    let digest = "openssl pkey -pubin -in \"$0\" -outform DER | openssl dgst -sha256 -binary | basenc --base64url";
    let made = std::process::Command::new("sh").args(["-c", digest]).arg(public).output().unwrap();
    let hash = String::from_utf8(made.stdout).unwrap();
    format!("ni:///sha-256;{}", hash.trim().trim_end_matches('='))
}

#[test]
fn unpinned_public_key_ends_association() {
    let pki = Pki::new();
    let setup = pki.setup();
    let pin = pin(&pki);
    let text = fs::read_to_string(setup.path(CERTIFICATES)).unwrap();
    setup.write(CERTIFICATES, format!("{text}[[public-key]]\nid = \"{pin}\"\n").as_bytes());
    setup.write(CERTIFICATE_TABLE, format!("credential_id,ae_id\n30-{pin},Craw\n").as_bytes());
    let gateway = setup.start();
    let (public, key) = pki.raw(&pki.example.raw_key);
    let (public, key) = (public.to_str().unwrap(), key.to_str().unwrap());
    let offers = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CTYPE-ALL:+CTYPE-CLI-RAWPK:+CTYPE-SRV-X509";
    let arguments = ["--priority", offers, "--insecure", "--sni-hostname", GATEWAY_NAME];
    let arguments = [&arguments[..], &["--rawpkfile", public, "--rawpkkeyfile", key]].concat();
    let connect = || Tool::GnuTls.try_with(gateway.port(), None, &arguments).ok().unwrap();
    let mut raw = connect();
    raw.assert_served_as("Craw");
    gateway.in_force_after(|g| g.replace(CERTIFICATES, &text));
    assert_revoked(&gateway, [raw], &format!("30-{pin}"), "is not pinned");
    assert_eq!(connect().rejected_after_handshake().alert, Some(48));
}

/// Returns the gateway's certificate in PEM.
fn presented_certificate(pki: &Pki, gateway: &Gateway, profile: TlsProfile) -> String {
    let light = pki.identity(&pki.example.ae);
    let (certificate, key) = (light.certificate.to_str().unwrap(), light.key.to_str().unwrap());
    let port = format!("127.0.0.1:{}", gateway.port());
    let anchor = pki.anchor();
    let offers = profile.offers(Tool::OpenSsl);
    let mut arguments = vec!["s_client", "-connect", &port, "-cert", certificate, "-key", key];
    arguments.extend(["-CAfile", anchor.to_str().unwrap(), "-verify_return_error"]);
    arguments.extend(offers.iter().map(String::as_str));
    let out = openssl(&arguments).expect(0).out;
    let (_, rest) = out.split_once("-----BEGIN").unwrap();
    pem_body(rest.split_once("-----END").unwrap().0)
}

/// Returns the base64 body of a PEM certificate without line breaks.
fn pem_body(pem: &str) -> String {
    let body = pem.split_once("-----END").map_or(pem, |(body, _)| body);
    let body = body.rsplit_once("-----").map_or(body, |(_, body)| body);
    body.split_whitespace().collect()
}

/// Returns a new certificate for the gateway's existing key, issued by OpenSSL.
fn renewed(pki: &Pki) -> String {
    let authority = pki.write("authority.key", pki.example.cse_authority.key_pem());
    let key = pki.identity(&pki.example.mn_cse).key;
    let (request, new, anchor) =
        (pki.write("request.pem", ""), pki.write("new.pem", ""), pki.anchor());
    let [authority, key, request, new_path, anchor] =
        [&authority, &key, &request, &new, &anchor].map(|path| path.to_str().unwrap());
    let names = format!("subjectAltName=DNS:{GATEWAY_NAME}");
    let ask = ["req", "-new", "-key", key, "-subj", "/CN=mn-cse-123456", "-addext", &names];
    openssl(&[&ask[..], &["-addext", "keyUsage=digitalSignature", "-out", request]].concat())
        .expect(0);
    let sign = ["x509", "-req", "-in", request, "-CA", anchor, "-CAkey", authority, "-days", "30"];
    openssl(&[&sign[..], &["-copy_extensions", "copyall", "-out", new_path]].concat()).expect(0);
    fs::read_to_string(new).unwrap()
}

/// Returns a certificate of the gateway with a new key.
fn new_gateway_certificate(pki: &Pki) -> Issued {
    let request = Certificate::new("mn-cse-123456").name(Name::dns(GATEWAY_NAME));
    pki.example.cse_authority.issue(&request).unwrap()
}

#[test]
fn gateway_certificate_and_key_are_replaced() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let light = pki.identity(&pki.example.ae);
    let mut association =
        TlsProfile::ALL.map(|profile| pki.connect(Tool::OpenSsl, gateway.port(), &light, profile));
    let first = pem_body(pki.example.mn_cse.chain_pem());
    for profile in TlsProfile::ALL {
        assert_eq!(presented_certificate(&pki, &gateway, profile), first, "{profile:?}");
    }
    let renewed = renewed(&pki);
    gateway.in_force_after(|g| g.replace("policies/gw.pem", &renewed));
    for profile in TlsProfile::ALL {
        assert_eq!(
            presented_certificate(&pki, &gateway, profile),
            pem_body(&renewed),
            "{profile:?}"
        );
    }
    // The key is replaced first. The previous generation stays in force until the certificate
    // follows.
    let own = new_gateway_certificate(&pki);
    gateway.refused_after("gw.pem: the key does not belong to the certificate", |g| {
        write_key(&g.path("policies/gw.key"), &own.key_pem());
    });
    assert_eq!(presented_certificate(&pki, &gateway, TlsProfile::Mandated), pem_body(&renewed));
    gateway.in_force_after(|g| g.replace("policies/gw.pem", own.chain_pem()));
    for profile in TlsProfile::ALL {
        assert_eq!(
            presented_certificate(&pki, &gateway, profile),
            pem_body(own.chain_pem()),
            "{profile:?}"
        );
    }
    association.iter_mut().for_each(|association| association.assert_served_as("Clight-AE1"));
    assert!(gateway.log().all(Mark::START, "association.revoked", 0).is_empty());
}

/// The expiry is a metric at any time, and a warning in the last thirty days.
#[test]
fn gateway_certificate_expiry_is_reported_early() {
    let pki = Pki::new();
    let gateway = pki.setup().with_metrics().start();
    let figure = || {
        let metrics = gateway.monitor("/metrics");
        let of = |line: &&str| line.starts_with("saegis_own_certificate_expiry_seconds{");
        let lines: Vec<_> = metrics.text.lines().filter(of).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(GATEWAY_NAME), "{lines:?}");
        let (_, ends) = lines[0].rsplit_once(' ').unwrap();
        UNIX_EPOCH + Duration::from_secs_f64(ends.parse().unwrap())
    };
    let valid_for = |days: u32| {
        let request = Certificate::new("mn-cse-123456")
            .name(Name::dns(GATEWAY_NAME))
            .valid(Validity::days(days));
        let issued = pki.example.cse_authority.issue(&request).unwrap();
        gateway.in_force_after(|g| g.replace_gateway_certificate("gw", &issued));
        let ahead = figure().duration_since(SystemTime::now()).unwrap();
        let day = Duration::from_secs(24 * 3600);
        assert!(ahead <= day * days && ahead > day * (days - 1), "{days}: {ahead:?}");
    };
    valid_for(31);
    assert!(gateway.log().all(Mark::START, "policy.certificate-expires", 0).is_empty());
    let mark = gateway.log().mark();
    valid_for(29);
    let warned = gateway.log().wait_after(mark, "policy.certificate-expires");
    assert!(warned.text("names").contains(GATEWAY_NAME), "{warned:?}");
    assert!(warned.message().contains("is valid until"), "{warned:?}");
}

/// A client with a renewed certificate of the same authority and another key is the same entity.
#[test]
fn renewed_client_certificate_keeps_identity() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let before = pki.identity(&pki.example.ae);
    let renewed = pki.example.ae_authority.issue(&of_ae("Clight-AE1")).unwrap();
    let after = pki.identity(&renewed);
    let mut old = pki.connect(Tool::OpenSsl, gateway.port(), &before, TlsProfile::Mandated);
    old.ask(&Request::create_ae("light").from("Clight-AE1")).expect(201, 2001);
    for profile in TlsProfile::ALL {
        let mut new = pki.connect(Tool::OpenSsl, gateway.port(), &after, profile);
        new.ask(&Request::retrieve("/cse/light").from("Clight-AE1")).expect(200, 2000);
        new.close();
    }
    old.assert_served_as("Clight-AE1");
}

#[test]
fn association_ends_when_certificate_expires() {
    let pki = Pki::new();
    let gateway = pki.setup().start();
    let now = SystemTime::now();
    let seconds = |n| Duration::from_secs(n);
    let validity = Validity { from: now - seconds(60), until: now + seconds(6) };
    let short = pki.example.ae_authority.issue(&of_ae("Clight-AE1").valid(validity)).unwrap();
    let short = pki.identity(&short);
    let mut long = pki.connect(
        Tool::OpenSsl,
        gateway.port(),
        &pki.identity(&pki.example.ae),
        TlsProfile::Tls13,
    );
    let mut association =
        ENGINES.map(|profile| pki.connect(Tool::OpenSsl, gateway.port(), &short, profile));
    for client in &mut association {
        client.assert_served_as("Clight-AE1");
    }
    for mut client in association {
        client.ended();
    }
    for ended in gateway.log().all(Mark::START, "association.ended", 2) {
        assert_eq!(ended.text("why"), "credential expired");
    }
    assert_refused(&pki, Tool::OpenSsl, &gateway, &short, 45);
    long.assert_served_as("Clight-AE1");
}

/// Certificate, key and revocation list change in turn while clients connect. The clients are valid
/// in every generation.
#[test]
fn handshakes_succeed_while_certificates_change() {
    const CLIENTS: usize = 4;
    const CHANGES: usize = 15;
    let pki = Pki::new();
    let authority = &pki.example.ae_authority;
    let gateway = pki.setup_with_list().start();
    let light = pki.identity(&pki.example.ae);
    let mut association = pki.connect(Tool::OpenSsl, gateway.port(), &light, TlsProfile::Mandated);
    let others: Vec<_> = (0..CHANGES).map(|_| authority.issue(&of_ae("Cgone")).unwrap()).collect();
    let serials: Vec<_> = others.iter().map(Issued::serial).collect();
    let (stop, handshakes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (port, anchor) = (gateway.port(), pki.anchor());
    thread::scope(|scope| {
        for nth in 0..CLIENTS {
            let (light, anchor, stop, handshakes) = (&light, &anchor, &stop, &handshakes);
            scope.spawn(move || {
                let profile = TlsProfile::ALL[nth % TlsProfile::ALL.len()];
                while !stop.load(Ordering::Relaxed) {
                    handshake(port, anchor, light, profile);
                    handshakes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..CHANGES {
                let own = new_gateway_certificate(&pki);
                gateway.in_force_after(|g| g.replace_gateway_certificate("gw", &own));
                let list = authority.revoke(&serials[..=round]).unwrap();
                gateway.in_force_after(|g| g.replace("policies/aes.crl", list.der()));
                association.assert_served_as("Clight-AE1");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        changed.unwrap();
    });
    let log = gateway.log();
    assert!(log.all(Mark::START, "handshake.refused", 0).is_empty());
    assert!(log.all(Mark::START, "association.revoked", 0).is_empty());
    assert!(handshakes.into_inner() > CHANGES, "there was no load");
}

/// Performs a handshake with `openssl s_client` and one request, and panics on a failure.
fn handshake(port: u16, anchor: &std::path::Path, identity: &Identity, profile: TlsProfile) {
    let offers = profile.offers(Tool::OpenSsl);
    let mut arguments: Vec<&str> = offers.iter().map(String::as_str).collect();
    let files = [anchor, &identity.certificate, &identity.key].map(|path| path.to_str().unwrap());
    arguments.extend(["-nocommands", "-CAfile", files[0], "-verify_return_error"]);
    arguments.extend(["-verify_hostname", GATEWAY_NAME, "-cert", files[1], "-key", files[2]]);
    let client = Tool::OpenSsl.try_with(port, None, &arguments);
    let mut client = client.unwrap_or_else(|refused| panic!("{profile:?}: {refused:?}"));
    client.assert_served_as("Clight-AE1");
    client.close();
}

/// The check command and the gateway report each fault with file, line and column. The previous
/// generation stays in force.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn invalid_certificate_policy_changes_nothing() {
    let pki = Pki::new();
    let setup = pki.setup();
    let another = new_gateway_certificate(&pki);
    setup.write("policies/rubbish.pem", b"rubbish");
    let world_readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(setup.path("policies/rubbish.pem"), world_readable).unwrap();
    setup.write(
        "policies/broken.pem",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    );
    setup.write("policies/light.pem", pki.example.ae.chain_pem().as_bytes());
    write_key(&setup.path("policies/another.key"), &another.key_pem());
    write_key(&setup.path("policies/open.key"), &pki.example.mn_cse.key_pem());
    let world_readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(setup.path("policies/open.key"), world_readable).unwrap();
    let gateway = setup.start();
    let light = pki.identity(&pki.example.ae);
    let mut association = pki.connect(Tool::OpenSsl, gateway.port(), &light, TlsProfile::Mandated);
    let good = toml(&gateway);
    // The first entry, the gateway's certificate, has three lines, and so has the entry of AEs.
    let mistakes = [
        ("\"gw.pem\"", "\"none.pem\"", "none.pem: cannot be opened: "),
        ("\"gw.key\"", "\"open.key\"", "open.key: is a private key that every user"),
        ("\"gw.key\"", "\"another.key\"", "gw.pem: the key does not belong to the certificate"),
        ("\"gw.pem\"", "\"rubbish.pem\"", "rubbish.pem: has no certificate in it (PEM)"),
        ("\"gw.pem\"", "\"broken.pem\"", "broken.pem: cannot be parsed as PEM"),
        ("\"gw.key\"", "\"rubbish.pem\"", "rubbish.pem: is a private key that every user"),
        ("\"aes.pem\"", "\"light.pem\"", "light.pem: is not the certificate of a certification"),
        ("\"aes.pem\"", "\"rubbish.pem\"", "rubbish.pem: has no certificate in it (PEM)"),
        ("[\"ae-id\"]", "[\"ae\"]", "certificates.toml:6:13: \"ae\" is not a flavor of"),
        ("[\"ae-id\"]", "[]", "aes.pem: has no flavor that it may issue"),
        ("[\"ae-id\"]", "[\"cse-id\", \"fqdn\"]", "aes.pem: cannot issue both cse-id and fqdn"),
        (
            "[\"ae-id\"]",
            "[\"ae-id\"]\nkeys = [\"P-521\"]",
            "certificates.toml:7:9: \"P-521\" is no",
        ),
        ("[\"ae-id\"]", "[\"ae-id\"]\ncrls = [\"no.crl\"]", "no.crl: cannot be opened: "),
        (
            "[\"ae-id\"]",
            "[\"ae-id\"]\ncrls = [\"rubbish.pem\"]",
            "rubbish.pem: has no revocation list",
        ),
        ("\"aes.pem\"", "\"../aes.pem\"", "certificates.toml:5:15: \"../aes.pem\" is not the name"),
        ("\"aes.pem\"", "\".aes.pem\"", "certificates.toml:5:15: \".aes.pem\" is not the name"),
        ("\"aes.pem\"", "5", "certificates.toml:5:15: invalid type"),
        ("[[own]]", "[[owns]]", "certificates.toml:1:3: unknown field `owns`"),
        ("key = ", "keys = ", "certificates.toml:3:1: unknown field `keys`"),
        ("[[own]]", "[[own", "certificates.toml:1:"),
        (
            "[[own]]",
            "[[public-key]]\nid = \"ni:///md5;AAAA\"\n[[own]]",
            "certificates.toml:2:6: \"ni:///md5;AAAA\" is not a public key identifier",
        ),
    ];
    for (right, wrong, why) in mistakes {
        let bad = good.replacen(right, wrong, 1);
        assert_ne!(bad, good, "{wrong}");
        let event =
            gateway.refused_after(&format!("policies/{why}"), |g| g.replace(CERTIFICATES, bad));
        assert_eq!(event.number("in_force"), 1, "{event:?}");
        let checked = saegis(&gateway.path(""), &["check"]).expect(2);
        let start = format!("error: policies/{why}");
        assert!(checked.err.lines().any(|line| line.starts_with(&start)), "{checked:?}");
        assert!(!checked.err.contains("PRIVATE KEY"), "{checked:?}");
        association.assert_served_as("Clight-AE1");
    }
    for profile in TlsProfile::ALL {
        pki.connect(Tool::OpenSsl, gateway.port(), &light, profile).close();
    }
    // The corrected file equals the previous one. A later change takes effect.
    gateway.replace(CERTIFICATES, &good);
    let event = gateway.in_force_after(|g| g.replace_gateway_certificate("gw", &another));
    assert_eq!(event.number("generation"), 2);
    association.assert_served_as("Clight-AE1");
}
