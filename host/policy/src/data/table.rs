//! Policy tables: CSV files, each parsed once into one block of memory and an index.
//!
//! A module reads single rows through an import, and never a key. A table of a million rows exists
//! only once. All memory that contained a key is overwritten when the table is dropped. The memory
//! of the table is locked if the system allows it, so that no key is swapped out.

mod arena;
mod changes;
mod column;
mod masked_line;
mod parse;

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::mem::take;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hashbrown::{DefaultHashBuilder, HashTable};
use saegis_onem2m::credential::PresharedKey;

use crate::data::background_thread::drop_in_background;
use arena::Arena;
pub use changes::RowChanges;
use column::{Column, Kind};
pub(crate) use masked_line::{looks_like_key, masked_line};

/// A policy table.
pub struct Table {
    columns: Vec<Column>,
    /// Number of the index column.
    index_column: usize,
    /// Cells of all rows, one after the other; keys as bytes, other cells as UTF-8.
    cells: Arena,
    /// End of each cell in `cells`; a cell starts at the end of the previous one.
    ends: Vec<u32>,
    /// Row numbers by the text in the index column.
    index: HashTable<u32>,
    /// Row numbers by AE-ID-Stem, created at the first query.
    ae_ids: OnceLock<HashTable<u32>>,
    /// AE-ID-Stems in lists of several, created at the first query.
    listed: OnceLock<HashSet<Box<str>>>,
    hasher: DefaultHashBuilder,
    /// Number of keys that are [`KeyStrength::Weak`](saegis_onem2m::credential::KeyStrength::Weak),
    /// and the line of the first of them.
    short_keys: usize,
    first_short_key: Option<u64>,
}

/// A row of a table, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row(u32);

impl Table {
    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ends.len() / self.columns.len().max(1)
    }

    /// Returns whether it has a column of keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.columns.iter().any(|c| c.kind == Kind::Key)
    }

    /// Returns the number of keys that can be guessed from one recorded handshake because they are
    /// short or regular.
    #[must_use]
    pub fn short_keys(&self) -> usize {
        self.short_keys
    }

    /// Returns the line of the first of them.
    #[must_use]
    pub fn first_short_key(&self) -> Option<u64> {
        self.first_short_key
    }

    /// Returns the memory that the table uses, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.cells.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.index.allocation_size()
            + self.ae_ids.get().map_or(0, HashTable::allocation_size)
    }

    /// Returns the expiration times of the rows that have one.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = SystemTime> {
        let column = self.columns.iter().position(|c| c.kind == Kind::Time);
        let seconds = |cell: &[u8]| std::str::from_utf8(cell).ok()?.parse().ok();
        let at = move |row, column| {
            let seconds = seconds(self.cell(row, column))?;
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        let of = column.map(|column| self.each_row().filter_map(move |row| at(row, column)));
        of.into_iter().flatten()
    }

    /// Returns all rows, in the order of the file.
    pub fn each_row(&self) -> impl Iterator<Item = Row> + use<> {
        (0..u32::try_from(self.rows()).unwrap_or(u32::MAX)).map(Row)
    }

    /// Returns the row whose index column has `value`.
    #[must_use]
    pub fn find(&self, value: &str) -> Option<Row> {
        self.find_bytes(value.as_bytes())
    }

    fn find_bytes(&self, value: &[u8]) -> Option<Row> {
        let hash = self.hasher.hash_one(value);
        let found = self.index.find(hash, |&row| self.cell(Row(row), self.index_column) == value);
        found.map(|&row| Row(row))
    }

    /// Returns the text in a column of a row. Returns `None` if the column does not exist, the cell
    /// is empty, or the column has keys.
    #[must_use]
    pub fn text(&self, row: Row, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|c| c.name == column)?;
        if self.columns.get(at)?.kind == Kind::Key {
            return None;
        }
        let cell = self.cell(row, at);
        if cell.is_empty() { None } else { std::str::from_utf8(cell).ok() }
    }

    /// Returns whether a row is for the AE with that AE-ID-Stem. The first query indexes all rows:
    /// this is done at registrations and not while the table is loaded.
    #[must_use]
    pub fn names_ae(&self, stem: &str) -> bool {
        if self.lists_ae(stem) {
            return true;
        }
        let Some(column) = self.columns.iter().position(|c| c.kind == Kind::AeIdStem) else {
            return false;
        };
        let ae_ids = self.ae_ids.get_or_init(|| self.index_of(column));
        let hash = self.hasher.hash_one(stem.as_bytes());
        ae_ids.find(hash, |&row| self.cell(Row(row), column) == stem.as_bytes()).is_some()
    }

    /// Returns whether a row has that AE-ID-Stem in a list of several.
    fn lists_ae(&self, stem: &str) -> bool {
        let Some(column) = self.columns.iter().position(|c| c.kind == Kind::AeIdStems) else {
            return false;
        };
        let listed = self.listed.get_or_init(|| {
            let cell = |row| std::str::from_utf8(self.cell(row, column)).unwrap_or_default();
            let stems = self.each_row().flat_map(|row| cell(row).split(' '));
            stems.filter(|stem| !stem.is_empty()).map(Into::into).collect()
        });
        listed.contains(stem)
    }

    /// Indexes the texts in a column, except for empty cells.
    fn index_of(&self, column: usize) -> HashTable<u32> {
        let mut index = HashTable::new();
        for row in self.each_row().filter(|&row| !self.cell(row, column).is_empty()) {
            let own = self.cell(row, column);
            let hash = |row: &u32| self.hasher.hash_one(self.cell(Row(*row), column));
            let same = |&row: &u32| self.cell(Row(row), column) == own;
            let entry = index.entry(self.hasher.hash_one(own), same, hash);
            if let hashbrown::hash_table::Entry::Vacant(place) = entry {
                place.insert(row.0);
            }
        }
        index
    }

    /// Returns the number of a column of keys.
    #[must_use]
    pub fn key_column(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == column && c.kind == Kind::Key)
    }

    /// Returns the key in a column of keys.
    #[must_use]
    pub fn key(&self, row: Row, key_column: usize) -> Option<PresharedKey> {
        (self.columns.get(key_column)?.kind == Kind::Key)
            .then(|| PresharedKey::new(self.cell(row, key_column)).ok())?
    }

    fn cell(&self, row: Row, column: usize) -> &[u8] {
        cell(self.cells.bytes(), &self.ends, row.0 as usize * self.columns.len() + column)
    }
}

/// Size in bytes from which wiping a table would take too long for the last owner, which may be a
/// request.
const BACKGROUND_DROP_SIZE: usize = 1 << 20;

impl Drop for Table {
    fn drop(&mut self) {
        if self.memory() > BACKGROUND_DROP_SIZE {
            let Self { cells, ends, index, ae_ids, listed, .. } = self;
            drop_in_background((
                take(cells),
                take(ends),
                take(index),
                ae_ids.take(),
                listed.take(),
            ));
        }
    }
}

/// Returns the `nth` of `cells`, which end at `ends`; a cell starts where the previous one ends.
fn cell<'a>(cells: &'a [u8], ends: &[u32], nth: usize) -> &'a [u8] {
    let end = |nth: usize| ends.get(nth).map_or(0, |&end| end as usize);
    let start = if nth == 0 { 0 } else { end(nth - 1) };
    cells.get(start..end(nth)).unwrap_or_default()
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
