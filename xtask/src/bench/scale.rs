//! Memory and time of many idle associations, rows and starts.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Bench,
    contender::{Contender, SERVER_CORE},
    round::{Work, figures, number},
};

const SCALE: &str = "Scale";

impl Bench<'_> {
    /// Runs all measurements of scale.
    pub fn scale(&mut self, rows: u64) {
        println!("\nscale");
        for (way, what) in
            [("psk-cbc", "an idle association"), ("tls13", "an idle association of TLS 1.3")]
        {
            self.attempt(what, |bench| bench.idle(Contender::Saegis, way, what, rows));
        }
        self.attempt("starts", |bench| bench.starts(rows));
        for (cores, on) in [(SERVER_CORE, "one core"), ("0,1", "both cores")] {
            self.attempt(&format!("reloads, {on}"), |bench| bench.reloads(rows, cores, on));
        }
    }

    /// Measures the memory of an idle connection.
    pub fn idle(
        &mut self,
        contender: Contender,
        way: &'static str,
        what: &str,
        rows: u64,
    ) -> Result<()> {
        let associations = if self.args.quick { 1_500 } else { 10_000 };
        let server = contender.start(&self.place, rows, SERVER_CORE)?;
        let work = Work { mode: "hold", ..Work::fresh(way, rows) };
        let mut load = self.place.generator(work, &server);
        load.args(["--connections", &associations.to_string()]);
        load.args(contender.load_arguments());
        let held = figures(&mut load)?;
        self.single(SCALE, what, number(&held, "bytes_each"), "bytes");
        Ok(())
    }

    fn starts(&mut self, rows: u64) -> Result<()> {
        let cache = Contender::Saegis.folder(&self.place).join("state/code-cache");
        // Left by the previous contender.
        if cache.exists() {
            fs::remove_dir_all(&cache).context("cannot remove the code cache")?;
        }
        let mut times = Vec::new();
        for rows in [1, 1, rows] {
            let server = Contender::Saegis.start(&self.place, rows, SERVER_CORE)?;
            // The watcher's work after the start does not belong to the table.
            thread::sleep(Duration::from_millis(500));
            times.push((server.took.as_secs_f64() * 1e3, server.memory()));
        }
        let [(cold, _), (warm, few), (many, whole)] = *times.as_slice() else {
            bail!("three starts")
        };
        self.single(SCALE, "start to ready, cold code cache", cold, "ms");
        self.single(SCALE, "start to ready, warm code cache", warm, "ms");
        self.single(SCALE, &format!("start to ready with {rows} rows"), many, "ms");
        self.single(SCALE, &format!("load of {rows} rows at start"), many - warm, "ms");
        #[expect(clippy::cast_precision_loss, reason = "bytes and rows")]
        let bytes = whole.saturating_sub(few) as f64 / rows as f64;
        self.single(SCALE, &format!("a row of {rows}"), bytes, "bytes");
        Ok(())
    }
}
