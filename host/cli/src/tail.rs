//! `saegis tail`: prints events of the audit trails, and follows them.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use saegis_gateway::config::Config;
use serde_json::Value;

use crate::output::print;
use crate::trail::{self, Filter, time};

/// Arguments of `saegis tail`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Start of the names of events, such as `handshake` or `request.refused`
    #[arg(long)]
    event: Option<String>,
    /// Number of past events to print
    #[arg(long, default_value_t = 10)]
    lines: usize,
    /// End after the past events
    #[arg(long)]
    no_follow: bool,
}

/// Interval between reads of the files.
const INTERVAL: Duration = Duration::from_millis(250);

/// Prints events until it is interrupted.
///
/// # Errors
/// Fails without a trail, or if its files cannot be read.
pub fn run(args: &Args, as_json: bool) -> Result<u8, String> {
    let config = Config::load(&args.config).map_err(|e| e.to_string())?;
    let files = trail::files(&config)?;
    let selects = |event: &Value| {
        let name = event.get("event").and_then(Value::as_str).unwrap_or_default();
        args.event.as_ref().is_none_or(|start| name.starts_with(start.as_str()))
            && args.filter.selects(event)
    };
    let show = |event: &Value| print(&if as_json { event.to_string() } else { line(event) });
    let failed = |e: io::Error| format!("the audit trail cannot be read: {e}");
    // Opened at their ends first, so that no line is missed. One that is written meanwhile is printed twice.
    let mut followed: Vec<_> = files.iter().map(|file| Followed::at_end(file)).collect();
    let past = trail::events(&files, config.audit.retained_files, args.lines, selects);
    past.map_err(failed)?.iter().for_each(show);
    if args.no_follow {
        return Ok(0);
    }
    loop {
        std::thread::sleep(INTERVAL);
        let mut new = Vec::new();
        for file in &mut followed {
            file.read(&mut new).map_err(failed)?;
        }
        new.sort_by(|a: &Value, b| time(a).cmp(time(b)));
        new.iter().filter(|event| selects(event)).for_each(show);
    }
}

/// A file that is followed across rotations.
struct Followed {
    path: PathBuf,
    open: Option<BufReader<File>>,
    /// A line without its end.
    rest: String,
}

impl Followed {
    fn at_end(path: &Path) -> Self {
        let mut open = File::open(path).ok().map(BufReader::new);
        if let Some(file) = &mut open {
            // If this fails, old lines are printed again.
            let _ = file.seek(SeekFrom::End(0));
        }
        Self { path: path.into(), open, rest: String::new() }
    }

    /// Reads new lines: of the open file, and then of the one that has replaced it.
    fn read(&mut self, events: &mut Vec<Value>) -> io::Result<()> {
        self.read_open(events)?;
        let Ok(now) = std::fs::metadata(&self.path) else { return Ok(()) };
        let is_open = match &self.open {
            Some(open) => {
                let open = open.get_ref().metadata()?;
                (open.dev(), open.ino()) == (now.dev(), now.ino())
            }
            None => false,
        };
        if !is_open {
            self.rest.clear();
            self.open = Some(BufReader::new(File::open(&self.path)?));
            self.read_open(events)?;
        }
        Ok(())
    }

    fn read_open(&mut self, events: &mut Vec<Value>) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        while open.read_line(&mut self.rest)? > 0 {
            if self.rest.ends_with('\n') {
                events.extend(serde_json::from_str::<Value>(&self.rest));
                self.rest.clear();
            }
        }
        Ok(())
    }
}

/// Returns an event as a line for people.
fn line(event: &Value) -> String {
    let text = |name: &str| event.get(name).map(crate::table::text);
    let at = time(event).split('.').next().unwrap_or_default().replace('T', " ");
    let message = text("message").unwrap_or_default();
    let mut line = format!("{at}  {message}");
    for name in ["peer", "identity", "credential_id", "entity", "operation", "to", "cause", "rsc"] {
        if let Some(value) = text(name).filter(|value| !message.contains(value.as_str())) {
            line.push_str(&format!("  {name}={value}"));
        }
    }
    line
}
