//! Adds many devices at once: all rows are checked first, and the files are written once.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use saegis_gateway::devices::{Device, DeviceError, Devices, Row};
use saegis_policy::{Fault, Faults, read_file};

/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 256 << 20;

const COLUMNS: [&str; 3] = ["name", "app_id", "expires"];

/// A device with the number of its line.
pub struct Wanted {
    line: u64,
    device: Device,
}

/// Reads the devices of a file.
///
/// # Errors
/// Returns the faults of the file.
pub fn read(file: &Path) -> Result<Vec<Wanted>, DeviceError> {
    let bytes = read_file(file, MAX_FILE).map_err(|fault| Faults(vec![fault]))?;
    let text = saegis_policy::decode(file, &bytes).map_err(|fault| Faults(vec![fault]))?;
    let lines = (1..).zip(text.lines());
    let mut lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let (at, header) = lines.next().unwrap_or((1, ""));
    let columns: Vec<_> = header.trim_start_matches('\u{feff}').split(',').map(str::trim).collect();
    let unknown = columns.iter().find(|column| !COLUMNS.contains(column));
    if unknown.is_some() || !columns.contains(&"name") {
        let what = "the first line must name the columns: name, and optionally app_id and expires";
        return Err(Faults(vec![Fault::at(file, at, 1, what)]).into());
    }
    let mut faults = Vec::new();
    let mut devices = Vec::new();
    for (line, text) in lines {
        let cells: Vec<_> = text.split(',').map(str::trim).collect();
        if cells.len() != columns.len() {
            let what = format!("has {} fields, but the header has {}", cells.len(), columns.len());
            faults.push(Fault::at(file, line, 1, what));
            continue;
        }
        let of = |name: &str| {
            let at = columns.iter().position(|column| *column == name);
            at.and_then(|at| cells.get(at)).copied().unwrap_or_default().to_string()
        };
        let app_id = Some(of("app_id")).filter(|id| !id.is_empty());
        let device = Device { name: of("name"), app_id, expires: of("expires") };
        devices.push(Wanted { line, device });
    }
    if faults.is_empty() { Ok(devices) } else { Err(Faults(faults).into()) }
}

/// Adds devices. Nothing is written yet.
///
/// # Errors
/// Returns the faults of all lines.
pub fn add(
    devices: &mut Devices<'_>,
    file: &Path,
    wanted: &[Wanted],
) -> Result<Vec<(Row, String)>, DeviceError> {
    let (mut faults, mut rows) = (Vec::new(), Vec::new());
    let mut progress = Progress::new(wanted.len());
    for (done, Wanted { line, device }) in wanted.iter().enumerate() {
        match devices.add(device) {
            Ok(added) => rows.push(added),
            Err(e) => faults.push(Fault::at(file, *line, 1, e.to_string())),
        }
        progress.at(done + 1);
    }
    progress.end();
    if faults.is_empty() { Ok(rows) } else { Err(Faults(faults).into()) }
}

/// Returns devices with their keys as CSV.
pub fn csv(rows: &[(Row, String)]) -> String {
    let mut text = String::from("name,ae_id,app_id,kpsa_id,kpsa,expires\n");
    for (row, app_id) in rows {
        let Row { ae_id, kpsa_id, kpsa, expires, .. } = row;
        let cells = [row.name(), ae_id, app_id, kpsa_id, kpsa, expires].map(quoted);
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

/// Returns the text of a cell. A table that a person wrote can have any characters.
fn quoted(cell: &str) -> Cow<'_, str> {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")).into(),
        false => cell.into(),
    }
}

/// Width of the progress bar, in characters.
const WIDTH: usize = 40;

/// A progress bar on a terminal. Elsewhere it prints nothing.
struct Progress {
    all: usize,
    shown: Option<usize>,
    is_terminal: bool,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self { all, shown: None, is_terminal: std::io::stderr().is_terminal() }
    }

    fn at(&mut self, done: usize) {
        let filled = (done * WIDTH).checked_div(self.all).unwrap_or(WIDTH);
        if self.is_terminal && self.shown != Some(filled) {
            self.shown = Some(filled);
            let bar = "#".repeat(filled);
            let _ = write!(std::io::stderr(), "\r[{bar:WIDTH$}] {done}/{}", self.all);
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            let _ = writeln!(std::io::stderr());
        }
    }
}
