//! The clients of libcoap: TD_M2M_SE_01 with the suite for constrained devices, and its negative
//! twins.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Command;

use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Mark, Running, Setup};

const CLIENTS: [&str; 2] = ["coap-client-openssl", "coap-client-gnutls"];
/// Values of `coap.psk-engine`.
const ENGINES: [&str; 2] = ["openssl", "native"];
const AE: &str = r#"{"m2m:ae":{"rn":"light1","api":"Nlight","rr":false}}"#;

/// The output of a client, which shows each message that it receives.
struct Output(String);

impl Output {
    /// Checks that a response with this code was received, whose option RSC has this value.
    #[track_caller]
    fn expect(self, code: &str, rsc: u16) -> Self {
        let shown = format!("c:{code} ");
        let status = rsc.to_be_bytes();
        let of_status = format!("307:\\x{:02X}\\x{:02X}", status[0], status[1]);
        let alternative = format!("307:\\x{:02x}", status[0]);
        let is_there = |line: &&str| line.contains(&shown) && line.contains("307:");
        let line = self.0.lines().find(is_there);
        let line = line.unwrap_or_else(|| panic!("no {code} with {rsc} in:\n{}", self.0));
        let found = line.contains(&of_status) || line.contains(&alternative);
        assert!(found, "{rsc}: {line}");
        self
    }
}

/// Runs a client of libcoap once.
fn run(client: &str, port: u16, credential: Credential<'_>, words: &[&str], path: &str) -> Output {
    let key = (0..credential.key.len()).step_by(2);
    let key = key.map(|at| u8::from_str_radix(&credential.key[at..at + 2], 16).unwrap()).collect();
    let mut command = Command::new(client);
    command.args(["-v", "7", "-B", "2", "-u", credential.identity, "-k"]);
    command.arg(OsString::from_vec(key)).args(words);
    command.arg(format!("coaps://127.0.0.1:{port}/{path}"));
    let mut running = Running::start(&mut command);
    assert!(running.wait(saegis_tests::BOUND).is_some(), "{client} ends");
    Output(running.out.text() + &running.err.text())
}

fn from(originator: &str) -> [String; 3] {
    [format!("279,{originator}"), "283,r1".into(), "271,3".into()]
}

fn ask(
    client: &str,
    gateway: &Gateway,
    credential: Credential<'_>,
    (method, originator, path): (&str, &str, &str),
    more: &[&str],
) -> Output {
    let options = from(originator);
    let mut words = vec!["-m", method];
    words.extend(options.iter().flat_map(|option| ["-O", option]));
    words.extend(more);
    run(client, gateway.coap_port(), credential, &words, path)
}

/// TD_M2M_SE_01 over DTLS with TLS_PSK_WITH_AES_128_CCM_8.
#[test]
fn registration_and_retrieve_succeed() {
    for (client, engine) in CLIENTS.into_iter().flat_map(|client| ENGINES.map(|e| (client, e))) {
        let suites = "suites = [\"TLS_PSK_WITH_AES_128_CCM_8\"]";
        let coap = format!("{suites}\npsk-engine = \"{engine}\"");
        let gateway = Setup::new().with_coap().with("coap", &coap).start();
        let create = ["-t", "50", "-O", "267,0x02", "-e", AE];
        let create_ae = ("post", "Clight-AE1", "~/mn-cse-123456/cse");
        ask(client, &gateway, LIGHT1, create_ae, &create).expect("2.01", 2001);
        let retrieve = ("get", "Clight-AE1", "~/mn-cse-123456/cse/light1");
        ask(client, &gateway, LIGHT1, retrieve, &[]).expect("2.05", 2000);
        let established = gateway.log().wait("association.established");
        assert_eq!(established.text("protocol"), "DTLSv1.2");
        assert_eq!(established.text("suite"), "TLS_PSK_WITH_AES_128_CCM_8");
        assert_eq!(established.text("saef"), "psk");
        // Negative twins on a valid association: the originator of another AE, and an unknown one.
        for other in ["Clight-AE2", "Clight-AE3"] {
            let retrieve = ("get", other, "~/mn-cse-123456/cse/light1");
            ask(client, &gateway, LIGHT1, retrieve, &[]).expect("4.03", 4106);
        }
        let retrieve = ("get", "Clight-AE1", "~/mn-cse-123456/cse/none");
        ask(client, &gateway, LIGHT1, retrieve, &[]).expect("4.04", 4004);
    }
}

#[test]
fn wrong_key_and_unknown_identity_get_no_association() {
    for engine in ENGINES {
        let coap = format!("psk-engine = \"{engine}\"");
        let setup = Setup::new().with_coap().with("coap", &coap);
        wrong_clients_get_no_association(&setup.with("limits", "handshake-seconds = 2").start());
    }
}

fn wrong_clients_get_no_association(gateway: &Gateway) {
    for client in CLIENTS {
        let wrong = Credential { key: LIGHT2.key, ..LIGHT1 };
        let unknown = Credential { identity: "nobody@in.provider.com", ..LIGHT1 };
        for (credential, cause) in [(wrong, "wrong-key"), (unknown, "unknown-identity")] {
            let mark = gateway.log().mark();
            let retrieve = ("get", "Clight-AE1", "~/mn-cse-123456/cse");
            let Output(shown) = ask(client, gateway, credential, retrieve, &[]);
            assert!(!shown.contains("307:"), "{shown}");
            assert_eq!(gateway.handshake_refused(mark).text("cause"), cause);
        }
    }
    assert!(gateway.log().all(Mark::START, "association.established", 0).is_empty());
}
