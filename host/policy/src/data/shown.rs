//! Escapes paths and characters for logs, messages and terminals.

use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A path for messages and logs. Characters that could start a line or control a terminal are
/// escaped, and so are bytes that are not UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'p>(pub &'p Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if needs_escape(c) => write!(f, "{}", c.escape_default())?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Returns whether a character can start a line, control a terminal or change the text direction.
#[must_use]
pub fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn path_is_escaped_for_output() {
        let shown = |bytes: &[u8]| Shown(Path::new(OsStr::from_bytes(bytes))).to_string();
        assert_eq!(shown("policies/lights für 1.csv".as_bytes()), "policies/lights für 1.csv");
        assert_eq!(shown(b"a\nerror: b\r\x1b[2K\x7f"), "a\\nerror: b\\r\\u{1b}[2K\\u{7f}");
        assert_eq!(shown("x\u{202e}vsc\u{2028}\u{85}".as_bytes()), "x\\u{202e}vsc\\u{2028}\\u{85}");
        assert_eq!(shown(b"a\\n\xff"), "a\\\\n\\xff");
    }
}
