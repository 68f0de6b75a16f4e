//! Encrypted entry of a store.

use saegis_vault::{StoreKey, Vault};

/// Reader of encrypted entries. An entry that was written opens, and no other bytes do: neither the
/// input, nor an entry after changes that the input names.
pub fn sealed_entry(input: &[u8]) {
    let Some((table, rest)) = input.split_first() else { return };
    let vault = Vault::new(&StoreKey::new(&[7; StoreKey::LEN]), "a fuzzed store");
    let entry_id = vault.entry_id(*table, "an entry");
    let open = |sealed: &[u8]| vault.open(*table, &entry_id, sealed).map(|plain| plain.to_vec());
    assert_eq!(open(rest), None, "nobody has written it");
    let sealed = vault.seal(*table, &entry_id, rest).expect("there is memory");
    assert_eq!(open(&sealed).as_deref(), Some(rest));
    let mut changed = sealed.clone();
    for change in rest.chunks_exact(2) {
        match change {
            [at, 0] => changed.truncate(usize::from(*at)),
            [at, bits] if changed.len() > usize::from(*at) => changed[usize::from(*at)] ^= bits,
            _ => changed.extend_from_slice(change),
        }
        assert_eq!(open(&changed).is_some(), changed == sealed, "{change:?}");
    }
}
