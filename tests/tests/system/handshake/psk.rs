//! Handshakes with each suite, and invalid ones: incomplete, stalled, repeated, or without TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{
    BOUND, Client, Credential, Gateway, LIGHT1, LIGHT2, Mark, Offer, Request, Setup, Tool, openssl,
    with_each_client,
};

with_each_client!(
    unknown_identity_and_wrong_key_are_alike,
    configured_suite_connects,
    unconfigured_suite_is_refused,
    unsupported_version_is_refused,
    certificate_only_client_is_refused,
    handshake_in_single_bytes_succeeds,
);

/// The offers of each client for each suite.
const SUITES: [Offer; 7] = [
    Offer {
        suite: "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
        openssl: "ECDHE-PSK-CHACHA20-POLY1305",
        gnutls: "+ECDHE-PSK:-CIPHER-ALL:+CHACHA20-POLY1305:-MAC-ALL:+AEAD",
        described: "(CHACHA20-POLY1305)",
    },
    Offer {
        suite: "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256",
        openssl: "ECDHE-PSK-AES128-CBC-SHA256",
        gnutls: "+ECDHE-PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256",
        described: "(AES-128-CBC)-(SHA256)",
    },
    Offer {
        suite: "TLS_PSK_WITH_AES_256_GCM_SHA384",
        openssl: "PSK-AES256-GCM-SHA384",
        gnutls: "+PSK:-CIPHER-ALL:+AES-256-GCM:-MAC-ALL:+AEAD",
        described: "(PSK)-(AES-256-GCM)",
    },
    Offer {
        suite: "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256",
        openssl: "PSK-CHACHA20-POLY1305",
        gnutls: "+PSK:-CIPHER-ALL:+CHACHA20-POLY1305:-MAC-ALL:+AEAD",
        described: "(PSK)-(CHACHA20-POLY1305)",
    },
    Offer::GCM,
    Offer {
        suite: "TLS_PSK_WITH_AES_128_CCM_8",
        openssl: "PSK-AES128-CCM8:@SECLEVEL=0",
        gnutls: "+PSK:-CIPHER-ALL:+AES-128-CCM-8:-MAC-ALL:+AEAD",
        described: "(PSK)-(AES-128-CCM-8)",
    },
    Offer::MANDATED,
];

fn unknown_identity_and_wrong_key_are_alike(tool: Tool) {
    let gateway = Setup::new().start();
    let unknown = Credential { identity: "nobody@in.provider.com", ..LIGHT1 };
    let no_kpsa_id = Credential { identity: "nobody", ..LIGHT1 };
    let wrong = Credential { key: "1a2b3c4d5e6f7a8c", ..LIGHT1 };
    let others = Credential { key: LIGHT2.key, ..LIGHT1 };
    let long = Credential { key: "00112233445566778899aabbccddeeff", ..LIGHT1 };
    for offer in [Offer::MANDATED, Offer::GCM] {
        for (credential, cause) in [
            (unknown, "unknown-identity"),
            (no_kpsa_id, "unknown-identity"),
            (wrong, "wrong-key"),
            (others, "wrong-key"),
            (long, "wrong-key"),
        ] {
            let mark = gateway.log().mark();
            let refused = tool.try_connect(gateway.port(), credential, offer).err().unwrap();
            assert_eq!(refused.alert, Some(20), "{credential:?} {offer:?}: {refused:?}");
            let event = gateway.handshake_refused(mark);
            assert_eq!(event.text("cause"), cause, "{event:?}");
            assert!(event.message().contains(&format!("{:?}", credential.identity)), "{event:?}");
            assert_eq!(event.text("identity"), credential.identity);
        }
    }
    let text = gateway.log().text();
    for key in [LIGHT1.key, LIGHT2.key] {
        assert!(!text.contains(key), "a key is in the log");
    }
    tool.connect(gateway.port(), LIGHT1);
}

fn configured_suite_connects(tool: Tool) {
    let names = SUITES.map(|offer| format!("{:?}", offer.suite)).join(", ");
    let gateway = Setup::new().with("listen", &format!("suites = [{names}]")).start();
    for offer in SUITES {
        let mark = gateway.log().mark();
        let light = tool.try_connect(gateway.port(), LIGHT1, offer);
        let established = gateway.log().wait_after(mark, "association.established");
        assert_eq!(established.text("suite"), offer.suite);
        let mut light = match light {
            Ok(light) => light,
            // gnutls-cli 3.7 crashes while it prints a session with ECDHE-PSK, even with OpenSSL's
            // server. The handshake is complete by then.
            Err(refused) if tool == Tool::GnuTls && offer.suite.contains("ECDHE") => {
                assert_eq!(refused.alert, None, "{offer:?}: {refused:?}");
                continue;
            }
            Err(refused) => panic!("{offer:?}: {refused:?}"),
        };
        assert!(is_described(tool, &light, offer), "{} as {offer:?}", light.described());
        let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
        light.ask(&nothing).expect_refusal(404, 4004);
        light.close();
    }
}

fn is_described(tool: Tool, client: &Client, offer: Offer) -> bool {
    match tool {
        Tool::OpenSsl => offer.openssl.split(':').next() == Some(client.described()),
        Tool::GnuTls => client.described().contains(offer.described),
    }
}

fn unconfigured_suite_is_refused(tool: Tool) {
    let gateway =
        Setup::new().with("listen", "suites = [\"TLS_PSK_WITH_AES_128_CBC_SHA256\"]").start();
    tool.connect(gateway.port(), LIGHT1).close();
    let refused = tool.try_connect(gateway.port(), LIGHT1, Offer::GCM).err().unwrap();
    assert_eq!(refused.alert, Some(40), "{refused:?}");
    assert_eq!(gateway.log().wait("handshake.refused").text("cause"), "protocol");
}

fn unsupported_version_is_refused(tool: Tool) {
    let gateway = Setup::new().start();
    let old = "PSK-AES128-CBC-SHA:@SECLEVEL=0";
    let versions: [(&[&str], &str, u8); 3] = match tool {
        Tool::OpenSsl => [
            (&["-tls1", "-cipher", old], "old-version", 70),
            (&["-tls1_1", "-cipher", old], "old-version", 70),
            (&["-tls1_3"], "tls13-psk", 40),
        ],
        Tool::GnuTls => [
            (&["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.0:-KX-ALL:+PSK"], "old-version", 70),
            (&["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.1:-KX-ALL:+PSK"], "old-version", 70),
            (
                &["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+PSK:+DHE-PSK"],
                "tls13-psk",
                40,
            ),
        ],
    };
    for (arguments, cause, alert) in versions {
        let mark = gateway.log().mark();
        let refused = tool.try_with(gateway.port(), Some(LIGHT1), arguments).err().unwrap();
        assert_eq!(refused.alert, Some(alert), "{arguments:?}: {refused:?}");
        assert_eq!(gateway.handshake_refused(mark).text("cause"), cause, "{arguments:?}");
    }
    // A client that offers newer versions as well gets TLS 1.2.
    let all = match tool {
        Tool::OpenSsl => vec!["-cipher", "PSK"],
        Tool::GnuTls => vec!["--priority", "NORMAL:+PSK"],
    };
    let mark = gateway.log().mark();
    assert!(tool.try_with(gateway.port(), Some(LIGHT1), &all).is_ok());
    let established = gateway.log().wait_after(mark, "association.established");
    assert_eq!(established.text("protocol"), "TLSv1.2");
}

fn certificate_only_client_is_refused(tool: Tool) {
    let gateway = Setup::new().start();
    let refused = tool.try_with(gateway.port(), None, &[]).err().unwrap();
    assert_eq!(refused.alert, Some(40), "{refused:?}");
    assert_eq!(gateway.log().wait("handshake.refused").text("cause"), "certificates-only");
}

/// The server's preference counts: forward secrecy if the client offers it.
#[test]
fn forward_secrecy_is_preferred() {
    let gateway = Setup::new().start();
    let arguments = ["-tls1_2", "-cipher", "PSK-AES128-CBC-SHA256:PSK:kECDHEPSK"];
    let client = Tool::OpenSsl.try_with(gateway.port(), Some(LIGHT1), &arguments).ok().unwrap();
    assert_eq!(client.described(), "ECDHE-PSK-CHACHA20-POLY1305");
}

#[test]
fn invalid_identity_is_refused() {
    let gateway = Setup::new().start();
    let bytes = |length: usize| format!("{}@in.provider.com", "x".repeat(length - 16));
    for (identity, cause, alert) in [
        (bytes(256).as_str(), "unknown-identity", 20),
        (&bytes(257), "malformed-identity", 50),
        ("caf\u{e9}@in.provider.com", "unknown-identity", 20),
        ("x\n\u{1b}[31mforged@in.provider.com", "unknown-identity", 20),
    ] {
        let mark = gateway.log().mark();
        let refused = Tool::GnuTls.refused(gateway.port(), Credential { identity, ..LIGHT1 });
        assert_eq!(refused.alert, Some(alert), "{identity:?}: {refused:?}");
        let event = gateway.handshake_refused(mark);
        assert_eq!(event.text("cause"), cause, "{event:?}");
        assert!(!event.message().contains(char::is_control), "{event:?}");
    }
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

/// Returns a connection without a TLS client.
fn raw(gateway: &Gateway) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Reads until the gateway closes the connection, and closes it. The gateway waits a short time for
/// this close before it logs the cause.
fn read_until_closed(mut socket: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // The connection may end with a reset.
    let _ = socket.read_to_end(&mut all);
    all
}

/// Returns a ClientHello of TLS 1.2 with the mandated suite.
fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x00, 0xAE, 1, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let message = [&[1, 0, 0, length][..], &body].concat();
    [&[22, 3, 1, 0, length + 4][..], &message].concat()
}

#[test]
fn non_tls_connection_gets_no_response() {
    let gateway = Setup::new().start();
    for bytes in
        [&b"\x00\x01\x02\x03 rubbish"[..], b"\x80\x2e\x01\x03\x01", b"\xff", b"\r\n", b"ssh"]
    {
        let mark = gateway.log().mark();
        let mut socket = raw(&gateway);
        socket.write_all(bytes).unwrap();
        assert_eq!(read_until_closed(socket), b"", "{bytes:?}");
        assert_eq!(gateway.handshake_refused(mark).text("cause"), "not-tls", "{bytes:?}");
    }
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

#[test]
fn plain_http_request_is_answered_in_plain_http() {
    let gateway = Setup::new().start();
    let mut socket = raw(&gateway);
    socket.write_all(&Request::retrieve("/cse").from("Clight-AE1").bytes()).unwrap();
    let answer = String::from_utf8(read_until_closed(socket)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    assert!(body.contains("https://"), "{answer}");
    assert_eq!(gateway.log().wait("handshake.refused").text("cause"), "plain-http");
}

#[test]
fn malformed_client_hello_gets_alert() {
    let gateway = Setup::new().start();
    let hello = client_hello();
    let mut other_message = hello.clone();
    other_message[5] = 2;
    let mut trailing = hello.clone();
    trailing.extend(&hello);
    let mut too_long = hello.clone();
    too_long[6] = 0xff;
    let mut old = hello.clone();
    old[9..11].copy_from_slice(&[3, 0]);
    // unexpected_message, record_overflow, decode_error, protocol_version.
    for (bytes, cause, alert) in [
        (&b"\x16\x03\x01\x00\x00"[..], "malformed", 10),
        (b"\x14\x03\x03\x00\x01\x01", "malformed", 10),
        (b"\x17\x03\x03\x00\x01\x01", "malformed", 10),
        (b"\x16\x03\x01\xff\xff", "malformed", 22),
        (&other_message, "malformed", 10),
        (&trailing, "malformed", 10),
        (&too_long, "too-large", 50),
        (&old, "old-version", 70),
    ] {
        let mark = gateway.log().mark();
        let mut socket = raw(&gateway);
        socket.write_all(bytes).unwrap();
        assert_eq!(read_until_closed(socket), [21, 3, 3, 0, 2, 2, alert], "{bytes:?}");
        assert_eq!(gateway.handshake_refused(mark).text("cause"), cause, "{bytes:?}");
    }
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

#[test]
fn stalled_handshake_times_out() {
    let gateway = Setup::new().with("limits", "handshake-seconds = 1").start();
    let hello = client_hello();
    let start = Instant::now();
    let silent = raw(&gateway);
    let mut half = raw(&gateway);
    half.write_all(&hello[..hello.len() / 2]).unwrap();
    let mut after_hello = raw(&gateway);
    after_hello.write_all(&hello).unwrap();
    let mut record = [0; 3];
    after_hello.read_exact(&mut record).unwrap();
    assert_eq!(record, [22, 3, 3], "the gateway's ServerHello");
    // The timeout covers the whole handshake, so single bytes do not extend it.
    let dribbling = raw(&gateway);
    let dribble = thread::spawn({
        let mut socket = dribbling.try_clone().unwrap();
        move || {
            for byte in hello {
                if socket.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
    });
    for socket in [silent, half, after_hello] {
        read_until_closed(socket);
    }
    read_until_closed(dribbling);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    dribble.join().unwrap();
    let refused = gateway.log().all(Mark::START, "handshake.refused", 4);
    assert!(refused.iter().all(|e| e.text("cause") == "timeout"), "{refused:?}");
    // The timeout does not apply to established associations.
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    thread::sleep(Duration::from_millis(1200));
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
}

/// Starts a proxy that forwards each byte to the gateway in its own packet, and returns its port.
fn byte_by_byte_proxy(gateway: &Gateway) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy_port = listener.local_addr().unwrap().port();
    let target = gateway.port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut gateway = TcpStream::connect(("127.0.0.1", target)).unwrap();
        gateway.set_nodelay(true).unwrap();
        client.set_nodelay(true).unwrap();
        let (mut back, mut answers) = (client.try_clone().unwrap(), gateway.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let mut byte = [0];
        while let Ok(1) = client.read(&mut byte) {
            if gateway.write_all(&byte).is_err() {
                break;
            }
        }
        let _ = gateway.shutdown(Shutdown::Write);
    });
    proxy_port
}

fn handshake_in_single_bytes_succeeds(tool: Tool) {
    let gateway = Setup::new().start();
    for _ in 0..3 {
        let mut light = tool.connect(byte_by_byte_proxy(&gateway), LIGHT1);
        let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
        light.ask(&nothing).expect_refusal(404, 4004);
        light.close();
    }
    let refused =
        tool.refused(byte_by_byte_proxy(&gateway), Credential { key: LIGHT2.key, ..LIGHT1 });
    assert_eq!(refused.alert, Some(20), "{refused:?}");
}

#[test]
fn openssl_does_not_renegotiate() {
    let gateway = Setup::new().start();
    // Command letters are enabled: a line that starts with R renegotiates.
    let arguments = ["-tls1_2", "-cipher", "PSK-AES128-CBC-SHA256"];
    let mut client = Tool::OpenSsl.try_with(gateway.port(), Some(LIGHT1), &arguments).ok().unwrap();
    client.send(b"R\n");
    client.ended();
    assert!(client.said().contains("no renegotiation"), "{}", client.said());
    gateway.log().wait("association.ended");
    assert_eq!(gateway.log().all(Mark::START, "association.established", 1).len(), 1);
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

#[test]
fn gnutls_does_not_renegotiate() {
    let gateway = Setup::new().start();
    let arguments = ["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK", "--rehandshake"];
    let said = match Tool::GnuTls.try_with(gateway.port(), Some(LIGHT1), &arguments) {
        Ok(mut client) => {
            client.ended();
            client.said()
        }
        Err(refused) => refused.output,
    };
    assert!(said.contains("Received alert [100]: No renegotiation is allowed"), "{said}");
    gateway.log().wait("association.ended");
    assert_eq!(gateway.log().all(Mark::START, "association.established", 1).len(), 1);
    Tool::GnuTls.connect(gateway.port(), LIGHT1);
}

#[test]
fn psk_session_is_not_resumed() {
    let gateway = Setup::new().start();
    let address = format!("127.0.0.1:{}", gateway.port());
    let connect = ["s_client", "-connect", &address, "-tls1_2", "-nocommands"];
    let credential = ["-psk_identity", LIGHT1.identity, "-psk", LIGHT1.key];
    let ran = openssl(&[&connect[..], &credential, &["-reconnect"]].concat());
    assert_eq!(ran.out.matches("\nNew, TLSv1.2, Cipher is ").count(), 6, "{ran:?}");
    assert!(!ran.out.contains("Reused"), "{ran:?}");
    // There is neither a session identifier nor a ticket to resume.
    assert!(ran.out.contains("Session-ID: \n"), "{ran:?}");
    assert!(!ran.out.contains("session ticket"), "{ran:?}");
    let file = gateway.path("session.pem");
    openssl(&[&connect[..], &credential, &["-sess_out", file.to_str().unwrap()]].concat());
    assert!(!file.exists());
    let arguments = ["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK", "--resume"];
    let client = Tool::GnuTls.try_with(gateway.port(), Some(LIGHT1), &arguments).ok().unwrap();
    assert!(client.said().contains("trying to resume"), "{}", client.said());
    assert!(!client.said().contains("This is a resumed session"), "{}", client.said());
    // Each connection had a full handshake with its own look-up.
    let established = gateway.log().all(Mark::START, "association.established", 6 + 1 + 2);
    assert_eq!(established.len(), 6 + 1 + 2);
}
