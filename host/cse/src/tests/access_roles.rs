//! Roles in access control rules.

use std::sync::Arc;

use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::role::{AssignedRole, RoleId};
use serde_json::{Value, json};

use super::policies::{STATE, govern, policy, rule};
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, request};

const GUEST: &str = "guest@in.provider.com";

/// Returns a CSE on which guests have all privileges for the state of light 1.
fn bench() -> Bench {
    let bench = Bench::with_lights();
    let reply = policy(&bench, "open", rule(&[GUEST, LIGHT1], 63));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    bench
}

fn assigned(role: &str, app_ids: Option<&[&str]>) -> AssignedRole {
    let app_ids: Option<Vec<Box<str>>> =
        app_ids.map(|all| all.iter().map(|&app_id| app_id.into()).collect());
    AssignedRole { id: RoleId::parse(role).unwrap(), app_ids: app_ids.map(Arc::from) }
}

fn with_role(request: RequestPrimitive, role: AssignedRole) -> RequestPrimitive {
    RequestPrimitive { roles: vec![role], ..request }
}

fn retrieve(bench: &Bench, who: &str, path: &str, role: AssignedRole) -> u16 {
    let request = request(Operation::Retrieve, path, Some(who), None);
    bench.send(&with_role(request, role)).code
}

#[test]
fn role_holder_has_its_privileges() {
    let bench = bench();
    for who in [LIGHT2, "/in-cse", "/in-cse/Capp", "//other.com/cse/Cx"] {
        assert_eq!(bench.retrieve(who, STATE).code, 4103, "{who}");
        assert_eq!(retrieve(&bench, who, STATE, assigned(GUEST, None)), 2000, "{who}");
        for other in ["guest@provider.com", "host@in.provider.com"] {
            assert_eq!(retrieve(&bench, who, STATE, assigned(other, None)), 4103, "{who} {other}");
        }
        let discovery = format!("{STATE}?fu=1");
        assert_eq!(retrieve(&bench, who, &discovery, assigned(GUEST, None)), 2000, "{who}");
    }
    // An originator that is not authenticated here has no roles.
    for who in ["Cnobody", "/mn-cse-123456/Clight-AE2", "/mn-cse-123456"] {
        assert_eq!(retrieve(&bench, who, STATE, assigned(GUEST, None)), 4103, "{who}");
    }
}

/// The claim alone is not an assignment: the caller of the CSE determines the roles.
#[test]
fn claim_alone_has_no_effect() {
    let bench = bench();
    assert_eq!(bench.retrieve(LIGHT2, &format!("{STATE}?rids={GUEST}")).code, 4103);
    assert_eq!(bench.retrieve(LIGHT1, &format!("{STATE}?rids={GUEST}")).code, 2000);
    for bad in ["guest", "", "guest@", "a+guest@B.com"] {
        assert_eq!(bench.retrieve(LIGHT1, &format!("{STATE}?rids={bad}")).code, 4000, "{bad}");
    }
}

#[test]
fn role_depends_on_app_id() {
    let bench = bench();
    let of = |app_ids: &[&str]| assigned(GUEST, Some(app_ids));
    for (app_ids, code) in
        [(&["Nlight"][..], 2000), (&["Nother", "N*"], 2000), (&["Nother"], 4103), (&[], 4103)]
    {
        assert_eq!(retrieve(&bench, LIGHT2, STATE, of(app_ids)), code, "{app_ids:?}");
    }
    // Only AEs that are registered here have an App-ID.
    for who in ["/in-cse", "/in-cse/Capp"] {
        assert_eq!(retrieve(&bench, who, STATE, of(&["N*"])), 4103, "{who}");
    }
}

#[test]
fn role_may_change_policy_that_names_it() {
    let bench = bench();
    let update = |role: &str| {
        let content = json!({"m2m:acp": {"pv": rule(&[LIGHT1], 63)}});
        let request = request(Operation::Update, "/cse/light1/open", Some(LIGHT2), Some(content));
        bench.send(&with_role(request, assigned(role, None))).code
    };
    assert_eq!(update(GUEST), 4103);
    let own = json!({"m2m:acp": {"pvs": rule(&[LIGHT1, "owner@in.provider.com"], 63)}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/open", own).code, 2004);
    assert_eq!(update("owner@in.provider.com"), 2004);
    assert_eq!(retrieve(&bench, LIGHT2, STATE, assigned(GUEST, None)), 4103);
}

/// A subscription outlives the request that claims the role.
#[test]
fn subscriber_by_role_gets_no_notification() {
    let bench = bench();
    let subscription = |name: &str| {
        let content =
            json!({"m2m:sub": {"rn": name, "nu": ["http://a.b/"], "nct": 1, "enc": {"net": [3]}}});
        let mut request = request(Operation::Create, STATE, Some(LIGHT2), Some(content));
        request.resource_type = Some(23);
        with_role(request, assigned(GUEST, None))
    };
    let reply = agree(&bench, bench.handle(&subscription("sub")));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let told = |reply: Reply| reply.told().len();
    assert_eq!(told(bench.instance(LIGHT1, STATE, json!({"con": 1}))), 0);
    let named = json!({"m2m:acp": {"pv": rule(&[GUEST, LIGHT1, LIGHT2], 63)}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/open", named).code, 2004);
    assert_eq!(told(bench.instance(LIGHT1, STATE, json!({"con": 2}))), 1);
}

#[test]
fn roles_hold_at_each_member_of_group() {
    let bench = bench();
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": "closed"})).code, 2001);
    let members = ["cse/light1/state", "cse/light1/closed"];
    let group = json!({"rn": "all", "mnm": 2, "mid": members, "acpi": ["cse/light1/open"]});
    let reply = bench.create(Some(LIGHT1), "/cse/light1", 9, json!({ "m2m:grp": group }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let ask = |role| {
        let request = request(Operation::Retrieve, "/cse/light1/all/fopt", Some("/in-cse"), None);
        let reply = bench.send(&with_role(request, assigned(role, None)));
        let parts = reply.json["m2m:agr"]["m2m:rsp"].as_array().cloned().unwrap_or_default();
        (reply.code, parts.iter().map(|part| part["rsc"].clone()).collect::<Vec<Value>>())
    };
    assert_eq!(ask(GUEST), (2000, vec![json!(2000), json!(4103)]));
    assert_eq!(ask("other@in.provider.com").0, 4103);
}
