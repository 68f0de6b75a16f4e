//! Checks registrations by the service subscription (TS-0004 clauses 7.2.2.2 and 7.4.5.2.1). An AE
//! may register if a `<serviceSubscribedAppRule>` that is linked for this CSE allows its App-ID and
//! its AE-ID for its credential.

use saegis_onem2m::app_rule::allows_ae;
use saegis_onem2m::wildcard::fits;

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ world: "app-rules-module", path: "../../wit" });
    export!(AppRules);
    use super::AppRules;
}

use bindings::exports::saegis::policy::registration_check::{
    Association, Guest, Registration, Verdict,
};
use bindings::saegis::policy::service_subscription::{self, Error, Rule};
use bindings::saegis::policy::types::{Denial, Scope};

/// Large enough for the rules of a call: eight, each with lists of strings.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: saegis_arena::Arena<1048576> = saegis_arena::Arena::new();

/// SERVICE_SUBSCRIPTION_NOT_ESTABLISHED and APP_RULE_VALIDATION_FAILED.
const NOT_ESTABLISHED: u16 = 4128;
const NO_RULE: u16 = 4126;

struct AppRules;

impl Guest for AppRules {
    fn check(association: Association, registration: Registration) -> Verdict {
        let credential = &association.credential_id;
        let from = registration.from.as_deref();
        let rules = service_subscription::find_rules(credential, &registration.app_id, from);
        let (rsc, reason) = match rules {
            Ok(rules) if rules.iter().any(|r| allows(r, credential, &registration)) => {
                return Verdict::Allow(Scope::ThisRequest);
            }
            Ok(_) => (
                NO_RULE,
                "no rule of the service subscription allows this App-ID and AE-ID for the credential",
            ),
            Err(Error::NoProfile) => (NOT_ESTABLISHED, "there is no service subscription"),
            Err(Error::NoNode) => {
                (NOT_ESTABLISHED, "the service subscription has no node for this CSE")
            }
        };
        Verdict::Deny(Denial { rsc, reason: reason.into() })
    }
}

/// Returns whether a rule allows a registration with a credential. An empty list allows nothing.
fn allows(rule: &Rule, credential: &str, registration: &Registration) -> bool {
    let from = registration.from.as_deref();
    rule.applicable_cred_ids.iter().any(|entry| fits(entry, credential))
        && rule.allowed_app_ids.iter().any(|entry| fits(entry, &registration.app_id))
        && rule.allowed_aes.iter().any(|entry| allows_ae(entry, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(credentials: &[&str], app_ids: &[&str], aes: &[&str]) -> Rule {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Rule {
            name: "rule".into(),
            applicable_cred_ids: texts(credentials),
            allowed_app_ids: texts(app_ids),
            allowed_aes: texts(aes),
            allowed_role_ids: Vec::new(),
        }
    }

    #[test]
    fn rule_requires_match_in_all_three_lists() {
        let registration = |from: Option<&str>| Registration {
            from: from.map(Into::into),
            app_id: "Nlight".into(),
        };
        let credential = "12-a@in.provider.com";
        let lists = (&["12-*@in.provider.com"][..], &["Nlight"][..], &["Clight-*"][..]);
        let good = registration(Some("Clight-1"));
        assert!(allows(&rule(lists.0, lists.1, lists.2), credential, &good));
        for bad in [
            rule(&["12-b@in.provider.com"], lists.1, lists.2),
            rule(lists.0, &["Nheater"], lists.2),
            rule(lists.0, lists.1, &["Cheater-*"]),
            rule(&[], lists.1, lists.2),
            rule(lists.0, &[], lists.2),
            rule(lists.0, lists.1, &[]),
        ] {
            assert!(!allows(&bad, credential, &good), "{bad:?}");
        }
        assert!(!allows(&rule(lists.0, lists.1, lists.2), credential, &registration(None)));
        assert!(allows(&rule(lists.0, lists.1, &["C*"]), credential, &registration(None)));
    }
}
