//! Random policies at random resources: the decisions match an independent formulation of the
//! clauses.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::testing::{Bench, LIGHT1, LIGHT2};

/// Containers of light 1, each below the one before.
const TREE: [&str; 4] =
    ["/cse/light1", "/cse/light1/state", "/cse/light1/state/a", "/cse/light1/state/a/b"];

/// Originators, and the entries that name them.
const WHO: [(&str, &[&str]); 5] = [
    (LIGHT1, &["Clight-AE1", "/mn-cse-123456/C*", "C*1", "all", "in.provider.com"]),
    (LIGHT2, &["/mn-cse-123456/C*", "all", "in.provider.com"]),
    ("/in-cse", &["/in-*", "all", "in.provider.com"]),
    ("//b.com/in-cse/Cx", &["//*/in-cse/*", "all"]),
    ("Cnobody", &[]),
];

const ENTRIES: [&str; 7] =
    ["Clight-AE1", "/mn-cse-123456/C*", "C*1", "/in-*", "//*/in-cse/*", "in.provider.com", "all"];

/// A rule: entries and operations.
type Rule = (Vec<usize>, u8);

#[derive(Debug, Clone)]
struct Setting {
    /// Privileges of the policies `p0` to `p2`.
    policies: Vec<Vec<Rule>>,
    /// Policies that each resource of the tree names; 3 is a missing one.
    named: Vec<Vec<usize>>,
    /// Custodian of each resource of the tree.
    custodians: Vec<Option<usize>>,
}

fn setting() -> impl Strategy<Value = Setting> {
    let rule = (prop::collection::vec(0..ENTRIES.len(), 1..3), 0..64u8);
    let policies = prop::collection::vec(prop::collection::vec(rule, 0..3), 3);
    let named = prop::collection::vec(
        prop_oneof![2 => Just(vec![]), 3 => prop::collection::vec(0..4usize, 1..3)],
        TREE.len(),
    );
    let custodian = prop_oneof![3 => Just(None), 1 => (0..3usize).prop_map(Some)];
    let custodians = prop::collection::vec(custodian, TREE.len());
    (policies, named, custodians).prop_map(|(policies, named, custodians)| Setting {
        policies,
        named,
        custodians,
    })
}

impl Setting {
    /// Returns whether `who` may execute the operation with this bit on the resource at this
    /// position.
    fn expects(&self, who: usize, bit: u8, at: usize) -> bool {
        let (name, entries) = WHO[who];
        for place in (0..=at).rev() {
            let named = &self.named[place];
            if named.is_empty() {
                continue;
            }
            let there: Vec<_> = named.iter().filter_map(|p| self.policies.get(*p)).collect();
            if there.is_empty() {
                // The rule of the subtree, as seen from there.
                return self.owns(name, (place..=at).rev());
            }
            return there.into_iter().flatten().any(|(acor, operations)| {
                operations & bit != 0 && acor.iter().any(|e| entries.contains(&ENTRIES[*e]))
            });
        }
        self.owns(name, (0..=at).rev())
    }

    fn owns(&self, name: &str, mut places: impl Iterator<Item = usize>) -> bool {
        let custodian = places.find_map(|place| self.custodians[place]);
        custodian.map_or(name == LIGHT1, |c| WHO[c].0 == name)
    }

    /// Creates the setting without being hindered by policies, top down.
    fn bench(&self) -> Bench {
        let bench = Bench::with_lights();
        let own = json!({"acr": [{"acor": [LIGHT1], "acop": 63}]});
        for (n, rules) in self.policies.iter().enumerate() {
            let rules: Vec<_> = rules
                .iter()
                .map(|(acor, acop)| {
                    let acor: Vec<_> = acor.iter().map(|e| ENTRIES[*e]).collect();
                    json!({"acor": acor, "acop": acop})
                })
                .collect();
            let acp = json!({"rn": format!("p{n}"), "pv": {"acr": rules}, "pvs": own});
            let reply = bench.create(Some(LIGHT1), "/cse/light1", 1, json!({ "m2m:acp": acp }));
            assert_eq!(reply.code, 2001);
        }
        for (parent, name) in [(TREE[1], "a"), (TREE[2], "b")] {
            assert_eq!(bench.container(LIGHT1, parent, json!({ "rn": name })).code, 2001);
        }
        assert_eq!(bench.instance(LIGHT1, TREE[3], json!({"rn": "one", "con": 1})).code, 2001);
        // Bottom-up, so that the AE still has access to the resources above.
        for (at, path) in TREE.iter().enumerate().rev() {
            let root = if at == 0 { "m2m:ae" } else { "m2m:cnt" };
            if !self.named[at].is_empty() {
                let named: Vec<_> =
                    self.named[at].iter().map(|p| format!("cse/light1/p{p}")).collect();
                let reply = bench.update(LIGHT1, path, json!({ root: { "acpi": named } }));
                assert_eq!(reply.code, 2004, "{}", reply.why());
            }
            if let Some(custodian) = self.custodians[at].filter(|_| at > 0) {
                let change = json!({ root: { "cstn": WHO[custodian].0 } });
                let reply = bench.update(LIGHT1, path, change);
                assert_eq!(reply.code, 2004, "{}", reply.why());
            }
        }
        bench
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn access_is_what_the_clauses_say(mut setting in setting()) {
        // An AE has no custodian.
        setting.custodians[0] = None;
        let bench = setting.bench();
        let mut open: HashMap<&str, Vec<String>> = HashMap::new();
        for (n, (who, _)) in WHO.iter().enumerate() {
            for (at, path) in TREE.iter().enumerate() {
                let code = |may| if may { 2000 } else { 4103 };
                let retrieved = bench.retrieve(who, path).code;
                prop_assert_eq!(retrieved, code(setting.expects(n, 2, at)), "{} {}", who, path);
                let found = bench.retrieve(who, &format!("{path}?fu=1")).code;
                prop_assert_eq!(found, code(setting.expects(n, 32, at)), "{} {}", who, path);
                let root = if at == 0 { "m2m:ae" } else { "m2m:cnt" };
                let updated = bench.update(who, path, json!({ root: { "lbl": ["x"] } })).code;
                let may = setting.expects(n, 4, at);
                prop_assert_eq!(updated, if may { 2004 } else { 4103 }, "{} {}", who, path);
                if setting.expects(n, 32, at) {
                    open.entry(who).or_default().push((*path).into());
                }
            }
            let instance = bench.retrieve(who, &format!("{}/one", TREE[3])).code;
            let container = bench.retrieve(who, TREE[3]).code;
            prop_assert_eq!(instance, container);
        }
        // A discovery from the CSEBase finds exactly the resources that can be discovered
        // individually.
        for who in [LIGHT1, LIGHT2, "/in-cse"] {
            let reply = bench.retrieve(who, "/cse?fu=1&ty=2&ty=3");
            let found: Vec<_> = reply.found().iter().map(|a| format!("/{a}")).collect();
            let found: Vec<_> = found.into_iter().filter(|a| a.starts_with(TREE[0])).collect();
            let expected = open.remove(who).unwrap_or_default();
            prop_assert_eq!(found, expected, "{}", who);
        }
        bench.cse().store().assert_consistent();
    }

    #[test]
    fn arbitrary_policy_does_not_fail_cse(acor in ".{0,30}", acop in any::<i64>(), extra in "[a-z]{0,5}") {
        let bench = Bench::with_lights();
        let rule = json!({"acor": [acor], "acop": acop, extra: Value::Null});
        let acp = json!({"pv": {"acr": [rule]}, "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]}});
        let reply = bench.create(Some(LIGHT1), "/cse/light1", 1, json!({ "m2m:acp": acp }));
        prop_assert!(matches!(reply.code, 2001 | 4000));
    }
}
