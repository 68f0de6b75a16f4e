use super::*;

fn own() -> CseId {
    CseId::parse("mn-cse").unwrap()
}

fn parse(text: &str) -> Result<Subscription, Vec<String>> {
    Subscription::parse(Path::new("s.toml"), text, &own())
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

const GOOD: &str = r#"
[[node]]
node-id = "node-1"
cse-id = "/mn-cse"
rule-links = ["lights", "meters"]

[[node]]
cse-id = "other-cse"

[[rule]]
name = "lights"
applicable-cred-ids = ["12-*-Light@in.provider.com"]
allowed-app-ids = ["Nlight", "Rlight*"]
allowed-aes = ["Clight-*"]

[[rule]]
name = "meters"
applicable-cred-ids = ["12-meter@in.provider.com", "12-other@*"]
allowed-app-ids = ["*"]
allowed-aes = ["C*", "Smeter"]

[[rule]]
name = "not-linked"
applicable-cred-ids = ["*"]
allowed-app-ids = ["*"]
allowed-aes = ["*"]
"#;

#[test]
fn linked_rules_are_found_and_no_others() {
    let subscription = parse(GOOD).unwrap();
    assert_eq!(subscription.rules(), 2);
    for (credential, app, from, found) in [
        ("12-1-Light@in.provider.com", "Nlight", Some("Clight-1"), Some("lights")),
        ("12-1-Light@in.provider.com", "Rlight.x", Some("Clight-1"), Some("lights")),
        ("12-1-Light@in.provider.com", "Nheater", Some("Clight-1"), None),
        ("12-1-Light@in.provider.com", "Nlight", Some("Cother"), None),
        ("12-1-Light@in.provider.com", "Nlight", Some("C"), None),
        ("12-1-Light@in.provider.com", "Nlight", None, None),
        ("11-1-Light@in.provider.com", "Nlight", Some("Clight-1"), None),
        ("12-meter@in.provider.com", "Nx", Some("C"), Some("meters")),
        ("12-meter@in.provider.com", "Nx", None, Some("meters")),
        ("12-meter@in.provider.com", "Nx", Some("Smeter"), Some("meters")),
        ("12-meter@in.provider.com", "Nx", Some("S"), None),
        ("12-other@x.y", "", Some("Cx"), Some("meters")),
        ("", "Nlight", Some("Clight-1"), None),
    ] {
        let rules = subscription.find(credential, app, from).unwrap();
        let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, found.as_slice(), "{credential} {app} {from:?}");
    }
}

#[test]
fn cse_without_node_has_no_rules() {
    let stranger = CseId::parse("stranger").unwrap();
    let subscription = Subscription::parse(Path::new("s.toml"), GOOD, &stranger).unwrap();
    assert_eq!(subscription.find("12-a@b.c", "Nx", None), Err(NoNode));
    // A CSE with a node but without links has no rule that allows.
    let other = CseId::parse("other-cse").unwrap();
    let subscription = Subscription::parse(Path::new("s.toml"), GOOD, &other).unwrap();
    assert_eq!(subscription.find("12-a@b.c", "Nx", None), Ok(Vec::new()));
}

#[test]
fn subscription_faults_have_positions() {
    let faults = parse(
        "[[node]]\ncse-id = \"mn-cse\"\nrule-links = [\"a\", \"none\"]\n[[node]]\n\
         cse-id = \"mn-cse\"\n[[rule]]\nname = \"a\"\nallowed-app-ids = [\"Nx\", \"light\"]\n\
         [[rule]]\nname = \"a\"\n",
    )
    .unwrap_err();
    let wanted = [
        "s.toml:3:20: \"none\" is not the name of a rule",
        "s.toml:5:10: \"mn-cse\" is also the CSE-ID of another node",
        "s.toml:8:26: \"light\" is not an App-ID: it must start with R, N or an asterisk",
        "s.toml:10:8: \"a\" is also the name of another rule",
    ];
    assert_eq!(faults, wanted);
    let faults = parse("[[rule]]\nname = 1\n[[rule]]\nnam = \"b\"\nname = \"c\"\n").unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("s.toml:2:8: invalid type"), "{faults:?}");
    assert!(faults[1].starts_with("s.toml:4:1: unknown field `nam`"), "{faults:?}");
    let long = format!("[[rule]]\nname=\"a\"\nallowed-aes=[\"C{}\"]\n", "x".repeat(256));
    assert!(parse(&long).unwrap_err()[0].contains("is longer than 256 bytes"));
}

/// The index finds the same rules as a check of each rule, for all combinations of wildcards.
#[test]
fn index_matches_linear_search() {
    use proptest::prelude::*;
    let word = "[ab*]{0,4}";
    let list = || prop::collection::vec(word, 0..3);
    let rules = prop::collection::vec((list(), list(), list()), 0..20);
    proptest!(|(rules in rules, credential in "[ab]{0,4}", app in "[ab]{0,4}", ae in "[ab]{1,4}")| {
        let rules: Vec<_> = rules.into_iter().enumerate().map(|(n, (c, a, e))| Rule {
            name: n.to_string(),
            applicable_cred_ids: c,
            allowed_app_ids: a,
            allowed_aes: e,
            allowed_role_ids: Vec::new(),
        }).collect();
        let from = Some(ae.as_str());
        let mut walk: Vec<_> =
            rules.iter().filter(|r| r.allows(&credential, &app, from)).cloned().collect();
        let subscription = Subscription::of(Some(rules));
        let found = subscription.find(&credential, &app, from).unwrap();
        let mut found: Vec<_> = found.into_iter().cloned().collect();
        prop_assert_eq!(found.len(), walk.len().min(MAX_FOUND_RULES));
        if walk.len() <= MAX_FOUND_RULES {
            walk.sort_by(|a, b| a.name.cmp(&b.name));
            found.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(found, walk);
        }
    });
}
