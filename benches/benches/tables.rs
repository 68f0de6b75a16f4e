//! Loading a policy table of a million rows, and finding a row.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a benchmark stops at what is wrong"
)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use saegis_policy::Table;

const ROWS: usize = 1_000_000;

fn tables(c: &mut Criterion) {
    let text = saegis_benches::table(ROWS);
    let parse = || Table::parse(Path::new("t.csv"), text.as_bytes()).expect("a good table");
    let table = parse();
    eprintln!("table/memory: {} bytes a row", table.memory() / table.rows());

    let mut group = c.benchmark_group("table");
    group.bench_function("find among 1000000 rows", |b| {
        let id = saegis_benches::kpsa_id(777_777);
        b.iter(|| black_box(table.find(black_box(&id))).expect("the row"));
    });
    group.sample_size(10);
    group.bench_function("load 1000000 rows", |b| b.iter_with_large_drop(parse));
    group.finish();
}

criterion_group!(benches, tables);
criterion_main!(benches);
