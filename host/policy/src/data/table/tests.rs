use std::path::Path;

use super::*;
use proptest::prelude::*;

const GOOD: &str = "ae_id,kpsa,kpsa_id\n\
    Clight-AE1,1a2b3c4d5e6f7a8b,AE123456789012-Light@in.provider.com\n\
    Clight-AE2,12345678abcdefab,AE123456789015-Light@in.provider.com\n";

fn parse(text: &str) -> Result<Table, Vec<String>> {
    Table::parse(Path::new("t.csv"), text.as_bytes())
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn faults(text: &str) -> Vec<String> {
    parse(text).err().unwrap_or_default()
}

#[test]
fn worked_example_table_is_parsed() {
    let table = parse(GOOD).ok().unwrap();
    assert_eq!(table.rows(), 2);
    assert_eq!(table.short_keys(), 2);
    let row = table.find("AE123456789015-Light@in.provider.com").unwrap();
    assert_eq!(table.text(row, "ae_id"), Some("Clight-AE2"));
    assert_eq!(table.text(row, "kpsa"), None, "a key is no text");
    assert_eq!(table.text(row, "cse_id"), None);
    let column = table.key_column("kpsa").unwrap();
    let key = table.key(row, column).unwrap();
    assert_eq!(key.expose(), hex::decode("12345678abcdefab").unwrap());
    assert_eq!(table.key_column("ae_id"), None);
    assert!(table.find("AE123456789015-light@in.provider.com").is_none());
    assert!(table.find("").is_none());
}

#[test]
fn columns_in_any_order_quotes_comments_and_line_ends() {
    let text = "\u{feff}kpsa_id,comment,kpsa,cse_id,ae_id,expires\r\n\
        # the second house\r\n\
        \r\n\
        a@b.c,\"kitchen, \"\"left\"\"\",00ff1a,/mn-2,,20261124T093000\r\n\
        b@b.c,,0F1e2D,,,\r\n";
    let table = parse(text).ok().unwrap();
    assert_eq!(table.rows(), 2);
    let row = table.find("a@b.c").unwrap();
    assert_eq!(table.text(row, "comment"), Some("kitchen, \"left\""));
    assert_eq!(table.text(row, "cse_id"), Some("mn-2"));
    assert_eq!(table.text(row, "ae_id"), None);
    assert_eq!(table.text(row, "expires"), Some("1795512600"));
    let row = table.find("b@b.c").unwrap();
    assert_eq!(
        table.key(row, table.key_column("kpsa").unwrap()).unwrap().expose(),
        [0x0f, 0x1e, 0x2d]
    );
}

#[test]
fn table_faults_have_line_and_column() {
    let head = "ae_id,kpsa,kpsa_id\n";
    for (row, fault) in [
        ("Clight,0g,a@b.c", "t.csv:2:8: kpsa has an invalid hexadecimal digit"),
        ("Clight,123,a@b.c", "t.csv:2:8: kpsa has an odd number of hexadecimal digits"),
        ("Clight,,a@b.c", "t.csv:2:8: kpsa is empty; a key has at least 3 bytes"),
        (
            "light,1a2b3c,a@b.c",
            "t.csv:2:1: ae_id is not an AE-ID-Stem: it must start with 'C' or 'S' and have at least one more character",
        ),
        (
            "Cl ght,1a2b3c,a@b.c",
            "t.csv:2:1: ae_id has ' ' at character 3, which is not allowed there",
        ),
        (
            "Clight,1a2b3c,ab.c",
            "t.csv:2:15: kpsa_id is not a KpsaID: it must have the form Relative-KpsaID@Issuer-FQDN",
        ),
        ("Clight,1a2b3c,", "t.csv:2:15: kpsa_id is empty"),
        ("Clight,1a2b3c", "t.csv:2:1: has 2 fields, but the header has 3"),
        ("Clight,1a2b3c,a@b.c,x", "t.csv:2:1: has 4 fields, but the header has 3"),
        (
            "Clight,1a2b3c ,a@b.c",
            "t.csv:2:8: kpsa has a space before or after its value; remove it",
        ),
        (
            "Clight,1a2b3c, a@b.c",
            "t.csv:2:15: kpsa_id has a space before or after its value; remove it",
        ),
        (
            "Clight\t,1a2b3c,a@b.c",
            "t.csv:2:1: ae_id has a tab or line break before or after its value; remove it",
        ),
        (
            "Clight;1a2b3c;a@b.c",
            "t.csv:2:1: has semicolons between its fields; separate them with commas",
        ),
        (
            "Clight\t1a2b3c\ta@b.c",
            "t.csv:2:1: has tabs between its fields; separate them with commas",
        ),
        ("\n# note\nClight,0g,a@b.c", "t.csv:4:8: kpsa has an invalid hexadecimal digit"),
        ("\"Clight\",0g,a@b.c", "t.csv:2:10: kpsa has an invalid hexadecimal digit"),
    ] {
        assert_eq!(faults(&format!("{head}{row}\n")), [fault], "{row}");
    }
    let long = format!("{head}Clight,{},a@b.c\n", "00".repeat(65));
    assert_eq!(faults(&long), ["t.csv:2:8: kpsa is longer than 64 bytes"]);
    let latin = [head.as_bytes(), b"Cl\xe4,1a2b3c,a@b.c\n"].concat();
    let fault = Table::parse(Path::new("t.csv"), &latin).err().unwrap();
    assert_eq!(fault[0].to_string(), "t.csv:2:1: ae_id is not UTF-8");
}

#[test]
fn guessable_keys_are_refused_and_weak_ones_counted() {
    let head = "ae_id,kpsa,kpsa_id\n";
    let short = "kpsa has fewer than 3 bytes, so that it can be tried out";
    let constant = "kpsa is one byte over and over, such as zeros";
    for (key, why) in [
        ("00", short),
        ("1a2b", short),
        ("000000", constant),
        (&"00".repeat(32), constant),
        (&"ab".repeat(64), constant),
    ] {
        let told = faults(&format!("{head}Clight,{key},a@b.c\n"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("t.csv:2:8: {why}")), "{key}: {told:?}");
    }
    let good = "9c36c8112163fa4d053d8e085ad303e1";
    let text = format!(
        "{head}Ca,{good},a@b.c\n# more\nCb,1a2b3c4d5e6f7a8b,b@b.c\nCc,{},c@b.c\n",
        "abcd".repeat(16)
    );
    let table = parse(&text).ok().unwrap();
    assert_eq!((table.short_keys(), table.first_short_key()), (2, Some(4)));
    // The clients of a MAF are programs.
    let of_maf = |key: &str| faults(&format!("km_id,km,client_id\na@maf.x,{key},//x.y/Ca\n"));
    assert_eq!(of_maf(good), [""; 0]);
    assert_eq!(of_maf("1a2b3c4d5e6f7a8b"), [""; 0]);
    let told = of_maf("1a2b3c4d5e6f7a");
    assert!(told[0].starts_with("t.csv:2:9: km has fewer than 8 bytes"), "{told:?}");
}

#[test]
fn reported_table_faults_are_limited() {
    let text = format!("ae_id,kpsa,kpsa_id\n{}", "Clight,0g,a@b.c\n".repeat(100));
    assert_eq!(faults(&text).len(), 20);
}

#[test]
fn repeated_kpsa_id_names_both_lines() {
    let text = "ae_id,kpsa,kpsa_id\n# c\nCa,1a2b3c,a@b.c\nCb,1a2b3c,b@b.c\nCc,4d5e6f,a@b.c\n";
    assert_eq!(faults(text), ["t.csv:5:11: kpsa_id \"a@b.c\" is already in line 3"]);
}

#[test]
fn fault_of_row_does_not_affect_next_rows() {
    let head = "ae_id,kpsa,kpsa_id\n";
    let rows = "Ca,4b4c4b4b,a@b.c\nCb,4b4c4b4b,b@b.c\n";
    for (wrong, fault) in [
        ("Clight,0g,x@b.c", "t.csv:2:8: kpsa has an invalid hexadecimal digit"),
        (
            "Clight,1a2b3c,x",
            "t.csv:2:15: kpsa_id is not a KpsaID: it must have the form Relative-KpsaID@Issuer-FQDN",
        ),
        ("Clight,1a2b3c", "t.csv:2:1: has 2 fields, but the header has 3"),
    ] {
        assert_eq!(faults(&format!("{head}{wrong}\n{rows}")), [fault], "{wrong}");
        let twice = format!("{head}{wrong}\n{rows}Cc,1a2b3c,b@b.c\n");
        let second = "t.csv:5:11: kpsa_id \"b@b.c\" is already in line 4";
        assert_eq!(faults(&twice), [fault, second], "{wrong}");
    }
}

#[test]
fn quote_inside_field_is_literal() {
    let head = "comment,kpsa,kpsa_id,ae_id\n";
    let what = "kpsa has an invalid hexadecimal digit";
    for (row, place) in [
        ("5\" pipe,0g,a@b.c,", "2:9"),
        ("\"5\"\" pipe, \"\"left\"\"\",0g,a@b.c,", "2:22"),
        ("\"a\"b\"c,0g,a@b.c,", "2:8"),
    ] {
        assert_eq!(faults(&format!("{head}{row}\n")), [format!("t.csv:{place}: {what}")], "{row}");
    }
}

#[test]
fn blank_line_is_row() {
    let text = "ae_id,kpsa,kpsa_id\r\n\r\n  \r\nCa,1a2b3c,a@b.c\r\n \r\n";
    let what = "has 1 fields, but the header has 3";
    assert_eq!(faults(text), [format!("t.csv:3:1: {what}"), format!("t.csv:5:1: {what}")]);
}

#[test]
fn longest_key_identifier_is_accepted() {
    for column in ["kpsa_id", "ke_id", "km_id"] {
        let key = column.replace("_id", "");
        let others = if column == "km_id" { ",client_id" } else { "" };
        let row = |length: usize| {
            let end = "@in.provider.com";
            let id = format!("{}{end}", "a".repeat(length - end.len()));
            let client = if others.is_empty() { "" } else { ",//in.provider.com/cse/C1" };
            format!("ae_id,{column},{key}{others}\n,{id},1a2b3c4d5e6f7a8b{client}\n")
        };
        assert!(parse(&row(253)).is_ok(), "{column}");
        let what = "is longer than 253 bytes, so that its Credential-ID is too long";
        assert_eq!(faults(&row(254)), [format!("t.csv:2:2: {column} {what}")]);
    }
}

/// Files that were saved in an unexpected encoding.
#[test]
fn other_text_encoding_is_named() {
    let utf16 = |big: bool| -> Vec<u8> {
        let units = GOOD.encode_utf16();
        units.flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
    };
    let wide = "t.csv: is not UTF-8 but UTF-16; save it as UTF-8";
    let mac = "t.csv: has the line ends of old Macs (CR alone); save it with LF or CR LF";
    for (text, fault) in [
        ([b"\xFF\xFE".as_slice(), &utf16(false)].concat(), wide),
        ([b"\xFE\xFF".as_slice(), &utf16(true)].concat(), wide),
        (utf16(false), wide),
        (utf16(true), wide),
        (GOOD.replace('\n', "\r").into_bytes(), mac),
        (
            GOOD.replace(',', ";").into_bytes(),
            "t.csv:1:1: has semicolons between the column names; separate them with commas",
        ),
        (
            GOOD.replace(',', "\t").into_bytes(),
            "t.csv:1:1: has tabs between the column names; separate them with commas",
        ),
    ] {
        let found = Table::parse(Path::new("t.csv"), &text).err().unwrap();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [fault]);
    }
    assert!(Table::parse(Path::new("t.csv"), GOOD.replace('\n', "\r\n").as_bytes()).is_ok());
}

#[test]
fn headers_are_checked() {
    let fault = |text: &str| faults(text).join("; ");
    assert_eq!(fault(""), "t.csv: is empty; a policy table starts with a line of column names");
    assert_eq!(
        fault(" \n\n"),
        "t.csv: is empty; a policy table starts with a line of column names"
    );
    assert_eq!(
        fault("ae_id,kpsa,kpsa_id\nCa,1a2b3c,a@b.c"),
        "t.csv:2:1: the last line has no line break, so it may be incomplete; add one"
    );
    assert!(
        !fault("Ca,00ff00ff,a@b.c\n").contains("00ff"),
        "a key in place of a header is not repeated"
    );
    assert_eq!(fault("# x\n"), "t.csv: has no line of column names");
    assert_eq!(
        fault("ae_id,kpsa_id\n"),
        "t.csv:1:1: a table with a column kpsa_id needs a column kpsa"
    );
    assert_eq!(
        fault("kpsa,kpsa_id\n"),
        "t.csv:1:1: a table with a column kpsa_id needs a column ae_id"
    );
    assert_eq!(
        fault("ae_id,kpsa\n"),
        "t.csv:1:1: a column kpsa_id, ke_id, km_id or credential_id is missing"
    );
    assert_eq!(fault("ae_id,kpsa,kpsa_id,kpsa\n"), "t.csv:1:20: the column kpsa is repeated");
    assert!(
        fault("ae_id,key,kpsa_id\n")
            .starts_with("t.csv:1:7: unknown column; the known columns are: ae_id")
    );
    assert_eq!(
        fault("ae_id,cse_id,kpsa,kpsa_id\nCa,mn,1a2b3c,a@b.c\n"),
        "t.csv:2:4: a row can have only one of ae_id, ae_ids and cse_id"
    );
}

#[test]
fn unclosed_quote_is_refused() {
    for row in ["Ca,1a2b3c,\"a@b.c\n", "Ca,\"1a2b3c,a@b.c\n", "\"Ca,1a2b3c,a@b.c\n"] {
        assert_eq!(faults(&format!("ae_id,kpsa,kpsa_id\n{row}")).len(), 1, "{row}");
    }
}

#[test]
fn ae_of_row_is_found() {
    let table = parse(GOOD).ok().unwrap();
    assert!(table.names_ae("Clight-AE1") && table.names_ae("Clight-AE2"));
    assert!(!table.names_ae("Clight-AE3") && !table.names_ae("Clight-AE"));
}

#[test]
fn table_without_rows_is_valid() {
    assert_eq!(parse("ae_id,kpsa,kpsa_id\n").ok().unwrap().rows(), 0);
}

#[test]
fn unbounded_records_are_refused() {
    let quote = format!("ae_id,kpsa,kpsa_id\n\"{}\n", "x".repeat(1 << 20));
    assert_eq!(faults(&quote), ["t.csv:2:1: a field is too long"]);
    let commas = format!("ae_id,kpsa,kpsa_id\n{}\n", ",".repeat(1 << 20));
    assert_eq!(faults(&commas), ["t.csv:2:1: has too many fields"]);
}

proptest! {
    #[test]
    fn arbitrary_table_does_not_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Table::parse(Path::new("t.csv"), &text);
        let _ = Table::parse(Path::new("t.csv"), &[b"ae_id,kpsa,kpsa_id\n", &text[..]].concat());
    }

    #[test]
    fn only_existing_rows_are_found(keys in prop::collection::btree_map("[a-z0-9]{1,6}", prop::collection::vec(any::<u8>(), 3..=64), 0..60)) {
        let mut text = String::from("ae_id,kpsa,kpsa_id\n");
        prop_assume!(keys.values().all(|key| key.iter().any(|byte| *byte != key[0])));
        for (name, key) in &keys {
            text += &format!("C{name},{},{name}@x.y\n", hex::encode(key));
        }
        let table = parse(&text).ok().unwrap();
        let column = table.key_column("kpsa").unwrap();
        for (name, key) in &keys {
            let row = table.find(&format!("{name}@x.y")).unwrap();
            let stem = format!("C{name}");
            prop_assert_eq!(table.text(row, "ae_id"), Some(stem.as_str()));
            let stored = table.key(row, column).unwrap();
            prop_assert_eq!(stored.expose(), &key[..]);
        }
        prop_assert!(table.find("nobody@x.y").is_none());
    }
}
