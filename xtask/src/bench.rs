//! `cargo xtask bench`: Saegis beside its contenders, with the same work.

mod against;
mod args;
mod behind;
mod contender;
mod cores;
mod peers;
mod reloads;
mod report;
mod round;
mod scale;
mod settings;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Result, bail};

pub use self::args::Args;
use self::args::Part;
use self::behind::{LOAD_CORE, behind};
use self::contender::{Contender, Place, SERVER_CORE};
use self::report::{
    COAP_HANDSHAKE, COAP_REQUEST, IDLE_COAP, IDLE_MQTT_SESSIONS, MQTT_CREATE, Report, Row, Single,
};
use self::round::{CERTIFICATES, Work, empty_folder, make_credentials, number};
use crate::{modules, process, project::Project};

/// Way of the connections for CoAP.
const DTLS: &str = "dtls-psk-ccm8";

/// Number of identities over CoAP, one for each concurrent association: requests to an AE change to the
/// association that its credential has used last. libcoap searches its list from the start.
const COAP_IDENTITIES: u64 = 64;

/// Runs the benchmark. A failure is reported and does not discard the other figures.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let cores = thread::available_parallelism()?.get();
    if cores < 2 {
        bail!("the benchmark requires two cores: one for the server and one for the generator");
    }
    if let Some(revision) = &args.against {
        return against::run(project, revision, args);
    }
    let envoy = peers::install()?;
    modules::build(project, None, false)?;
    let filter = peers::filter(project)?;
    let out = project.host_target.join("bench");
    let work = empty_folder(out.join("work"))?;
    let without_wasm = without_wasm(project, &work, args)?;
    let (profile, arguments) = args.profile();
    for package in ["saegis", "saegis-load"] {
        let build = ["build", "--locked", "--package", package];
        process::run(project.measured_cargo().args(build).args(arguments))?;
    }
    let load = project.host_target.join(profile).join("saegis-load");
    let (behind, upstream) = behind(&load)?;
    let _behind = behind;
    let place = Place {
        saegis: project.gateway_binary(profile),
        without_wasm,
        // Used only by --against.
        before: PathBuf::new(),
        modules_before: PathBuf::new(),
        modules: project.root.join("policies/modules"),
        work,
        load,
        envoy,
        filter,
        upstream,
        server_cores: SERVER_CORE,
    };
    let identities: &[u64] = if args.quick { &[1, 1000] } else { &[1, 10_000, 100_000, 1_000_000] };
    make_credentials(&place, &[identities, &[COAP_IDENTITIES]].concat())?;

    let mut bench = Bench { place, args, report: Report::default() };
    bench.all(identities)?;
    let report = bench.report;
    fs::write(out.join("report.md"), report.markdown())?;
    fs::write(out.join("report.json"), serde_json::to_string_pretty(&report.json())?)?;
    println!("\n{}", report.markdown());
    println!("In {} and report.json", out.join("report.md").display());
    if !report.failures.is_empty() {
        // The servers' logs remain.
        bail!("{} parts failed: {}", report.failures.len(), report.failures.join("; "));
    }
    fs::remove_dir_all(out.join("work"))?;
    Ok(())
}

/// Builds a gateway with native decisions. It is moved before the shipped gateway is built, so it
/// is never found in a search path.
fn without_wasm(project: &Project, work: &Path, args: &Args) -> Result<PathBuf> {
    // Unlike `RUSTFLAGS`, this affects only the crates of the workspace, so no dependency is built
    // again.
    let wrapper = work.join("rustc-bench");
    fs::write(&wrapper, "#!/bin/sh\nexec \"$@\" --cfg saegis_bench\n")?;
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
    let (profile, arguments) = args.profile();
    let mut cargo = project.measured_cargo();
    cargo.args(["build", "--locked", "--package", "saegis"]).args(arguments);
    process::run(cargo.env("RUSTC_WORKSPACE_WRAPPER", &wrapper))?;
    let moved = work.join("saegis-without-wasm");
    fs::rename(project.gateway_binary(profile), &moved)?;
    Ok(moved)
}

struct Bench<'a> {
    place: Place,
    args: &'a Args,
    report: Report,
}

impl Bench<'_> {
    fn all(&mut self, identities: &[u64]) -> Result<()> {
        use Contender as C;
        self.about()?;
        let most = identities.last().copied().unwrap_or(1);
        // In rounds next to the shipped gateway. The sandboxes cost a tenth, which is visible on a
        // busy machine only if rounds follow each other closely.
        let many = most.min(100_000);
        // mosquitto reads its table of keys row by row at each handshake.
        let few = most.min(10_000);
        if self.args.wants(Part::Psk) {
            for (way, suite) in [("psk-cbc", "PSK CBC"), ("psk-gcm", "PSK GCM")] {
                for &number in identities {
                    let mut peers = vec![C::Saegis, C::Stunnel];
                    // GnuTLS reads its file from the start at each handshake.
                    peers.extend((number == 1).then_some(C::GnuTls));
                    let what = format!("handshake: {suite}, {number} identities");
                    let work = Work::fresh(way, number);
                    if way == "psk-cbc" && number == many {
                        peers.splice(1..1, [C::SaegisWithoutWasm, C::SaegisReusing, C::Floor]);
                        let returning = format!("{what}, returning devices");
                        self.discipline(&returning, &peers, work.returning());
                    }
                    self.discipline(&what, &peers, work);
                }
            }
        }
        let peers = [C::Saegis, C::Floor, C::Nginx, C::Haproxy, C::Envoy, C::EnvoyFilter];
        if self.args.wants(Part::Certificates) {
            for (way, version) in [("tls12", "1.2"), ("tls13", "1.3")] {
                let what = format!("handshake: mutual P-256, TLS {version}");
                let work = Work::fresh(way, CERTIFICATES);
                self.discipline(&what, &peers, work.returning());
                self.discipline(&format!("{what}, first contacts"), &peers, work);
            }
            let both = [C::Saegis, C::EnvoyResuming];
            let work = Work::fresh("tls13-resumed", CERTIFICATES).returning();
            self.discipline("handshake: mutual P-256, TLS 1.3, resumed", &both, work);
        }
        if self.args.wants(Part::KeepAlive) {
            let own = [C::Saegis, C::SaegisWebSocket, C::SaegisWithoutWasm, C::Floor, C::Stunnel];
            self.discipline("keep-alive: PSK CBC", &own, Work::persistent("psk-cbc", many));
            let work = Work::persistent("tls13", 1);
            self.discipline("keep-alive: mutual P-256, TLS 1.3", &peers, work);
        }
        if self.args.wants(Part::Mqtt) {
            let both = [C::SaegisMqtt, C::Mosquitto];
            self.discipline(MQTT_CREATE, &both, Work::persistent("psk-cbc", few));
            for (contender, what) in both.into_iter().zip(IDLE_MQTT_SESSIONS) {
                self.attempt(what, |bench| bench.idle(contender, "psk-cbc", what, few));
            }
        }
        if self.args.wants(Part::Coap) {
            let both = [C::SaegisCoap, C::LibCoap];
            let all = [C::SaegisCoap, C::SaegisCoapNative, C::LibCoap];
            self.discipline(COAP_HANDSHAKE, &all, Work::fresh(DTLS, COAP_IDENTITIES));
            self.discipline(COAP_REQUEST, &both, Work::persistent(DTLS, COAP_IDENTITIES));
            self.attempt(IDLE_COAP, |bench| bench.idle(C::SaegisCoap, DTLS, IDLE_COAP, few));
        }
        if self.args.wants(Part::Limits) {
            let both = [C::Upstream, C::NginxPlain];
            self.discipline("no TLS, connection and request", &both, Work::fresh("plain", 1));
            self.discipline("no TLS, keep-alive", &both, Work::persistent("plain", 1));
            self.attempt("handshakes in memory", Self::in_memory);
        }
        if self.args.wants(Part::Scale) {
            self.scale(most);
        }
        if self.args.wants(Part::Cores) {
            self.cores(many);
        }
        Ok(())
    }

    /// Adds the settings and the machine to the report.
    fn about(&mut self) -> Result<()> {
        use Contender as C;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        self.report.settings = vec![
            format!("Linux {}, {} processors", kernel.trim(), thread::available_parallelism()?),
            format!("builds of the profile {}", self.args.profile().0),
            format!("server on core {SERVER_CORE}; generator and CSE behind on core {LOAD_CORE}"),
            format!(
                "{} rounds of {} s each, contenders interleaved; medians",
                self.rounds(),
                self.seconds()
            ),
            "fresh handshakes: 16 at a time, one request each; keep-alive: 64 connections".into(),
            "a core's rate is a second over the server CPU of an operation; the rate that was seen \
             and the latencies are those of a server with more to do than it can, beside the \
             generator"
                .into(),
            "every answer was checked; a run with an error has no figure; who checks originators \
             refused a request in another's name before each run"
                .into(),
        ];
        let all = [
            C::Saegis,
            C::SaegisWithoutWasm,
            C::SaegisReusing,
            C::SaegisWebSocket,
            C::SaegisMqtt,
            C::Mosquitto,
            C::SaegisCoap,
            C::SaegisCoapNative,
            C::LibCoap,
            C::Stunnel,
            C::GnuTls,
            C::Nginx,
            C::Haproxy,
            C::Envoy,
            C::EnvoyFilter,
            C::EnvoyResuming,
            C::Upstream,
        ];
        self.report.versions =
            all.map(|c| (c.name(), c.version(&self.place), c.settings())).to_vec();
        Ok(())
    }

    fn rounds(&self) -> usize {
        if self.args.quick { 1 } else { 3 }
    }

    fn seconds(&self) -> &'static str {
        if self.args.quick { "1" } else { "2" }
    }

    /// Runs a part. A failure goes into the report, and the other parts continue.
    fn attempt(&mut self, what: &str, part: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = part(self) {
            self.failed(format!("{what}: {error:#}"));
        }
    }

    fn failed(&mut self, why: String) {
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        eprintln!("  FAILED: {why}");
        self.report.failures.push(why);
    }

    /// Runs the rounds of several contenders, interleaved. A contender with a failed round has no
    /// figure.
    fn discipline(&mut self, what: &str, contenders: &[Contender], work: Work) {
        println!("\n{what}");
        let row = |contender: &Contender| Row {
            discipline: what.to_owned(),
            contender: *contender,
            rounds: Vec::new(),
        };
        let mut rows: Vec<Row> = contenders.iter().map(row).collect();
        for _ in 0..self.rounds() {
            rows.retain_mut(|row| {
                let name = row.contender.name();
                match self.place.round(row.contender, work, self.seconds()) {
                    Ok(figures) => {
                        println!("  {name:32} {:8.1} µs", number(&figures, "server_cpu_us"));
                        row.rounds.push(figures);
                        true
                    }
                    Err(error) => {
                        self.failed(format!("{what}, {name}: {error:#}"));
                        false
                    }
                }
            });
        }
        self.report.rows.append(&mut rows);
    }

    fn single(&mut self, section: &'static str, what: &str, value: f64, unit: &'static str) {
        println!("  {what:56} {value:10.1} {unit}");
        self.report.singles.push(Single { section, what: what.to_owned(), value, unit });
    }
}
