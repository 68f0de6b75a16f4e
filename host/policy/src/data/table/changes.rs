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
        let columns = column_pairs(old, new);
        let (mut found, mut changed) = (0, 0);
        // Most rows keep their order, and then the next row of the old state needs no lookup.
        let mut expected = Row(0);
        for row in new.each_row() {
            let Some(before) = old.same_identifier(new, row, expected) else { continue };
            expected = Row(before.0.saturating_add(1));
            found += 1;
            let differs = |&(of_old, of_new): &(Option<usize>, Option<usize>)| {
                old.cell_or_empty(before, of_old) != new.cell_or_empty(row, of_new)
            };
            changed += usize::from(columns.iter().any(differs));
        }
        Self { added: new.rows() - found, removed: old.rows() - found, changed }
    }
}

/// Returns the numbers of each column in both states. A column that only one of them has counts as
/// empty in the other.
fn column_pairs(old: &Table, new: &Table) -> Vec<(Option<usize>, Option<usize>)> {
    let at = |table: &Table, name: &str| table.columns.iter().position(|c| c.name == name);
    let of_old = old.columns.iter().enumerate().map(|(n, c)| (Some(n), at(new, c.name)));
    let only_new = new.columns.iter().enumerate().filter(|(_, c)| at(old, c.name).is_none());
    of_old.chain(only_new.map(|(n, _)| (None, Some(n)))).collect()
}

impl Table {
    /// Returns the row with the identifier of a row of another state. The expected row is compared
    /// first.
    fn same_identifier(&self, other: &Table, row: Row, expected: Row) -> Option<Row> {
        let identifier = other.cell(row, other.index_column);
        // A row behind the last one has an empty cell, and an identifier is never empty.
        if self.cell(expected, self.index_column) == identifier {
            return Some(expected);
        }
        self.find_bytes(identifier)
    }

    fn cell_or_empty(&self, row: Row, column: Option<usize>) -> &[u8] {
        column.map_or(&[], |column| self.cell(row, column))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn table(text: &str) -> Table {
        Table::parse(Path::new("t"), text.as_bytes()).unwrap()
    }

    #[test]
    fn rows_are_compared_by_identifier_and_content() {
        let table = |rows: &str| table(&format!("kpsa_id,kpsa,ae_id{rows}\n"));
        let old = table("\na@e.com,0001020304,Ca\nb@e.com,0001020304,Cb\nc@e.com,0001020304,Cc");
        let new = table("\nd@e.com,0001020304,Cd\nc@e.com,0001020305,Cc\nb@e.com,0001020304,Cb");
        let changes = RowChanges::of(Some(&old), Some(&new));
        assert_eq!(changes, RowChanges { added: 1, removed: 1, changed: 1 });
        assert_eq!(RowChanges::of(Some(&old), Some(&old)), RowChanges::default());
        assert_eq!(RowChanges::of(Some(&old), None).removed, 3);
        assert_eq!(RowChanges::of(None, Some(&new)).added, 3);
    }

    #[test]
    fn missing_column_counts_as_empty() {
        let few = table("kpsa_id,kpsa,ae_id\na@e.com,0001020304,Ca\nb@e.com,0001020304,Cb\n");
        let more = table(
            "kpsa,kpsa_id,expires,ae_id\n0001020304,a@e.com,,Ca\n0001020304,b@e.com,20300101T000000,Cb\n",
        );
        let one = RowChanges { added: 0, removed: 0, changed: 1 };
        assert_eq!(RowChanges::of(Some(&few), Some(&more)), one);
        assert_eq!(RowChanges::of(Some(&more), Some(&few)), one);
    }

    /// Rows in any order, each with one of two keys.
    fn rows() -> impl Strategy<Value = Vec<(usize, bool)>> {
        let ids = Just((0..8).collect::<Vec<_>>()).prop_shuffle();
        (ids, prop::collection::vec(any::<bool>(), 0..=8))
            .prop_map(|(ids, keys)| ids.into_iter().zip(keys).collect())
    }

    proptest! {
        #[test]
        fn order_of_rows_does_not_matter(old in rows(), new in rows()) {
            let of = |rows: &[(usize, bool)]| {
                let row = |(id, key): &(usize, bool)| format!("{id}@e.com,00010203{:02},C{id}\n", u8::from(*key));
                table(&format!("kpsa_id,kpsa,ae_id\n{}", rows.iter().map(row).collect::<String>()))
            };
            let changes = RowChanges::of(Some(&of(&old)), Some(&of(&new)));
            let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.into_iter().collect(), new.into_iter().collect());
            let changed = new.iter().filter(|(id, key)| old.get(id).is_some_and(|before| before != *key));
            let expected = RowChanges {
                added: new.keys().filter(|id| !old.contains_key(id)).count(),
                removed: old.keys().filter(|id| !new.contains_key(id)).count(),
                changed: changed.count(),
            };
            prop_assert_eq!(changes, expected);
        }
    }
}
