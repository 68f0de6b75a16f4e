//! The difference between two states of a table.

use super::{Row, Table};

/// Number of rows that were added, removed and changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowChanges {
    /// Rows with a new identifier.
    pub added: usize,
    /// Rows whose identifier is gone.
    pub removed: usize,
    /// Rows with another content.
    pub changed: usize,
}

impl RowChanges {
    /// Compares two states of a table, which may not exist.
    #[must_use]
    pub fn of(old: Option<&Table>, new: Option<&Table>) -> Self {
        let rows = |table: Option<&Table>| table.map_or(0, Table::rows);
        let (Some(old), Some(new)) = (old, new) else {
            return Self { added: rows(new), removed: rows(old), changed: 0 };
        };
        let (mut found, mut changed) = (0, 0);
        for row in new.each_row() {
            let Some(before) = old.same_identifier(new, row) else { continue };
            found += 1;
            if !old.has_same_cells(before, new, row) {
                changed += 1;
            }
        }
        Self { added: new.rows() - found, removed: old.rows() - found, changed }
    }
}

impl Table {
    /// Returns the row with the identifier of a row of another state.
    fn same_identifier(&self, other: &Table, row: Row) -> Option<Row> {
        let identifier = other.cell(row, other.index_column);
        self.find(std::str::from_utf8(identifier).ok()?)
    }

    /// Returns whether two rows have the same cells. A column that only one of them has counts as
    /// empty in the other.
    fn has_same_cells(&self, row: Row, other: &Table, other_row: Row) -> bool {
        let cell = |table: &Table, row, name: &str| {
            let at = table.columns.iter().position(|column| column.name == name);
            at.map(|at| table.cell(row, at).to_vec()).map(zeroize::Zeroizing::new)
        };
        let names = self.columns.iter().chain(&other.columns).map(|column| column.name);
        let empty = zeroize::Zeroizing::default;
        names.into_iter().all(|name| {
            let of_own = cell(self, row, name).unwrap_or_else(empty);
            of_own == cell(other, other_row, name).unwrap_or_else(empty)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn rows_are_compared_by_identifier_and_content() {
        let table = |rows: &str| {
            Table::parse(Path::new("t"), format!("kpsa_id,kpsa,ae_id{rows}\n").as_bytes()).unwrap()
        };
        let old = table("\na@e.com,0001020304,Ca\nb@e.com,0001020304,Cb\nc@e.com,0001020304,Cc");
        let new = table("\nd@e.com,0001020304,Cd\nc@e.com,0001020305,Cc\nb@e.com,0001020304,Cb");
        let changes = RowChanges::of(Some(&old), Some(&new));
        assert_eq!(changes, RowChanges { added: 1, removed: 1, changed: 1 });
        assert_eq!(RowChanges::of(Some(&old), Some(&old)), RowChanges::default());
        assert_eq!(RowChanges::of(Some(&old), None).removed, 3);
        assert_eq!(RowChanges::of(None, Some(&new)).added, 3);
        let text = "kpsa_id,kpsa,ae_id,expires\na@e.com,0001020304,Ca,\nb@e.com,0001020304,Cb,20300101T000000\n";
        let with_column = Table::parse(Path::new("t"), text.as_bytes()).unwrap();
        let changes = RowChanges::of(Some(&old), Some(&with_column));
        assert_eq!(changes, RowChanges { added: 0, removed: 1, changed: 1 });
    }
}
