//! Test module that uses every capability and returns the results as the reason of a refusal.

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package saegis:capability-probe;
            world capability-probe {
                import saegis:policy/policy-tables@0.1.0;
                import saegis:policy/policy-files@0.1.0;
                import saegis:policy/log@0.1.0;
                import saegis:policy/clock@0.1.0;
                import saegis:policy/supply-key-bytes@0.1.0;
                import saegis:policy/read-stored-keys@0.1.0;
                export saegis:policy/credential-lookup@0.1.0;
            }
        ",
        generate_all,
    });
    export!(CapabilityProbe);
    use super::CapabilityProbe;
}

use bindings::exports::saegis::policy::credential_lookup::{Answer, Guest, Query};
use bindings::saegis::policy::{
    clock, log, policy_files, policy_tables, read_stored_keys, supply_key_bytes,
};

struct CapabilityProbe;

const TABLE: &str = "psk-lookup-table";

impl Guest for CapabilityProbe {
    fn lookup(query: Query) -> Answer {
        let Some((_, identity)) = query.psk_identity.split_once("probe-") else {
            return Answer::NotMine;
        };
        log::write(log::Level::Info, "the probe was asked");
        Answer::Refused(format!(
            "{}; {}; time {}; {}",
            tables(identity),
            files(),
            clock::now(),
            keys()
        ))
    }
}

fn tables(identity: &str) -> String {
    let missing = policy_tables::find("no-such-table", identity).is_err();
    let Ok(Some(row)) = policy_tables::find(TABLE, identity) else { return "no row".into() };
    let read = row.key("kpsa").map(|key| read_stored_keys::read(&key).len());
    let mut rows = Vec::new();
    while let Ok(Some(row)) = policy_tables::find(TABLE, identity) {
        rows.push(row);
    }
    format!(
        "missing table refused {missing}, AE {:?}, key as text {:?}, key in a column of text {}, \
         no such column {:?}, key bytes {read:?}, rows {}",
        row.get("ae_id"),
        row.get("kpsa"),
        row.key("ae_id").is_some(),
        row.get("nothing"),
        rows.len() + 1,
    )
}

fn files() -> String {
    let read = |name| policy_files::read(name).map(|bytes| bytes.len());
    let (listed, other) = (read("probe.txt"), read("other.txt"));
    let outside = [read("../saegis.toml"), read("psk-lookup-table.csv"), read("/etc/passwd")];
    format!("file {listed:?}, other file {other:?}, outside {outside:?}")
}

fn keys() -> String {
    let taken = |len: u8| supply_key_bytes::supply(&(0..len).collect::<Vec<_>>()).is_some();
    let zeros = supply_key_bytes::supply(&[0; 32]).is_some();
    let [none, two, three, most, more] = [0, 2, 3, 64, 65].map(taken);
    format!("keys of 0 {none}, 2 {two}, 3 {three}, 64 {most}, 65 {more}, zeros {zeros}")
}
