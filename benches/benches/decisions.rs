//! Cost of a decision in a fresh sandbox: instance, call and response.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at what is wrong"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use saegis_onem2m::association::{Established, SecurityAssociation};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive};
use saegis_onem2m::saef::Saef;
use saegis_onem2m::target::Target;
use saegis_policy::{Generation, Lookup, PskQuery, Registration, Rules, Verdict};
use tokio::runtime::Runtime;

fn decisions(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (policy, _folder) = runtime.block_on(saegis_benches::policy(100_000)).expect("a policy");
    let generation = policy.current();
    lookups(c, &runtime, &generation);
    registrations(c, &runtime, &generation);
    originators(c, &runtime, &generation);
}

fn lookups(c: &mut Criterion, runtime: &Runtime, generation: &Generation) {
    let query = PskQuery {
        psk_identity: saegis_benches::kpsa_id(77_777),
        server_name: None,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    c.bench_function("decision/psk-table", |b| {
        b.to_async(runtime).iter(|| async {
            match generation.lookup(black_box(&query)).await {
                Lookup::Found(credential) => black_box(credential),
                _ => panic!("not found"),
            }
        });
    });
    let stranger = PskQuery { psk_identity: "nobody@in.provider.com".into(), ..query };
    c.bench_function("decision/psk-table, unknown identity", |b| {
        b.to_async(runtime).iter(|| async {
            assert!(matches!(generation.lookup(black_box(&stranger)).await, Lookup::Unclaimed));
        });
    });
}

fn association_of(credential_id: &str) -> SecurityAssociation {
    SecurityAssociation::new(
        1,
        Established {
            saef: Saef::ProvisionedSymmetricKey,
            credential_id: CredentialId::parse(credential_id).expect("an ID"),
            entity: Entity::Ae(AeIdStem::parse("Clight-AE1").expect("a stem")),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            protocol: "TLSv1.2",
            suite: String::new(),
            resumed: false,
            expires: None,
        },
    )
}

fn registrations(c: &mut Criterion, runtime: &Runtime, generation: &Generation) {
    let registration = Registration {
        from: Some("Clight-AE1".into()),
        app_id: "Nlight".into(),
        rules: Rules::OfGeneration,
        announced: None,
    };
    let known = format!("12-{}", saegis_benches::kpsa_id(77_777));
    for (name, credential, allowed) in
        [("allowed", known.as_str(), true), ("refused", "12-nobody@in.provider.com", false)]
    {
        let association = association_of(credential);
        c.bench_function(&format!("decision/app-rules, {name}"), |b| {
            b.to_async(runtime).iter(|| async {
                let verdict =
                    generation.check_registration(&association, black_box(&registration)).await;
                assert_eq!(matches!(verdict, Verdict::Allow(_)), allowed);
            });
        });
    }
}

fn originators(c: &mut Criterion, runtime: &Runtime, generation: &Generation) {
    let association = association_of("12-a@in.provider.com");
    let request = |from: &str| RequestPrimitive {
        operation: Operation::Create,
        to: Target::from_path("/-/light1/lamp").expect("a target"),
        from: Some(from.into()),
        request_id: "r1".into(),
        release: Some("3".into()),
        resource_type: Some(4),
        content: Content::parse(Bytes::from_static(br#"{"m2m:cin":{"con":"on"}}"#)).ok(),
        options: Vec::new(),
        parameters: Default::default(),
        source_address: None,
        credential: None,
        roles: Vec::new(),
        tokens: Vec::new(),
    };
    for (name, from, allowed) in [("allowed", "Clight-AE1", true), ("refused", "Clight-AE2", false)]
    {
        let request = request(from);
        c.bench_function(&format!("decision/originator-check, {name}"), |b| {
            b.to_async(runtime).iter(|| async {
                let verdict = generation.check_originator(&association, black_box(&request)).await;
                assert_eq!(matches!(verdict, Verdict::Allow(_)), allowed);
            });
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
