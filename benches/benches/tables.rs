//! Loading a policy table of a million rows, comparing it with its former state, and finding a row.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a benchmark stops at what is wrong"
)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use saegis_policy::{RowChanges, Table};

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
    let more =
        text.clone() + "Clight-more,000102030405060708090a0b0c0d0e0f,one-more@in.provider.com\n";
    let next = Table::parse(Path::new("t.csv"), more.as_bytes()).expect("a good table");
    group.bench_function("compare 1000000 rows", |b| {
        b.iter(|| black_box(RowChanges::of(Some(&table), Some(&next))).added);
    });
    // Sorting the lines by their keys' last digits changes their order.
    let mut lines: Vec<_> = more.lines().skip(1).collect();
    lines.sort_by_key(|line| {
        line.split(',').nth(1).map(|key| key.bytes().rev().collect::<Vec<_>>())
    });
    let sorted = format!("ae_id,kpsa,kpsa_id\n{}\n", lines.join("\n"));
    let sorted = Table::parse(Path::new("t.csv"), sorted.as_bytes()).expect("a good table");
    group.bench_function("compare 1000000 rows in another order", |b| {
        b.iter(|| black_box(RowChanges::of(Some(&table), Some(&sorted))).added);
    });
    group.finish();
}

criterion_group!(benches, tables);
criterion_main!(benches);
