//! Clients with raw public keys, which the policy pins.

use std::fs;

use saegis_tests::certificates::{CERTIFICATE_TABLE, GATEWAY_NAME, Pki, TlsProfile};
use saegis_tests::{Client, Gateway, Tool, openssl};

use super::certificates::{assert_accepted_as, assert_rejected_as, established};

const RAW: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CTYPE-ALL:+CTYPE-CLI-RAWPK:+CTYPE-SRV-X509";

/// Connects with a raw public key. Only GnuTLS supports them, and the engine only with TLS 1.3.
fn with_raw_key(pki: &Pki, gateway: &Gateway, priority: &str, more: &[&str]) -> Client {
    let (public, key) = pki.raw(&pki.example.raw_key);
    let files = [public.to_str().unwrap(), key.to_str().unwrap()];
    let mut arguments = vec!["--priority", priority, "--sni-hostname", GATEWAY_NAME];
    arguments.extend(["--rawpkfile", files[0], "--rawpkkeyfile", files[1]]);
    arguments.extend(more);
    let client = Tool::GnuTls.try_with(gateway.port(), None, &arguments);
    client.unwrap_or_else(|refused| panic!("{refused:?}"))
}

/// Returns the identifiers of the raw public key in each length, calculated by OpenSSL.
fn identifiers(pki: &Pki) -> [String; 3] {
    let (public, _) = pki.raw(&pki.example.raw_key);
    let key = public.to_str().unwrap();
    let der = pki.write("public.der", "");
    let der = der.to_str().unwrap();
    openssl(&["pkey", "-pubin", "-in", key, "-outform", "DER", "-out", der]).expect(0);
    let digest = openssl(&["dgst", "-sha256", "-r", der]).expect(0).out;
    let octet = |at: usize| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).unwrap();
    [("sha-256", 32), ("sha-256-128", 16), ("sha-256-120", 15)].map(|(name, length)| {
        let hash: Vec<u8> = (0..length).map(octet).collect();
        format!("ni:///{name};{}", base64url(&hash))
    })
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|three| {
        let all = three.iter().fold(0_usize, |all, b| all << 8 | usize::from(*b));
        let all = all << (8 * (3 - three.len()));
        (0..=three.len()).map(move |nth| char::from(DIGITS[all >> (18 - 6 * nth) & 63]))
    });
    digits.collect()
}

#[test]
fn raw_public_key_is_pinned_by_each_digest_length() {
    let pki = Pki::new();
    let anchor = pki.anchor();
    let checked = ["--x509cafile", anchor.to_str().unwrap(), "--verify-hostname", GATEWAY_NAME];
    let setup = pki.setup();
    let gateway = setup.start();
    let toml = fs::read_to_string(gateway.path("policies/certificates.toml")).unwrap();
    // Not pinned: a TLS 1.3 client receives the alert after the handshake.
    let mark = gateway.log().mark();
    let refused = with_raw_key(&pki, &gateway, RAW, &checked).rejected_after_handshake();
    assert_eq!(refused.alert, Some(48), "{refused:?}");
    let event = gateway.handshake_refused(mark);
    assert!(event.message().contains("is not pinned"), "{event:?}");
    for id in identifiers(&pki) {
        let row = format!("credential_id,ae_id\n30-{id},Craw\n");
        let pinned = format!("{toml}\n[[public-key]]\nid = \"{id}\"\n");
        gateway.in_force_after(|g| g.replace(CERTIFICATE_TABLE, row));
        gateway.in_force_after(|g| g.replace("policies/certificates.toml", pinned));
        // With the gateway's certificate, and with its raw public key, which the client does not
        // verify.
        let both = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CTYPE-ALL:+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK";
        for (priority, more) in [(RAW, &checked[..]), (both, &["--insecure"])] {
            let mark = gateway.log().mark();
            let mut client = with_raw_key(&pki, &gateway, priority, more);
            established(&gateway, mark, TlsProfile::Tls13, &format!("30-{id}"), "AE Craw");
            assert_accepted_as(&mut client, "Craw");
            assert_rejected_as(&mut client, "Cother");
            client.close();
        }
    }
}

/// A pinned key without a row and without a rule.
#[test]
fn raw_public_key_without_row_is_refused() {
    let pki = Pki::new();
    let anchor = pki.anchor();
    let checked = ["--x509cafile", anchor.to_str().unwrap(), "--verify-hostname", GATEWAY_NAME];
    let gateway = pki.setup().start();
    let toml = fs::read_to_string(gateway.path("policies/certificates.toml")).unwrap();
    let [id, ..] = identifiers(&pki);
    let pinned = format!("{toml}\n[[public-key]]\nid = \"{id}\"\n");
    gateway.in_force_after(|g| g.replace("policies/certificates.toml", pinned));
    let mark = gateway.log().mark();
    with_raw_key(&pki, &gateway, RAW, &checked).rejected_after_handshake();
    let event = gateway.handshake_refused(mark);
    assert_eq!(event.text("cause"), "certificate-unmapped");
    assert!(event.message().contains(&id), "{event:?}");
}
