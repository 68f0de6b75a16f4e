//! Parses CSV into a table. The record reader of csv-core allows the caller to wipe its buffers.

use std::hash::BuildHasher;
use std::path::Path;
use std::sync::OnceLock;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use hashbrown::{DefaultHashBuilder, HashTable};
use saegis_onem2m::credential::KeyStrength;
use zeroize::Zeroizing;

use super::arena::Arena;
use super::column::{self, Column, KNOWN, Kind};
use super::{Row, Table, cell};
use crate::data::fault::Fault;
use crate::data::text;

/// Maximum number of reported faults of a file.
const MAX_FAULTS: usize = 20;
/// Maximum number of fields of a record. It is one more than a table can have, to detect excess
/// fields.
const MAX_FIELDS: usize = KNOWN.len() + 1;
/// Approximate length of the shortest possible cell, to bound the initial allocation.
const SHORT_CELL: usize = 12;

impl Table {
    /// Parses the CSV text of a table.
    ///
    /// # Errors
    /// Returns all faults up to a limit, with line and column.
    pub fn parse(file: &Path, text: &[u8]) -> Result<Self, Vec<Fault>> {
        parse(file, text)
    }
}

fn parse(file: &Path, text: &[u8]) -> Result<Table, Vec<Fault>> {
    let whole = |what: &str| vec![Fault::of(file, what)];
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(whole("is empty; a policy table starts with a line of column names"));
    }
    if let Err(what) = text::check(text) {
        return Err(whole(what));
    }
    if !text.ends_with(b"\n") {
        let line = text.iter().filter(|&&b| b == b'\n').count() as u64 + 1;
        let what = "the last line has no line break, so it may be incomplete; add one";
        return Err(vec![Fault::at(file, line, 1, what)]);
    }
    if u32::try_from(text.len()).is_err() {
        return Err(whole("is larger than 4 GiB"));
    }
    let mut records = Records::new(text);
    let header = match records.next() {
        Ok(Some(header)) => header,
        Ok(None) => return Err(whole("has no line of column names")),
        Err(what) => return Err(vec![records.fault(file, 0, what)]),
    };
    let columns = read_header(file, &records, header)?;
    // The stored form of a cell is not longer than its text, except for a time. A time has at most
    // as many digits.
    let cells = Arena::with_capacity(text.len())
        .map_err(|e| whole(&format!("needs {} bytes of memory: {e}", text.len())))?;
    let mut rows = Rows::new(columns, cells, row_limit(text));
    let mut faults = Vec::new();
    while faults.len() < MAX_FAULTS {
        match records.next() {
            Ok(None) => break,
            Ok(Some(record)) => {
                if let Err((field, what)) = rows.add(&records, record) {
                    faults.push(records.fault(file, field, what));
                }
            }
            Err(what) => {
                faults.push(records.fault(file, 0, what));
                break;
            }
        }
    }
    if faults.is_empty() { Ok(rows.finish(file)) } else { Err(faults) }
}

fn read_header(
    file: &Path,
    records: &Records<'_>,
    record: Record,
) -> Result<Vec<Column>, Vec<Fault>> {
    let mut columns: Vec<Column> = Vec::new();
    let mut faults = Vec::new();
    if let Some(other) = records.separator(record) {
        let what = format!("has {other} between the column names; separate them with commas");
        return Err(vec![records.fault(file, 0, what)]);
    }
    for field in 0..record.fields {
        let name = records.field(field).trim_ascii();
        match KNOWN.into_iter().find(|c| c.name.as_bytes() == name) {
            Some(known) if columns.contains(&known) => {
                let what = format!("the column {} is repeated", known.name);
                faults.push(records.fault(file, field, what));
            }
            Some(known) => columns.push(known),
            None => {
                // The name is not repeated: without a header, it may be a key.
                let names = KNOWN.map(|c| c.name).join(", ");
                let what = format!("unknown column; the known columns are: {names}");
                faults.push(records.fault(file, field, what));
            }
        }
    }
    let indices: Vec<_> = columns.iter().filter(|c| c.is_index()).collect();
    match indices.as_slice() {
        [index] => {
            for &name in column::required(index.name) {
                if !columns.iter().any(|c| c.name == name) {
                    let what =
                        format!("a table with a column {} needs a column {name}", index.name);
                    faults.push(records.fault(file, 0, what));
                }
            }
        }
        [] => {
            let what = "a column kpsa_id, ke_id, km_id or credential_id is missing";
            faults.push(records.fault(file, 0, what.into()));
        }
        _ => {
            let what = "a table can have only one of kpsa_id, ke_id, km_id and credential_id";
            faults.push(records.fault(file, 0, what.into()));
        }
    }
    if faults.is_empty() { Ok(columns) } else { Err(faults) }
}

/// Returns a number of rows that the text has at most. Comments count, and line breaks in cells.
fn row_limit(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

/// The rows read so far.
struct Rows {
    table: Table,
    key_columns: Vec<usize>,
    /// Columns that name the entity of a row; only one of them may have a value.
    entities: Vec<usize>,
}

impl Rows {
    /// Allocates for that number of rows. Growing and shrinking would take long system calls.
    fn new(columns: Vec<Column>, cells: Arena, rows: usize) -> Self {
        let place = |name: &str| columns.iter().position(|c| c.name == name);
        let index_column = columns.iter().position(|c| c.is_index()).unwrap_or_default();
        let keys = columns.iter().enumerate().filter(|(_, c)| c.kind == Kind::Key);
        let rows = rows.min(cells.capacity() / (columns.len().max(1) * SHORT_CELL));
        Self {
            key_columns: keys.map(|(at, _)| at).collect(),
            entities: ["ae_id", "ae_ids", "cse_id"].into_iter().filter_map(place).collect(),
            table: Table {
                index_column,
                cells,
                ends: Vec::with_capacity(rows * columns.len()),
                index: HashTable::with_capacity(rows),
                ae_ids: OnceLock::new(),
                listed: OnceLock::new(),
                hasher: DefaultHashBuilder::default(),
                short_keys: 0,
                first_short_key: None,
                columns,
            },
        }
    }

    /// Adds a record, or returns the field with a fault and its description. An invalid row is
    /// added without content, so that the number of each later row is still that of its record.
    fn add(&mut self, records: &Records<'_>, record: Record) -> Result<(), (usize, String)> {
        let (start, cells) = (self.table.cells.len(), self.table.ends.len());
        let added = self.add_cells(records, record);
        if added.is_err() {
            let Table { cells: text, ends, columns, .. } = &mut self.table;
            text.truncate(start);
            ends.truncate(cells);
            ends.resize(cells + columns.len(), u32::try_from(start).unwrap_or(u32::MAX));
        }
        added
    }

    fn add_cells(&mut self, records: &Records<'_>, record: Record) -> Result<(), (usize, String)> {
        let table = &mut self.table;
        let count = table.columns.len();
        if record.fields != count {
            let mut what = format!("has {} fields, but the header has {count}", record.fields);
            if let Some(other) = records.separator(record) {
                what = format!("has {other} between its fields; separate them with commas");
            }
            return Err((0, what));
        }
        for (at, column) in table.columns.iter().enumerate() {
            let wrong = |what: String| (at, format!("{} {what}", column.name));
            let cell = records.field(at);
            if cell.len() > column::MAX_CELL {
                return Err(wrong(format!("is longer than {} bytes", column::MAX_CELL)));
            }
            column::append(*column, cell, &mut table.cells).map_err(wrong)?;
            let end = u32::try_from(table.cells.len()).map_err(|_| wrong("does not fit".into()))?;
            table.ends.push(end);
        }
        let number = u32::try_from(table.ends.len() / count - 1).unwrap_or(u32::MAX);
        let row = Row(number);
        let mut named = self.entities.iter().filter(|at| !table.cell(row, **at).is_empty());
        if let (Some(_), Some(&second)) = (named.next(), named.next()) {
            return Err((second, "a row can have only one of ae_id, ae_ids and cse_id".into()));
        }
        let weak = |&&at: &&usize| {
            let least = table.columns.get(at).map_or(0, |column| column.min_key());
            KeyStrength::of(table.cell(row, at), least) != Ok(KeyStrength::Good)
        };
        let weak = self.key_columns.iter().filter(weak).count();
        table.short_keys += weak;
        if weak > 0 && table.first_short_key.is_none() {
            table.first_short_key = Some(records.place(0).0);
        }
        let Table { index, hasher, cells, ends, .. } = table;
        let cell = |row: u32| cell(cells.bytes(), ends, row as usize * count + table.index_column);
        let own = cell(number);
        let entry =
            index.entry(hasher.hash_one(own), |&r| cell(r) == own, |&r| hasher.hash_one(cell(r)));
        match entry {
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(number);
                Ok(())
            }
            hashbrown::hash_table::Entry::Occupied(first) => {
                let what = format!(
                    "{} {:?} is already in line {}",
                    table.columns.get(table.index_column).map_or("", |c| c.name),
                    String::from_utf8_lossy(own),
                    records.line_of_row(*first.get()),
                );
                Err((table.index_column, what))
            }
        }
    }

    fn finish(mut self, file: &Path) -> Table {
        self.table.ends.shrink_to_fit();
        let Table { index, hasher, cells, ends, columns, index_column, .. } = &mut self.table;
        let cell =
            |row: u32| cell(cells.bytes(), ends, row as usize * columns.len() + *index_column);
        index.shrink_to_fit(|&row| hasher.hash_one(cell(row)));
        if self.table.has_keys() {
            self.table.cells.lock(file);
        }
        self.table
    }
}

/// A record that was read, with the number of its fields.
#[derive(Clone, Copy)]
struct Record {
    fields: usize,
}

/// Position of a byte in a field. A quote opens a field only at its start. A quote closes a quoted
/// field unless another quote follows.
enum FieldState {
    Start,
    Plain,
    Quotes,
    Closed,
}

/// Reads records one by one into a buffer that is wiped.
struct Records<'a> {
    text: &'a [u8],
    reader: Reader,
    /// Number of bytes read from `text`, and start of the current record.
    at: usize,
    start: usize,
    line: u64,
    buffer: Zeroizing<Vec<u8>>,
    ends: [usize; MAX_FIELDS],
}

impl<'a> Records<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            reader: ReaderBuilder::new().comment(Some(b'#')).build(),
            at: 0,
            start: 0,
            line: 1,
            buffer: Zeroizing::new(vec![0; MAX_FIELDS * (column::MAX_CELL + 1)]),
            ends: [0; MAX_FIELDS],
        }
    }

    fn next(&mut self) -> Result<Option<Record>, String> {
        self.start = self.at;
        self.line = self.reader.line();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let (mut result, read, written, fields) =
            self.reader.read_record(rest, &mut self.buffer, &mut self.ends);
        self.at += read;
        let mut fields = fields;
        if result == ReadRecordResult::InputEmpty {
            // The end of the text ends its last record.
            let buffer = self.buffer.get_mut(written..).unwrap_or_default();
            let ends = self.ends.get_mut(fields..).unwrap_or_default();
            let (last, _, _, more) = self.reader.read_record(&[], buffer, ends);
            result = last;
            fields += more;
        }
        match result {
            ReadRecordResult::Record => Ok(Some(Record { fields })),
            ReadRecordResult::End => Ok(None),
            ReadRecordResult::OutputFull => Err("a field is too long".into()),
            ReadRecordResult::OutputEndsFull => Err("has too many fields".into()),
            ReadRecordResult::InputEmpty => Err("ends within a record".into()),
        }
    }

    fn field(&self, nth: usize) -> &[u8] {
        let end = |nth: usize| self.ends.get(nth).copied().unwrap_or_default();
        let start = if nth == 0 { 0 } else { end(nth - 1) };
        self.buffer.get(start..end(nth)).unwrap_or_default()
    }

    /// Returns the separator that a record seems to have instead of commas: spreadsheets use that
    /// of their language.
    fn separator(&self, record: Record) -> Option<&'static str> {
        let only = (record.fields == 1).then(|| self.field(0))?;
        match only.iter().find(|byte| matches!(byte, b';' | b'\t'))? {
            b';' => Some("semicolons"),
            _ => Some("tabs"),
        }
    }

    /// Creates a fault in a field of the current record.
    fn fault(&self, file: &Path, field: usize, what: String) -> Fault {
        let (line, column) = self.place(field);
        Fault::at(file, line, column, what)
    }

    /// Returns line and column of a field of the current record. The text is read again, because
    /// the reader does not store positions, and rows without a fault should not pay for them.
    fn place(&self, field: usize) -> (u64, u64) {
        let mut line = self.line;
        let mut rest = self.text.get(self.start..).unwrap_or_default();
        // Skips blank lines and comments before the record.
        loop {
            let end = rest.iter().position(|&b| b == b'\n');
            let first = rest.split(|&b| b == b'\n').next().unwrap_or_default();
            let skipped = first.starts_with(b"#") || first.iter().all(|&b| b == b'\r');
            match end {
                Some(end) if skipped => rest = rest.get(end + 1..).unwrap_or_default(),
                _ => break,
            }
            line += 1;
        }
        let (mut column, mut nth, mut state) = (1, 0, FieldState::Start);
        for &byte in rest {
            if nth == field {
                break;
            }
            state = match (state, byte) {
                (FieldState::Quotes, b'"') => FieldState::Closed,
                (FieldState::Quotes, _) | (FieldState::Start | FieldState::Closed, b'"') => {
                    FieldState::Quotes
                }
                (_, b'\r' | b'\n') => break,
                (_, b',') => {
                    nth += 1;
                    FieldState::Start
                }
                _ => FieldState::Plain,
            };
            if byte == b'\n' {
                line += 1;
                column = 1;
            } else if byte & 0xC0 != 0x80 {
                column += 1;
            }
        }
        (line, column)
    }

    /// Returns the line in which the row with that number starts.
    fn line_of_row(&self, row: u32) -> u64 {
        let mut again = Records::new(self.text);
        let mut next = || again.next().ok().flatten();
        // The header is record 0.
        for _ in 0..=row {
            next();
        }
        next();
        again.place(0).0
    }
}
