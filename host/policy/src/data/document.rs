//! TOML documents, parsed so that all faults are found at once.
//!
//! A deserializer stops at the first fault. So the value with the fault is removed from the
//! document, and the document is deserialized again, until it has no fault.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use crate::data::fault::Fault;
use crate::data::shown::Shown;

/// Maximum number of reported faults of a document.
const MAX_FAULTS: usize = 50;

/// A TOML document, with the positions of its values.
pub struct Document<'t> {
    file: PathBuf,
    text: &'t str,
    table: Spanned<DeTable<'t>>,
    faults: Vec<Fault>,
    /// Entries with a fault.
    faulty: Vec<Names>,
}

/// Entry of a document: the names that lead to it.
type Names = Vec<String>;

impl<'t> Document<'t> {
    /// Parses a document. Invalid TOML is skipped and reported with the other faults.
    #[must_use]
    pub fn parse(file: &Path, text: &'t str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut document =
            Self { file: file.into(), text, table, faults: Vec::new(), faulty: Vec::new() };
        for error in errors.iter().take(MAX_FAULTS) {
            let fault = document.fault_of(error);
            // One mistake can cause several faults; the first is the most precise.
            if document.faults.iter().all(|f| f.line != fault.line) {
                document.faults.push(fault);
            }
        }
        document
    }

    /// Deserializes the document and finds all faults. Returns the value without the invalid
    /// entries, if the rest suffices.
    pub fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        while self.faults.len() < MAX_FAULTS {
            let error = match T::deserialize(Deserializer::from(self.table.clone())) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let entry = error.span().and_then(|span| entry_at(self.table.get_ref(), &span));
            // A removed entry is not missing. The table in which it is missing is removed too.
            let ours = |names: &Names| {
                names.last().is_some_and(|n| error.message() == format!("missing field `{n}`"))
            };
            if !self.faulty.iter().any(ours) {
                let fault = self.fault_of(&error);
                // Invalid TOML in that line is already reported.
                if self.faults.iter().all(|f| f.line.is_none() || f.line != fault.line) {
                    self.faults.push(fault);
                }
            }
            match entry {
                Some(names) if take_out(self.table.get_mut(), &names) => self.faulty.push(names),
                // A required entry is missing, so there is no value.
                _ => return None,
            }
        }
        None
    }

    /// Adds a fault of an entry, such as `limits.connections`. Its position is that of the value,
    /// if the document has it.
    pub fn add_fault(&mut self, entry: &str, what: &str) {
        if self.faults.len() >= MAX_FAULTS {
            return;
        }
        let what = format!("{entry}: {what}");
        let fault = match value_span(self.table.get_ref(), entry) {
            Some(span) => self.fault_at(span.start, what),
            None => Fault::of(&self.file, what),
        };
        self.faults.push(fault);
        self.faulty.push(entry.split('.').map(Into::into).collect());
    }

    /// Removes an entry, such as one with a former name, and adds a fault if it was present.
    pub fn refuse(&mut self, entry: &str, what: &str) {
        if value_span(self.table.get_ref(), entry).is_some() {
            self.add_fault(entry, what);
            let names: Names = entry.split('.').map(Into::into).collect();
            take_out(self.table.get_mut(), &names);
        }
    }

    /// Adds a fault of a string with a known position.
    pub fn add_fault_of(&mut self, text: &Spanned<String>, what: &str) {
        // Finding a position requires a walk through the text.
        if self.faults.len() >= MAX_FAULTS {
            return;
        }
        let fault = self.fault_at(text.span().start, format!("{:?} {what}", text.get_ref()));
        self.faults.push(fault);
    }

    /// Adds a fault of a value with a known position.
    pub fn add_fault_in<T>(&mut self, value: &Spanned<T>, what: &str) {
        if self.faults.len() < MAX_FAULTS {
            let fault = self.fault_at(value.span().start, what.into());
            self.faults.push(fault);
        }
    }

    /// Adds the faults of a string that is itself a file. In a multi-line string they have their
    /// exact position, else that of its start.
    pub fn add_faults_within(&mut self, text: &Spanned<String>, found: Vec<Fault>) {
        let start = text.span().start;
        let opening = self.text.get(start..).unwrap_or_default();
        let inner = ["\"\"\"", "'''"].iter().find_map(|quotes| opening.strip_prefix(quotes));
        let starts_below = inner.is_some_and(|inner| inner.starts_with(['\n', '\r']));
        for fault in found {
            if self.faults.len() >= MAX_FAULTS {
                return;
            }
            let mut own = self.fault_at(start, format!("{}: {}", Shown(&fault.file), fault.what));
            if let (true, Some(line), Some(first)) = (starts_below, fault.line, own.line) {
                (own.line, own.column) = (Some(first + line), fault.column);
            }
            self.faults.push(own);
        }
    }

    /// Returns whether a table of the document, such as `limits` or `modules.config`, or an entry
    /// in it has a fault.
    #[must_use]
    pub fn is_faulty(&self, table: &str) -> bool {
        self.faulty.iter().any(|names| table.split('.').zip(names).all(|(a, b)| a == b))
    }

    /// Returns whether the document has a table of that name (not an array of tables).
    #[must_use]
    pub fn has_table(&self, name: &str) -> bool {
        matches!(self.table.get_ref().get(name).map(Spanned::get_ref), Some(DeValue::Table(_)))
    }

    /// Returns all faults, sorted by line.
    #[must_use]
    pub fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|f| (f.line, f.column));
        self.faults
    }

    fn fault_of(&self, error: &toml::de::Error) -> Fault {
        let what = error.message().trim_end().replace('\n', " ");
        match error.span() {
            None => Fault::of(&self.file, what),
            Some(span) => self.fault_at(span.start, what),
        }
    }

    fn fault_at(&self, at: usize, what: String) -> Fault {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        Fault::at(&self.file, line as u64, column as u64, what)
    }
}

/// Returns the innermost entry whose name or value is at a position.
fn entry_at(table: &DeTable<'_>, place: &Range<usize>) -> Option<Names> {
    let covers = |span: Range<usize>| span.start <= place.start && place.end <= span.end;
    for (name, value) in table {
        let own = name.get_ref().to_string();
        if covers(name.span()) {
            return Some(vec![own]);
        }
        // The position of a table is its header: its entries may be anywhere.
        let mut inner = match value.get_ref() {
            DeValue::Table(inner) => entry_at(inner, place),
            DeValue::Array(elements) => elements.iter().enumerate().find_map(|(n, element)| {
                let DeValue::Table(inner) = element.get_ref() else { return None };
                let mut names = match entry_at(inner, place) {
                    Some(names) => names,
                    None if covers(element.span()) => Vec::new(),
                    None => return None,
                };
                names.insert(0, n.to_string());
                Some(names)
            }),
            _ => None,
        };
        if let Some(names) = &mut inner {
            names.insert(0, own);
            return inner;
        }
        if covers(value.span()) {
            return Some(vec![own]);
        }
    }
    None
}

fn take_out(table: &mut DeTable<'_>, names: &[String]) -> bool {
    match names {
        [] => false,
        [name] => table.remove(name.as_str()).is_some(),
        [name, rest @ ..] => match (table.get_mut(name.as_str()).map(Spanned::get_mut), rest) {
            (Some(DeValue::Table(inner)), rest) => take_out(inner, rest),
            (Some(DeValue::Array(elements)), [number, rest @ ..]) => {
                let Ok(number) = number.parse::<usize>() else { return false };
                match (elements.get_mut(number).map(Spanned::get_mut), rest) {
                    (Some(_), []) => {
                        let all = std::mem::replace(elements, DeArray::new()).into_iter();
                        let others = all.enumerate().filter(|(n, _)| *n != number);
                        *elements = others.map(|(_, element)| element).collect();
                        true
                    }
                    (Some(DeValue::Table(inner)), rest) => take_out(inner, rest),
                    _ => false,
                }
            }
            _ => false,
        },
    }
}

fn value_span(table: &DeTable<'_>, entry: &str) -> Option<Range<usize>> {
    match entry.split_once('.') {
        None => table.get(entry).map(Spanned::span),
        Some((name, rest)) => match table.get(name)?.get_ref() {
            DeValue::Table(inner) => value_span(inner, rest),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Lamp {
        name: String,
        #[serde(default)]
        light: Light,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Light {
        lumen: u32,
        colors: Vec<u8>,
    }

    fn read(text: &str) -> (Option<Lamp>, Vec<String>) {
        let mut document = Document::parse(Path::new("lamp.toml"), text);
        let lamp = document.read();
        (lamp, document.into_faults().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn valid_document_has_no_faults() {
        let (lamp, faults) = read("name = \"a\"\n[light]\nlumen = 3\n");
        assert_eq!(lamp.map(|l| l.light.lumen), Some(3));
        assert_eq!(faults, [""; 0]);
    }

    #[test]
    fn faults_are_reported_in_order() {
        let (lamp, faults) = read(
            "nam = 1\nname = \"a\"\n[light]\nlumen = \"x\"\nlumens = 2\ncolors = [1, 2, 300]\n\
             [lihgt]\nlumen = 1\n",
        );
        assert_eq!(lamp, Some(Lamp { name: "a".into(), light: Light::default() }));
        let starts = [
            "lamp.toml:1:1: unknown field `nam`",
            "lamp.toml:4:9: invalid type",
            "lamp.toml:5:1: unknown field `lumens`",
            "lamp.toml:6:17: invalid value",
            "lamp.toml:7:2: unknown field `lihgt`",
        ];
        assert_eq!(faults.len(), starts.len(), "{faults:?}");
        assert!(faults.iter().zip(starts).all(|(f, s)| f.starts_with(s)), "{faults:?}");
    }

    #[test]
    fn syntax_error_does_not_hide_other_faults() {
        let (_, faults) = read("name = \n[light]\nlumens = 2\n");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("lamp.toml:1:"), "{faults:?}");
        assert!(faults[1].starts_with("lamp.toml:3:1: unknown field"), "{faults:?}");
    }

    #[test]
    fn missing_field_differs_from_invalid_field() {
        let (lamp, faults) = read("[light]\nlumen = 3\n");
        assert!(lamp.is_none());
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("missing field `name`"), "{faults:?}");
        let (lamp, faults) = read("name = 1\n");
        assert!(lamp.is_none());
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("lamp.toml:1:8: invalid type"), "{faults:?}");
    }

    #[test]
    fn added_fault_has_position() {
        let text = "name = \"a\"\n[light]\nlumen = 3\n";
        let mut document = Document::parse(Path::new("lamp.toml"), text);
        document.add_fault("light.lumen", "is too little");
        document.add_fault("light.colors", "must be some");
        let faults: Vec<_> = document.into_faults().iter().map(ToString::to_string).collect();
        let wanted =
            ["lamp.toml: light.colors: must be some", "lamp.toml:3:9: light.lumen: is too little"];
        assert_eq!(faults, wanted);
    }
}
