//! Sentences of documents and comments.

use std::path::Path;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Paragraph,
    /// Cell of a table.
    Cell,
}

/// A sentence, with the line that it starts at.
pub struct Sentence {
    pub line: usize,
    pub kind: Kind,
    pub words: Vec<String>,
}

/// Returns the sentences of a document or of a file's comments, or nothing for any other file.
pub fn sentences(file: &str, text: &str) -> Option<Vec<Sentence>> {
    let marks: &[&str] = match Path::new(file).extension().and_then(|e| e.to_str()) {
        Some("md") => &[""],
        Some("rs" | "wit" | "c" | "mjs" | "js") => &["///", "//!", "//"],
        Some("toml" | "sh" | "py" | "service" | "socket" | "csv" | "yml") => &["#"],
        _ if file.ends_with(".ci/run") || file.ends_with("Makefile") => &["#"],
        _ => return None,
    };
    let strip = |line| marks.iter().find_map(|mark| str::strip_prefix(line, mark));
    let lines = text.lines().zip(1..).map(|(line, number)| {
        let line = if marks == [""] { Some(line) } else { strip(line.trim_start()) };
        // A comment's text starts behind one space.
        (
            number,
            line.map(
                |line| if marks == [""] { line } else { line.strip_prefix(' ').unwrap_or(line) },
            ),
        )
    });
    Some(blocks(lines))
}

/// Divides Markdown into sentences, without code and headings. A line without a comment ends a block.
fn blocks<'a>(lines: impl Iterator<Item = (usize, Option<&'a str>)>) -> Vec<Sentence> {
    let (mut found, mut block, mut start) = (Vec::new(), String::new(), 0);
    let (mut fenced, mut previous_blank) = (false, true);
    for (number, line) in lines {
        let (line, outside) = (line.unwrap_or(""), line.is_none());
        let trimmed = line.trim_start();
        let fence = trimmed.starts_with("```");
        fenced = (fenced != fence) && !outside;
        let code = fence || fenced || (previous_blank && line.starts_with("    "));
        let row = trimmed.starts_with('|');
        let blank = trimmed.is_empty() || code || row || trimmed.starts_with(['#', '<']);
        let item = ["- ", "* ", "+ "].iter().any(|mark| trimmed.starts_with(mark))
            || trimmed.split_once(". ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        if (blank || item) && !block.is_empty() {
            split(&std::mem::take(&mut block), start, Kind::Paragraph, &mut found);
        }
        if row && !code {
            trimmed.split(" | ").for_each(|cell| split(cell, number, Kind::Cell, &mut found));
        } else if !blank {
            if block.is_empty() {
                start = number;
            }
            block +=
                if item { trimmed.split_once(' ').map_or("", |(_, text)| text) } else { trimmed };
            block.push('\n');
        }
        // Indented lines stay code until a line that is neither indented nor empty.
        previous_blank = trimmed.is_empty() || (code && !fence && !fenced);
    }
    split(&block, start, Kind::Paragraph, &mut found);
    found
}

/// Divides a paragraph into sentences. Code counts as one word, and a link as its text.
fn split(text: &str, line: usize, kind: Kind, found: &mut Vec<Sentence>) {
    let (mut plain, mut code) = (String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '`' => {
                code = !code;
                plain.push('`');
            }
            '\n' => plain.push('\n'),
            _ if code => plain.push('c'),
            ']' if rest.peek() == Some(&'(') => {
                rest.by_ref().take_while(|c| *c != ')').for_each(drop)
            }
            '[' | '*' | '|' => {}
            _ => plain.push(c),
        }
    }
    let words = plain.split('\n').zip(line..).flat_map(|(text, line)| {
        text.split_whitespace()
            .filter(|w| w.contains(char::is_alphanumeric))
            .map(move |w| (line, w))
    });
    let mut words = words.peekable();
    let mut sentence = Sentence { line, kind, words: Vec::new() };
    while let Some((line, word)) = words.next() {
        if sentence.words.is_empty() {
            sentence.line = line;
        }
        sentence.words.push(word.into());
        let ends = word.trim_end_matches([')', '"', '\'']).ends_with(['.', '?', '!']);
        let next = words.peek().map(|(_, next)| next.starts_with(char::is_lowercase));
        if next.is_none() || (ends && next == Some(false)) {
            let new = Sentence { line, kind, words: Vec::new() };
            found.push(std::mem::replace(&mut sentence, new));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, text: &str) -> Vec<(usize, String)> {
        let found = sentences(file, text).unwrap();
        found.into_iter().map(|s| (s.line, s.words.join(" "))).collect()
    }

    #[test]
    fn source_sentences_come_from_comments() {
        let source = "//! First one,\n//! with `a b c`. Second\n//! one.\n\n/// - item\n/// ```\n/// code\n/// ```\nfn f() {}\n    // Last.\n";
        let wanted =
            [(1, "First one, with `ccccc`."), (2, "Second one."), (5, "item"), (10, "Last.")];
        assert_eq!(read("a.rs", source), wanted.map(|(line, text)| (line, text.to_string())));
        assert!(sentences("a.bin", "// x").is_none());
    }

    #[test]
    fn headings_and_code_of_a_page_are_left_out() {
        let page = "# Title\n\nA [link](x.md) and, e.g. so,\n\"on.\" Next?\n\n    code\n\n1. one\n2. two\n\n| a b | c |\n";
        let found = read("a.md", page);
        let wanted = [
            (3, "A link and, e.g. so, \"on.\""),
            (4, "Next?"),
            (8, "one"),
            (9, "two"),
            (11, "a b"),
            (11, "c"),
        ];
        assert_eq!(found, wanted.map(|(line, text)| (line, text.to_string())));
    }
}
