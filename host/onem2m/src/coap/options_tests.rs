//! Options and their tables.

use super::*;

fn with(numbers: &[u16]) -> Options {
    let mut options = Options::default();
    numbers.iter().for_each(|number| options.push(*number, Bytes::new()));
    options
}

#[test]
fn integer_has_no_leading_zeros_but_may() {
    let mut options = Options::default();
    for (number, value) in [(1, 0), (2, 255), (3, 256), (4, u32::MAX)] {
        options.push_uint(number, value);
        assert_eq!(options.uint(number, 4), Ok(Some(value)));
    }
    let lengths: Vec<_> = options.iter().map(|(_, value)| value.len()).collect();
    assert_eq!(lengths, [0, 1, 2, 4]);
    options.push(5, vec![0u8, 0, 7]);
    assert_eq!(options.uint(5, 4), Ok(Some(7)));
    assert!(options.uint(5, 2).is_err());
    assert_eq!(options.uint(6, 2), Ok(None));
}

#[test]
fn repeated_option_is_not_single() {
    let options = with(&[279, 283, 279]);
    assert!(options.single(279).is_err());
    assert!(options.uint(279, 2).is_err());
    assert!(options.single(283).unwrap().is_some());
}

#[test]
fn options_are_ordered_repeated_ones_as_given() {
    let mut options = Options::default();
    for (number, text) in [(15, "a"), (11, "b"), (15, "c"), (11, "d")] {
        options.push_text(number, text);
    }
    let all: Vec<_> = options.iter().map(|(number, value)| (number, value.to_vec())).collect();
    let expected = [(11, "b"), (11, "d"), (15, "a"), (15, "c")];
    assert_eq!(all, expected.map(|(number, text)| (number, text.as_bytes().to_vec())));
}

/// TS-0008 clause 6.2.2.4 and its versions before V3.7.0.
#[test]
fn table_follows_from_numbers() {
    for numbers in [&[][..], &[259, 263, 267], &[279], &[267, 283], &[11, 258, 271], &[343, 351]] {
        assert_eq!(Table::of(&with(numbers)), Ok(Table::Current), "{numbers:?}");
    }
    for former in [256, 257, 260, 261, 262, 264, 265, 266] {
        assert_eq!(Table::of(&with(&[former, 259, 263, 267])), Ok(Table::Former), "{former}");
        for current in [271, 275, 279, 283, 291, 295, 299, 303, 307, 311, 319, 323, 327, 331, 339] {
            assert_eq!(Table::of(&with(&[former, current])), Err(MixedTables));
        }
    }
}

#[test]
fn option_of_current_table_is_critical() {
    for number in 252..360 {
        if Table::Current.option(number).is_some() {
            assert!(is_critical(number) && number % 4 == 3, "{number}");
        }
    }
}

#[test]
fn numbers_are_unique_in_each_table() {
    for table in [Table::Current, Table::Former] {
        let mut numbers: Vec<_> =
            NUMBERS.iter().filter_map(|(option, ..)| table.number(*option)).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
        for number in numbers {
            assert_eq!(table.option(number).and_then(|option| table.number(option)), Some(number));
        }
    }
}
