//! Monitoring of a running gateway: audit log, metrics and health.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use saegis_tests::{
    BOUND, Credential, Gateway, LIGHT1, LIGHT2, Mark, Reply, Request, Setup, Tool, Upstream,
    eventually,
};
use serde_json::Value;

/// Returns the lines of an audit log, which must be complete.
fn trail(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until the audit log has this many events of a name, and returns them.
fn events(file: &Path, event: &str, count: usize) -> Vec<Value> {
    eventually(|| {
        let all: Vec<_> = trail(file).into_iter().filter(|line| line["event"] == event).collect();
        if all.len() >= count { Ok(all) } else { Err(format!("{} of {count} {event}", all.len())) }
    })
}

/// Returns the names of an event's fields, without those of every line.
fn fields(event: &Value) -> Vec<&str> {
    let names = event.as_object().unwrap().keys().map(String::as_str);
    let mut names: Vec<_> = names
        .filter(|n| !["chain", "timestamp", "level", "event", "message"].contains(n))
        .collect();
    names.sort_unstable();
    names
}

fn audited() -> Gateway {
    // The log filter does not affect the audit log.
    let setup = Setup::new().with("audit", "file = \"audit/trail.jsonl\"");
    setup.with("log", "filter = \"info\"").start()
}

/// Each event has the fields that docs/src/reference/events.md lists.
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
        [
            "association",
            "credential_id",
            "entity",
            "from",
            "operation",
            "request_id",
            "rsc",
            "to",
            "why"
        ]
    );
    assert_eq!((&refused[0]["from"], &refused[0]["rsc"]), (&"Clight-AE2".into(), &4106.into()));

    let wrong = Credential { key: "00112233445566778899aabbccddeeff", ..LIGHT1 };
    Tool::OpenSsl.refused(gateway.port(), wrong);
    let refused = events(&file, "handshake.refused", 1);
    assert_eq!(fields(&refused[0]), ["cause", "identity", "peer", "why"]);
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
    assert_eq!(fields(&in_force[0]), ["changes", "generation"]);
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
        assert!(!text.to_lowercase().contains(key), "a key is in the audit log");
    }
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the audit log is private");
}

#[test]
fn log_filter_does_not_affect_audit_log() {
    let setup = Setup::new().with("audit", "file = \"trail.jsonl\"");
    let gateway = setup.start();
    let file = gateway.path("trail.jsonl");
    let ready = events(&file, "gateway.ready", 1);
    assert_eq!(ready[0]["level"], "INFO");
    // Log lines that are not audit events are not in the audit log.
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", g.table() + "#\n"));
    events(&file, "generation.in-force", 1);
    assert!(trail(&file).iter().all(|line| line["event"] != "policy.short-keys"));
    assert!(gateway.log().text().contains("policy.short-keys"));
}

/// Repeated refusals fill neither the disk nor, with long values, a line.
#[test]
fn audit_log_is_limited_in_size() {
    let setup = Setup::new()
        .with("audit", "file = \"audit/trail.jsonl\"")
        .with("audit", "file-bytes = 65536")
        .with("audit", "retained-files = 1");
    let gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let mut light2 = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    let other = format!("C{}", "x".repeat(1000));
    for n in 0..700 {
        let request = Request::retrieve("/cse/light2").from(&other);
        let response = if n % 2 == 0 { &mut light } else { &mut light2 }.ask(&request);
        assert_eq!(response.rsc(), Some(4000), "request {n}");
    }
    // The same holds for quoted content.
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
fn moved_audit_log_is_created_again() {
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
    assert!(ran.err.contains("audit.file: cannot be written"), "{}", ran.err);
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
        ("saegis_handshakes_total{outcome=\"unknown-identity\"}", 1.0),
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
        assert!(!metrics.text.contains(secret), "{secret} is in the metrics");
    }
}

/// A panel with a metric that does not exist is empty without an error.
#[test]
fn dashboard_uses_existing_metrics() {
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
            // A metric without a value yet is documented from the sources.
            assert!(there || documented().contains(word), "{word} in\n{metrics}");
            names += 1;
        }
    }
    assert!(names > 15, "{names} names of metrics");
}

/// Returns the names of the metrics, which the reference page takes from the sources.
fn documented() -> std::collections::BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/reference/metrics.md");
    let text = fs::read_to_string(page).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `saegis_"));
    rows.filter_map(|row| Some(format!("saegis_{}", row.split('`').next()?))).collect()
}

/// Each alert uses metrics that exist, and has a section in the page that it names.
#[test]
fn alerts_have_metrics_and_runbooks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    let (rules, page) =
        (read("examples/prometheus/saegis-rules.yml"), read("docs/src/how-to/alerts.md"));
    let of = |key: &str| {
        let values = rules.lines().filter_map(|line| line.trim().strip_prefix(key));
        values.map(|value| value.trim().to_string()).collect::<Vec<_>>()
    };
    let (alerts, runbooks) = (of("- alert:"), of("runbook:"));
    assert!(alerts.len() >= 10 && alerts.len() == runbooks.len(), "{alerts:?} {runbooks:?}");
    for (alert, runbook) in alerts.iter().zip(&runbooks) {
        assert_eq!(*runbook, format!("how-to/alerts.md#{}", alert.to_lowercase()));
        assert!(page.contains(&format!("\n## {alert}\n")), "{alert}");
    }
    for expression in of("expr:") {
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for word in expression.split(|c| !of_a_name(c)).filter(|w| w.starts_with("saegis_")) {
            assert!(documented().contains(word), "{word}");
        }
    }
}

#[test]
fn metrics_listener_serves_known_paths_only() {
    let upstream = Upstream::start(Reply::Pending);
    let mut gateway = Setup::new().upstream(upstream.port()).with_metrics().start();
    assert_eq!(gateway.monitor("/healthz").status, 200);
    assert_eq!(gateway.monitor("/readyz").status, 200);
    for path in ["/", "/cse", "/metrics/", "/~/mn-cse-123456/cse", "/healthz/../metrics/x"] {
        assert_eq!(gateway.monitor(path).status, 404, "{path}");
    }
    // During the drain the gateway is alive but not ready.
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
        assert!(ran.err.contains("metrics.address: must be on the loopback interface"), "{ran:?}");
    }
    let gateway = Setup::new().start();
    assert!(!gateway.printed().contains("metrics"), "there is no metrics listener by default");
    assert!(gateway.log().all(Mark::START, "gateway.ready", 1).len() == 1);
}

/// Sends a request to the metrics listener, and returns the whole response.
fn send_raw(gateway: &Gateway, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(metrics_address(gateway)).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// Returns the address of the metrics listener.
fn metrics_address(gateway: &Gateway) -> String {
    let printed = gateway.printed();
    let (_, rest) = printed.split_once("  metrics     http://").unwrap();
    rest.split_once("/metrics").unwrap().0.to_string()
}

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")
}

#[test]
fn metrics_format_follows_accept_header() {
    let gateway = Setup::new().with_metrics().start();
    let metrics = |accept: &str| {
        send_raw(&gateway, &get("/metrics", &format!("Host: localhost\r\n{accept}")))
    };
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
    assert!(answer.ends_with("# EOF\n"), "the text is complete");
}

/// A web page cannot read the metrics through a browser on this machine with a host name of its
/// own.
#[test]
fn metrics_request_with_foreign_host_is_refused() {
    let gateway = Setup::new().with_metrics();
    let gateway = gateway.with("metrics", "hosts = [\"Saegis.example\"]").start();
    let (ours, port) = (
        metrics_address(&gateway),
        metrics_address(&gateway).split_once(':').unwrap().1.to_string(),
    );
    for path in ["/metrics", "/healthz", "/readyz"] {
        for host in [
            &ours,
            "localhost",
            &format!("LOCALHOST:{port}"),
            "127.0.0.1",
            "[::1]:1",
            "saegis.example",
        ] {
            let answer = send_raw(&gateway, &get(path, &format!("Host: {host}\r\n")));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
        }
        for host in [
            "evil.example",
            &format!("evil.example:{port}"),
            "localhost.evil.example",
            "192.0.2.1",
            "0.0.0.0",
        ] {
            let answer = send_raw(&gateway, &get(path, &format!("Host: {host}\r\n")));
            assert!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
            assert!(!answer.contains("saegis_") && !answer.contains("alive"), "{answer}");
        }
        // An absolute target with another host than the header is refused as well.
        let absolute = format!(
            "GET http://evil.example{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        assert!(send_raw(&gateway, &absolute).starts_with("HTTP/1.1 421 "));
        for lines in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: \r\n", "Host: a b\r\n"] {
            let answer = send_raw(&gateway, &get(path, lines));
            assert!(answer.starts_with("HTTP/1.1 400 "), "{lines:?}: {answer}");
        }
    }
    assert!(send_raw(&gateway, "GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
}

/// Incomplete requests do not occupy the slots that a probe needs.
#[test]
fn incomplete_requests_do_not_delay_probe() {
    use std::io::{Read as _, Write as _};
    let gateway = Setup::new().with_metrics().start();
    let address = metrics_address(&gateway);
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
    // Incomplete requests have a short timeout.
    let mut last = halves.pop().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let start = Instant::now();
    let mut rest = Vec::new();
    let _ = last.read_to_end(&mut rest);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

/// Unspecified codes of a CSE do not create a series each.
#[test]
fn unspecified_codes_share_one_series() {
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

/// A reason is not repeated as a field, and does not list bytes in Rust syntax.
#[test]
fn text_log_states_reason_once() {
    let mut setup = Setup::new().with("audit", "file = \"trail.jsonl\"");
    setup = setup.without("log").with("log", "format = \"text\"");
    let file = fs::File::create(setup.path("log")).unwrap();
    let gateway = setup.start_with_log_in(file);
    gateway.write("policies/modules/bad.wasm", "rubbish");
    let refused = events(&gateway.path("trail.jsonl"), "generation.refused", 1);
    let why = refused[0]["why"].as_str().unwrap();
    assert!(why.starts_with("is not a WebAssembly component: "), "{refused:?}");
    assert!(!why.contains("0x") && !why.contains('['), "{refused:?}");
    saegis_tests::saegis(&gateway.path(""), &["status"]).expect(0);
    let line = |log: &str| {
        log.lines().find(|line| line.contains("generation.refused")).map(ToString::to_string)
    };
    let mut found = None;
    saegis_tests::wait_until("the line", || {
        found = line(&fs::read_to_string(gateway.path("log")).unwrap());
        found.is_some()
    });
    let line = found.unwrap();
    assert_eq!(line.matches(why).count(), 1, "{line}");
}

/// A line break in a file name does not create a log line.
#[test]
fn file_name_cannot_forge_log_line() {
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
        // JSON contains the name unchanged.
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
