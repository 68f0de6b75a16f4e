//! Texts of files and of modules: checked when they are read, escaped when they are shown.

use std::path::Path;

use crate::data::fault::Fault;
use crate::data::shown::needs_escape;

/// Maximum length of a line from a module, in bytes.
const MAX_LINE: usize = 512;

/// Makes sure that bytes are no text in another form than is read here: of a wide encoding, or with the
/// line ends of old Macs, which would be one long line.
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    // UTF-16 without a mark has a NUL in each character of ASCII.
    let is_wide = bytes.starts_with(b"\xFF\xFE")
        || bytes.starts_with(b"\xFE\xFF")
        || matches!(bytes, [first, second, ..] if (*first == 0) != (*second == 0));
    if is_wide {
        Err("is not UTF-8 but UTF-16; save it as UTF-8")
    } else if bytes.contains(&b'\r') && !bytes.contains(&b'\n') {
        Err("has the line ends of old Macs (CR alone); save it with LF or CR LF")
    } else {
        Ok(())
    }
}

/// The text in the bytes of a file.
///
/// # Errors
/// When they are no UTF-8, or have line ends that are none here.
pub fn decode<'b>(file: &Path, bytes: &'b [u8]) -> Result<&'b str, Fault> {
    check(bytes).map_err(|what| Fault::of(file, what))?;
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    std::str::from_utf8(text).map_err(|_| Fault::of(file, "is not UTF-8"))
}

/// A line as it may stand in a log: no control characters, bounded.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= MAX_LINE {
            out.push('…');
            break;
        }
        if needs_escape(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_cannot_be_forged_or_endless() {
        assert_eq!(printable("a\nb\u{1b}[0m\r"), "a\\nb\\u{1b}[0m\\r");
        assert!(printable(&"x".repeat(10_000)).len() < MAX_LINE + 8);
        assert!(printable(&"\n".repeat(10_000)).len() < MAX_LINE + 8);
    }
}
