//! Continuous reloads of a table, and their effect on concurrent requests and handshakes.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    Bench,
    contender::{Contender, Running},
    round::{Work, figures, median, number},
};

/// Timeout for a reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests a second during the reloads. The rate is below saturation, because otherwise the
/// latency is the queue's and not the reload's.
const REQUESTS: f64 = 1000.0;
const HANDSHAKES: f64 = 100.0;

impl Bench<'_> {
    /// Compares a steady load without reloads and with continuous reloads.
    pub fn reloads(&mut self, rows: u64, cores: &str, on: &'static str) -> Result<()> {
        let server = Contender::Saegis.start(&self.place, rows, cores)?;
        let mut table = Table::new(self, rows)?;
        let steady = self.load(&server, rows)?;
        for (of, pace) in [(&steady.requests, REQUESTS), (&steady.handshakes, HANDSHAKES)] {
            let done = number(of, "per_second");
            if done < 0.9 * pace {
                bail!(
                    "{done:.0} of {pace} a second were done without a reload: the load is not steady"
                );
            }
        }
        let over = AtomicBool::new(false);
        let (during, reloads) = thread::scope(|scope| {
            let reloading = scope.spawn(|| {
                let mut times = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    times.push(table.replace()?.as_secs_f64() * 1e3);
                }
                Ok::<_, anyhow::Error>(times)
            });
            let during = self.load(&server, rows);
            over.store(true, Ordering::Relaxed);
            let Ok(times) = reloading.join() else { bail!("the reloads panicked") };
            Ok((during?, times?))
        })?;
        let section = "Reloads";
        let most = reloads.iter().copied().fold(0.0, f64::max);
        let taken = format!("{rows} rows reloaded under load, {on}, {} times", reloads.len());
        self.single(section, &format!("{taken}: median"), median(reloads), "ms");
        self.single(section, &format!("{taken}: most"), most, "ms");
        for (what, steady, during) in [
            ("requests", &steady.requests, &during.requests),
            ("handshakes", &steady.handshakes, &during.handshakes),
        ] {
            for (name, figure) in [("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us")] {
                let (steady, during) = (number(steady, figure), number(during, figure));
                let what = format!("{what}, {on}: {name}");
                self.single(section, &format!("{what} steady"), steady / 1e3, "ms");
                self.single(section, &format!("{what} while reloading"), during / 1e3, "ms");
                self.single(section, &format!("{what}, times steady"), during / steady, "");
            }
        }
        Ok(())
    }

    /// Runs requests and handshakes concurrently.
    fn load(&self, server: &Running, rows: u64) -> Result<Load> {
        let seconds = if self.args.quick { "2" } else { "10" };
        let of = |work: Work, pace: f64| {
            let mut load = self.place.generator(work, server);
            load.args(["--seconds", seconds, "--pace", &pace.to_string(), "--checks-originators"]);
            figures(&mut load)
        };
        thread::scope(|scope| {
            let handshakes = scope.spawn(|| of(Work::fresh("psk-cbc", rows), HANDSHAKES));
            let requests = of(Work::persistent("psk-cbc", rows), REQUESTS);
            let Ok(handshakes) = handshakes.join() else { bail!("a generator's thread panicked") };
            Ok(Load { requests: requests?, handshakes: handshakes? })
        })
    }
}

/// Figures of a load.
struct Load {
    requests: Value,
    handshakes: Value,
}

/// A gateway's table, which two files replace in turn.
struct Table {
    place: PathBuf,
    log: PathBuf,
    /// Both files, the next one first.
    both: [PathBuf; 2],
}

impl Table {
    fn new(bench: &Bench<'_>, rows: u64) -> Result<Self> {
        let folder = Contender::Saegis.folder(&bench.place);
        let one = bench.place.credentials().join(format!("{rows}.csv"));
        let other = folder.join("one-more.csv");
        fs::copy(&one, &other)?;
        let row = "Clight-more,000102030405060708090a0b0c0d0e0f,one-more@in.provider.com\n";
        File::options().append(true).open(&other)?.write_all(row.as_bytes())?;
        let place = folder.join("policies/psk-lookup-table.csv");
        Ok(Self { place, log: folder.join("log"), both: [other, one] })
    }

    /// Replaces the table like an editor, and waits until it is in force.
    fn replace(&mut self) -> Result<Duration> {
        let temporary = self.place.with_extension("new~");
        let [next, _] = &self.both;
        fs::hard_link(next, &temporary)?;
        let mut log = File::open(&self.log)?;
        log.seek(SeekFrom::End(0))?;
        fs::rename(&temporary, &self.place)?;
        let start = Instant::now();
        self.both.reverse();
        let mut bytes = Vec::new();
        loop {
            log.read_to_end(&mut bytes).context("the gateway's log")?;
            let text = String::from_utf8_lossy(&bytes);
            if text.contains("generation.in-force") {
                break;
            }
            if text.contains("generation.refused") || start.elapsed() > RELOAD_TIMEOUT {
                bail!("no reload: {}", last_lines(&self.log));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(start.elapsed())
    }
}

fn last_lines(of: &Path) -> String {
    let text = fs::read_to_string(of).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
