//! Text of files and modules: validated when it is read, escaped when it is printed.

use std::path::Path;

use crate::data::fault::Fault;
use crate::data::shown::needs_escape;

/// Maximum length of a line from a module, in bytes.
const MAX_LINE: usize = 512;

/// Rejects text in another encoding: UTF-16, or with line ends of old Macs, which would be one long
/// line.
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    // UTF-16 without a byte order mark has a NUL in each ASCII character.
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

/// Decodes the content of a file.
///
/// # Errors
/// Fails if it is not UTF-8 or has unsupported line ends.
pub fn decode<'b>(file: &Path, bytes: &'b [u8]) -> Result<&'b str, Fault> {
    check(bytes).map_err(|what| Fault::of(file, what))?;
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    std::str::from_utf8(text).map_err(|_| Fault::of(file, "is not UTF-8"))
}

/// Returns a line for a log: without control characters, and bounded.
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
