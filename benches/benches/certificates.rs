//! Certificate verification without the handshake.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark stops at what is wrong")]

use std::hint::black_box;
use std::time::SystemTime;

use criterion::{Criterion, criterion_group, criterion_main};
use saegis_certificate::{Anchor, Flavour, KeyKind, Names, Purpose, Trust, TrustBuilder};
use saegis_onem2m::id::CseId;
use saegis_test_ca::{Authority, Example, ExampleNames, Issued, Name, Request, TrialError};

fn trust(authority: &Authority, flavour: Flavour, names: &ExampleNames) -> Trust {
    let mut builder = TrustBuilder::new(Names::of(
        CseId::parse(&names.mn_cse).expect("a CSE-ID"),
        Some(names.service_provider.clone()),
    ));
    let anchor = Anchor::new(authority.der().clone(), &[flavour], &[KeyKind::P256], &[]);
    builder.add_anchor(anchor.expect("a good anchor"));
    builder.build()
}

fn certificates(c: &mut Criterion) {
    let names = ExampleNames::default();
    let example = Example::new(&names).expect("the worked example");
    let (root, middle, end) = with_intermediate(&names).expect("a chain");
    let mut group = c.benchmark_group("certificate");
    let mut verify = |what: &str, trust: &Trust, issued: &Issued| {
        group.bench_function(what, |b| {
            b.iter(|| {
                let chain = black_box(issued.chain());
                trust.verify(chain, Purpose::Client, SystemTime::now()).expect("a good chain")
            });
        });
    };
    let aes = trust(&example.ae_authority, Flavour::AeId, &names);
    verify("AE-ID under a constraint of URIs", &aes, &example.ae);
    let cses = trust(&root, Flavour::CseId, &names);
    verify("CSE-ID with an intermediate", &cses, &end);
    // Under an intermediate with URI constraints, signatures are verified twice.
    let aes = trust(&root, Flavour::AeId, &names);
    let ae = middle.issue(&Request::new("ae").name(Name::uri(names.absolute_ae_id())));
    verify("AE-ID with an intermediate that constrains URIs", &aes, &ae.expect("a chain"));
    group.finish();
}

/// Returns a root, an intermediate authority, and the certificate of a CSE.
fn with_intermediate(names: &ExampleNames) -> Result<(Authority, Authority, Issued), TrialError> {
    let provider = names.service_provider.as_str();
    let root = Authority::new(&Request::new("root"))?;
    let middle = Request::new("middle").permit(Name::dns(provider)).permit(Name::uri(provider));
    let middle = root.sub_authority(&middle)?;
    let end = middle.issue(&Request::new("in").name(Name::dns(names.in_cse_domain())))?;
    Ok((root, middle, end))
}

criterion_group!(benches, certificates);
criterion_main!(benches);
