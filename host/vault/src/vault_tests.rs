use proptest::prelude::*;

use super::*;

const STORE: &str = "saegis MAF store";

fn vault(key: u8, store: &str) -> Vault {
    Vault::new(&StoreKey::new(&[key; 32]), store)
}

fn open(vault: &Vault, table: u8, entry_id: &EntryId, sealed: &[u8]) -> Option<Vec<u8>> {
    vault.open(table, entry_id, sealed).map(|plain| plain.to_vec())
}

/// The values come from Python: HMAC of its library, and XChaCha20-Poly1305 of PyCryptodome.
#[test]
fn format_of_entries_does_not_change() {
    let vault = vault(7, STORE);
    let entry_id = vault.entry_id(2, "A");
    let expected = "d7e2849c794fc05b3335abf6d8560471167ddcc9de4485b226736912bd5638af";
    assert_eq!(hex::encode(entry_id), expected);
    let sealed = "bab7c904094ccefbf3e1ebc56bf0aab1013cb9c6bb\
        000102030405060708090a0b0c0d0e0f1011121314151617";
    let sealed = hex::decode(sealed).unwrap();
    assert_eq!(open(&vault, 2, &entry_id, &sealed), Some(b"plain".to_vec()));
}

#[test]
fn changed_entry_does_not_open() {
    let vault = vault(7, STORE);
    let entry_id = vault.entry_id(1, "A");
    let sealed = vault.seal(1, &entry_id, b"plain").unwrap();
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(open(&vault, 1, &entry_id, &changed), None, "bit {bit} of {at}");
        }
        assert_eq!(open(&vault, 1, &entry_id, &sealed[..at]), None, "cut at {at}");
        assert_eq!(open(&vault, 1, &entry_id, &sealed[at + 1..]), None, "cut before {at}");
    }
    let longer = [&sealed[..], &[0]].concat();
    assert_eq!(open(&vault, 1, &entry_id, &longer), None);
}

proptest! {
    #[test]
    fn entry_opens_in_its_place_only(
        plain in any::<Vec<u8>>(),
        (table, other_table) in any::<(u8, u8)>(),
        (identity, other_identity) in any::<(String, String)>(),
        (key, other_key) in any::<(u8, u8)>(),
    ) {
        let own = vault(key, STORE);
        let entry_id = own.entry_id(table, &identity);
        let sealed = own.seal(table, &entry_id, &plain).unwrap();
        prop_assert_eq!(sealed.len(), plain.len() + TAG + NONCE);
        prop_assert_eq!(open(&own, table, &entry_id, &sealed), Some(plain.clone()));
        // Two encryptions of the same text differ.
        prop_assert_ne!(own.seal(table, &entry_id, &plain).unwrap(), sealed.clone());
        if table != other_table {
            prop_assert_ne!(own.entry_id(other_table, &identity), entry_id);
            prop_assert_eq!(open(&own, other_table, &entry_id, &sealed), None);
        }
        if identity != other_identity {
            let other = own.entry_id(table, &other_identity);
            prop_assert_ne!(other, entry_id);
            prop_assert_eq!(open(&own, table, &other, &sealed), None);
        }
        for other in [vault(key, "saegis another store"), vault(other_key, STORE)] {
            if other.entry_id(table, &identity) != entry_id {
                prop_assert_eq!(open(&other, table, &entry_id, &sealed), None);
            } else {
                prop_assert_eq!(key, other_key);
            }
        }
    }

    #[test]
    fn any_bytes_are_no_entry(bytes: Vec<u8>, table: u8, entry_id: EntryId) {
        prop_assert_eq!(open(&vault(1, STORE), table, &entry_id, &bytes), None);
    }
}
