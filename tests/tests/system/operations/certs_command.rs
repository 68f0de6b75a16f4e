//! `saegis certs` creates certificates for a trial that other programs accept, and describes
//! certificate files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509Builder};
use saegis_tests::{CommandOutput, Request, Setup, Tool, openssl, saegis};
use serde_json::{Value, json};

/// Returns a gateway's folder, with the output of `saegis certs init` in its folder `trial`.
fn trial() -> Setup {
    let setup = Setup::new();
    run(&setup, &["init", "--folder", "trial"]).expect(0);
    setup
}

fn run(setup: &Setup, arguments: &[&str]) -> CommandOutput {
    saegis(&setup.path(""), &[&["certs"], arguments].concat())
}

/// Copies the gateway's certificates into its policy folder, and installs the module that maps
/// them.
fn with_certificates(setup: Setup) -> Setup {
    for entry in fs::read_dir(setup.path("trial/mn")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, setup.path("policies").join(from.file_name().unwrap())).unwrap();
    }
    let manifest = "capabilities = [\"policy-tables\", \"service-subscription\"]\n";
    let setup = setup.module("certificate-table", manifest);
    setup.configuration();
    setup
}

fn path(setup: &Setup, file: &str) -> String {
    setup.path(&format!("trial/{file}")).to_str().unwrap().into()
}

/// Returns all files of a folder with their modes.
fn files(folder: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let mode = path.symlink_metadata().unwrap().permissions().mode() & 0o777;
            found.push((path.to_str().unwrap().into(), mode));
        }
    }
    found
}

#[test]
fn created_certificates_are_valid_for_openssl() {
    let setup = trial();
    for (authority, file, name) in [
        ("cse", "mn/mn-cse", "DNS:mn-cse-123456.in-cse.in.provider.com"),
        ("cse", "in/in-cse", "DNS:in-cse.in.provider.com"),
        ("ae", "devices/ae", "URI://in.provider.com/mn-cse-123456/Clight-AE1"),
        ("node", "devices/node", "URI:urn:gsma:imei:90420156-025763-0"),
        ("device", "devices/device", "othername: 1.3.6.1.5.5.7.8.4:"),
        ("fqdn", "maf/maf", "DNS:maf.in.provider.com"),
        ("fqdn", "mef/mef", "DNS:mef.in.provider.com"),
    ] {
        let authority = path(&setup, &format!("authority/{authority}-authority.pem"));
        let file = path(&setup, &format!("{file}.pem"));
        if name.starts_with("URI://") {
            // OpenSSL cannot check a name constraint on a URI without a scheme, but it can verify
            // the signature.
            let issued = X509::from_pem(&fs::read(&file).unwrap()).unwrap();
            let issuer = X509::from_pem(&fs::read(&authority).unwrap()).unwrap();
            assert!(issued.verify(&issuer.public_key().unwrap()).unwrap());
        } else {
            openssl(&["verify", "-x509_strict", "-CAfile", &authority, &file]).expect(0);
        }
        let extensions = "subjectAltName,keyUsage,extendedKeyUsage,basicConstraints";
        let output = openssl(&["x509", "-in", &file, "-noout", "-ext", extensions]).expect(0).out;
        let purposes = "TLS Web Client Authentication, TLS Web Server Authentication";
        for part in [name, "Key Usage: critical\n    Digital Signature\n", purposes, "CA:FALSE"] {
            assert!(output.contains(part), "{file}: no {part:?} in {output}");
        }
        openssl(&["pkey", "-in", &file.replace(".pem", ".key"), "-noout"]).expect(0);
    }
    let authority = path(&setup, "authority/ae-authority.pem");
    let extensions = "nameConstraints,keyUsage,basicConstraints";
    let output = openssl(&["x509", "-in", &authority, "-noout", "-ext", extensions]).expect(0).out;
    for part in ["CA:TRUE", "Certificate Sign, CRL Sign", "URI:in.provider.com"] {
        assert!(output.contains(part), "no {part:?} in {output}");
    }
    openssl(&["pkey", "-pubin", "-in", &path(&setup, "devices/raw-public-key.pem"), "-noout"])
        .expect(0);
}

#[test]
fn created_keys_are_private() {
    let setup = trial();
    let found = files(&setup.path("trial"));
    assert_eq!(found.iter().filter(|(name, _)| name.ends_with(".key")).count(), 13);
    for (name, mode) in found {
        let secret = fs::read_to_string(&name).unwrap().contains("PRIVATE KEY");
        assert_eq!(secret, name.ends_with(".key"), "{name}");
        assert!(!secret || mode == 0o600, "{name}: {mode:o}");
    }
}

#[test]
fn existing_files_are_not_overwritten() {
    let setup = trial();
    fs::remove_file(setup.path("trial/authority/cse-authority.pem")).unwrap();
    let before: Vec<_> = files(&setup.path("trial"));
    let key = fs::read(setup.path("trial/mn/mn-cse.key")).unwrap();
    let ran = run(&setup, &["init", "--folder", "trial"]).expect(2);
    let why = "error: trial/authority/cse-authority.key: already exists and is not \
               overwritten; choose another --folder";
    assert!(ran.err.starts_with(why), "{ran:?}");
    assert_eq!(files(&setup.path("trial")), before);
    assert_eq!(fs::read(setup.path("trial/mn/mn-cse.key")).unwrap(), key);
    // Not even a dangling link is overwritten.
    fs::create_dir_all(setup.path("other/maf")).unwrap();
    std::os::unix::fs::symlink("nowhere", setup.path("other/maf/maf.key")).unwrap();
    let ran = run(&setup, &["init", "--folder", "other"]).expect(2);
    assert!(ran.err.contains("other/maf/maf.key: already exists"), "{ran:?}");
    assert_eq!(files(&setup.path("other")).len(), 1);
}

#[test]
fn certificate_names_follow_options() {
    let setup = Setup::new();
    let arguments = ["--service-provider", "sp.org", "--in-cse", "in", "--mn-cse", "/mn-1"];
    let more = ["--ae", "Slamp", "--days", "30", "--json", "--node", "urn:x:1"];
    let all = [&["init", "--folder", "trial"], &arguments[..], &more].concat();
    let output = run(&setup, &all).expect(0).json();
    let made = output["files"].as_array().unwrap();
    assert_eq!(made.len(), files(&setup.path("trial")).len());
    for file in made {
        let secret = file["path"].as_str().unwrap().ends_with(".key");
        assert_eq!(file["secret"], json!(secret), "{file}");
        assert!(!file["what"].as_str().unwrap().is_empty());
    }
    let names = |file: &str| {
        let output = run(&setup, &["inspect", "--json", &path(&setup, file)]).expect(0).json();
        output["items"][0]["names"][0].as_str().unwrap().to_string()
    };
    assert_eq!(names("mn/mn-cse.pem"), "DNS mn-1.in.sp.org");
    assert_eq!(names("in/in-cse.pem"), "DNS in.sp.org");
    assert_eq!(names("devices/ae.pem"), "URI //sp.org/Slamp");
    assert_eq!(names("devices/node.pem"), "URI urn:x:1");
    // Names that are valid but identify no entity, and invalid names.
    for (option, value) in [
        ("--mn-cse", "mn.1"),
        ("--in-cse", "Sin"),
        ("--node", ""),
        ("--node", "//in.provider.com/x"),
        ("--ae", "light"),
        ("--service-provider", "a..b"),
        ("--days", "0"),
    ] {
        let ran = run(&setup, &["init", "--folder", "other", option, value]).expect(2);
        assert!(ran.err.starts_with("error: "), "{option} {value}: {ran:?}");
        assert!(!setup.path("other").exists(), "{option} {value}");
    }
}

#[test]
fn inspect_describes_and_judges_certificates() {
    let setup = with_certificates(trial());
    let inspect = |file: &str| run(&setup, &["inspect", &path(&setup, file)]);
    let ae = inspect("devices/ae.pem").expect(0).out;
    for line in [
        "a certificate\n",
        "  subject     CN=Clight-AE1\n",
        "  issuer      CN=Trial authority for AEs of in.provider.com\n",
        ", UTC: valid now\n",
        "  key         P-256\n",
        "  key usage   digitalSignature\n",
        "  names       URI //in.provider.com/mn-cse-123456/Clight-AE1\n",
        "\naccepted as the AE-ID //in.provider.com/mn-cse-123456/Clight-AE1 \
         (33-//in.provider.com/mn-cse-123456/Clight-AE1), flavour ae-id, stands for AE Clight-AE1, \
         until ",
    ] {
        assert!(ae.contains(line), "no {line:?} in {ae}");
    }
    let authority = inspect("authority/ae-authority.pem").expect(0).out;
    assert!(authority.contains("  constraints permits URI in.provider.com, "), "{authority}");
    for (file, code, last) in [
        ("in/in-cse.pem", 0, "flavour cse-id, stands for CSE /in-cse, until "),
        ("devices/node.pem", 0, "flavour node-id, stands for AEs Clight-AE1 Clight-AE2, until "),
        ("devices/device.pem", 0, "flavour device, stands for AE Clight-AE1, until "),
        ("devices/raw-public-key.pem", 0, "flavour raw-public-key, stands for AE Clight-AE1"),
        ("mn/mn-cse.pem", 0, "the gateway's own certificate"),
        ("mn/ae-authority.pem", 0, "a trust anchor of the gateway, for ae-id"),
        (
            "maf/maf.pem",
            4,
            "refused: no trust anchor has issued the certificate (alert unknown_ca)",
        ),
    ] {
        let output = inspect(file).expect(code).out;
        assert!(output.lines().last().unwrap().contains(last), "{file}: {output}");
    }
    // Without a gateway there is no verdict, and a missing configuration is an error.
    let file = path(&setup, "maf/maf.pem");
    let output = saegis("/".as_ref(), &["certs", "inspect", &file]).expect(0).out;
    assert!(!output.contains("refused"), "{output}");
    let ran = run(&setup, &["inspect", &file, "--config", "none.toml"]).expect(2);
    assert!(ran.err.starts_with("error: none.toml: "), "{ran:?}");
}

#[test]
fn inspect_prints_json() {
    let setup = with_certificates(trial());
    let inspect = |file: &str, code| {
        run(&setup, &["inspect", "--json", &path(&setup, file)]).expect(code).json()
    };
    let output = inspect("devices/ae.pem", 0);
    let item = &output["items"][0];
    assert_eq!((&item["kind"], &item["validity"]), (&json!("certificate"), &json!("valid now")));
    assert_eq!(item["key_usage"], json!(["digitalSignature"]));
    let verdict = &output["verdicts"][0];
    let id = "33-//in.provider.com/mn-cse-123456/Clight-AE1";
    assert_eq!((&verdict["verdict"], &verdict["credential_id"]), (&json!("accepted"), &json!(id)));
    assert_eq!(verdict["entity"], "AE Clight-AE1");
    let output = inspect("devices/raw-public-key.pem", 0);
    let ids = output["items"][0]["ids"].as_array().unwrap();
    assert_eq!(ids.len(), 3);
    assert_eq!(output["verdicts"][0]["credential_id"], format!("30-{}", ids[0].as_str().unwrap()));
    assert_eq!(output["verdicts"][0]["expires"], Value::Null);
    assert_eq!(inspect("mn/mn-cse.pem", 0)["verdicts"], json!([{ "verdict": "own" }]));
    let anchor = json!([{ "verdict": "trust-anchor", "flavours": ["cse-id"] }]);
    assert_eq!(inspect("mn/cse-authority.pem", 0)["verdicts"], anchor);
    let refused = &inspect("maf/maf.pem", 4)["verdicts"][0];
    assert_eq!((&refused["verdict"], &refused["alert"]), (&json!("refused"), &json!("unknown_ca")));
}

#[test]
fn inspect_does_not_print_private_keys() {
    let setup = with_certificates(trial());
    let key = fs::read_to_string(setup.path("trial/devices/ae.key")).unwrap();
    let chain = fs::read_to_string(setup.path("trial/devices/ae.pem")).unwrap();
    setup.write("both.pem", format!("{key}{chain}").as_bytes());
    let alone = run(&setup, &["inspect", "trial/devices/ae.key"]).expect(0);
    assert_eq!(alone.out, "a private key, which is not shown\n");
    for arguments in [&["inspect", "both.pem"][..], &["inspect", "both.pem", "--json"]] {
        let output = run(&setup, arguments).expect(0);
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!output.out.contains(line) && !output.err.contains(line), "a key is shown");
        }
        assert!(output.out.contains("private") && output.out.contains("Clight-AE1"), "{output:?}");
    }
}

/// Returns the AE's certificate with an expiry in the past, and with a name that contains a
/// terminal escape.
fn expired(setup: &Setup) -> Vec<u8> {
    let read = |file: &str| fs::read(setup.path(&format!("trial/{file}"))).unwrap();
    let issuer = X509::from_pem(&read("authority/ae-authority.pem")).unwrap();
    let key = PKey::private_key_from_pem(&read("authority/ae-authority.key")).unwrap();
    let ae = X509::from_pem(&read("devices/ae.pem")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let day = |ago: u64| Asn1Time::from_unix((now - ago * 86400).try_into().unwrap()).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let serial = Asn1Integer::from_bn(&BigNum::from_u32(7).unwrap()).unwrap();
    builder.set_serial_number(&serial).unwrap();
    let mut name = openssl::x509::X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "light\u{1b}[2J").unwrap();
    builder.set_subject_name(&name.build()).unwrap();
    builder.set_issuer_name(issuer.subject_name()).unwrap();
    builder.set_pubkey(&ae.public_key().unwrap()).unwrap();
    builder.set_not_before(&day(2)).unwrap();
    builder.set_not_after(&day(1)).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    builder.build().to_pem().unwrap()
}

#[test]
fn inspect_reports_expired_certificate() {
    let setup = with_certificates(trial());
    setup.write("expired.pem", &expired(&setup));
    let output = run(&setup, &["inspect", "expired.pem"]).expect(4).out;
    assert!(output.contains(", UTC: expired\n"), "{output}");
    assert!(output.contains("light\\u{1b}[2J") && !output.contains('\u{1b}'), "{output}");
    let refused = "refused: the certificate or one of its issuers has expired (alert \
                   certificate_expired)\n";
    assert!(output.ends_with(refused), "{output}");
}

#[test]
fn inspect_reports_unreadable_file() {
    let setup = trial();
    let whole = fs::read(setup.path("trial/devices/ae.pem")).unwrap();
    let der = X509::from_pem(&whole).unwrap().to_der().unwrap();
    for (bytes, why) in [
        (&b"rubbish"[..], "has no certificate or key in it (PEM), and it is not DER"),
        (b"", "has no certificate or key in it (PEM), and it is not DER"),
        (&whole[..whole.len() / 2], "is neither valid PEM nor valid DER"),
        (&der[..der.len() - 1], "is neither valid PEM nor valid DER"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "the certificate is malformed",
        ),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "has an invalid public key",
        ),
        (&vec![b'x'; (1 << 20) + 1], "is larger than 1048576 bytes"),
    ] {
        setup.write("broken", bytes);
        for (arguments, start) in [
            (&["inspect", "broken"][..], "error: broken: "),
            (&["--json", "inspect", "broken"], "{\"code\":2,\"error\":\"broken: "),
        ] {
            let ran = run(&setup, arguments).expect(2);
            assert!(ran.err.starts_with(&format!("{start}{why}")), "{ran:?}");
            assert!(ran.out.is_empty(), "{ran:?}");
        }
    }
    run(&setup, &["inspect", "none.pem"]).expect(2);
    setup.write("good.der", &der);
    let output = run(&setup, &["inspect", "good.der"]).expect(0).out;
    assert!(output.contains("CN=Clight-AE1"), "{output}");
}

/// An invalid policy is reported for any certificate.
#[test]
fn inspect_with_invalid_policy_fails() {
    let setup = with_certificates(trial());
    fs::remove_file(setup.path("policies/ae-authority.pem")).unwrap();
    let ran = run(&setup, &["inspect", "trial/devices/ae.pem"]).expect(2);
    assert!(ran.err.starts_with("error: policies/ae-authority.pem: cannot be opened"), "{ran:?}");
    let setup = Setup::new();
    run(&setup, &["init", "--folder", "trial"]).expect(0);
    setup.configuration();
    let output = run(&setup, &["inspect", "trial/devices/ae.pem"]).expect(4).out;
    assert!(output.contains("refused: the gateway accepts no certificates"), "{output}");
}

#[test]
fn created_certificates_are_accepted_by_gateways() {
    let setup = with_certificates(trial());
    let folder = setup.path("");
    let checked = saegis(&folder, &["check"]).expect(0).out;
    assert!(checked.contains("  table       certificate-table: 3 rows\n"), "{checked}");
    let other = Setup::new().with_cse("in-cse", "IN-CSE");
    for entry in fs::read_dir(setup.path("trial/in")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, other.path("policies").join(from.file_name().unwrap())).unwrap();
    }
    other.configuration();
    saegis(&other.path(""), &["check"]).expect(0);
    let mn = path(&setup, "mn/mn-cse.pem");
    let output = saegis(&other.path(""), &["certs", "inspect", &mn]).expect(0).out;
    assert!(output.contains("stands for CSE /mn-cse-123456, until "), "{output}");
}

#[test]
fn created_certificates_establish_associations() {
    let setup = with_certificates(trial());
    let (ae, key) = (path(&setup, "devices/ae.pem"), path(&setup, "devices/ae.key"));
    let authority = path(&setup, "devices/cse-authority.pem");
    let gateway = setup.start();
    for suite in [
        &["-tls1_3"][..],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM"],
    ] {
        let name = "mn-cse-123456.in-cse.in.provider.com";
        let shown = ["-cert", &ae, "-key", &key, "-nocommands"];
        let wanted = ["-CAfile", &authority, "-verify_return_error", "-verify_hostname", name];
        let arguments = [&shown[..], &wanted, &["-servername", name], suite].concat();
        let mark = gateway.log().mark();
        let mut client = Tool::OpenSsl.try_with(gateway.port(), None, &arguments).unwrap();
        let established = gateway.log().wait_after(mark, "association.established");
        assert_eq!(established.text("entity"), "AE Clight-AE1");
        client.ask(&Request::retrieve("/-").from("Clight-AE2")).expect(403, 4106);
        client.close();
    }
}

/// The AE uses the generated configuration, and refuses another server of the same authority.
#[test]
fn trial_ae_registers_with_created_files() {
    let gateway = with_certificates(trial()).start();
    let there = format!("127.0.0.1:{}", gateway.port());
    let made = fs::read_to_string(gateway.path("trial/devices/ae.toml")).unwrap();
    let text = made.replace("127.0.0.1:8443", &there);
    fs::write(gateway.path("trial/devices/ae.toml"), &text).unwrap();
    let ae = |verb: &[&str]| {
        let arguments = [&["ae", "--config", "trial/devices/ae.toml"], verb].concat();
        saegis(&gateway.path(""), &arguments)
    };
    let registered = ae(&["register"]).expect(0);
    assert!(registered.out.contains("registered as Clight-AE1"), "{}", registered.out);
    ae(&["create", "container", "lamp"]).expect(0);
    let output = ae(&["--json", "send", "lamp", "on"]).expect(0).json();
    assert_eq!(output["association"]["protocol"], "TLSv1.3");
    assert!(output["association"]["certificate"].as_str().unwrap().ends_with("ae.pem"), "{output}");
    let other = text.replace("mn-cse-123456.in-cse", "mn-cse-2.in-cse");
    fs::write(gateway.path("trial/devices/ae.toml"), other).unwrap();
    let refused = ae(&["register"]).expect(3);
    assert!(refused.err.contains("does not prove mn-cse-2.in-cse"), "{}", refused.err);
    // The options of the table depend on each other, and a certificate requires a name to verify.
    for (from, to, why) in [
        ("domain-name", "# domain-name", "registrar.domain-name is missing"),
        ("key = \"ae.key\"", "", "has either kpsa-id and kpsa"),
        ("certificate =", "kpsa-id = \"a@b.c\"\ncertificate =", "has either kpsa-id and kpsa"),
        ("ae.pem", "nothing.pem", "cannot be opened"),
        ("ae.pem", "node.pem", "does not belong to the certificate"),
    ] {
        fs::write(gateway.path("trial/devices/ae.toml"), text.replacen(from, to, 1)).unwrap();
        let refused = ae(&["register"]).expect(2);
        assert!(refused.err.contains(why), "{why}: {}", refused.err);
    }
}
