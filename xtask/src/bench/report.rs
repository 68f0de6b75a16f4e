//! What was measured, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::contender::Contender;

/// One contender in one discipline, round by round.
pub struct Row {
    pub discipline: String,
    pub contender: Contender,
    pub rounds: Vec<Value>,
}

impl Row {
    /// The median of a figure over the rounds, and its least and its most.
    fn figure(&self, name: &str) -> Option<(f64, f64, f64)> {
        let mut all: Vec<f64> = self.rounds.iter().filter_map(|r| r[name].as_f64()).collect();
        all.sort_by(f64::total_cmp);
        Some((*all.get(all.len() / 2)?, *all.first()?, *all.last()?))
    }

    pub fn median(&self, name: &str) -> f64 {
        self.figure(name).map_or(f64::NAN, |(median, ..)| median)
    }
}

/// A target, and what came of it.
pub struct Target {
    pub what: String,
    pub wanted: f64,
    pub measured: f64,
    /// Whether less is better.
    pub at_most: bool,
}

impl Target {
    fn met(&self) -> &'static str {
        let met =
            if self.at_most { self.measured <= self.wanted } else { self.measured >= self.wanted };
        if met { "met" } else { "not met" }
    }
}

/// All that was measured.
#[derive(Default)]
pub struct Report {
    pub settings: Vec<String>,
    pub versions: Vec<(&'static str, String)>,
    pub rows: Vec<Row>,
    /// Single figures: what, value, unit.
    pub singles: Vec<(String, f64, &'static str)>,
}

impl Report {
    fn of(&self, discipline: &str, contender: Contender) -> Option<&Row> {
        self.rows.iter().find(|r| r.discipline == discipline && r.contender == contender)
    }

    /// What one contender takes of the processor, as a multiple of what Saegis takes.
    fn times(&self, discipline: &str, peer: Contender) -> Option<f64> {
        let own = self.of(discipline, Contender::Saegis)?.median("server_cpu_us");
        Some(self.of(discipline, peer)?.median("server_cpu_us") / own)
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
        let own = self.of(psk, Contender::Saegis).map(|row| row.median("server_cpu_us"));
        add(
            "PSK CBC, 100,000 identities: times stunnel's rate per core",
            4.5,
            self.times(psk, Contender::Stunnel),
            false,
        );
        add("the same: server CPU, µs", 110.0, own, true);
        let ratio = one
            .zip(million)
            .map(|(one, million)| million.median("server_cpu_us") / one.median("server_cpu_us"));
        add("1,000,000 identities against one: CPU", 1.1, ratio, true);
        for version in ["1.2", "1.3"] {
            let discipline = format!("handshake: mutual P-256, TLS {version}");
            let nginx = self.times(&discipline, Contender::Nginx);
            add(&format!("mutual P-256, TLS {version}: times nginx"), 3.3, nginx, false);
        }
        let kept = "keep-alive: mutual P-256, TLS 1.3";
        add(
            "keep-alive, mutual P-256: times nginx",
            1.2,
            self.times(kept, Contender::Nginx),
            false,
        );
        let kept = "keep-alive: PSK CBC";
        add("keep-alive, PSK CBC: times stunnel", 2.4, self.times(kept, Contender::Stunnel), false);
        let single = |name: &str| self.singles.iter().find(|(n, ..)| n == name).map(|(_, v, _)| *v);
        add("an idle association, bytes", 24576.0, single("an idle association"), true);
        add("1,000,000 rows: bytes a row", 200.0, single("a row of 1,000,000"), true);
        add(
            "start to ready, warm code cache, ms",
            50.0,
            single("start to ready, warm code cache"),
            true,
        );
        targets
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({ "discipline": row.discipline, "contender": row.contender.name(),
                "server_cpu_us": row.median("server_cpu_us"), "rounds": row.rounds })
        });
        let targets = self.targets();
        let targets = targets.iter().map(|t| {
            json!({ "what": t.what, "wanted": t.wanted, "measured": t.measured, "met": t.met() == "met" })
        });
        let singles = self.singles.iter();
        json!({
            "settings": self.settings,
            "versions": self.versions.iter().map(|(who, what)| json!([who, what])).collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "singles": singles.map(|(n, v, u)| json!({ "what": n, "value": v, "unit": u })).collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Benchmark\n\n");
        // Writing to a String can't fail.
        for line in &self.settings {
            let _ = writeln!(text, "- {line}");
        }
        text.push_str("\n| contender | version |\n|---|---|\n");
        for (who, what) in &self.versions {
            let _ = writeln!(text, "| {who} | {what} |");
        }
        let mut last = "";
        for row in &self.rows {
            if row.discipline != last {
                last = &row.discipline;
                let _ = write!(
                    text,
                    "\n## {last}\n\n| | server CPU µs | least and most | × Saegis | a second, \
                     per core | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|---|---|---|\n"
                );
            }
            let (cpu, least, most) = row.figure("server_cpu_us").unwrap_or_default();
            let times = self.times(last, row.contender).map_or("–".into(), |t| format!("{t:.2}"));
            let ms = |name| row.median(name) / 1000.0;
            let _ = writeln!(
                text,
                "| {} | {cpu:.1} | {least:.1}–{most:.1} | {times} | {:.0} | {:.2} | {:.2} | {:.2} |",
                row.contender.name(),
                1e6 / cpu,
                ms("p50_us"),
                ms("p99_us"),
                ms("p999_us"),
            );
        }
        if !self.singles.is_empty() {
            text.push_str("\n## Scale\n\n| | |\n|---|---|\n");
            for (what, value, unit) in &self.singles {
                let _ = writeln!(text, "| {what} | {value:.1} {unit} |");
            }
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
        text
    }
}
