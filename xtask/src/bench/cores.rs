//! In-memory handshakes, and the effect of a second core.

use std::{
    process::{Command, Stdio},
    thread,
};

use anyhow::{Result, bail};

use super::{
    Bench,
    behind::LOAD_CORE,
    contender::{Contender, SERVER_CORE},
    round::{Work, figures, median, number},
};

/// Kinds of connections, with their names in the report.
const WAYS: &[(&str, &str)] = &[
    ("psk-cbc", "PSK CBC"),
    ("psk-gcm", "PSK GCM"),
    ("tls12", "mutual P-256, TLS 1.2"),
    ("tls13", "mutual P-256, TLS 1.3"),
];

impl Bench<'_> {
    /// Measures the server side of in-memory handshakes.
    pub fn in_memory(&mut self) -> Result<()> {
        println!("\nin memory");
        for (way, name) in WAYS {
            let rounds = (0..self.rounds()).map(|_| figures(&mut self.both_ends(way, "0", &["1"])));
            let rounds = rounds.collect::<Result<Vec<_>>>()?;
            let took = median(rounds.iter().map(|r| number(r, "server_cpu_us")).collect());
            let what = format!("{name}, server's side in memory");
            self.single("Limits", &what, took, "µs");
        }
        Ok(())
    }

    /// Measures the effect of a second core, for the handshakes with the most and the fewest locks
    /// in the engines.
    pub fn cores(&mut self, identities: u64) {
        println!("\ntwo cores");
        for (way, name) in WAYS.iter().filter(|(way, _)| ["psk-cbc", "tls13"].contains(way)) {
            self.attempt("two cores in memory", |bench| bench.threads(way, name));
            let identities = if *way == "psk-cbc" { identities } else { 1 };
            self.attempt("two cores", |bench| bench.workers(way, name, identities));
        }
    }

    /// Compares two threads of one process with one thread, with an engine for each, and with two
    /// separate processes.
    fn threads(&mut self, way: &str, name: &str) -> Result<()> {
        let (mut rate, mut engines) = (Vec::new(), Vec::new());
        let (mut processes, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds() {
            let one = figures(&mut self.both_ends(way, SERVER_CORE, &["1"]))?;
            let two = figures(&mut self.both_ends(way, "0,1", &["2"]))?;
            let each = figures(&mut self.both_ends(way, "0,1", &["2", "--apart"]))?;
            let apart = thread::scope(|scope| {
                let other = scope.spawn(|| figures(&mut self.both_ends(way, LOAD_CORE, &["1"])));
                let own = figures(&mut self.both_ends(way, SERVER_CORE, &["1"]))?;
                let Ok(other) = other.join() else { bail!("a thread panicked") };
                Ok(number(&own, "per_second") + number(&other?, "per_second"))
            })?;
            rate.push(number(&two, "per_second") / number(&one, "per_second"));
            engines.push(number(&each, "per_second") / number(&one, "per_second"));
            processes.push(apart / number(&one, "per_second"));
            cpu.push(2.0 * number(&one, "server_cpu_us") / number(&two, "server_cpu_us"));
        }
        let section = "Two cores";
        let of = |what: &str| format!("{name}, in memory: {what}");
        self.single(section, &of("rate of two threads to one"), median(rate), "");
        self.single(section, &of("the same, with an engine each"), median(engines), "");
        self.single(section, &of("rate of two processes to one"), median(processes), "");
        self.single(section, &of("gain by server CPU"), median(cpu), "");
        Ok(())
    }

    /// Compares a gateway with two workers and one with one worker by CPU time. The rate is not
    /// comparable, because the generator shares a core.
    fn workers(&mut self, way: &'static str, name: &str, identities: u64) -> Result<()> {
        let mut gains = Vec::new();
        for _ in 0..self.rounds() {
            let mut took = [0.0; 2];
            for (cores, took) in [SERVER_CORE, "0,1"].into_iter().zip(&mut took) {
                let server = Contender::Saegis.start(&self.place, identities, cores)?;
                let mut load = self.place.generator(Work::fresh(way, identities), &server);
                load.args(["--seconds", self.seconds(), "--checks-originators"]);
                *took = number(&figures(&mut load)?, "server_cpu_us");
            }
            let [one, two] = took;
            gains.push(2.0 * one / two);
        }
        self.single("Two cores", &format!("{name}, gateway: gain by CPU"), median(gains), "");
        Ok(())
    }

    fn both_ends(&self, way: &str, cores: &str, threads: &[&str]) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).arg(&self.place.load).args(["in-memory", "--way", way]);
        command.arg("--folder").arg(self.place.credentials()).stdin(Stdio::null());
        command.args(["--seconds", self.seconds(), "--threads"]).args(threads);
        command
    }
}
