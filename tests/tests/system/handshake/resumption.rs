//! Sessions of TLS 1.3 are resumed, and each resumed handshake is checked against the policy of the
//! moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use saegis_tests::certificates::{
    CERTIFICATE_TABLE, GATEWAY_NAME, Identity, Pki, TlsProfile, credential,
};
use saegis_tests::{
    BOUND, Client, Gateway, Mark, RefusedHandshake, Running, Setup, Tool, wait_until,
};

/// Connects with OpenSSL, which writes its session into a file.
fn connect_with(
    pki: &Pki,
    gateway: &Gateway,
    identity: &Identity,
    session: [&str; 2],
) -> Result<Client, RefusedHandshake> {
    let offers = TlsProfile::Tls13.offers(Tool::OpenSsl);
    let offers = [&offers[..], &session.map(String::from)].concat();
    pki.try_connect(Tool::OpenSsl, gateway.port(), Some(identity), &offers)
}

/// Connects for the first time, and returns the file with the session.
fn first_session(pki: &Pki, gateway: &Gateway, identity: &Identity) -> PathBuf {
    let session = pki.write("session.pem", "");
    let out = ["-sess_out", session.to_str().unwrap()];
    let client = connect_with(pki, gateway, identity, out).unwrap();
    wait_until("a ticket", || !fs::read(&session).unwrap().is_empty());
    client.close();
    session
}

fn resume(
    pki: &Pki,
    gateway: &Gateway,
    identity: &Identity,
    session: &Path,
) -> Result<Client, RefusedHandshake> {
    connect_with(pki, gateway, identity, ["-sess_in", session.to_str().unwrap()])
}

/// Waits for as many associations as expected, and asserts which of them were resumed.
#[track_caller]
fn assert_resumed(gateway: &Gateway, expected: &[bool]) {
    let established = gateway.log().all(Mark::START, "association.established", expected.len());
    let resumed: Vec<_> = established.iter().map(|event| event.text("resumed") == "true").collect();
    assert_eq!(resumed, expected);
}

#[test]
fn openssl_session_is_resumed() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    let session = first_session(&pki, &gateway, &light);
    let mut client = resume(&pki, &gateway, &light, &session).unwrap();
    client.assert_served_as("Clight-AE1");
    client.close();
    assert_resumed(&gateway, &[false, true]);
    let events = gateway.log().all(Mark::START, "association.established", 2);
    assert_eq!(events[1].text("credential_id"), credential::AE);
    assert_eq!(events[1].text("entity"), "AE Clight-AE1");
}

#[test]
fn gnutls_session_is_resumed() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    // The client connects twice.
    let mut offers = TlsProfile::Tls13.offers(Tool::GnuTls);
    offers.push("--resume".into());
    offers.push("--waitresumption".into());
    let client = pki.try_connect(Tool::GnuTls, gateway.port(), Some(&light), &offers).unwrap();
    assert_resumed(&gateway, &[false, true]);
    assert!(client.said().contains("This is a resumed session"), "{}", client.said());
}

/// Connects twice with Python and prints whether the second session was resumed.
const PYTHON: &str = r#"
import socket, ssl, sys
port, name, anchor, chain, key = sys.argv[1:]
context = ssl.create_default_context(cafile=anchor)
context.load_cert_chain(chain, key)
context.minimum_version = ssl.TLSVersion.TLSv1_3
session = None
for _ in range(2):
    raw = socket.create_connection(("127.0.0.1", int(port)))
    with context.wrap_socket(raw, server_hostname=name, session=session) as tls:
        tls.sendall(b"GET /cse/nothing HTTP/1.1\r\nHost: a\r\nX-M2M-Origin: Clight-AE1\r\n"
                    b"X-M2M-RI: 1\r\nX-M2M-RVI: 3\r\n\r\n")
        status = tls.recv(4096).split()[1].decode()
        session = tls.session
        print(status, tls.session_reused)
"#;

/// The same with Node.
const NODE: &str = r#"
const fs = require("fs"), tls = require("tls");
const [port, servername, ca, cert, key] = process.argv.slice(1);
const read = (file) => fs.readFileSync(file);
let session, left = 2;
function connect() {
    const socket = tls.connect({ port: Number(port), host: "127.0.0.1", servername, session,
        ca: read(ca), cert: read(cert), key: read(key), minVersion: "TLSv1.3" });
    socket.on("session", (ticket) => { session = ticket; });
    socket.on("secureConnect", () => socket.write("GET /cse/nothing HTTP/1.1\r\nHost: a\r\n" +
        "X-M2M-Origin: Clight-AE1\r\nX-M2M-RI: 1\r\nX-M2M-RVI: 3\r\n\r\n"));
    socket.on("data", (data) => {
        const reused = socket.isSessionReused() ? "True" : "False";
        console.log(data.toString().split(" ")[1], reused);
        socket.end();
        if (--left > 0) connect();
    });
}
connect();
"#;

#[test]
fn python_and_node_sessions_are_resumed() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let gateway = pki.setup().start();
    let mut expected = Vec::new();
    for (program, flag, script) in [("python3", "-c", PYTHON), ("node", "-e", NODE)] {
        let mut command = Command::new(program);
        command.args([flag, script, &gateway.port().to_string(), GATEWAY_NAME]);
        let running = Running::start(command.arg(pki.anchor()).arg(&light.chain).arg(&light.key));
        let said = running
            .out
            .wait(BOUND, |bytes, ended| ended.then(|| String::from_utf8_lossy(bytes).into_owned()));
        assert_eq!(
            said.as_deref(),
            Some("404 False\n404 True\n"),
            "{program}: {}",
            running.err.text()
        );
        expected.extend([false, true]);
        assert_resumed(&gateway, &expected);
    }
}

#[test]
fn revoked_certificate_is_not_resumed() {
    let pki = Pki::new();
    let authority = &pki.example.ae_authority;
    let gateway = pki.setup_with_list().start();
    let light = pki.identity(&pki.example.ae);
    let session = first_session(&pki, &gateway, &light);
    let list = authority.revoke(&[pki.example.ae.serial()]).unwrap();
    gateway.in_force_after(|g| g.replace("policies/aes.crl", list.der()));
    let mark = gateway.log().mark();
    let refused = match resume(&pki, &gateway, &light, &session) {
        Ok(client) => client.rejected_after_handshake(),
        Err(refused) => refused,
    };
    assert_eq!(refused.alert, Some(44), "{refused:?}");
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "revoked");
    assert_resumed(&gateway, &[false]);
}

/// The certificates stay the same here, so the ticket can still be decrypted.
#[test]
fn resumed_session_is_mapped_by_current_policy() {
    let pki = Pki::new();
    let row = |ae: &str| format!("credential_id,ae_id\n{},{ae}\n", credential::NODE);
    let gateway = pki.setup().file("certificate-table.csv", &row("Cnode")).start();
    let node = pki.identity(&pki.example.node);
    let session = first_session(&pki, &gateway, &node);
    gateway.in_force_after(|g| g.replace(CERTIFICATE_TABLE, row("Cother")));
    let mut client = resume(&pki, &gateway, &node, &session).unwrap();
    client.assert_served_as("Cother");
    client.close();
    assert_resumed(&gateway, &[false, true]);

    gateway.in_force_after(|g| g.replace(CERTIFICATE_TABLE, "credential_id,ae_id\n"));
    let mark = gateway.log().mark();
    let client = resume(&pki, &gateway, &node, &session).unwrap();
    client.rejected_after_handshake();
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "certificate-unmapped");
    assert_resumed(&gateway, &[false, true]);
}

#[test]
fn session_of_other_gateway_is_not_resumed() {
    let pki = Pki::new();
    let light = pki.identity(&pki.example.ae);
    let (first, second) = (pki.setup().start(), pki.setup().start());
    let session = first_session(&pki, &first, &light);
    let mut client = resume(&pki, &second, &light, &session).unwrap();
    client.assert_served_as("Clight-AE1");
    assert_resumed(&second, &[false]);
}

/// Asserts that a gateway issues no session.
#[track_caller]
fn assert_issues_none(pki: &Pki, setup: Setup) {
    let gateway = setup.start();
    let light = pki.identity(&pki.example.ae);
    let session = pki.write("session.pem", "");
    let out = ["-sess_out", session.to_str().unwrap()];
    let mut client = connect_with(pki, &gateway, &light, out).unwrap();
    // A ticket would arrive before the response.
    client.assert_served_as("Clight-AE1");
    client.close();
    assert!(fs::read(session).unwrap().is_empty());
}

#[test]
fn disabled_resumption_issues_no_session() {
    let pki = Pki::new();
    assert_issues_none(&pki, pki.setup().with("listen", "resumption = false"));
}
