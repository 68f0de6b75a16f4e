//! Reads recordings line by line. Each line is bounded and its content is not trusted.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;

use saegis_onem2m::timestamp;
use saegis_policy::{CONTRACT, Decision, Fault, Faults, is_our_contract};
use serde::Deserialize;

use saegis_gateway::telemetry::decision_log::MAX_LINE;

/// Sequence of recordings.
pub struct Reading {
    files: std::vec::IntoIter<(PathBuf, File)>,
    current: Option<Current>,
    /// Total size of all recordings, in bytes.
    pub bytes: u64,
    /// Number of bytes read so far.
    pub read: u64,
}

struct Current {
    path: PathBuf,
    lines: BufReader<File>,
    number: u64,
}

/// A line of a recording.
pub enum Line {
    /// A decision, with its position.
    Decision {
        /// File.
        file: PathBuf,
        /// Number of the line, counted from 1.
        number: u64,
        /// The decision.
        decision: Box<Decision>,
    },
    /// An invalid line.
    Wrong(Fault),
    /// An incomplete last line: a gateway is writing it, or was killed while writing.
    BreaksOff,
}

/// Member that decides whether the rest of the line can be parsed.
#[derive(Deserialize)]
struct Head {
    contract: String,
}

impl Reading {
    /// Opens recordings.
    ///
    /// # Errors
    /// Fails if a file cannot be opened.
    pub fn of(paths: Vec<PathBuf>) -> Result<Self, Faults> {
        let mut files = Vec::new();
        let mut bytes = 0;
        for path in paths {
            let fault = |what: String| Faults(vec![Fault::of(&path, what)]);
            let unreadable = |e| fault(format!("the recording cannot be opened: {e}"));
            // Checked first: opening a pipe would block until a writer opens it.
            if !std::fs::metadata(&path).map_err(unreadable)?.is_file() {
                return Err(fault("is not a regular file".into()));
            }
            let file = File::open(&path).map_err(unreadable)?;
            bytes += file.metadata().map_or(0, |meta| meta.len());
            files.push((path, file));
        }
        Ok(Self { files: files.into_iter(), current: None, bytes, read: 0 })
    }

    /// Returns the next line, or `None` at the end of the last file.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn next(&mut self) -> Result<Option<Line>, Faults> {
        loop {
            if self.current.is_none() {
                let Some((path, file)) = self.files.next() else { return Ok(None) };
                self.current = Some(Current { path, lines: BufReader::new(file), number: 0 });
            }
            let Some(current) = &mut self.current else { return Ok(None) };
            match current.next(&mut self.read)? {
                Some(line) => return Ok(Some(line)),
                None => self.current = None,
            }
        }
    }
}

impl Current {
    fn next(&mut self, read: &mut u64) -> Result<Option<Line>, Faults> {
        let unreadable =
            |e: std::io::Error| Faults(vec![Fault::of(&self.path, format!("cannot be read: {e}"))]);
        let mut line = Vec::new();
        let most = MAX_LINE as u64 + 1;
        let taken = (&mut self.lines).take(most).read_until(b'\n', &mut line);
        *read += taken.map_err(unreadable)? as u64;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let ends = line.last() == Some(&b'\n');
        if !ends && line.len() > MAX_LINE {
            *read += skip_line(&mut self.lines).map_err(unreadable)?;
            return Ok(Some(self.wrong(&format!("is longer than {MAX_LINE} bytes"), None)));
        }
        Ok(Some(match self.parse(&line) {
            Ok(decision) => {
                let (file, number) = (self.path.clone(), self.number);
                Line::Decision { file, number, decision: Box::new(decision) }
            }
            Err(_) if !ends => Line::BreaksOff,
            Err(wrong) => wrong,
        }))
    }

    fn parse(&self, line: &[u8]) -> Result<Decision, Line> {
        let json = |what: &str, e: &serde_json::Error| {
            let column = u64::try_from(e.column()).unwrap_or_default();
            // The fault itself has the position in the line.
            let why = e.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            self.wrong(&format!("{what}: {why}"), Some(column.max(1)))
        };
        let head: Head =
            serde_json::from_slice(line).map_err(|e| json("is not a recorded decision", &e))?;
        if !is_our_contract(&head.contract) {
            let what = format!(
                "was recorded with the contract {:?}; this version has {CONTRACT}; replay it with \
                 the version that recorded it",
                cut(&head.contract)
            );
            return Err(self.wrong(&what, None));
        }
        let decision: Decision = serde_json::from_slice(line)
            .map_err(|e| json("is not a decision of this contract", &e))?;
        if !decision.answer.fits(&decision.question) {
            let what = format!("has a response that is not one of {}", decision.question.hook());
            return Err(self.wrong(&what, None));
        }
        if timestamp::parse(&decision.time).is_err() {
            return Err(self.wrong("has an invalid time", None));
        }
        Ok(decision)
    }

    fn wrong(&self, what: &str, column: Option<u64>) -> Line {
        let what = what.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let mut fault = Fault::at(&self.path, self.number, 1, String::new());
        (fault.column, fault.what) = (column, what);
        Line::Wrong(fault)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Skips the rest of a line without storing it.
fn skip_line(lines: &mut BufReader<File>) -> std::io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = lines.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |at| at + 1);
        lines.consume(taken);
        skipped += taken as u64;
        if end.is_some() || taken == 0 {
            return Ok(skipped);
        }
    }
}
