//! The line of a file that a fault is about, for display, without keys.

use crate::data::fault::Fault;
use crate::data::files;
use crate::data::table::{looks_like_key, masked_line};

/// Maximum size of a file in which a line is looked for, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Maximum length of a displayed line, in characters.
const MAX_LINE: usize = 300;
/// Text in place of a word that could be a key.
const MASK: &str = "[hidden]";
/// Length from which a word of a TOML file could be an encoded key.
const MIN_ENCODED: usize = 24;

/// Returns the line of a fault in a policy table or a TOML file.
pub(crate) fn line_of(fault: &Fault) -> Option<String> {
    let number = usize::try_from(fault.line?.checked_sub(1)?).ok()?;
    let kind = fault.file.extension().and_then(|kind| kind.to_str())?;
    if !matches!(kind, "csv" | "toml") {
        return None;
    }
    let text = files::read_file(&fault.file, MAX_FILE).ok()?;
    let (start, line) = nth_line(&text, number)?;
    let shown = if kind == "csv" {
        masked_line(text.get(..start)?, line)?
    } else {
        masked_words(std::str::from_utf8(line).ok()?)
    };
    Some(cut(&shown))
}

/// Returns the start of a line, and the line.
fn nth_line(text: &[u8], number: usize) -> Option<(usize, &[u8])> {
    let mut start = 0;
    for _ in 0..number {
        let rest = text.get(start..)?;
        start += rest.iter().position(|&byte| byte == b'\n')? + 1;
    }
    let rest = text.get(start..)?;
    let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    (!rest.is_empty()).then(|| (start, rest.get(..end).unwrap_or_default()))
}

/// Returns a line without the words that could be a key. TOML files have no keys, except by mistake.
fn masked_words(line: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-');
    let mut shown = String::with_capacity(line.len());
    let mut rest = line.trim_end();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let is_secret = is_word(first) && (looks_like_key(word) || is_encoded(word));
        shown.push_str(if is_secret { MASK } else { word });
        rest = after;
    }
    shown
}

fn is_encoded(word: &str) -> bool {
    let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
    let is_mixed = has(char::is_ascii_digit) && has(char::is_ascii_alphabetic);
    word.len() >= MIN_ENCODED && (is_mixed || word.contains(['+', '=']))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}\u{2026}", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str, line: u64) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        line_of(&Fault::at(&file, line, 1, "x"))
    }

    #[test]
    fn line_of_fault_is_returned_without_keys() {
        let table = "ae_id,kpsa,kpsa_id\nCa,0011223344556677,a@b.c\nCb,0g,x@y.z\n";
        assert_eq!(of("t.csv", table, 3).as_deref(), Some("Cb,[hidden],x@y.z"));
        assert_eq!(of("t.csv", table, 1).as_deref(), Some("ae_id,kpsa,kpsa_id"));
        assert_eq!(of("t.csv", table, 4), None);
        assert_eq!(of("t.csv", table, 0), None);
        assert_eq!(of("key.pem", table, 1), None);
        let long = format!("x = \"{}\"\n", "ä".repeat(1000));
        assert_eq!(of("m.toml", &long, 1).unwrap().chars().count(), MAX_LINE + 1);
    }

    #[test]
    fn encoded_keys_in_toml_are_masked() {
        let shown = |line: &str| of("m.toml", &format!("{line}\n"), 1).unwrap();
        assert_eq!(shown("order = \"first\""), "order = \"first\"");
        assert_eq!(
            shown("capabilities = [\"policy-tables\"]"),
            "capabilities = [\"policy-tables\"]"
        );
        assert_eq!(shown("key = \"00112233445566778899\""), "key = \"[hidden]\"");
        let encoded = "MC4CAQAwBQYDK2VwBCIEIKhs3Gx0mBRAnYHvcWbzFFf1NwNuFWQCPEcMqBt2ZlQs";
        assert_eq!(shown(encoded), "[hidden]");
    }
}
