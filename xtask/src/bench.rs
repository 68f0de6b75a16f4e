//! `cargo xtask bench`: Saegis beside its peers, doing the same work.

mod contender;
mod peers;
mod report;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use self::contender::{Contender, LOAD_CORE, Place, SERVER_CORE};
use self::report::{Report, Row};
use crate::{modules, process, project::Project};

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Fresh handshakes with pre-shared keys
    Psk,
    /// Fresh handshakes with certificates
    Certificates,
    /// Requests over connections that stay
    KeepAlive,
    /// Idle associations, a million rows, starts
    Scale,
    /// What there is without TLS
    Limits,
}

/// What is measured.
#[derive(clap::Args)]
pub struct Args {
    /// These parts and no others
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// One short round with fewer identities, to see that it works
    #[arg(long)]
    quick: bool,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// The CSE behind; it ends when dropped.
struct Behind(Child);

impl Drop for Behind {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let cores = thread::available_parallelism()?.get();
    if cores < 2 {
        bail!("the server has one core and the generator another; here is one in all");
    }
    let envoy = peers::install()?;
    modules::build(project, None, false)?;
    for package in ["saegis", "saegis-load"] {
        let arguments = ["build", "--release", "--locked", "--package", package];
        process::run(project.host_cargo().args(arguments))?;
    }
    let out = project.host_target.join("bench");
    let work = out.join("work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let load = project.host_target.join("release/saegis-load");
    let (behind, upstream) = behind(&load)?;
    let _behind = behind;
    let place = Place {
        saegis: project.gateway_binary("release"),
        modules: project.root.join("policies/modules"),
        work,
        load,
        envoy,
        upstream,
    };
    let identities: &[u64] = if args.quick { &[1, 1000] } else { &[1, 10_000, 100_000, 1_000_000] };
    let list = identities.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut make = Command::new(&place.load);
    make.arg("credentials").arg("--folder").arg(place.credentials());
    process::run(make.args(["--identities", &list]))?;

    let mut bench = Bench { place, args, report: Report::default() };
    bench.all(identities)?;
    let report = bench.report;
    fs::write(out.join("report.md"), report.markdown())?;
    fs::write(out.join("report.json"), serde_json::to_string_pretty(&report.json())?)?;
    fs::remove_dir_all(out.join("work"))?;
    println!("\n{}", report.markdown());
    println!("In {} and report.json", out.join("report.md").display());
    Ok(())
}

fn behind(load: &Path) -> Result<(Behind, SocketAddr)> {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CORE]).arg(load).arg("upstream");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut behind = Behind(child);
    let mut line = String::new();
    let output = behind.0.stdout.take().context("it has an output")?;
    BufReader::new(output).read_line(&mut line)?;
    Ok((behind, line.trim().parse().context("the CSE behind tells no address")?))
}

struct Bench<'a> {
    place: Place,
    args: &'a Args,
    report: Report,
}

impl Bench<'_> {
    fn all(&mut self, identities: &[u64]) -> Result<()> {
        use Contender as C;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        self.report.settings = vec![
            format!("Linux {}, {} processors", kernel.trim(), thread::available_parallelism()?),
            format!("server on core {SERVER_CORE}; generator and CSE behind on core {LOAD_CORE}"),
            format!(
                "{} rounds of {} s each, contenders interleaved; medians",
                self.rounds(),
                self.seconds()
            ),
            "fresh handshakes: 16 at a time, one request each; keep-alive: 64 connections".into(),
            "a core's rate is a second over the server CPU of an operation".into(),
            "every answer was checked; a run with an error has no figure".into(),
        ];
        let all = [C::Saegis, C::Stunnel, C::GnuTls, C::Nginx, C::Haproxy, C::Envoy];
        self.report.versions = all.map(|c| (c.name(), c.version(&self.place))).to_vec();
        let most = identities.last().copied().unwrap_or(1);
        if self.args.wants(Part::Psk) {
            for (way, suite) in [("psk-cbc", "PSK CBC"), ("psk-gcm", "PSK GCM")] {
                for &number in identities {
                    // GnuTLS reads its file from the start at each handshake.
                    let peers: &[C] = match number {
                        1 => &[C::Saegis, C::Stunnel, C::GnuTls],
                        _ => &[C::Saegis, C::Stunnel],
                    };
                    let what = format!("handshake: {suite}, {number} identities");
                    self.discipline(&what, peers, "fresh", way, number)?;
                }
            }
        }
        let peers = [C::Saegis, C::Nginx, C::Haproxy, C::Envoy];
        if self.args.wants(Part::Certificates) {
            for (way, version) in [("tls12", "1.2"), ("tls13", "1.3")] {
                let what = format!("handshake: mutual P-256, TLS {version}");
                self.discipline(&what, &peers, "fresh", way, 1)?;
            }
        }
        if self.args.wants(Part::KeepAlive) {
            let both = [C::Saegis, C::Stunnel];
            self.discipline(
                "keep-alive: PSK CBC",
                &both,
                "persistent",
                "psk-cbc",
                most.min(100_000),
            )?;
            self.discipline("keep-alive: mutual P-256, TLS 1.3", &peers, "persistent", "tls13", 1)?;
        }
        if self.args.wants(Part::Limits) {
            let both = [C::Upstream, C::NginxPlain];
            self.discipline("no TLS, connection and request", &both, "fresh", "plain", 1)?;
            self.discipline("no TLS, keep-alive", &both, "persistent", "plain", 1)?;
        }
        if self.args.wants(Part::Scale) {
            self.scale(most)?;
        }
        Ok(())
    }

    fn rounds(&self) -> usize {
        if self.args.quick { 1 } else { 3 }
    }

    fn seconds(&self) -> &'static str {
        if self.args.quick { "1" } else { "2" }
    }

    /// All rounds of some contenders, interleaved.
    fn discipline(
        &mut self,
        what: &str,
        contenders: &[Contender],
        mode: &str,
        way: &str,
        identities: u64,
    ) -> Result<()> {
        println!("\n{what}");
        let row = |contender: &Contender| Row {
            discipline: what.to_owned(),
            contender: *contender,
            rounds: Vec::new(),
        };
        let mut rows: Vec<Row> = contenders.iter().map(row).collect();
        for _ in 0..self.rounds() {
            for row in &mut rows {
                let contender = row.contender;
                let server = contender.start(&self.place, identities, SERVER_CORE)?;
                let mut load = self.generator(mode, way, identities, &server);
                load.args(["--seconds", self.seconds()]);
                if contender == Contender::Saegis {
                    load.arg("--checks-originators");
                }
                if contender == Contender::GnuTls {
                    load.args(["--expected", "status"]);
                }
                let figures: Value = serde_json::from_str(&process::output(&mut load)?)?;
                let cpu = figures.get("server_cpu_us").and_then(Value::as_f64).unwrap_or(f64::NAN);
                println!("  {:32} {cpu:8.1} µs", contender.name());
                row.rounds.push(figures);
            }
        }
        self.report.rows.append(&mut rows);
        Ok(())
    }

    fn generator(
        &self,
        mode: &str,
        way: &str,
        identities: u64,
        server: &contender::Running,
    ) -> Command {
        let pids = server.family().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut load = Command::new("taskset");
        load.args(["-c", LOAD_CORE]).arg(&self.place.load).arg(mode).arg("--folder");
        load.arg(self.place.credentials()).args(["--way", way, "--pid", &pids]);
        load.args(["--address", &server.address.to_string()]);
        load.args(["--identities", &identities.to_string()]);
        load
    }

    /// What many of something take.
    fn scale(&mut self, rows: u64) -> Result<()> {
        println!("\nscale");
        let associations = if self.args.quick { 200 } else { 10_000 };
        for (way, what) in
            [("psk-cbc", "an idle association"), ("tls13", "an idle association of TLS 1.3")]
        {
            let server = Contender::Saegis.start(&self.place, rows, SERVER_CORE)?;
            let mut load = self.generator("hold", way, rows, &server);
            load.args(["--connections", &associations.to_string()]);
            let held: Value = serde_json::from_str(&process::output(&mut load)?)?;
            self.single(
                what,
                held.get("bytes_each").and_then(Value::as_f64).unwrap_or(f64::NAN),
                "bytes",
            );
        }
        let cache = self.place.work.join("saegis/state/code-cache");
        fs::remove_dir_all(&cache).context("there is no code cache")?;
        let mut times = Vec::new();
        for _ in 0..2 {
            let server = Contender::Saegis.start(&self.place, 1, SERVER_CORE)?;
            // What the watch does behind the start is not the table's.
            thread::sleep(Duration::from_millis(500));
            times.push((server.took, memory(&server)));
        }
        let many = Contender::Saegis.start(&self.place, rows, SERVER_CORE)?;
        thread::sleep(Duration::from_millis(500));
        let [(cold, _), (warm, few)] = times.as_slice() else { bail!("two starts") };
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        self.single("start to ready, cold code cache", ms(cold), "ms");
        self.single("start to ready, warm code cache", ms(warm), "ms");
        #[expect(clippy::cast_precision_loss, reason = "bytes and rows")]
        let bytes = (memory(&many).saturating_sub(*few)) as f64 / rows as f64;
        if rows == 1_000_000 {
            self.single("start to ready with 1,000,000 rows", ms(&many.took), "ms");
            self.single("a row of 1,000,000", bytes, "bytes");
        }
        Ok(())
    }

    fn single(&mut self, what: &str, value: f64, unit: &'static str) {
        println!("  {what:40} {value:10.1} {unit}");
        self.report.singles.push((what.to_owned(), value, unit));
    }
}

/// Resident memory of a server, in bytes.
fn memory(server: &contender::Running) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    };
    server.family().iter().map(of).sum()
}
