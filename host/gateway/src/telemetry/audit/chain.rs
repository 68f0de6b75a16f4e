//! Chain of a trail: each line contains the digest of the line before it.
//!
//! The digest is the SHA-256 of a line as in the file, without its line break. A line contains the
//! digest of the line before it, so its digest covers all lines up to it.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::telemetry::rotating_file::{LineFile, last_line, with_old_files};

/// Value of the first line of a chain in place of a digest.
pub const START: &str = "start";

/// Name of the member with the digest. It is the first of each line.
pub const MEMBER: &str = "chain";

/// Maximum length of a line before it is chained, in bytes. Texts of a longer line are truncated.
const MAX_LINE: usize = 16 << 10;
/// Maximum length of a text in a truncated line, in characters.
const MAX_TEXT: usize = 500;

/// Digest of a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Calculates the digest of a line without its line break.
    pub fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }

    /// Completes a calculation.
    pub fn end(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Parses 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Returns the first bytes of a line that follows a line with this digest.
pub fn opening(before: Option<Digest>) -> String {
    match before {
        Some(digest) => format!("{{\"{MEMBER}\":\"{digest}\""),
        None => format!("{{\"{MEMBER}\":\"{START}\""),
    }
}

/// Digest of the last written line, shared with readers.
#[derive(Clone, Default)]
pub struct Head(Arc<Mutex<Option<Digest>>>);

impl Head {
    /// Returns the digest, or `None` before the first line of a chain.
    pub fn get(&self) -> Option<Digest> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, digest: Option<Digest>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = digest;
    }
}

/// File of a trail, whose lines are JSON objects and are chained as they are written.
pub struct Chain {
    file: LineFile,
    head: Head,
}

impl Chain {
    /// Continues the chain of the lines in a file, or in the newest rotated one.
    ///
    /// # Errors
    /// Fails if the lines cannot be read.
    pub fn new(file: LineFile, path: &Path) -> io::Result<Self> {
        let head = Head::default();
        for path in with_old_files(path).iter().rev() {
            if let Some((line, _)) = last_line(&File::open(path)?)? {
                head.set(Some(Digest::of(&line)));
                break;
            }
        }
        Ok(Self { file, head })
    }

    /// Returns the digest of the last written line.
    pub fn head(&self) -> Head {
        self.head.clone()
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut before = self.head.get();
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        if let Some(torn) = self.file.prepare(lines.len() + count * opening(before).len())? {
            before = Some(Digest::of(&torn));
        }
        let mut chained = Vec::with_capacity(lines.len() + count * opening(before).len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let start = chained.len();
            chained.extend_from_slice(opening(before).as_bytes());
            chained.push(b',');
            // A line is an object with members.
            let line = shortened(line);
            chained.extend_from_slice(line.strip_prefix(b"{").unwrap_or(&line));
            let own = chained.get(start..).unwrap_or_default();
            before = Some(Digest::of(own.strip_suffix(b"\n").unwrap_or(own)));
        }
        self.file.append(&chained)?;
        self.head.set(before);
        Ok(())
    }
}

/// Truncates the texts of a line that is too long. No event has so many fields that this is not
/// enough.
fn shortened(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= MAX_LINE {
        return Cow::Borrowed(line);
    }
    let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(line) else {
        return Cow::Borrowed(line);
    };
    for field in fields.values_mut() {
        if let Value::String(text) = field
            && let Some((end, _)) = text.char_indices().nth(MAX_TEXT)
        {
            text.truncate(end);
            text.push('…');
        }
    }
    Cow::Owned(format!("{}\n", Value::Object(fields)).into_bytes())
}

impl Write for Chain {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let written = self.try_write(lines);
        self.file.account(written, lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_line_is_truncated_to_valid_json() {
        let usual = b"{\"event\":\"a\"}\n";
        assert_eq!(&*shortened(usual), usual);
        let long = serde_json::json!({ "event": "a", "why": "\u{1}é".repeat(20_000), "line": 3 });
        let cut = shortened(format!("{long}\n").as_bytes()).into_owned();
        assert!(cut.len() < MAX_LINE && cut.ends_with(b"\n"));
        let fields: Map<String, Value> = serde_json::from_slice(&cut).unwrap();
        assert_eq!((&fields["event"], &fields["line"]), (&"a".into(), &3.into()));
        assert!(fields["why"].as_str().unwrap().ends_with('…'));
    }
}
