//! No request causes a panic, and only a retrieval by a target returns a key.

use std::sync::LazyLock;

use proptest::prelude::*;
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive};
use saegis_onem2m::target::Target;

use crate::testing::*;

/// Byte of a key that does not occur in texts.
const SECRET: u8 = 0xd7;

struct Fixture {
    bench: Bench,
    key: String,
}

/// Shared by all cases: each case changes only its own caller's entries, or is refused.
static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let bench = Bench::with(roomy(60_000));
    for who in [LIGHT, GATEWAY, OTHER] {
        bench.registered(who, 400);
    }
    let key = bench.key(LIGHT, GATEWAY, SECRET, 100).relative_key_id;
    Fixture { bench, key }
});

fn has_key(answer: &[u8]) -> bool {
    let digits = hex::encode([SECRET; 6]);
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    text.contains(&digits) || answer.windows(6).any(|window| window == [SECRET; 6])
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"20270115T080200\"".into()),
        Just("\"in.provider.com\"".into()),
        Just("32".into()),
        Just("33".into()),
        Just(format!("[\"{GATEWAY}\"]")),
        Just(format!("[\"{OTHER}\",\"{LIGHT}\"]")),
        Just(format!("\"{}\"", hex::encode([SECRET; 32]))),
        Just("null".into()),
        any::<i64>().prop_map(|n| n.to_string()),
        "\\PC{0,20}".prop_map(|text| serde_json::Value::from(text).to_string()),
        Just("[[]]".into()),
    ]
}

fn content() -> impl Strategy<Value = Option<Content>> {
    let root = prop_oneof![Just("sec:symmKeyReg"), Just("sec:mafClientReg"), Just("m2m:ae")];
    let name = prop_oneof![
        Just("et"),
        Just("lbl"),
        Just("adfq"),
        Just("suid"),
        Just("tgids"),
        Just("keyValue"),
        Just("ri"),
        Just("x")
    ];
    let attributes = prop::collection::btree_map(name, value(), 0..7);
    // Most random attributes are invalid, so some cases start from valid ones.
    (root, attributes, any::<bool>()).prop_map(|(root, mut attributes, whole)| {
        if whole {
            attributes.insert("et", "\"20270115T080200\"".into());
            attributes.insert("adfq", "\"in.provider.com\"".into());
            attributes.insert("suid", "32".into());
            attributes.insert("tgids", format!("[\"{GATEWAY}\"]"));
        }
        let list: Vec<_> = attributes.iter().map(|(n, v)| format!("\"{n}\":{v}")).collect();
        Content::parse(format!("{{\"{root}\":{{{}}}}}", list.join(",")).into()).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn responses_contain_no_foreign_key(
        operation in prop_oneof![
            Just(Operation::Create), Just(Operation::Retrieve), Just(Operation::Update),
            Just(Operation::Delete), Just(Operation::Notify),
        ],
        place in prop_oneof![
            Just("/~/maf".to_owned()), Just("/maf/own".to_owned()), Just("KEY".to_owned()),
            "/[a-z~_]{1,4}/[a-zA-Z0-9._-]{1,40}",
        ],
        who in prop_oneof![Just(LIGHT), Just(OTHER), Just("//in.provider.com/Snever")],
        from in prop_oneof![
            9 => Just(None), 1 => Just(Some(GATEWAY.to_owned())), 1 => "\\PC{0,20}".prop_map(Some),
        ],
        ty in prop_oneof![Just(Some(61001)), Just(Some(61002)), any::<Option<u16>>()],
        content in content(),
        exported in any::<Option<u8>>(),
        now in 0_u64..2000,
    ) {
        let place = if place == "KEY" { format!("/~/maf/{}", FIXTURE.key) } else { place };
        let Ok(to) = Target::from_path(&place) else { return Ok(()) };
        // The registration of the key's source must stay.
        prop_assume!(!(who == LIGHT && matches!(operation, Operation::Delete | Operation::Update)));
        let request = RequestPrimitive {
            operation,
            to,
            from: Some(from.unwrap_or_else(|| who.to_owned())),
            request_id: "1".into(),
            release: None,
            resource_type: ty,
            content,
            options: vec![],
            parameters: Default::default(),
            source_address: None,
            credential: None,
            roles: Vec::new(),
            tokens: Vec::new(),
        };
        let exported = exported.map(session);
        let answer = FIXTURE.bench.ask(who, exported.as_ref(), &request, now);
        prop_assert!(!has_key(answer.content.as_deref().unwrap_or_default()), "{:?}", answer.rsc);
        prop_assert!(!has_key(answer.content_location.unwrap_or_default().as_bytes()));
        // No operation of other clients takes the key from its target.
        prop_assert!(FIXTURE.bench.fetch(GATEWAY, &FIXTURE.key, 50).is_ok());
        if now > 1900 {
            FIXTURE.bench.maf.sweep(at(60)).unwrap();
        }
    }
}
