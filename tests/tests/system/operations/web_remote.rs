//! The web page for other machines, with curl, OpenSSL and Python as clients.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use saegis_test_ca::{Authority, ExtendedKeyUsagePurpose, Issued, Name, Request, Validity};
use saegis_tests::{
    BOUND, CommandOutput, Mark, Setup, connect_from, output_of, saegis, wait_until,
};

use super::web::{audited, with_page};

/// Name of the page, and a name in the certificate that is not configured.
const HOST: &str = "gw.example";
const OTHER: &str = "other.example";
/// Address of a host that is not the operator's.
const OTHER_HOST: &str = "127.0.0.2";
/// The options besides the address.
const OPTIONS: &str = "host-names = [\"gw.example\"]
certificate = \"web.pem\"\nprivate-key = \"web.key\"\nclient-trust-anchors = \"operators.pem\"
operators = [\"cn:Ann\", \"uri:urn:both\"]\nviewers = [\"dns:bob.example\"]";

/// The authorities, and the files of clients.
struct Office {
    operators: Authority,
    server: Authority,
    folder: tempfile::TempDir,
}

impl Office {
    fn new() -> Self {
        Self {
            operators: Authority::new(&Request::new("operators")).unwrap(),
            server: Authority::new(&Request::new("servers")).unwrap(),
            folder: tempfile::TempDir::with_prefix("saegis-test-").unwrap(),
        }
    }

    fn server_certificate(&self) -> Issued {
        let names = [Name::dns(HOST), Name::dns(OTHER)];
        self.server
            .issue(&Request::new(HOST).name(names[0].clone()).name(names[1].clone()))
            .unwrap()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    /// Returns a gateway with the page for other machines, and the loopback one.
    fn setup(&self) -> Setup {
        let setup =
            with_page().with("admin.web.remote", &format!("listen = \"127.0.0.1:0\"\n{OPTIONS}"));
        self.install(&setup.path(""), &self.server_certificate());
        setup.write("operators.pem", self.operators.pem().as_bytes());
        setup
    }

    fn install(&self, folder: &std::path::Path, issued: &Issued) {
        fs::write(folder.join("web.key"), issued.key_pem()).unwrap();
        let owner = fs::Permissions::from_mode(0o600);
        fs::set_permissions(folder.join("web.key"), owner).unwrap();
        fs::write(folder.join("web.pem"), issued.chain_pem()).unwrap();
    }

    /// Returns a client with a certificate.
    fn client(&self, name: &str, issued: &Issued) -> Client {
        Client {
            anchor: self.write("servers.pem", self.server.pem()),
            certificate: self.write(&format!("{name}.pem"), issued.chain_pem()),
            key: self.write(&format!("{name}.key"), &issued.key_pem()),
        }
    }

    fn issued(&self, request: &Request) -> Issued {
        self.operators.issue(request).unwrap()
    }

    fn ann(&self) -> Client {
        self.client("ann", &self.issued(&Request::new("Ann")))
    }

    fn bob(&self) -> Client {
        self.client("bob", &self.issued(&Request::new("B").name(Name::dns("bob.example"))))
    }
}

/// A client with its files.
struct Client {
    anchor: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// A response that curl prints.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&start)).map(str::trim)
    }
}

impl Client {
    fn curl(&self, port: u16, path: &str, arguments: &[&str]) -> CommandOutput {
        let resolve = format!("{HOST}:{port}:127.0.0.1");
        let url = format!("https://{HOST}:{port}{path}");
        let [anchor, certificate, key] =
            [&self.anchor, &self.certificate, &self.key].map(|of| of.to_str().unwrap());
        let base = [
            "--silent",
            "--show-error",
            "--include",
            "--http1.1",
            "--max-time",
            "20",
            "--resolve",
            &resolve,
            "--cacert",
            anchor,
            "--cert",
            certificate,
            "--key",
            key,
        ];
        output_of("curl", &[&base[..], arguments, &[url.as_str()]].concat())
    }

    /// Sends a request over a new connection.
    #[track_caller]
    fn ask(&self, port: u16, path: &str, arguments: &[&str]) -> Answer {
        let got = self.curl(port, path, arguments).expect(0);
        let (head, body) = got.out.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.into(), body: body.into() }
    }

    /// Opens a session. Returns its path and its cookie.
    #[track_caller]
    fn open(&self, port: u16) -> (String, String) {
        let opened = self.ask(port, "/", &[]);
        assert_eq!(opened.status, 303, "{opened:?}");
        let cookie = opened.header("set-cookie").unwrap().split(';').next().unwrap();
        (opened.header("location").unwrap().into(), cookie.into())
    }
}

/// Returns the arguments of curl for a form of a page.
fn form<'a>(origin: &'a str, cookie: &'a str, body: &'a str) -> [&'a str; 6] {
    ["--header", origin, "--cookie", cookie, "--data", body]
}

fn token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"token\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.into()
}

#[test]
fn remote_page_opens_with_listed_certificate() {
    let office = Office::new();
    let (gateway, ann) = (office.setup().start(), office.ann());
    let port = gateway.remote_web_port();
    let opened = ann.ask(port, "/", &[]);
    assert_eq!(opened.status, 303, "{opened:?}");
    let set = opened.header("set-cookie").unwrap().to_string();
    assert!(set.starts_with("__Host-saegis="), "{set}");
    assert!(set.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{set}");
    let (path, cookie) =
        (opened.header("location").unwrap(), set.split(';').next().unwrap().to_string());
    let recorded = audited(&gateway, "admin.session-opened", "cn:Ann");
    assert_eq!(recorded["certificate"], "cn:Ann");
    assert!(recorded["uid"].is_null(), "{recorded}");
    let page = ann.ask(port, path, &["--cookie", &cookie]);
    assert!(page.body.contains("role operate"), "{page:?}");
    // Opening it again continues the session.
    let again = ann.ask(port, "/", &["--cookie", &cookie]);
    assert_eq!((again.status, again.header("location")), (303, Some(path)));
    assert!(again.header("set-cookie").is_none(), "{again:?}");
    let (origin, body) =
        (format!("Origin: https://{HOST}:{port}"), format!("token={}", token(&page.body)));
    let done = ann.ask(port, &format!("{path}reload"), &form(&origin, &cookie, &body));
    assert_eq!(done.status, 303, "{done:?}");
    let recorded = audited(&gateway, "admin.command", "\"reload\"");
    assert_eq!(recorded["certificate"], "cn:Ann");
    let out = ann.ask(port, &format!("{path}sign-out"), &form(&origin, &cookie, &body));
    assert_eq!(out.status, 200, "{out:?}");
    assert_eq!(ann.ask(port, path, &["--cookie", &cookie]).status, 403);
    // The page on the loopback interface still opens with links.
    assert_eq!(gateway.web(&gateway.open_web(&[]).request("GET", "")).status(), 200);
}

const PYTHON: &str = "
import http.client, ssl, sys
port, anchor, certificate, key = sys.argv[1:]
context = ssl.create_default_context(cafile=anchor)
context.load_cert_chain(certificate, key)
class Connection(http.client.HTTPSConnection):
    def connect(self):
        import socket
        raw = socket.create_connection(('127.0.0.1', self.port), 20)
        self.sock = context.wrap_socket(raw, server_hostname=self.host)
connection = Connection('gw.example', int(port), context=context)
def get(path, headers={}):
    connection.request('GET', path, headers=headers)
    response = connection.getresponse()
    return response, response.read().decode()
opened, _ = get('/')
assert opened.status == 303, opened.status
cookie = opened.headers['set-cookie'].split(';')[0]
page, text = get(opened.headers['location'], {'Cookie': cookie})
assert page.status == 200 and 'role view' in text, text
print(connection.sock.version(), connection.sock.session_reused)
";

#[test]
fn remote_page_is_for_viewers_in_python() {
    let office = Office::new();
    let (gateway, bob) = (office.setup().start(), office.bob());
    let port = gateway.remote_web_port().to_string();
    let files = [&bob.anchor, &bob.certificate, &bob.key].map(|of| of.to_str().unwrap());
    let got = output_of("python3", &[&["-c", PYTHON, &port][..], &files].concat()).expect(0);
    assert_eq!(got.out, "TLSv1.3 False\n");
}

#[test]
fn remote_page_needs_listed_certificate_and_tls_1_3() {
    let office = Office::new();
    let gateway = office.setup().start();
    let port = gateway.remote_web_port();
    let ann = office.ann();
    let stranger = Authority::new(&Request::new("operators")).unwrap();
    let hours = |hours: u64| SystemTime::now() - Duration::from_secs(3600 * hours);
    let past = Request::new("Ann").valid(Validity { from: hours(2), until: hours(1) });
    let own = Request::new("Ann").extended_usages([ExtendedKeyUsagePurpose::ServerAuth]);
    let cases = [
        ("unlisted", office.issued(&Request::new("Eve"))),
        ("lower case", office.issued(&Request::new("ann"))),
        ("name of another kind", office.issued(&Request::new("E").name(Name::uri("cn:Ann")))),
        ("part of a name", office.issued(&Request::new("B").name(Name::dns("x.bob.example")))),
        ("of another authority", stranger.issue(&Request::new("Ann")).unwrap()),
        ("expired", office.issued(&past)),
        ("for servers", office.issued(&own)),
    ];
    for (name, issued) in cases {
        let client = office.client("other", &issued);
        let got = client.curl(port, "/", &[]);
        assert!(got.code != 0 && !got.out.contains("HTTP/1.1"), "{name}: {got:?}");
    }
    let url = format!("https://{HOST}:{port}/");
    let resolve = format!("{HOST}:{port}:127.0.0.1");
    let anchor = ann.anchor.to_str().unwrap();
    let without = ["--silent", "--include", "--resolve", &resolve, "--cacert", anchor, &url];
    let got = output_of("curl", &without);
    assert!(got.code != 0 && got.out.is_empty(), "no certificate: {got:?}");
    let got = ann.curl(port, "/", &["--tls-max", "1.2"]);
    assert!(got.code != 0 && got.out.is_empty(), "TLS 1.2: {got:?}");
    let address = format!("127.0.0.1:{port}");
    let [certificate, key] = [&ann.certificate, &ann.key].map(|of| of.to_str().unwrap());
    let old = ["s_client", "-connect", &address, "-tls1_2", "-cert", certificate, "-key", key];
    let got = output_of("openssl", &old);
    assert!(got.out.contains("no peer certificate available"), "{got:?}");
    let plain = output_of("curl", &["--silent", "--include", &format!("http://{address}/")]);
    assert!(plain.code != 0 && !plain.out.contains("HTTP/1.1"), "{plain:?}");
    gateway.log().wait_for(Mark::START, "admin.handshake-refused", |_| true);
    assert_eq!(ann.ask(port, "/", &[]).status, 303);
}

#[test]
fn remote_session_belongs_to_its_certificate() {
    let office = Office::new();
    let (gateway, ann, bob) = (office.setup().start(), office.ann(), office.bob());
    let port = gateway.remote_web_port();
    let (path, cookie) = ann.open(port);
    let with = ["--cookie", cookie.as_str()];
    assert_eq!(ann.ask(port, &path, &with).status, 200);
    let second = office.client("second", &office.issued(&Request::new("Ann")));
    for other in [&bob, &second] {
        assert_eq!(other.ask(port, &path, &with).status, 403);
        // It opens a session of its own.
        assert_ne!(other.ask(port, "/", &with).header("location"), Some(path.as_str()));
    }
    // Neither listener accepts the sessions of the other one.
    let local = gateway.open_web(&[]);
    let got =
        ann.ask(port, &local.path, &["--cookie", &local.cookie.replace("saegis", "__Host-saegis")]);
    assert_eq!(got.status, 403);
    let mut foreign = gateway.open_web(&[]);
    foreign.path.clone_from(&path);
    foreign.cookie = cookie.replace("__Host-saegis", "saegis");
    assert_eq!(gateway.web(&foreign.request("GET", "")).status(), 403);
    // A certificate with names of both lists may only view.
    let both = Request::new("C").name(Name::uri("urn:both")).name(Name::dns("bob.example"));
    let both = office.client("both", &office.issued(&both));
    for client in [&bob, &both] {
        let (path, cookie) = client.open(port);
        let page = client.ask(port, &path, &["--cookie", &cookie]);
        assert!(page.body.contains("role view"), "{page:?}");
        let (origin, body) =
            (format!("Origin: https://{HOST}:{port}"), format!("token={}", token(&page.body)));
        let got = client.ask(port, &format!("{path}reload"), &form(&origin, &cookie, &body));
        assert_eq!(got.status, 403, "{got:?}");
        let refused = audited(&gateway, "admin.change-refused", "dns:bob.example");
        assert_eq!(refused["why"], "role view");
    }
}

#[test]
fn remote_page_refuses_other_hosts_and_origins() {
    let office = Office::new();
    let (gateway, ann) = (office.setup().start(), office.ann());
    let port = gateway.remote_web_port();
    let (path, cookie) = ann.open(port);
    let page = ann.ask(port, &path, &["--cookie", &cookie]);
    let body = format!("token={}", token(&page.body));
    let (other, numbers) = (format!("Host: {OTHER}:{port}"), format!("Host: 127.0.0.1:{port}"));
    let refused: [&[&str]; 8] = [
        &["--header", &other],
        &["--header", &numbers],
        &["--header", "Host: localhost"],
        &["--header", "Sec-Fetch-Site: cross-site"],
        &["--header", "Sec-Fetch-Site: same-site"],
        &["--header", "Sec-Purpose: prefetch"],
        &["--header", "Service-Worker: script"],
        &["--header", "Origin: https://evil.example"],
    ];
    for headers in refused {
        for target in [path.as_str(), "/", "/events"] {
            let got = ann.ask(port, target, &[headers, &["--cookie", &cookie]].concat());
            assert_eq!(got.status, 403, "{headers:?} {target}: {got:?}");
            assert!(got.header("set-cookie").is_none(), "{got:?}");
        }
    }
    for origin in [
        format!("Origin: http://{HOST}:{port}"),
        format!("Origin: https://{HOST}"),
        format!("Origin: https://{OTHER}:{port}"),
        "Origin: null".into(),
        "X-Other: 1".into(),
    ] {
        let got = ann.ask(port, &format!("{path}reload"), &form(&origin, &cookie, &body));
        assert_eq!(got.status, 403, "{origin}: {got:?}");
    }
    let (_, link) = saegis_tests::host_and_path(&gateway.web_link(&[]));
    assert_eq!(ann.ask(port, &link, &[]).status, 403);
    let trail = fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap();
    assert!(!trail.contains("\"reload\""), "{trail}");
    for (name, value) in [("x-frame-options", "DENY"), ("cache-control", "no-store")] {
        assert_eq!(page.header(name), Some(value));
    }
}

#[test]
fn invalid_remote_page_is_refused_at_start() {
    let office = Office::new();
    let start = |setup: Setup, words: &str| {
        let refused = setup.run_until_exit().expect(2);
        assert!(refused.err.contains("saegis.toml:"), "{refused:?}");
        assert!(refused.err.contains(words), "{words}: {refused:?}");
        let checked = saegis(&setup.path(""), &["check", "--config", "saegis.toml"]);
        let all = checked.out + &checked.err;
        assert!(checked.code != 0 && all.contains(words), "{words}: {all}");
    };
    let without = |option: &str| {
        let table = "admin.web.remote";
        let lines = [
            "listen = \":0\"",
            "host-names = [\"gw.example\"]",
            "certificate = \"web.pem\"",
            "private-key = \"web.key\"",
            "client-trust-anchors = \"operators.pem\"",
            "operators = [\"cn:Ann\"]",
        ];
        let kept = lines.into_iter().filter(|line| !line.starts_with(option));
        let setup = kept.fold(with_page(), |setup, line| setup.with(table, line));
        office.install(&setup.path(""), &office.server_certificate());
        setup.write("operators.pem", office.operators.pem().as_bytes());
        setup
    };
    for option in ["listen", "host-names", "certificate", "private-key", "client-trust-anchors"] {
        start(without(option), &format!("missing field `{option}`"));
    }
    start(without("operators"), "operators: must have, with viewers, from 1 to 64 names");
    let with = |option: &str, line: &str| without(option).with("admin.web.remote", line);
    start(with("host-names", "host-names = []"), "host-names: must have from 1 to 16 names");
    start(
        with("host-names", "host-names = [\"a b\"]"),
        "is neither a domain name nor an IP address",
    );
    start(
        with("host-names", "host-names = [\"no.example\"]"),
        "certificate: is not valid for the host name no.example",
    );
    start(
        with("operators", "operators = [\"Ann\"]"),
        "write email:NAME, dns:NAME, uri:NAME or cn:NAME",
    );
    start(with("none", "viewers = [\"cn:Ann\"]"), "viewers: cn:Ann is also in operators");
    start(with("certificate", "certificate = \"none.pem\""), "none.pem: cannot be opened");
    let setup = without("none");
    fs::set_permissions(setup.path("web.key"), fs::Permissions::from_mode(0o644)).unwrap();
    start(setup, "is a private key that every user of the machine can read");
    let setup = without("none");
    setup.write("web.key", office.server_certificate().key_pem().as_bytes());
    start(setup, "the key does not belong to the certificate");
    let setup = without("none");
    setup.write("operators.pem", office.issued(&Request::new("Ann")).chain_pem().as_bytes());
    start(setup, "client-trust-anchors: is not the certificate of a certification authority");
}

#[test]
fn stalled_and_large_connections_to_remote_page_end() {
    let office = Office::new();
    let (gateway, ann) = (office.setup().start(), office.ann());
    let port = gateway.remote_web_port();
    let stalled: Vec<_> = (0..40).map(|_| connect_from(OTHER_HOST, port)).collect();
    // They neither keep an operator out, nor stay open.
    let (path, cookie) = ann.open(port);
    for mut socket in stalled {
        socket.set_read_timeout(Some(BOUND)).unwrap();
        let end = socket.read(&mut [0; 64]);
        assert!(matches!(end, Ok(0)) || end.is_err_and(|e| !would_block(&e)));
    }
    let mut garbage = TcpStream::connect(("127.0.0.1", port)).unwrap();
    garbage.set_read_timeout(Some(BOUND)).unwrap();
    let _ = garbage.write_all(&[0x55; 64 << 10]);
    let mut got = Vec::new();
    let end = garbage.read_to_end(&mut got);
    assert!(end.is_ok() || end.is_err_and(|e| !would_block(&e)));
    let large = format!("X-Large: {}", "a".repeat(64 << 10));
    let got = ann.curl(port, &path, &["--cookie", &cookie, "--header", &large]);
    assert!(!got.out.starts_with("HTTP/1.1 2"), "{got:?}");
    assert_eq!(ann.ask(port, &path, &["--cookie", &cookie]).status, 200);
}

/// One host cannot end the handshakes of others, which take long over a slow network.
#[test]
fn connections_of_one_host_end_no_handshake_of_others() {
    let office = Office::new();
    let (gateway, ann) = (office.setup().start(), office.ann());
    let port = gateway.remote_web_port();
    let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut last = None;
    for _ in 0..100 {
        last = Some(connect_from(OTHER_HOST, port));
    }
    // The connections are accepted in order, and the last one is over the limit.
    let mut last = last.unwrap();
    last.set_read_timeout(Some(BOUND)).unwrap();
    let end = last.read(&mut [0; 64]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|e| !would_block(&e)));
    slow.set_nonblocking(true).unwrap();
    assert!(would_block(&slow.read(&mut [0; 64]).unwrap_err()));
    let (path, cookie) = ann.open(port);
    assert_eq!(ann.ask(port, &path, &["--cookie", &cookie]).status, 200);
}

/// A gateway that runs with the former files can still be administered.
#[test]
fn missing_file_of_remote_page_stops_no_command() {
    let office = Office::new();
    let gateway = office.setup().start();
    fs::remove_file(gateway.path("web.pem")).unwrap();
    for command in [&["status"][..], &["reload"], &["admin", "link"], &["device", "list"]] {
        saegis(&gateway.path(""), command).expect(0);
    }
    let checked = saegis(&gateway.path(""), &["check"]);
    assert!(
        checked.code != 0 && (checked.out + &checked.err).contains("web.pem: cannot be opened")
    );
}

fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

#[test]
fn changed_certificates_of_remote_page_are_loaded() {
    let office = Office::new();
    let (gateway, ann) = (office.setup().start(), office.ann());
    let port = gateway.remote_web_port();
    let address = format!("127.0.0.1:{port}");
    let presented = || {
        let shown = output_of("openssl", &["s_client", "-connect", &address, "-showcerts"]).out;
        let start = shown.find("-----BEGIN").unwrap_or_default();
        shown[start..].lines().take_while(|line| !line.contains("END")).collect::<String>()
    };
    let first = presented();
    assert!(first.contains("BEGIN CERTIFICATE"), "{first}");
    office.install(&gateway.path(""), &office.server_certificate());
    wait_until("the new certificate is presented", || presented() != first);
    gateway.log().wait_for(Mark::START, "admin.certificates-loaded", |_| true);
    // Files that cannot be used change nothing.
    let second = presented();
    gateway.write("web.pem", "half");
    wait_until("the changed file is refused", || {
        presented();
        gateway.log().text().contains("admin.certificates-refused")
    });
    assert_eq!(presented(), second);
    assert_eq!(ann.ask(port, "/", &[]).status, 303);
    // Another authority of the operators.
    let others = Authority::new(&Request::new("others")).unwrap();
    gateway.write("operators.pem", others.pem());
    office.install(&gateway.path(""), &office.server_certificate());
    let new = office.client("new", &others.issue(&Request::new("Ann")).unwrap());
    wait_until("the new authority is accepted", || new.curl(port, "/", &[]).code == 0);
    assert_ne!(ann.curl(port, "/", &[]).code, 0);
}

/// The page opens once its port is free.
#[test]
fn occupied_port_of_remote_page_is_tried_again() {
    let office = Office::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let setup = office
        .setup()
        .without("admin.web.remote")
        .with("admin.web.remote", &format!("listen = \"127.0.0.1:{port}\"\n{OPTIONS}"));
    let gateway = setup.start();
    gateway.log().wait_for(Mark::START, "admin.page-unavailable", |_| true);
    drop(taken);
    gateway.log().wait_for(Mark::START, "admin.page-available", |_| true);
    assert_eq!(office.ann().ask(port, "/", &[]).status, 303);
}
