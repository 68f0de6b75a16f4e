//! Responses in the form that was asked for.

use super::*;
use crate::coap::message::Code;
use crate::coap::options::ACCEPT;
use crate::coap::parameters::Refusal;

fn response(rsc: Rsc, content: Option<&str>) -> ResponsePrimitive {
    ResponsePrimitive {
        rsc,
        from: None,
        request_id: "r1".into(),
        release: Some("3".into()),
        content: content.map(|content| Bytes::copy_from_slice(content.as_bytes())),
        content_location: Some("/cse1/Clight".into()),
        parameters: [(Parameter::OriginatingTimestamp, "20261124T093000")].into_iter().collect(),
    }
}

fn form(table: Table, content_format: u16) -> ResponseForm {
    ResponseForm { table, content_format }
}

fn numbers(parts: &Parts) -> Vec<u16> {
    parts.options.iter().map(|(number, _)| number).collect()
}

#[test]
fn response_is_in_current_table() {
    let parts = write_response(
        response(Rsc::Created, Some("{\"m2m:ae\":{}}")),
        Some(Operation::Create),
        form(Table::Current, 50),
    );
    assert_eq!(parts.code, Code::CREATED);
    assert_eq!(numbers(&parts), [8, 8, 8, 12, 14, 259, 271, 283, 307]);
    assert_eq!(parts.options.uint(307, 2), Ok(Some(2001)));
    assert_eq!(parts.options.uint(MAX_AGE, 4), Ok(Some(0)));
    let location: Vec<_> = parts.options.get(LOCATION_PATH).map(|v| v.to_vec()).collect();
    assert_eq!(location, [b"~".to_vec(), b"cse1".to_vec(), b"Clight".to_vec()]);
    let read = read_response(&parts, 1000).unwrap();
    assert_eq!((read.rsc, read.request_id.as_str()), (Rsc::Created, "r1"));
    assert_eq!(read.content_location.as_deref(), Some("/cse1/Clight"));
    assert_eq!(read.content.unwrap(), "{\"m2m:ae\":{}}");
    assert_eq!(read.parameters, response(Rsc::Ok, None).parameters);
}

/// The former table has no release and no content status.
#[test]
fn response_is_in_former_table_if_asked_in_it() {
    let mut primitive = response(Rsc::Ok, None);
    primitive.parameters.set(Parameter::ContentStatus, "1");
    primitive.content_location = None;
    let parts = write_response(primitive, Some(Operation::Retrieve), form(Table::Former, 50));
    assert_eq!(parts.code, Code::CONTENT);
    assert_eq!(numbers(&parts), [14, 257, 259, 265]);
    assert_eq!(read_response(&parts, 1000).unwrap().rsc, Rsc::Ok);
}

#[test]
fn response_form_follows_from_request() {
    let of = |options: &[(u16, u32)]| {
        let mut request = Parts::new(Code::GET);
        options.iter().for_each(|(number, value)| request.options.push_uint(*number, *value));
        ResponseForm::of(&request)
    };
    assert_eq!(of(&[]), form(Table::Current, 50));
    assert_eq!(of(&[(ACCEPT, 10010), (CONTENT_FORMAT, 50)]), form(Table::Current, 10010));
    assert_eq!(of(&[(CONTENT_FORMAT, 60), (257, 1)]), form(Table::Former, 60));
    assert_eq!(of(&[(ACCEPT, 41), (CONTENT_FORMAT, 41)]), form(Table::Current, 50));
    assert_eq!(of(&[(ACCEPT, 60), (ACCEPT, 60)]), form(Table::Current, 50));
    // Refusals of mixed tables.
    assert_eq!(of(&[(257, 1), (279, 1)]), form(Table::Former, 50));
    assert_eq!(of(&[(257, 1), (283, 1)]), form(Table::Current, 50));
}

#[test]
fn response_has_accepted_content_format() {
    let of = |content_format| {
        let primitive = response(Rsc::Ok, Some("{\"a\":1}"));
        write_response(primitive, Some(Operation::Retrieve), form(Table::Current, content_format))
    };
    for content_format in [50, 10001, 60, 10010] {
        let parts = of(content_format);
        let found = parts.options.uint(CONTENT_FORMAT, 2).unwrap();
        assert_eq!(found, Some(content_format.into()));
        assert_eq!(read_response(&parts, 1000).unwrap().content.unwrap(), "{\"a\":1}");
    }
    assert_eq!(of(60).payload, &b"\xA1\x61a\x01"[..]);
}

#[test]
fn refusal_names_its_reason() {
    let error = BindingError { request_id: Some("r1".into()), ..bad("it is bad") };
    let refusal = Refusal { code: Code::BAD_OPTION, error };
    let parts = write_refusal(&refusal, ResponseForm::default());
    assert_eq!(parts.code, Code::BAD_OPTION);
    let read = read_response(&parts, 1000).unwrap();
    assert_eq!((read.rsc, read.request_id.as_str()), (Rsc::BadRequest, "r1"));
    assert_eq!(read.reason().as_deref(), Some("it is bad"));
}

/// A value of another binding may be longer, or no identifier.
#[test]
fn value_that_does_not_fit_is_omitted() {
    let mut primitive = response(Rsc::Ok, None);
    primitive.parameters = [
        (Parameter::VendorInformation, "x".repeat(256)),
        (Parameter::EventCategory, "x".into()),
        (Parameter::OriginatingTimestamp, "t".into()),
    ]
    .into_iter()
    .collect();
    primitive.content_location = Some("not an identifier".into());
    let parts = write_response(primitive, None, form(Table::Current, 50));
    assert_eq!(numbers(&parts), [14, 259, 271, 283, 307]);
}

#[test]
fn response_that_is_not_a_primitive_is_refused() {
    let ok = || write_response(response(Rsc::Ok, Some("{}")), None, ResponseForm::default());
    assert!(read_response(&ok(), 2).is_ok());
    assert!(read_response(&ok(), 1).is_err());
    for number in [283, 307, 9, 256] {
        let mut parts = ok();
        parts.options.push(number, Bytes::from_static(b"x"));
        assert!(read_response(&parts, 1000).is_err(), "{number}");
    }
    let mut parts = ok();
    parts.options.remove(307);
    assert!(read_response(&parts, 1000).is_err());
    let mut parts = ok();
    parts.payload = Bytes::from_static(b"{");
    assert!(read_response(&parts, 1000).is_err());
    let mut parts = ok();
    parts.options.remove(CONTENT_FORMAT);
    assert!(read_response(&parts, 1000).is_err());
    let mut parts = ok();
    parts.options.push_text(LOCATION_PATH, "..");
    assert!(read_response(&parts, 1000).is_err());
}
