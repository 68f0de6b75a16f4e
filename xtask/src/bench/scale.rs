//! What many of something take: idle associations, rows, starts.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Bench,
    contender::{Contender, SERVER_CORE},
    round::{Work, figures, number},
};

const SCALE: &str = "Scale";

impl Bench<'_> {
    /// All of it.
    pub fn scale(&mut self, rows: u64) {
        println!("\nscale");
        for (way, what) in
            [("psk-cbc", "an idle association"), ("tls13", "an idle association of TLS 1.3")]
        {
            self.attempt(what, |bench| bench.idle(way, what, rows));
        }
        self.attempt("starts", |bench| bench.starts(rows));
        for (cores, on) in [(SERVER_CORE, "one core"), ("0,1", "both cores")] {
            self.attempt(&format!("reloads, {on}"), |bench| bench.reloads(rows, cores, on));
        }
    }

    fn idle(&mut self, way: &'static str, what: &str, rows: u64) -> Result<()> {
        let associations = if self.args.quick { 1_500 } else { 10_000 };
        let server = Contender::Saegis.start(&self.place, rows, SERVER_CORE)?;
        let work = Work { mode: "hold", ..Work::fresh(way, rows) };
        let mut load = self.place.generator(work, &server);
        load.args(["--connections", &associations.to_string()]);
        let held = figures(&mut load)?;
        self.single(SCALE, what, number(&held, "bytes_each"), "bytes");
        Ok(())
    }

    fn starts(&mut self, rows: u64) -> Result<()> {
        let cache = Contender::Saegis.folder(&self.place).join("state/code-cache");
        // From whatever started last.
        if cache.exists() {
            fs::remove_dir_all(&cache).context("the code cache stays")?;
        }
        let mut times = Vec::new();
        for rows in [1, 1, rows] {
            let server = Contender::Saegis.start(&self.place, rows, SERVER_CORE)?;
            // What the watch does behind the start is not the table's.
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
