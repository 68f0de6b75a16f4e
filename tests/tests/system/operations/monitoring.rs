//! What an operator sees of a running gateway: the audit trail, metrics and health.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use saegis_tests::{
    BOUND, Credential, Gateway, LIGHT1, LIGHT2, Mark, Reply, Request, Setup, Tool, Upstream,
    eventually,
};
use serde_json::Value;

/// The lines of an audit trail; each must be whole.
fn trail(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until the trail has so many events of a name.
fn events(file: &Path, event: &str, count: usize) -> Vec<Value> {
    eventually(|| {
        let all: Vec<_> = trail(file).into_iter().filter(|line| line["event"] == event).collect();
        if all.len() >= count { Ok(all) } else { Err(format!("{} of {count} {event}", all.len())) }
    })
}

/// The names of an event's fields, but for those that every line has.
fn fields(event: &Value) -> Vec<&str> {
    let names = event.as_object().unwrap().keys().map(String::as_str);
    let mut names: Vec<_> = names
        .filter(|n| !["chain", "timestamp", "level", "event", "message"].contains(n))
        .collect();
    names.sort_unstable();
    names
}

fn audited() -> Gateway {
    // What is logged does not bear on the trail.
    let setup = Setup::new().with("audit", "file = \"audit/trail.jsonl\"");
    setup.with("log", "filter = \"info\"").start()
}

/// Each with the fields that docs/src/operations.md has.
#[test]
fn trail_has_associations_refusals_and_reloads() {
    let mut gateway = audited();
    let file = gateway.path("audit/trail.jsonl");
    let ready = events(&file, "gateway.ready", 1);
    assert_eq!(fields(&ready[0]), ["address", "generation", "version"]);

    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let established = events(&file, "association.established", 1);
    assert_eq!(
        fields(&established[0]),
        ["association", "credential_id", "entity", "peer", "protocol", "saef", "suite"]
    );
    assert_eq!(established[0]["credential_id"], format!("12-{}", LIGHT1.identity));
    assert_eq!(established[0]["saef"], "psk");

    light.ask(&Request::retrieve("/cse/light2").from("Clight-AE2")).expect_refusal(403, 4106);
    let of_refusals = gateway.path("audit/trail-refusals.jsonl");
    let refused = events(&of_refusals, "request.refused", 1);
    assert_eq!(
        fields(&refused[0]),
        ["association", "credential_id", "from", "request_id", "rsc", "why"]
    );
    assert_eq!((&refused[0]["from"], &refused[0]["rsc"]), (&"Clight-AE2".into(), &4106.into()));

    let wrong = Credential { key: "00112233445566778899aabbccddeeff", ..LIGHT1 };
    Tool::OpenSsl.refused(gateway.port(), wrong);
    let refused = events(&file, "handshake.refused", 1);
    assert_eq!(fields(&refused[0]), ["cause", "peer", "why"]);
    assert_eq!(refused[0]["cause"], "wrong-key");

    let table = gateway.table();
    gateway.refused_after("kpsa", |g| g.replace("policies/psk-lookup-table.csv", "kpsa_id\nx\n"));
    let refused = events(&file, "generation.refused", 1);
    assert_eq!(fields(&refused[0]), ["column", "file", "in_force", "line", "why"]);

    let without: Vec<_> = table.lines().filter(|row| !row.contains(LIGHT1.identity)).collect();
    gateway.in_force_after(|g| {
        g.replace("policies/psk-lookup-table.csv", without.join("\n") + "\n");
    });
    let in_force = events(&file, "generation.in-force", 1);
    assert_eq!(fields(&in_force[0]), ["generation"]);
    let revoked = events(&file, "association.revoked", 1);
    assert_eq!(fields(&revoked[0]), ["association", "credential_id", "generation", "why"]);
    let ended = events(&file, "association.ended", 1);
    assert_eq!(fields(&ended[0]), ["association", "credential_id", "peer", "why"]);
    assert_eq!(ended[0]["association"], established[0]["association"]);

    gateway.signal("TERM");
    assert!(gateway.wait().unwrap().success());
    events(&file, "gateway.stopped", 1);
    let text = fs::read_to_string(&file).unwrap();
    for key in [LIGHT1.key, LIGHT2.key, wrong.key] {
        assert!(!text.to_lowercase().contains(key), "a key is in the trail");
    }
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads who spoke with whom");
}

#[test]
fn what_is_logged_does_not_bear_on_the_trail() {
    let setup = Setup::new().with("audit", "file = \"trail.jsonl\"");
    let gateway = setup.start();
    let file = gateway.path("trail.jsonl");
    let ready = events(&file, "gateway.ready", 1);
    assert_eq!(ready[0]["level"], "INFO");
    // Of what is no part of it there is nothing in it.
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", g.table() + "#\n"));
    events(&file, "generation.in-force", 1);
    assert!(trail(&file).iter().all(|line| line["event"] != "policy.short-keys"));
    assert!(gateway.log().text().contains("policy.short-keys"));
}

/// Somebody who is refused again and again fills neither the disk nor, with what he sends, a line.
#[test]
fn the_trail_is_bounded() {
    let setup = Setup::new()
        .with("audit", "file = \"audit/trail.jsonl\"")
        .with("audit", "file-bytes = 65536")
        .with("audit", "old-files = 1");
    let gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let mut light2 = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    let other = format!("C{}", "x".repeat(1000));
    for n in 0..700 {
        let request = Request::retrieve("/cse/light2").from(&other);
        let response = if n % 2 == 0 { &mut light } else { &mut light2 }.ask(&request);
        assert_eq!(response.rsc(), Some(4000), "request {n}");
    }
    // Nor does what is repeated of a content.
    let content = format!("\"{}\"", "é".repeat(50_000));
    let request = Request::new("PUT", "/cse/light1").header("Content-Type", "application/json");
    let response = light.ask(&request.body(&content).from("Clight-AE1")).expect(400, 4000);
    assert!(response.debug().len() < 600, "{} bytes", response.debug().len());
    light.close();
    events(&gateway.path("audit/trail.jsonl"), "association.ended", 1);
    let entries = fs::read_dir(gateway.path("audit")).unwrap().map(|e| e.unwrap().path());
    let names: Vec<_> = entries.collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        assert!(fs::metadata(name).unwrap().len() <= 65536, "{name:?}");
        assert!(trail(name).iter().all(|line| line["from"].as_str().is_none_or(|f| f.len() < 300)));
    }
}

#[test]
fn a_trail_that_was_moved_away_is_begun_anew() {
    let gateway = audited();
    let file = gateway.path("audit/trail.jsonl");
    events(&file, "gateway.ready", 1);
    fs::rename(&file, gateway.path("moved.jsonl")).unwrap();
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    events(&file, "association.ended", 1);
}

#[test]
fn unwritable_trail_prevents_start() {
    let setup = Setup::new().with("audit", "file = \"policies/psk-lookup-table.csv/trail\"");
    setup.configuration();
    let ran = saegis_tests::saegis(&setup.path(""), &["run"]).expect(2);
    assert!(ran.err.contains("audit.file: can't be written"), "{}", ran.err);
}

#[test]
fn metrics_count_what_happens() {
    let upstream = Upstream::start(Reply::answer(200, 2000, "{\"m2m:ae\":{}}"));
    let gateway = Setup::new().upstream(upstream.port()).with_metrics();
    let gateway = gateway.module("faulty", "order = 1\ncapabilities = [\"log\"]\n").start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE2")).expect_refusal(403, 4106);
    light.ask(&Request::retrieve("/cse/fault-trap").from("Clight-AE1")).expect_refusal(500, 5000);
    Tool::OpenSsl
        .refused(gateway.port(), Credential { identity: "nobody@in.provider.com", ..LIGHT1 });
    gateway.refused_after("kpsa", |g| g.replace("policies/psk-lookup-table.csv", "kpsa_id\nx\n"));
    let metrics = gateway.monitor("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.text.contains("# TYPE saegis_requests_total counter\n"), "{}", metrics.text);
    for (metric, value) in [
        ("saegis_associations{saef=\"psk\"}", 1.0),
        ("saegis_handshakes_total{outcome=\"established\"}", 1.0),
        ("saegis_handshakes_total{outcome=\"identity\"}", 1.0),
        ("saegis_handshake_seconds_count", 1.0),
        ("saegis_requests_total{operation=\"retrieve\",rsc=\"2000\"}", 1.0),
        ("saegis_requests_total{operation=\"retrieve\",rsc=\"4106\"}", 1.0),
        ("saegis_requests_total{operation=\"retrieve\",rsc=\"5000\"}", 1.0),
        ("saegis_upstream_seconds_count", 1.0),
        ("saegis_generation", 1.0),
        ("saegis_reloads_total{outcome=\"refused\"}", 1.0),
        ("saegis_sandbox_faults_total{module=\"faulty\",cause=\"trap\"}", 1.0),
        (
            "saegis_decisions_total{module=\"psk-table\",hook=\"credential-lookup\",outcome=\"found\"}",
            1.0,
        ),
        (
            "saegis_decisions_total{module=\"originator-check\",hook=\"impersonation-check\",outcome=\"denied\"}",
            1.0,
        ),
        ("saegis_decision_seconds_count{module=\"faulty\",hook=\"impersonation-check\"}", 3.0),
        ("saegis_log_lines_lost_total", 0.0),
    ] {
        assert!(metrics.text.contains(&format!("{metric} ")), "{metric} in\n{}", metrics.text);
        assert_eq!(metrics.value(metric), value, "{metric} in\n{}", metrics.text);
    }
    light.close();
    gateway.log().wait("association.ended");
    assert_eq!(gateway.monitor("/metrics").value("saegis_associations{saef=\"psk\"}"), 0.0);
    for secret in [LIGHT1.identity, LIGHT1.key, "Clight-AE1"] {
        assert!(!metrics.text.contains(secret), "{secret} is nobody's business");
    }
}

/// A panel that asks for a metric that does not exist shows nothing, and nobody notices.
#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/grafana/saegis.json");
    let dashboard: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let upstream = Upstream::start(Reply::answer(200, 2000, "{\"m2m:ae\":{}}"));
    let setup = Setup::new().upstream(upstream.port()).with_metrics();
    let gateway = setup.module("faulty", "order = 1\ncapabilities = [\"log\"]\n").start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/fault-trap").from("Clight-AE1")).expect_refusal(500, 5000);
    gateway.refused_after("kpsa", |g| g.replace("policies/psk-lookup-table.csv", "kpsa_id\nx\n"));
    let metrics = gateway.monitor("/metrics").text;
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut names = 0;
    for expression in targets.map(|target| target["expr"].as_str().unwrap()) {
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for word in expression.split(|c| !of_a_name(c)).filter(|w| w.starts_with("saegis_")) {
            let there = metrics.lines().any(|line| {
                line.strip_prefix(word).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            assert!(there, "{word} in\n{metrics}");
            names += 1;
        }
    }
    assert!(names > 15, "{names} names of metrics");
}

#[test]
fn health_is_told_and_nothing_else() {
    let upstream = Upstream::start(Reply::Pending);
    let mut gateway = Setup::new().upstream(upstream.port()).with_metrics().start();
    assert_eq!(gateway.monitor("/healthz").status, 200);
    assert_eq!(gateway.monitor("/readyz").status, 200);
    for path in ["/", "/cse", "/metrics/", "/~/mn-cse-123456/cse", "/healthz/../metrics/x"] {
        assert_eq!(gateway.monitor(path).status, 404, "{path}");
    }
    // While it lets a request finish it is alive, and takes no more.
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.send(&Request::retrieve("/cse/light1").from("Clight-AE1").bytes());
    upstream.wait(1);
    gateway.signal("TERM");
    gateway.log().wait("gateway.stopping");
    assert_eq!(gateway.monitor("/healthz").status, 200);
    assert_eq!(gateway.monitor("/readyz").status, 503);
    upstream.reply_with(Reply::answer(200, 2000, "{\"m2m:ae\":{}}"));
    light.read().expect(200, 2000);
    assert!(gateway.wait().unwrap().success());
}

#[test]
fn metrics_are_for_this_machine_only() {
    for address in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"] {
        let setup = Setup::new().with("metrics", &format!("address = \"{address}\""));
        setup.configuration();
        let ran = saegis_tests::saegis(&setup.path(""), &["check"]).expect(2);
        assert!(ran.err.contains("metrics.address: must be of the loopback interface"), "{ran:?}");
    }
    let gateway = Setup::new().start();
    assert!(!gateway.printed().contains("metrics"), "there are none where none are asked for");
    assert!(gateway.log().all(Mark::START, "gateway.ready", 1).len() == 1);
}

/// Asks where metrics and health are, with these header lines, and gives all of the answer.
fn asked(gateway: &Gateway, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(monitor(gateway)).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// Where metrics and health are.
fn monitor(gateway: &Gateway) -> String {
    let printed = gateway.printed();
    let (_, rest) = printed.split_once("  metrics     http://").unwrap();
    rest.split_once("/metrics").unwrap().0.to_string()
}

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")
}

#[test]
fn each_scraper_gets_its_own_text() {
    let gateway = Setup::new().with_metrics().start();
    let metrics =
        |accept: &str| asked(&gateway, &get("/metrics", &format!("Host: localhost\r\n{accept}")));
    for accept in
        ["", "Accept: text/plain\r\n", "Accept: */*\r\n", "Accept: text/plain;version=0.0.4\r\n"]
    {
        let answer = metrics(accept);
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{answer}"
        );
        assert!(answer.contains("# TYPE saegis_log_lines_lost_total counter\n"), "{answer}");
        assert!(answer.contains("# TYPE saegis_build_info gauge\n"), "{answer}");
        assert!(!answer.contains("# EOF") && !answer.contains("# UNIT"), "{answer}");
    }
    let answer = metrics(
        "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2\r\n",
    );
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{answer}"
    );
    assert!(answer.contains("# TYPE saegis_log_lines_lost counter\n"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "it is whole");
}

/// A page of somebody else can't have a browser of this machine fetch what is here by a name of its own.
#[test]
fn a_foreign_host_is_told_nothing() {
    let gateway = Setup::new().with_metrics();
    let gateway = gateway.with("metrics", "hosts = [\"Saegis.example\"]").start();
    let (ours, port) =
        (monitor(&gateway), monitor(&gateway).split_once(':').unwrap().1.to_string());
    for path in ["/metrics", "/healthz", "/readyz"] {
        for host in [
            &ours,
            "localhost",
            &format!("LOCALHOST:{port}"),
            "127.0.0.1",
            "[::1]:1",
            "saegis.example",
        ] {
            let answer = asked(&gateway, &get(path, &format!("Host: {host}\r\n")));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
        }
        for host in [
            "evil.example",
            &format!("evil.example:{port}"),
            "localhost.evil.example",
            "192.0.2.1",
            "0.0.0.0",
        ] {
            let answer = asked(&gateway, &get(path, &format!("Host: {host}\r\n")));
            assert!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
            assert!(!answer.contains("saegis_") && !answer.contains("alive"), "{answer}");
        }
        // Nor by a target that names another host than the header.
        let absolute = format!(
            "GET http://evil.example{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        assert!(asked(&gateway, &absolute).starts_with("HTTP/1.1 421 "));
        for lines in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: \r\n", "Host: a b\r\n"] {
            let answer = asked(&gateway, &get(path, lines));
            assert!(answer.starts_with("HTTP/1.1 400 "), "{lines:?}: {answer}");
        }
    }
    assert!(asked(&gateway, "GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
}

/// Half requests hold no place that a probe needs.
#[test]
fn half_requests_do_not_hold_up_a_probe() {
    use std::io::{Read as _, Write as _};
    let gateway = Setup::new().with_metrics().start();
    let address = monitor(&gateway);
    let mut halves = Vec::new();
    for n in 0..400 {
        let mut socket = std::net::TcpStream::connect(&address).unwrap();
        let half: &[u8] = if n % 2 == 0 { b"GET /healthz HTTP/1.1\r\nHost: " } else { b"" };
        let _ = socket.write_all(half);
        halves.push(socket);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let start = Instant::now();
        assert_eq!(gateway.monitor(path).status, 200);
        assert!(start.elapsed() < Duration::from_secs(2), "{path}: {:?}", start.elapsed());
    }
    // And the last ones have a short time.
    let mut last = halves.pop().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let start = Instant::now();
    let mut rest = Vec::new();
    let _ = last.read_to_end(&mut rest);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

/// A CSE that answers what no specification has makes no series for each.
#[test]
fn codes_that_are_made_up_are_counted_together() {
    let upstream = Upstream::start(Reply::answer(200, 2000, "{\"m2m:ae\":{}}"));
    let gateway = Setup::new().upstream(upstream.port()).with_metrics().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    for code in (2100..2110).chain(7000..7010).chain([4000]) {
        upstream.reply_with(Reply::answer(200, code, "{\"m2m:ae\":{}}"));
        light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1"));
    }
    let metrics = gateway.monitor("/metrics");
    let value = |rsc: &str| {
        metrics.value(&format!("saegis_requests_total{{operation=\"retrieve\",rsc=\"{rsc}\"}}"))
    };
    assert_eq!((value("other"), value("4000")), (20.0, 1.0), "{}", metrics.text);
    let series = metrics.text.lines().filter(|line| line.starts_with("saegis_requests_total{"));
    assert_eq!(series.count(), 2, "{}", metrics.text);
}

/// A file whose name holds a line break writes no lines of its own.
#[test]
fn a_files_name_forges_no_line() {
    let forged = "policies/a\nERROR forged\r\u{1b}[2Kb.csv";
    for format in ["text", "json"] {
        let mut setup = Setup::new().with("audit", "file = \"trail.jsonl\"");
        if format == "text" {
            setup = setup.without("log").with("log", "format = \"text\"");
        }
        let file = fs::File::create(setup.path("log")).unwrap();
        let gateway = setup.start_with_log_in(file);
        let trail = gateway.path("trail.jsonl");
        events(&trail, "gateway.ready", 1);
        gateway.write(forged, "kpsa_id\nx\n");
        let refused = events(&trail, "generation.refused", 1);
        let shown = "a\\nERROR forged\\r\\u{1b}[2Kb.csv";
        assert!(refused[0]["file"].as_str().unwrap().ends_with(shown), "{refused:?}");
        let folder = gateway.path("");
        let ran = saegis_tests::saegis(&folder, &["reload"]).expect(4);
        assert!(ran.err.contains(shown), "{ran:?}");
        let check = saegis_tests::saegis(&folder, &["check"]).expect(2);
        assert!(check.err.contains(shown), "{check:?}");
        let log = fs::read_to_string(gateway.path("log")).unwrap();
        for text in [&ran.err, &check.err, &log] {
            assert!(
                text.lines()
                    .all(|line| !line.starts_with("ERROR") && !line.starts_with("error: ERROR")),
                "{text}"
            );
            assert!(!text.contains(['\u{1b}', '\r']), "{text}");
        }
        assert!(log.contains("forged"), "{log}");
        assert!(check.err.contains("rename it"), "{check:?}");
        // In JSON the name is whole, whatever it is.
        let check = saegis_tests::saegis(&folder, &["check", "--json"]).expect(2).json();
        assert!(
            check["faults"][0]["file"].as_str().unwrap().ends_with("\u{1b}[2Kb.csv"),
            "{check}"
        );
    }
    use std::os::unix::ffi::OsStrExt as _;
    let setup = Setup::new();
    let name = std::ffi::OsStr::from_bytes(b"policies/\xff.csv");
    fs::write(setup.path("").join(name), "x").unwrap();
    setup.configuration();
    saegis_tests::saegis(&setup.path(""), &["check", "--json"]).expect(2).json();
}
