//! Cost of a key retrieval at a MAF, by the number of keys.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at what is wrong"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use saegis_maf::client::{Client, KeyTerms, Terms, read_registered_key, read_retrieved_key};
use saegis_maf::{Caller, Maf, Settings, StoreKey, names};
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::{AbsoluteId, CredentialId};

const FQDN: &str = "maf.in.provider.com";
const TARGET: &str = "//in.provider.com/in-cse";
/// Maximum number of keys of a client.
const MAX_KEYS_PER_CLIENT: usize = 1000;

fn id(text: &str) -> AbsoluteId {
    AbsoluteId::parse(text).expect("an identifier")
}

fn caller(id: &AbsoluteId) -> Caller<'static> {
    let credential_id = CredentialId::parse("11-phone@maf.in.provider.com").expect("an identifier");
    Caller { id: id.clone(), credential_id, exported: None }
}

/// Returns a MAF with this many keys, and their RelativeKeyIDs.
fn filled(folder: &Path, keys: usize, now: SystemTime) -> (Maf, Vec<String>) {
    let settings = Settings::new(FQDN).expect("a domain name");
    let maf = Maf::open(&folder.join("maf.redb"), &StoreKey::new(&[7; 32]), settings);
    let maf = maf.expect("a store");
    let terms = Terms::until(now + Duration::from_secs(24 * 3600), "in.provider.com");
    let value = PresharedKey::new(&[9, 1, 2, 4].repeat(8)).expect("a key");
    let mut relative = Vec::with_capacity(keys);
    for source in 0..keys / MAX_KEYS_PER_CLIENT {
        let source = id(&format!("//in.provider.com/in-cse/Cphone{source}"));
        let client = Client::new(source.clone(), FQDN, names::default_base()).expect("a client");
        let caller = caller(&source);
        let registered =
            maf.handle(&caller, &client.register("1", &terms).expect("one"), None, now);
        assert_eq!(registered.rsc.code(), 2001);
        for _ in 0..MAX_KEYS_PER_CLIENT {
            let wanted = KeyTerms { terms: terms.clone(), suid: 32, targets: vec![id(TARGET)] };
            let request = client.register_key("2", &wanted, Some(&value)).expect("a request");
            let asked = maf.asks(&source, &request, now);
            let answer = maf.handle(&caller, &request, asked.as_ref(), now);
            let registered = read_registered_key(&answer, None).expect("a key");
            relative.push(registered.relative_key_id);
        }
    }
    (maf, relative)
}

/// Returns a folder in memory if possible, because a million writes to disk would dominate. Reads
/// come from memory anyway.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn retrievals(c: &mut Criterion) {
    let now = SystemTime::now();
    for keys in [1000, 1_000_000] {
        let folder = folder();
        let (maf, relative) = filled(folder.path(), keys, now);
        let target = id(TARGET);
        let client = Client::new(target.clone(), FQDN, names::default_base()).expect("a client");
        let caller = caller(&target);
        let terms = Terms::until(now + Duration::from_secs(3600), "in.provider.com");
        let registered =
            maf.handle(&caller, &client.register("3", &terms).expect("one"), None, now);
        assert_eq!(registered.rsc.code(), 2001);
        let mut next = 0;
        c.bench_function(&format!("maf/key retrieval among {keys}"), |b| {
            b.iter(|| {
                // Far from the previous key.
                next = (next + 7_368_787) % relative.len();
                let request = client.retrieve_key("4", &relative[next]).expect("a request");
                let answer = maf.handle(&caller, black_box(&request), None, now);
                black_box(read_retrieved_key(&answer).expect("a key"))
            });
        });
    }
}

criterion_group!(benches, retrievals);
criterion_main!(benches);
