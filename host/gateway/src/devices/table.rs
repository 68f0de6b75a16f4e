//! Edits a table of pre-shared keys as a person would: line by line, comments and order unchanged.

use std::path::{Path, PathBuf};

use std::time::SystemTime;

use saegis_onem2m::timestamp;
use saegis_policy::{Fault, Faults, Table, read_file};
use zeroize::Zeroizing;

use crate::config::Config;

/// Name of the table that the module `psk-table` reads.
const TABLE: &str = "psk-lookup-table.csv";

/// The header of a new table.
pub const HEADER: &str = "ae_id,kpsa,kpsa_id,expires\n";

/// A table of pre-shared keys, as text.
pub struct TableText {
    file: PathBuf,
    /// The lines, without their line breaks.
    lines: Vec<Zeroizing<String>>,
    /// Number of the line with the column names.
    header: usize,
    columns: Vec<String>,
}

/// A row of the table.
pub struct Row {
    /// Number of its line, from 1.
    pub line: usize,
    /// AE-ID-Stem; empty if the row names none.
    pub ae_id: String,
    /// KpsaID.
    pub kpsa_id: String,
    /// Kpsa in hexadecimal digits.
    pub kpsa: Zeroizing<String>,
    /// End of its validity; empty if it has none.
    pub expires: String,
}

impl Row {
    /// Returns the name of the device: its AE-ID without the first letter, or its KpsaID before the
    /// issuer.
    pub fn name(&self) -> &str {
        let of_id = || self.kpsa_id.split('@').next().unwrap_or_default();
        self.ae_id.get(1..).filter(|name| !name.is_empty()).unwrap_or_else(of_id)
    }

    /// Returns the state of its key.
    pub fn state(&self) -> &'static str {
        match timestamp::parse(&self.expires) {
            Ok(at) if at <= SystemTime::now() => "expired",
            _ => "valid",
        }
    }
}

/// Returns the file of the table.
pub fn table_file(config: &Config) -> PathBuf {
    config.policy.folder.join(TABLE)
}

impl TableText {
    /// Reads a table of at most `limit` bytes. A missing file is an empty table.
    ///
    /// # Errors
    /// Fails if it cannot be read or is invalid.
    pub fn open(file: &Path, limit: u64) -> Result<Self, Faults> {
        let text = if file.exists() {
            let bytes = read_file(file, limit).map_err(|fault| Faults(vec![fault]))?;
            saegis_policy::decode(file, &bytes).map_err(|fault| Faults(vec![fault]))?.to_string()
        } else {
            HEADER.to_string()
        };
        Self::parse(file, Zeroizing::new(text))
    }

    fn parse(file: &Path, text: Zeroizing<String>) -> Result<Self, Faults> {
        Table::parse(file, text.as_bytes()).map_err(Faults)?;
        let lines: Vec<_> = text.lines().map(|line| Zeroizing::new(line.to_string())).collect();
        let header = lines.iter().position(|line| is_record(line)).unwrap_or_default();
        let names = lines.get(header).map(|line| line.trim_start_matches('\u{feff}'));
        let columns = names.into_iter().flat_map(|line| cells(line).map(unquoted)).collect();
        let table = Self { file: file.into(), lines, header, columns };
        if table.columns.iter().any(|column| column == "kpsa_id") {
            Ok(table)
        } else {
            let what = "is not a table of pre-shared keys: it has no column kpsa_id";
            Err(Faults(vec![Fault::of(file, what)]))
        }
    }

    /// Returns the text, after a check that it is a valid table.
    ///
    /// # Errors
    /// Returns the faults of the table.
    pub fn text(&self) -> Result<Zeroizing<String>, Faults> {
        // With the whole size, so that no part stays in memory that is not wiped.
        let size = self.lines.iter().map(|line| line.len() + 1).sum();
        let mut text = Zeroizing::new(String::with_capacity(size));
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        Table::parse(&self.file, text.as_bytes()).map_err(Faults)?;
        Ok(text)
    }

    /// Returns all rows.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let records = self.lines.iter().enumerate().skip(self.header + 1);
        records.filter(|(_, line)| is_record(line)).map(|(at, line)| {
            let of = |name: &str| {
                let at = self.columns.iter().position(|column| column == name);
                at.and_then(|at| cells(line).nth(at)).map(unquoted).unwrap_or_default()
            };
            Row {
                line: at + 1,
                ae_id: of("ae_id"),
                kpsa_id: of("kpsa_id"),
                kpsa: Zeroizing::new(of("kpsa")),
                expires: of("expires"),
            }
        })
    }

    /// Appends a row.
    pub fn append(&mut self, row: &Row) {
        if !row.expires.is_empty() {
            self.need_column("expires");
        }
        let cells = self.columns.iter().map(|column| match column.as_str() {
            "ae_id" => row.ae_id.as_str(),
            "kpsa_id" => &row.kpsa_id,
            "kpsa" => &row.kpsa,
            "expires" => &row.expires,
            _ => "",
        });
        self.lines.push(joined(cells));
    }

    /// Sets the end of the validity of the row in a line.
    pub fn expire(&mut self, line: usize, expires: &str) {
        self.need_column("expires");
        let at = self.columns.iter().position(|column| column == "expires");
        if let (Some(at), Some(text)) = (at, self.lines.get_mut(line - 1)) {
            let changed = cells(text).enumerate();
            let changed = joined(changed.map(|(n, cell)| if n == at { expires } else { cell }));
            *text = changed;
        }
    }

    /// Removes lines, by their numbers.
    pub fn remove(&mut self, lines: &[usize]) {
        let mut number = 0;
        self.lines.retain(|_| {
            number += 1;
            !lines.contains(&number)
        });
    }

    /// Adds an empty column, if the table does not have it.
    fn need_column(&mut self, name: &str) {
        if self.columns.iter().any(|column| column == name) {
            return;
        }
        self.columns.push(name.into());
        for (at, line) in self.lines.iter_mut().enumerate().skip(self.header) {
            if at == self.header {
                *line = joined([line.as_str(), name].into_iter());
            } else if is_record(line) {
                *line = joined([line.as_str(), ""].into_iter());
            }
        }
    }
}

/// Joins cells to a line, in memory that is wiped.
fn joined<'c>(cells: impl Iterator<Item = &'c str>) -> Zeroizing<String> {
    // `join` allocates once.
    Zeroizing::new(cells.collect::<Vec<_>>().join(","))
}

/// Returns whether a line has the column names or a row.
fn is_record(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

/// Returns the cells of a line as they are written. A comma in quotes does not end a cell.
fn cells(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// Returns the content of a cell.
fn unquoted(cell: &str) -> String {
    let cell = cell.trim();
    match cell.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => cell.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Ours.\nae_id,kpsa,kpsa_id,comment\n\
        Ca,000102030405060708090a0b0c0d0eff,a@example.com,\"hall, first floor\"\n# later\n\
        Cb,100102030405060708090a0b0c0d0eff,b@example.com,\n";

    fn table() -> TableText {
        TableText::parse(Path::new("t.csv"), Zeroizing::new(TEXT.into())).unwrap()
    }

    fn row(name: &str, expires: &str) -> Row {
        Row {
            line: 0,
            ae_id: format!("C{name}"),
            kpsa_id: format!("{name}@example.com"),
            kpsa: Zeroizing::new("200102030405060708090a0b0c0d0eff".into()),
            expires: expires.into(),
        }
    }

    #[test]
    fn edits_leave_other_lines_unchanged() {
        let mut table = table();
        assert_eq!(table.text().unwrap().as_str(), TEXT);
        assert_eq!(table.rows().map(|row| row.line).collect::<Vec<_>>(), [3, 5]);
        table.append(&row("c", ""));
        let added = "Cc,200102030405060708090a0b0c0d0eff,c@example.com,\n";
        assert_eq!(table.text().unwrap().as_str(), format!("{TEXT}{added}"));
        table.remove(&[3, 6]);
        let text = table.text().unwrap();
        assert!(!text.contains("hall") && text.contains("# later\nCb,"), "{}", text.as_str());
        // A second row with the same KpsaID is refused before anything is written.
        table.append(&row("b", ""));
        assert!(table.text().is_err());
    }

    #[test]
    fn missing_column_is_added() {
        let mut table = table();
        table.append(&row("c", "20301231T235959"));
        table.expire(3, "20300101T000000");
        let text = table.text().unwrap();
        assert!(text.contains("ae_id,kpsa,kpsa_id,comment,expires\n"), "{}", text.as_str());
        assert!(text.contains("\"hall, first floor\",20300101T000000\n"), "{}", text.as_str());
        let rows: Vec<_> = table.rows().map(|row| row.expires).collect();
        assert_eq!(rows, ["20300101T000000", "", "20301231T235959"]);
    }
}
