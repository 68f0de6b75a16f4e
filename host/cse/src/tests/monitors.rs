//! Subscriptions that monitor attempts.

use serde_json::json;

use crate::testing::{Bench, LIGHT1, LIGHT2, agree, subscribe};

#[test]
fn requests_are_observed_while_they_are_monitored() {
    let bench = Bench::with_lights();
    let are_observed = |bench: &Bench| {
        while bench.sweep() > 0 {}
        bench.cse().store().assert_consistent();
        bench.cse().state().attempts.are_monitored()
    };
    assert!(!are_observed(&bench));
    for name in ["sub1", "sub2"] {
        let sub = json!({"rn": name, "nu": [LIGHT1], "enc": {"om": [{"or": LIGHT2}]}});
        let handled = subscribe(&bench, LIGHT1, "/cse/light1/state", sub);
        assert_eq!(agree(&bench, handled).code, 2001);
    }
    assert!(are_observed(&bench));
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/sub1").code, 2002);
    assert!(are_observed(&bench));
    let bench = bench.reopen();
    assert!(are_observed(&bench));
    assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
    assert!(!are_observed(&bench));
    assert!(!are_observed(&bench.reopen()));
}
