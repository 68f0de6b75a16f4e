//! Checks registrations of keys at a MAF, by the rules in `policies/maf-rules.toml`. The
//! specification leaves this decision open (TS-0003 clause 8.8.2.7). Without a rule, no
//! registration is allowed.

use saegis_onem2m::wildcard::fits;
use serde::Deserialize;

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ world: "key-registration-module", path: "../../wit" });
    export!(MafRules);
    use super::MafRules;
}

use bindings::exports::saegis::policy::key_registration_check::{
    Association, Guest, KeyRegistration, Verdict,
};
use bindings::saegis::policy::policy_files;
use bindings::saegis::policy::types::{Denial, Entity, Scope};

/// Large enough for the file and the parsed rules.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: saegis_arena::Arena<1048576> = saegis_arena::Arena::new();

const FILE: &str = "maf-rules.toml";

/// ORIGINATOR_HAS_NO_PRIVILEGE and INTERNAL_SERVER_ERROR.
const NO_PRIVILEGE: u16 = 4103;
const BROKEN: u16 = 5000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    rule: Vec<Rule>,
}

/// Clients that may register keys, with targets and purposes. In identifiers `*` matches any
/// characters; an empty list allows nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    sources: Vec<String>,
    targets: Vec<String>,
    suids: Vec<u8>,
}

struct MafRules;

impl Guest for MafRules {
    fn check(association: Association, registration: KeyRegistration) -> Verdict {
        let Entity::MafClient(source) = &association.entity else {
            return deny(NO_PRIVILEGE, "only a client of the MAF may register keys");
        };
        let Some(text) = policy_files::read(FILE).and_then(|bytes| String::from_utf8(bytes).ok())
        else {
            return deny(BROKEN, "the rules cannot be read");
        };
        let rules = match toml::from_str::<Rules>(&text) {
            Ok(rules) => rules,
            Err(e) => return deny(BROKEN, &fault(&text, &e)),
        };
        if rules.rule.iter().any(|rule| allows(rule, source, &registration)) {
            return Verdict::Allow(Scope::ThisRequest);
        }
        deny(NO_PRIVILEGE, "no rule allows this key to be registered for these targets")
    }
}

/// Describes the fault of the file, with its line.
fn fault(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.split('\n').count();
    format!("{FILE}:{line}: {}", error.message())
}

fn deny(rsc: u16, reason: &str) -> Verdict {
    Verdict::Deny(Denial { rsc, reason: reason.into() })
}

/// Returns whether one rule allows the whole registration.
fn allows(rule: &Rule, source: &str, registration: &KeyRegistration) -> bool {
    let any = |list: &[String], id: &str| list.iter().any(|entry| fits(entry, id));
    rule.suids.contains(&registration.suid)
        && any(&rule.sources, source)
        && !registration.targets.is_empty()
        && registration.targets.iter().all(|target| any(&rule.targets, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(suid: u8, targets: &[&str]) -> KeyRegistration {
        KeyRegistration { suid, targets: targets.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn rule_requires_source_target_and_purpose() {
        let text =
            "[[rule]]\nsources = [\"//sp.org/in/C*\"]\ntargets = [\"//sp.org/in\"]\nsuids = [32]\n";
        let rules: Rules = toml::from_str(text).unwrap();
        let rule = &rules.rule[0];
        let phone = "//sp.org/in/Cphone";
        assert!(allows(rule, phone, &registration(32, &["//sp.org/in"])));
        for (source, suid, targets) in [
            ("//sp.org/mn/Cphone", 32, &["//sp.org/in"][..]),
            (phone, 33, &["//sp.org/in"]),
            (phone, 32, &["//sp.org/mn"]),
            (phone, 32, &["//sp.org/in", "//sp.org/mn"]),
            (phone, 32, &[]),
        ] {
            assert!(!allows(rule, source, &registration(suid, targets)), "{source} {suid}");
        }
    }

    #[test]
    fn invalid_rule_is_refused() {
        for bad in ["[[rule]]\nsources = []\n", "[[rules]]\n", "rule = 1", "[[rule]]\nx = 1"] {
            assert!(toml::from_str::<Rules>(bad).is_err(), "{bad}");
        }
    }
}
