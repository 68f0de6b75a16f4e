use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::attributes::MAX_CONTENT;
use crate::testing::{FQDN, GATEWAY, LIGHT, client, key_terms, session, terms};
use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;

fn answer(rsc: Rsc, content: &str) -> ResponsePrimitive {
    let request = client(LIGHT).retrieve("1", "mcr-1").unwrap();
    ResponsePrimitive {
        content: Some(Bytes::copy_from_slice(content.as_bytes())),
        ..ResponsePrimitive::to(&request, rsc)
    }
}

#[test]
fn requests_are_for_the_maf_in_the_clients_name() {
    let request = client(LIGHT).register_key("7", &key_terms(32, &[GATEWAY], 5), None).unwrap();
    assert_eq!(request.to.to_string(), format!("//{FQDN}/maf/-"));
    assert_eq!((request.from.as_deref(), request.request_id.as_str()), (Some(LIGHT), "7"));
    assert_eq!(request.resource_type, Some(61002));
    let content: Value = serde_json::from_slice(request.content.unwrap().bytes()).unwrap();
    let wanted = json!({"sec:symmKeyReg": {
        "et": "20270115T080005", "adfq": "in.provider.com", "suid": 32, "tgids": [GATEWAY],
    }});
    assert_eq!(content, wanted);
    // The binding of TS-0009 carries it, with the base in the position of the CSE-ID.
    let request = client(LIGHT).retrieve_key("8", "A1").unwrap();
    let base = names::default_base();
    let written = saegis_onem2m::http::write_request(&request, &base).unwrap();
    assert_eq!(written.uri().path(), "/~/maf/A1");
}

#[test]
fn invalid_client_argument_is_reported() {
    let it = client(LIGHT);
    for bad in ["", "-", "_", ".", "..", "a/b", "é", &"x".repeat(65)] {
        assert!(it.retrieve_key("1", bad).is_err(), "{bad}");
        assert!(it.update("1", bad, &Changes::default()).is_err(), "{bad}");
    }
    assert!(Client::new(it.id().clone(), "a..b", names::default_base()).is_err());
    let labels = |n| Terms { labels: vec!["x".into(); n], ..terms(1) };
    assert!(it.register("1", &labels(16)).is_ok());
    assert!(it.register("1", &labels(17)).is_err());
    assert!(it.register("1", &Terms { admin_fqdn: "-".into(), ..terms(1) }).is_err());
    let many = [GATEWAY; 17];
    assert!(it.register_key("1", &key_terms(34, &many, 1), None).is_err());
}

#[test]
fn error_contains_reason_of_maf() {
    let refused = answer(Rsc::NotFound, r#"{"m2m:dbg":"not\u0007 here"}"#);
    let why = AnswerError::Refused { rsc: Rsc::NotFound, why: "not here".into() };
    assert_eq!(read_retrieved_key(&refused).err(), Some(why.clone()));
    assert_eq!(why.to_string(), "the MAF answered 4004 NOT_FOUND: not here");
    let long = answer(Rsc::NotFound, &format!("{{\"m2m:dbg\":\"{}\"}}", "é".repeat(1000)));
    let Err(AnswerError::Refused { why, .. }) = read_deleted(&long) else { panic!() };
    assert_eq!(why.chars().count(), 200);
    let silent = answer(Rsc::BadRequest, "nonsense");
    let why = AnswerError::Refused { rsc: Rsc::BadRequest, why: String::new() };
    assert_eq!(read_registration(&silent), Err(why));
    let other = answer(Rsc::Created, "{}");
    assert_eq!(read_retrieved_key(&other).err(), Some(AnswerError::Unexpected(Rsc::Created)));
    assert_eq!(read_deleted(&other), Err(AnswerError::Unexpected(Rsc::Created)));
}

#[test]
fn invalid_response_yields_no_key() {
    let good = json!({
        "et": "20270115T080005", "scid": LIGHT, "adfq": "a.b", "suid": 32, "keyValue": "c0ffee",
    });
    let read = |attributes: &Value| {
        let content = json!({"sec:symmKeyReg": attributes}).to_string();
        read_retrieved_key(&answer(Rsc::Ok, &content))
    };
    assert_eq!(read(&good).ok().unwrap().key.expose(), [0xc0, 0xff, 0xee]);
    for name in ["et", "scid", "adfq", "suid", "keyValue"] {
        let mut less = good.clone();
        less.as_object_mut().unwrap().remove(name);
        let missing = AnswerError::Attribute(AttributeError::Missing(name));
        assert_eq!(read(&less).err(), Some(missing));
        let mut wrong = good.clone();
        wrong[name] = json!([]);
        assert!(matches!(
            read(&wrong).err(),
            Some(AnswerError::Attribute(AttributeError::Wrong(at, _))) if at == name
        ));
    }
    let mut more = good.clone();
    more["tgids"] = json!([]);
    assert!(read(&more).is_err());
    let twice = r#"{"sec:symmKeyReg":{"keyValue":"c0ffee","keyValue":"00"}}"#;
    assert_eq!(read_retrieved_key(&answer(Rsc::Ok, twice)).err(), Some(AnswerError::Content));
    let empty = ResponsePrimitive { content: None, ..answer(Rsc::Ok, "") };
    assert!(read_retrieved_key(&empty).is_err());
    let long = answer(Rsc::Ok, &" ".repeat(MAX_CONTENT + 1));
    let too_long = AnswerError::Attribute(AttributeError::TooLong);
    assert_eq!(read_retrieved_key(&long).err(), Some(too_long));
}

#[test]
fn key_of_other_session_is_detected() {
    let own = session(0xab);
    let attributes = |id: &str| {
        json!({"sec:symmKeyReg": {
            "ri": id, "et": "20270115T080005", "scid": LIGHT, "adfq": "a.b", "suid": 32,
            "tgids": [GATEWAY],
        }})
        .to_string()
    };
    let good = answer(Rsc::Created, &attributes(&own.relative_key_id()));
    assert_eq!(read_registered_key(&good, Some(&own)).unwrap().targets.len(), 1);
    assert_eq!(read_registered_key(&good, Some(&session(0xac))), Err(AnswerError::OtherSession));
}

#[test]
fn registration_may_contain_key_id_of_maf() {
    let content = json!({"sec:mafClientReg": {
        "ri": "mcr-1", "mcid": LIGHT, "et": "20270115T080005", "adfq": "a.b",
        "askid": "km1@maf.provider.com",
    }});
    let read = read_registration(&answer(Rsc::Created, &content.to_string())).unwrap();
    assert_eq!(read.assigned_key_id.unwrap().issuer(), FQDN);
}
