use super::*;
use crate::definitions::RESERVED;
use AttributeError as E;
use ResourceType::{Ae, Container, ContentInstance};
use saegis_onem2m::rsc::Rsc;
use serde_json::json;

const NOW: Seconds = 1_795_512_600;

fn map(value: Value) -> Attributes {
    value.as_object().unwrap().clone()
}

fn create(ty: ResourceType, value: Value) -> Result<GivenAttributes, E> {
    for_create(ty, Specialization::default(), map(value), NOW)
}

fn update(ty: ResourceType, value: Value) -> Result<Change, E> {
    for_update(ty, Specialization::default(), map(value), NOW)
}

#[test]
fn representation_is_split_into_attributes() {
    let given = create(
        Ae,
        json!({"rn": "light", "et": "20261124T093001", "api": "Nlight", "rr": true, "lbl": ["a"]}),
    )
    .unwrap();
    assert_eq!(given.name.as_deref(), Some("light"));
    assert_eq!(given.expires, Some(NOW + 1));
    assert_eq!(given.attributes, map(json!({"api": "Nlight", "rr": true, "lbl": ["a"]})));
    let given = create(ContentInstance, json!({"con": 21, "cr": null})).unwrap();
    assert!(given.creator);
    assert_eq!(given.attributes, map(json!({"con": 21})));
    assert_eq!(create(Container, json!({})), Ok(GivenAttributes::default()));
}

#[test]
fn mandatory_attributes_are_insisted_on() {
    assert_eq!(create(Ae, json!({"rr": true})), Err(E::Missing("api")));
    assert_eq!(create(Ae, json!({"api": "Nlight"})), Err(E::Missing("rr")));
    assert_eq!(create(Ae, json!({"api": null, "rr": true})), Err(E::Missing("api")));
    assert_eq!(create(ContentInstance, json!({})), Err(E::Missing("con")));
    assert_eq!(create(ContentInstance, json!({"con": null})), Err(E::Missing("con")));
}

#[test]
fn unknown_attribute_is_refused() {
    for (ty, name) in [
        (Ae, "mni"),
        (Container, "api"),
        (ContentInstance, "acpi"),
        (Ae, "cr"),
        (Ae, "resourceName"),
    ] {
        let given = map(json!({name: 1}));
        let unknown = E::Unknown { of: ty, name: name.into() };
        assert_eq!(
            for_create(ty, Specialization::default(), given.clone(), NOW),
            Err(unknown.clone())
        );
        assert_eq!(for_update(ty, Specialization::default(), given, NOW), Err(unknown.clone()));
        assert_eq!(unknown.rsc(), Rsc::BadRequest);
    }
}

#[test]
fn read_only_attribute_is_refused() {
    for name in ["ty", "ri", "pi", "ct", "lt"] {
        for ty in [Ae, Container, ContentInstance] {
            assert_eq!(create(ty, json!({name: "x"})), Err(E::NotPermitted(name)));
            assert_eq!(update(ty, json!({name: null})), Err(E::NotPermitted(name)));
        }
    }
    assert_eq!(create(Ae, json!({"aei": "Cother"})), Err(E::NotPermitted("aei")));
    for name in ["cni", "cbs", "st"] {
        assert_eq!(create(Container, json!({name: 1})), Err(E::NotPermitted(name)));
        assert_eq!(update(Container, json!({name: 1})), Err(E::NotPermitted(name)));
    }
    assert_eq!(create(ContentInstance, json!({"cs": 1})), Err(E::NotPermitted("cs")));
    assert_eq!(update(Ae, json!({"api": "Nother"})), Err(E::NotPermitted("api")));
    assert_eq!(update(Ae, json!({"rn": "other"})), Err(E::NotPermitted("rn")));
    assert_eq!(update(Container, json!({"cr": null})), Err(E::NotPermitted("cr")));
}

#[test]
fn creator_value_in_request_is_refused() {
    let Err(E::Value { name: "cr", .. }) = create(Container, json!({"cr": "Cother"})) else {
        panic!("a creator was taken from a representation");
    };
}

#[test]
fn unsupported_attribute_is_reported() {
    for value in [json!(["x"]), json!(null)] {
        let e = create(Ae, json!({"daci": value})).unwrap_err();
        assert_eq!((e.rsc(), &e), (Rsc::NotImplemented, &E::Unsupported("daci")));
        let e = update(Container, json!({"loc": value})).unwrap_err();
        assert_eq!((e.rsc(), &e), (Rsc::NotImplemented, &E::Unsupported("loc")));
    }
}

#[test]
fn disabled_unsupported_attribute_is_accepted() {
    use ResourceType::{PollingChannel, RemoteCse};
    let csr = json!({"cb": "/a/b", "csi": "/a", "rr": true});
    for (ty, base, name) in [
        (PollingChannel, json!({}), "rqag"),
        (Ae, json!({"api": "Nlight", "rr": true}), "tren"),
        (Ae, json!({"api": "Nlight", "rr": true}), "trps"),
        (RemoteCse, csr, "tren"),
    ] {
        let with = |value: Value| {
            let mut given = map(base.clone());
            given.insert(name.into(), value);
            for_create(ty, Specialization::default(), given, NOW)
        };
        assert_eq!(with(json!(false)).unwrap().attributes[name], false, "{name}");
        assert_eq!(with(json!(true)), Err(E::Unsupported(name)));
        assert!(matches!(with(json!("false")), Err(E::Value { .. })), "{name}");
        assert_eq!(update(ty, json!({name: false})).unwrap().set, map(json!({name: false})));
        assert_eq!(update(ty, json!({name: true})), Err(E::Unsupported(name)));
        assert_eq!(update(ty, json!({name: null})).unwrap().removed, [name]);
    }
}

/// Presence of attributes, where the tables of TS-0004 clause 7.4 differ for one name.
#[test]
fn type_has_its_own_attribute_table() {
    use ResourceType::{
        Group, Node, PollingChannel, RemoteCse, ServiceSubscribedNode, Subscription,
    };
    // Only resources that can be announced have these.
    for ty in [Subscription, PollingChannel, ServiceSubscribedNode] {
        for name in ["at", "aa", "ast"] {
            assert!(matches!(update(ty, json!({name: ["x"]})), Err(E::Unknown { .. })), "{name}");
        }
    }
    for ty in [Ae, Group, Node, RemoteCse] {
        assert_eq!(update(ty, json!({"at": ["/x"]})), Err(E::Unsupported("at")));
    }
    for (ty, name, value) in [
        (Node, "rms", json!(true)),
        (Node, "nid", json!("x")),
        (Group, "ssi", json!(true)),
        (Container, "li", json!("x")),
        (ServiceSubscribedNode, "di", json!(["x"])),
        (ServiceSubscribedNode, "ni", json!("x")),
        (RemoteCse, "csi", json!("/x")),
    ] {
        assert_eq!(update(ty, json!({name: value})), Err(E::NotPermitted(name)), "{ty:?}");
    }
    assert_eq!(update(Node, json!({"ni": "x"})).unwrap().set, map(json!({"ni": "x"})));
    assert_eq!(update(Node, json!({"ni": null})), Err(E::Null("ni")));
    for name in ["tri", "trn"] {
        assert_eq!(update(Ae, json!({name: 3010})), Err(E::Unsupported(name)));
    }
    let csr = create(RemoteCse, json!({"cb": "/a/b", "rr": true}));
    assert!(csr.is_ok(), "its From tells the CSE-ID");
}

#[test]
fn expiration_time_must_be_in_future() {
    for past in ["20261124T093000", "20000101T000000"] {
        assert_eq!(
            create(Container, json!({"et": past})),
            Err(E::value("et", "must be in the future"))
        );
        assert!(update(Container, json!({"et": past})).is_err());
    }
    assert!(create(Container, json!({"et": null})).is_err());
    assert_eq!(update(Container, json!({"et": null})).unwrap().expires, Some(None));
    assert_eq!(
        update(Container, json!({"et": "20261124T093001"})).unwrap().expires,
        Some(Some(NOW + 1))
    );
    // Any other time may be in the past.
    assert!(create(ContentInstance, json!({"con": "", "dgt": "20000101T000000"})).is_ok());
}

#[test]
fn null_removes_what_is_optional() {
    let change = update(Ae, json!({"apn": null, "lbl": ["x"], "rr": false})).unwrap();
    assert_eq!(change.removed, ["apn"]);
    assert_eq!(change.set, map(json!({"lbl": ["x"], "rr": false})));
    assert_eq!(update(Ae, json!({"rr": null})), Err(E::Null("rr")));
}

#[test]
fn wrong_types_are_refused() {
    for (ty, given) in [
        (Ae, json!({"api": 1, "rr": true})),
        (Ae, json!({"api": "Xlight", "rr": true})),
        (Ae, json!({"api": "Nlight", "rr": "true"})),
        (Ae, json!({"api": "Nlight", "rr": true, "poa": "http://x"})),
        (Container, json!({"mni": -1})),
        (Container, json!({"mni": "1"})),
        (Container, json!({"rn": "a/b"})),
        (Container, json!({"lbl": "a"})),
        (ContentInstance, json!({"con": "x", "cnf": 1})),
        (ContentInstance, json!({"con": {"a": 1}, "cnf": "application/json"})),
        (Ae, json!({"api": "Nlight", "rr": true, "poa": []})),
        (Ae, json!({"api": "Nlight", "rr": true, "csz": ["yaml"]})),
        (Ae, json!({"api": "Nlight", "rr": true, "nl": 1})),
        (Container, json!({"disr": 0})),
    ] {
        let e = create(ty, given.clone()).unwrap_err();
        assert!(matches!(e, E::Value { .. }), "{given} {e}");
        assert_eq!(e.rsc(), Rsc::BadRequest);
    }
}

#[test]
fn attribute_occurs_in_one_table() {
    for ty in ResourceType::ALL {
        let mut names: Vec<_> = rows(ty).map(|r| r.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{ty:?}");
    }
}

#[test]
fn custom_attributes_cannot_have_name_of_another_attribute() {
    for ty in [ResourceType::FlexContainer, ResourceType::FlexContainerInstance] {
        for row in rows(ty) {
            assert!(RESERVED.contains(&row.name), "{}", row.name);
        }
    }
}
