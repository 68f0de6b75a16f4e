//! The report, as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::contender::Contender;

/// Discipline of creates over MQTT.
pub const MQTT_CREATE: &str = "create of a content instance over MQTT: PSK CBC";
/// Figures of idle sessions, of Saegis and of mosquitto.
pub const IDLE_MQTT_SESSIONS: [&str; 2] = ["an idle session of MQTT", "the same in mosquitto"];

/// Disciplines of CoAP over DTLS.
pub const COAP_HANDSHAKE: &str = "handshake: DTLS, PSK CCM_8";
pub const COAP_REQUEST: &str = "keep-alive: CoAP, DTLS, PSK CCM_8";
/// Figure of idle associations over DTLS.
pub const IDLE_COAP: &str = "an idle association of DTLS";

/// Results of one contender in one discipline, by round.
pub struct Row {
    pub discipline: String,
    pub contender: Contender,
    pub rounds: Vec<Value>,
}

impl Row {
    /// Returns the median, the minimum and the maximum of a figure over the rounds.
    fn figure(&self, name: &str) -> Option<(f64, f64, f64)> {
        let mut all: Vec<f64> = self.rounds.iter().filter_map(|r| r[name].as_f64()).collect();
        all.sort_by(f64::total_cmp);
        Some((*all.get(all.len() / 2)?, *all.first()?, *all.last()?))
    }

    pub fn median(&self, name: &str) -> f64 {
        self.figure(name).map_or(f64::NAN, |(median, ..)| median)
    }
}

/// A target and its result.
pub struct Target {
    pub what: String,
    pub wanted: f64,
    pub measured: f64,
    /// Whether the target is a maximum.
    pub at_most: bool,
}

impl Target {
    fn met(&self) -> &'static str {
        let met =
            if self.at_most { self.measured <= self.wanted } else { self.measured >= self.wanted };
        if met { "met" } else { "not met" }
    }
}

/// A single figure.
pub struct Single {
    /// Section of the report.
    pub section: &'static str,
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
}

/// All results.
#[derive(Default)]
pub struct Report {
    pub settings: Vec<String>,
    /// Names, versions and settings of the contenders.
    pub versions: Vec<(&'static str, String, &'static str)>,
    pub rows: Vec<Row>,
    pub singles: Vec<Single>,
    /// Missing figures and the reasons.
    pub failures: Vec<String>,
}

impl Report {
    fn of(&self, discipline: &str, contender: Contender) -> Option<&Row> {
        self.rows.iter().find(|r| r.discipline == discipline && r.contender == contender)
    }

    /// Returns a contender's CPU time as a multiple of Saegis's.
    fn times(&self, discipline: &str, peer: Contender) -> Option<f64> {
        let own = self.of(discipline, Contender::Saegis)?.median("server_cpu_us");
        Some(self.of(discipline, peer)?.median("server_cpu_us") / own)
    }

    /// Returns the sandboxes' share of Saegis's CPU time in percent.
    fn share(&self, discipline: &str) -> Option<f64> {
        let without = self.times(discipline, Contender::SaegisWithoutWasm)?;
        Some((1.0 - without) * 100.0)
    }

    fn single(&self, what: &str) -> Option<f64> {
        self.singles.iter().find(|single| single.what == what).map(|single| single.value)
    }

    /// Returns the CPU time of a create and the memory of an idle session, times mosquitto's.
    fn of_mqtt(&self) -> [Option<f64>; 2] {
        let create = |of| self.of(MQTT_CREATE, of).map(|row| row.median("server_cpu_us"));
        let create = create(Contender::SaegisMqtt).zip(create(Contender::Mosquitto));
        let [own, peer] = IDLE_MQTT_SESSIONS.map(|what| self.single(what));
        [create, own.zip(peer)].map(|both| both.map(|(own, peer)| own / peer))
    }

    /// Returns the CPU time of a handshake over DTLS with each engine, and of a request, times libcoap's.
    fn of_coap(&self) -> [Option<f64>; 3] {
        let times = |discipline, own| {
            let cpu = |of| self.of(discipline, of).map(|row| row.median("server_cpu_us"));
            let (own, peer) = cpu(own).zip(cpu(Contender::LibCoap))?;
            Some(own / peer)
        };
        [
            times(COAP_HANDSHAKE, Contender::SaegisCoap),
            times(COAP_HANDSHAKE, Contender::SaegisCoapNative),
            times(COAP_REQUEST, Contender::SaegisCoap),
        ]
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut add = |what: &str, wanted, measured: Option<f64>, at_most| {
            let what = what.to_owned();
            targets.extend(measured.map(|measured| Target { what, wanted, measured, at_most }));
        };
        let psk = "handshake: PSK CBC, 100000 identities";
        let one = self.of("handshake: PSK CBC, 1 identities", Contender::Saegis);
        let million = self.of("handshake: PSK CBC, 1000000 identities", Contender::Saegis);
        let stunnel = self.times(psk, Contender::Stunnel);
        add("PSK CBC, 100,000 identities: times stunnel's rate per core", 2.2, stunnel, false);
        let floor = self.times(psk, Contender::Floor).map(|times| 1.0 / times);
        add("the same: CPU, times the floor", 1.5, floor, true);
        let ratio = one
            .zip(million)
            .map(|(one, million)| million.median("server_cpu_us") / one.median("server_cpu_us"));
        add("1,000,000 identities against one: CPU", 1.1, ratio, true);
        for version in ["1.2", "1.3"] {
            let discipline = format!("handshake: mutual P-256, TLS {version}");
            let envoy = self.times(&discipline, Contender::EnvoyFilter);
            let what =
                format!("mutual P-256, TLS {version}, returning: times Envoy with its filter");
            add(&what, 1.2, envoy, false);
        }
        let resumed = "handshake: mutual P-256, TLS 1.3, resumed";
        let envoy = self.times(resumed, Contender::EnvoyResuming);
        add("mutual P-256, TLS 1.3, resumed: times Envoy with its filter", 1.0, envoy, false);
        let persistent = "keep-alive: mutual P-256, TLS 1.3";
        for (peer, name) in [(Contender::Nginx, "nginx"), (Contender::Haproxy, "haproxy")] {
            let what = format!("keep-alive, mutual P-256: times {name}");
            add(&what, 1.0, self.times(persistent, peer), false);
        }
        let persistent = "keep-alive: PSK CBC";
        let stunnel = self.times(persistent, Contender::Stunnel);
        add("keep-alive, PSK CBC: times stunnel", 2.2, stunnel, false);
        let websocket = self.times(persistent, Contender::SaegisWebSocket);
        add("keep-alive, PSK CBC: WebSocket's CPU, times HTTP's", 0.9, websocket, true);
        let [create, idle] = self.of_mqtt();
        add("create over MQTT, PSK CBC: CPU, times mosquitto's", 2.0, create, true);
        add("an idle session of MQTT: memory, times mosquitto's", 1.5, idle, true);
        let [openssl, native, request] = self.of_coap();
        add("handshake over DTLS, PSK CCM_8: CPU, times libcoap's", 1.5, openssl, true);
        add("the same with psk-engine native", 1.5, native, true);
        add("request over DTLS, PSK CCM_8: CPU, times libcoap's", 2.5, request, true);
        add("an idle association of DTLS, bytes", 20480.0, self.single(IDLE_COAP), true);
        add("WASM's share of a PSK CBC handshake, %", 12.0, self.share(psk), true);
        for (what, wanted, single, at_most) in [
            ("an idle association, bytes", 24576.0, "an idle association", true),
            ("the same of TLS 1.3, bytes", 16384.0, "an idle association of TLS 1.3", true),
            ("1,000,000 rows: load, ms", 1000.0, "load of 1000000 rows at start", true),
            ("1,000,000 rows: bytes a row", 200.0, "a row of 1000000", true),
            ("start to ready, warm code cache, ms", 50.0, "start to ready, warm code cache", true),
        ] {
            add(what, wanted, self.single(single), at_most);
        }
        for on in ["one core", "both cores"] {
            for of in ["requests", "handshakes"] {
                let what = format!("p99 of {of} while reloading, {on}: times steady");
                add(&what, 2.0, self.single(&format!("{of}, {on}: p99, times steady")), true);
            }
        }
        for of in ["PSK CBC", "mutual P-256, TLS 1.3"] {
            let (memory, gateway) = (
                format!("{of}, in memory: rate of two threads to one"),
                format!("{of}, gateway: gain by CPU"),
            );
            add(&memory, 1.8, self.single(&memory), false);
            add(&gateway, 1.9, self.single(&gateway), false);
        }
        targets
    }

    /// Returns the report as JSON.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({ "discipline": row.discipline, "contender": row.contender.name(),
                "server_cpu_us": row.median("server_cpu_us"), "rounds": row.rounds })
        });
        let targets = self.targets();
        let targets = targets.iter().map(|t| {
            json!({ "what": t.what, "wanted": t.wanted, "measured": t.measured, "met": t.met() == "met" })
        });
        let singles = self.singles.iter().map(|single| {
            json!({ "section": single.section, "what": single.what, "value": single.value,
                "unit": single.unit })
        });
        let versions = self.versions.iter().map(|(who, version, settings)| {
            json!({ "contender": who, "version": version, "settings": settings })
        });
        json!({
            "settings": self.settings,
            "failures": self.failures,
            "versions": versions.collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "singles": singles.collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }

    /// Returns the report as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Benchmark\n\n");
        // Writing to a String cannot fail.
        for line in &self.settings {
            let _ = writeln!(text, "- {line}");
        }
        if !self.failures.is_empty() {
            text.push_str("\n## Failed, and without a figure\n\n");
            for failure in &self.failures {
                let _ = writeln!(text, "- {failure}");
            }
        }
        text.push_str("\n| contender | version | settings |\n|---|---|---|\n");
        for (who, version, settings) in &self.versions {
            let _ = writeln!(text, "| {who} | {version} | {settings} |");
        }
        let mut last = "";
        for row in &self.rows {
            if row.discipline != last {
                last = &row.discipline;
                let _ = write!(
                    text,
                    "\n## {last}\n\n| | server CPU µs | least and most | × Saegis | a second, \
                     per core | a second, seen | p50 ms | p99 ms | p99.9 ms |\n\
                     |---|---|---|---|---|---|---|---|---|\n"
                );
            }
            let (cpu, least, most) = row.figure("server_cpu_us").unwrap_or_default();
            let times = self.times(last, row.contender).map_or("–".into(), |t| format!("{t:.2}"));
            let ms = |name| row.median(name) / 1000.0;
            let _ = writeln!(
                text,
                "| {} | {cpu:.1} | {least:.1}–{most:.1} | {times} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} |",
                row.contender.name(),
                1e6 / cpu,
                row.median("per_second"),
                ms("p50_us"),
                ms("p99_us"),
                ms("p999_us"),
            );
        }
        let mut last = "";
        for Single { section, what, value, unit } in &self.singles {
            if *section != last {
                last = section;
                let _ = write!(text, "\n## {section}\n\n| | |\n|---|---|\n");
            }
            let _ = writeln!(text, "| {what} | {value:.2} {unit} |");
        }
        text.push_str("\n## Targets\n\n| | target | measured | |\n|---|---|---|---|\n");
        for target in self.targets() {
            let (sign, met) = (if target.at_most { "≤" } else { "≥" }, target.met());
            let _ = writeln!(
                text,
                "| {} | {sign} {} | {:.2} | {met} |",
                target.what, target.wanted, target.measured
            );
        }
        text.push_str("\nWhere the time goes, and what was tried, is in docs/src/explanation/performance.md.\n");
        text
    }
}
