//! Policy tables.

use std::path::Path;

use saegis_onem2m::credential::{KeyStrength, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CseId, KpsaId};
use saegis_policy::{Fault, Table};

const FILE: &str = "table.csv";
/// The index columns and the key columns.
const INDICES: [&str; 2] = ["kpsa_id", "ke_id"];
const KEYS: [&str; 2] = ["kpsa", "ke"];

/// Parser of policy tables. An accepted table has only valid rows that their index finds. A refused
/// table has faults with valid positions.
pub fn policy_table(input: &[u8]) {
    match parse(input) {
        Ok(table) => good(&table),
        Err(faults) => {
            places(input, &faults);
            alone(input, &faults);
        }
    }
}

fn parse(text: &[u8]) -> Result<Table, Vec<Fault>> {
    Table::parse(Path::new(FILE), text)
}

fn good(table: &Table) {
    let (mut rows, mut short_keys) = (0, 0);
    for row in table.each_row() {
        let mut ids = INDICES.iter().filter_map(|column| table.text(row, column));
        let id = ids.next().expect("a row has an index");
        assert_eq!(ids.next(), None, "a row has one index");
        assert_eq!(table.find(id), Some(row), "a row is found by its index");
        KpsaId::check(id).expect("an index is a KpsaID");
        let (ae, cse) = (table.text(row, "ae_id"), table.text(row, "cse_id"));
        assert!(ae.is_none() || cse.is_none(), "a row is for an AE or a CSE");
        if let Some(ae) = ae {
            AeIdStem::check(ae).expect("an ae_id is an AE-ID-Stem");
            assert!(table.names_ae(ae), "the AE of a row is named by its table");
        }
        if let Some(cse) = cse {
            assert_eq!(CseId::parse(cse).expect("a cse_id is a CSE-ID").bare(), cse);
        }
        if let Some(expires) = table.text(row, "expires") {
            expires.parse::<u64>().expect("a time is kept in seconds");
        }
        for column in KEYS {
            assert_eq!(table.text(row, column), None, "a key is no text");
            if let Some(column) = table.key_column(column) {
                let key = table.key(row, column).expect("a row has a key in a column of keys");
                let strength = KeyStrength::of(key.expose(), PresharedKey::MIN_PROVISIONED);
                short_keys +=
                    usize::from(strength.expect("no key is guessable") == KeyStrength::Weak);
            }
        }
        rows += 1;
    }
    assert_eq!((rows, short_keys), (table.rows(), table.short_keys()));
    assert_eq!(table.find(""), None, "no row has an empty index");
}

/// Asserts that each fault has a position in the text, or applies to the whole text.
fn places(text: &[u8], faults: &[Fault]) {
    assert!((1..=20).contains(&faults.len()), "{} faults", faults.len());
    let lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
    for fault in faults {
        assert_eq!(fault.file, Path::new(FILE));
        let (Some(line), Some(column)) = (fault.line, fault.column) else {
            assert_eq!((fault.line, fault.column, faults.len()), (None, None, 1), "{fault}");
            continue;
        };
        let number = usize::try_from(line - 1).expect("it fits");
        // There is no line after the last line break.
        let there = number + usize::from(text.ends_with(b"\n")) < lines.len();
        assert!(there, "the text has no such line: {fault}");
        let characters = lines[number].iter().filter(|&byte| byte & 0xC0 != 0x80).count() as u64;
        assert!((1..=characters + 1).contains(&column), "the line has no such column: {fault}");
    }
}

/// Asserts that the fault of a row is the same if the row stands alone under the header. Applies
/// only if each record is one line.
fn alone(text: &[u8], faults: &[Fault]) {
    if text.iter().any(|byte| matches!(byte, b'"' | b'\r')) || !text.ends_with(b"\n") {
        return;
    }
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let lines: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').collect();
    let skipped = |line: &&[u8]| matches!(line, [b'\n' | b'#', ..]);
    let Some(header) = lines.iter().position(|line| !skipped(line)) else { return };
    for fault in faults {
        let Some(line) = fault.line.and_then(|line| usize::try_from(line - 1).ok()) else {
            continue;
        };
        if line <= header {
            continue;
        }
        let (mut few, mut what) = (lines[..=header].to_vec(), fault.what.clone());
        if let Some((before, first)) = what.rsplit_once(" is already in line ") {
            let first: usize = first.parse().expect("the fault has the number of a line");
            assert!((header + 2..=line).contains(&first), "{fault}");
            few.push(lines[first - 1]);
            what = format!("{before} is already in line {}", few.len());
        }
        few.push(lines[line]);
        let place = (Some(few.len() as u64), fault.column);
        let own = parse(&few.concat()).err().unwrap_or_default();
        let own: Vec<_> = own.iter().map(|own| ((own.line, own.column), &own.what)).collect();
        assert_eq!(own, [(place, &what)], "{fault}");
    }
}
