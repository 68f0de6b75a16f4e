//! Reads the lines of a trail in the order in which they were written.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use saegis_policy::{Fault, Faults, Shown};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use saegis_gateway::telemetry::audit::chain::{Digest, MEMBER, START, opening};
use saegis_gateway::telemetry::rotating_file::with_old_files;

/// Maximum number of bytes of a line that are parsed. The digest covers the whole line.
const MAX_LINE: usize = 64 << 10;

/// Maximum number of attempts to open the files of a trail between two rotations.
const TRIES: usize = 5;

/// An audit trail.
pub struct Lines {
    /// Files, in order.
    pub files: Vec<PathBuf>,
    /// Lines of all files.
    pub lines: Vec<Line>,
}

/// The part of a line that belongs to the chain.
pub struct Line {
    /// Index of its file.
    file: usize,
    /// Number in the file, counted from 1.
    pub number: u64,
    /// Digest of this line.
    pub digest: Digest,
    /// Link to the line before it.
    pub link: Link,
    /// Whether the line ends with a line break.
    pub ended: bool,
}

/// Link of a line to the line before it.
#[derive(PartialEq, Eq)]
pub enum Link {
    /// The line starts a chain.
    Start,
    /// Digest of the line before it.
    To(Digest),
    /// The line does not belong to a trail.
    None {
        /// First bytes of the line.
        opening: Vec<u8>,
        /// Reason.
        why: &'static str,
    },
}

#[derive(Deserialize)]
struct Head {
    chain: String,
    #[serde(default)]
    timestamp: String,
}

/// Lines of one file.
struct Part {
    path: PathBuf,
    lines: Vec<Line>,
    /// Time of its first line.
    since: String,
}

impl Lines {
    /// Returns the position of a line, as `FILE:LINE`.
    pub fn place(&self, n: usize) -> String {
        let (file, line) = self.file_and_line(n);
        format!("{}:{line}", Shown(file))
    }

    /// Returns the file of a line, and its number in that file.
    pub fn file_and_line(&self, n: usize) -> (&Path, u64) {
        let line = self.lines.get(n);
        let file = line.and_then(|line| self.files.get(line.file));
        (file.map_or(Path::new(""), PathBuf::as_path), line.map_or(0, |line| line.number))
    }
}

/// Reads a trail that a gateway may be writing and rotating.
///
/// # Errors
/// Fails if it cannot be read.
pub fn read_trail(newest: &Path) -> Result<Lines, Faults> {
    let mut tries = 0;
    loop {
        tries += 1;
        let paths = with_old_files(newest);
        if paths.is_empty() {
            return Err(Faults(vec![Fault::of(
                newest,
                "neither the file nor a rotated file exists",
            )]));
        }
        let opened = open_all(&paths)?;
        let same = |(path, (_, file)): (&PathBuf, &(PathBuf, File))| {
            let now = std::fs::metadata(path).ok();
            let then = file.metadata().ok();
            now.zip(then)
                .is_some_and(|(now, then)| (now.dev(), now.ino()) == (then.dev(), then.ino()))
        };
        if tries >= TRIES || paths.iter().zip(&opened).all(same) {
            return read_all(opened);
        }
    }
}

/// Reads the files of a trail, in any order.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn read_files(paths: &[PathBuf]) -> Result<Lines, Faults> {
    if let [only] = paths
        && only.as_os_str() == "-"
    {
        let part = read_part(only.clone(), io::stdin().lock());
        return Ok(in_order(vec![part.map_err(|e| unreadable(only, &e))?]));
    }
    read_all(open_all(paths)?)
}

fn unreadable(path: &Path, error: &io::Error) -> Faults {
    Faults(vec![Fault::of(path, format!("cannot be read: {error}"))])
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<(PathBuf, File)>, Faults> {
    let open = |path: &PathBuf| {
        // Checked first: opening a pipe would block until a writer opens it.
        if !std::fs::metadata(path).map_err(|e| unreadable(path, &e))?.is_file() {
            return Err(Faults(vec![Fault::of(path, "is not a regular file")]));
        }
        Ok((path.clone(), File::open(path).map_err(|e| unreadable(path, &e))?))
    };
    paths.iter().map(open).collect()
}

fn read_all(files: Vec<(PathBuf, File)>) -> Result<Lines, Faults> {
    let read = |(path, file): (PathBuf, File)| {
        read_part(path.clone(), BufReader::new(file)).map_err(|e| unreadable(&path, &e))
    };
    Ok(in_order(files.into_iter().map(read).collect::<Result<_, _>>()?))
}

fn read_part(path: PathBuf, mut from: impl BufRead) -> io::Result<Part> {
    let mut part = Part { path, lines: Vec::new(), since: String::new() };
    while let Some((text, digest, ended)) = read_line(&mut from)? {
        let (link, time) = link(&text);
        if part.lines.is_empty() {
            part.since = time;
        }
        let number = part.lines.len() as u64 + 1;
        part.lines.push(Line { file: 0, number, digest, link, ended });
    }
    Ok(part)
}

/// Reads a line, its digest, and whether it ends with a line break. The text of a long line is
/// truncated.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, Digest, bool)>> {
    let (mut text, mut hasher) = (Vec::new(), Sha256::new());
    let mut is_there = false;
    loop {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            return Ok(is_there.then(|| (text, Digest::end(hasher), false)));
        }
        is_there = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (piece, _) = buffer.split_at(end.unwrap_or(buffer.len()));
        hasher.update(piece);
        text.extend_from_slice(piece);
        text.truncate(MAX_LINE + 1);
        let taken = piece.len() + usize::from(end.is_some());
        from.consume(taken);
        if end.is_some() {
            return Ok(Some((text, Digest::end(hasher), true)));
        }
    }
}

/// Returns the link of a line, and its time.
fn link(text: &[u8]) -> (Link, String) {
    let none = |why| {
        let most = text.len().min(opening(None).len() + 64);
        (Link::None { opening: text.get(..most).unwrap_or_default().to_vec(), why }, String::new())
    };
    if text.len() > MAX_LINE {
        // Earlier versions wrote lines that exceed the limit and are truncated here. The link is
        // the first member.
        let value = text.strip_prefix(format!("{{\"{MEMBER}\":\"").as_bytes()).unwrap_or_default();
        let value = value.split(|byte| *byte == b'"').next().unwrap_or_default();
        return match std::str::from_utf8(value) {
            Ok(START) => (Link::Start, String::new()),
            Ok(text) => match Digest::parse(text) {
                Some(digest) => (Link::To(digest), String::new()),
                None => none("is not a line of a trail"),
            },
            Err(_) => none("is not a line of a trail"),
        };
    }
    let Ok(Head { chain, timestamp }) = serde_json::from_slice(text) else {
        return none("is not a line of a trail");
    };
    match Digest::parse(&chain) {
        Some(digest) => (Link::To(digest), timestamp),
        None if chain == START => (Link::Start, timestamp),
        None => none("has no digest"),
    }
}

/// Sorts files: each file follows the one whose last line its first line names. The others are
/// sorted by time.
fn in_order(mut parts: Vec<Part>) -> Lines {
    let files_without_lines: Vec<_> = parts.extract_if(.., |part| part.lines.is_empty()).collect();
    parts.sort_by(|a, b| a.since.cmp(&b.since));
    let first = |part: &Part| match part.lines.first().map(|line| &line.link) {
        Some(Link::To(digest)) => Some(*digest),
        _ => None,
    };
    let last = |part: &Part| part.lines.last().map(|line| line.digest);
    let ends: HashMap<_, _> =
        parts.iter().enumerate().filter_map(|(n, part)| Some((last(part)?, n))).collect();
    // Successor of each file.
    let mut next: HashMap<usize, usize> = HashMap::new();
    let mut begins = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        match first(part).and_then(|digest| ends.get(&digest)).filter(|&&end| end != n) {
            Some(&end) if !next.contains_key(&end) => drop(next.insert(end, n)),
            _ => begins.push(n),
        }
    }
    let mut order = Vec::new();
    for begin in begins.into_iter().chain(0..parts.len()) {
        let mut at = Some(begin);
        while let Some(n) = at.filter(|n| !order.contains(n)) {
            order.push(n);
            at = next.get(&n).copied();
        }
    }
    let mut parts: Vec<_> = parts.into_iter().map(Some).collect();
    let mut all = Lines { files: Vec::new(), lines: Vec::new() };
    for n in order {
        let Some(part) = parts.get_mut(n).and_then(Option::take) else { continue };
        let file = all.files.len();
        all.files.push(part.path);
        all.lines.extend(part.lines.into_iter().map(|line| Line { file, ..line }));
    }
    all.files.extend(files_without_lines.into_iter().map(|part| part.path));
    all
}
