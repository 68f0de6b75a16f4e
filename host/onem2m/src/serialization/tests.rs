use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::parameter::Parameter;
use crate::primitive::Operation;
use crate::rsc::Rsc;

const MAX: usize = 1 << 20;

fn read(json: &str) -> Result<Primitive, BindingError> {
    Serialization::Json.read(Bytes::copy_from_slice(json.as_bytes()), MAX)
}

fn request(json: &str) -> RequestPrimitive {
    match read(json) {
        Ok(Primitive::Request(request)) => *request,
        other => panic!("{json}: {other:?}"),
    }
}

fn refusal(json: &str) -> BindingError {
    match read(json) {
        Err(error) => error,
        Ok(primitive) => panic!("{json}: {primitive:?}"),
    }
}

fn cbor(value: &Value) -> Vec<u8> {
    cbor::from_json(value.to_string().as_bytes()).unwrap().to_vec()
}

#[test]
fn create_is_read_whole() {
    let r = request(
        r#"{"op":1,"to":"/mn-cse-123456/cse/light1","fr":"Clight-AE1","rqi":"r1","rvi":"3","ty":4,
            "ot":"20261124T093000","rqet":5000,"rset":"6000","vsi":"x y","ec":4,"rcn":0,
            "rt":{"rtv":2,"nu":["http://a.b/","Cother"]},"da":true,
            "pc": {"m2m:cin":{"con":"on"}} }"#,
    );
    assert_eq!((r.operation, r.resource_type), (Operation::Create, Some(4)));
    assert_eq!(r.to.to_string(), "/mn-cse-123456/cse/light1");
    assert_eq!((r.from.as_deref(), r.request_id.as_str()), (Some("Clight-AE1"), "r1"));
    assert_eq!(r.release.as_deref(), Some("3"));
    assert_eq!(&r.content.unwrap().bytes()[..], br#"{"m2m:cin":{"con":"on"}}"#);
    let get = |parameter| r.parameters.get(parameter);
    assert_eq!(get(Parameter::OriginatingTimestamp), Some("20261124T093000"));
    assert_eq!(get(Parameter::RequestExpiration), Some("5000"));
    assert_eq!(get(Parameter::ResultExpiration), Some("6000"));
    assert_eq!(get(Parameter::EventCategory), Some("4"));
    assert_eq!(get(Parameter::ResponseTargets), Some("http://a.b/&Cother"));
    let options: Vec<_> = r.options.iter().map(|(n, v)| (n.as_str(), v.join("+"))).collect();
    assert_eq!(options, [("rt", "2".into()), ("rcn", "0".into()), ("da", "true".into())]);
}

/// The options are the same as in the query string of HTTP.
#[test]
fn filter_criteria_become_options() {
    let r = request(
        r#"{"op":2,"to":"cse","fr":"Ca","rqi":"r1","rvi":"3","rcn":6,
            "fc":{"fu":1,"ty":[3,4],"lbl":["a","b+c"],"lim":5,"crb":"20261124T093000",
                  "atr":[{"nm":"cr","val":"Cb"},{"nm":"st","val":7}]}}"#,
    );
    let at = crate::id::CseId::parse("c").unwrap();
    let out = crate::http::write_request(&r, &at).unwrap();
    let query = "rcn=6&crb=20261124T093000&lbl=a+b%2Bc&ty=3+4&cr=Cb&st=7&fu=1&lim=5";
    assert_eq!(out.uri().query(), Some(query));
    let again = crate::http::read_query(query).unwrap();
    assert_eq!(again, r.options);
}

#[test]
fn other_operations_are_read() {
    let of = |json: &str| request(json).operation;
    assert_eq!(of(r#"{"op":2,"to":"-","rqi":"r"}"#), Operation::Retrieve);
    assert_eq!(of(r#"{"op":3,"to":"x","rqi":"r","pc":{"m2m:cnt":{}}}"#), Operation::Update);
    assert_eq!(of(r#"{"op":4,"to":"//a.b/c/x","rqi":"r"}"#), Operation::Delete);
    assert_eq!(of(r#"{"op":5,"to":"Cx","rqi":"r","pc":{"m2m:sgn":{}}}"#), Operation::Notify);
}

#[test]
fn ambiguous_primitives_are_refused() {
    for json in [
        // A duplicate name, in any case and with any escapes.
        r#"{"op":2,"to":"x","rqi":"r","fr":"Ca","fr":"Cb"}"#,
        r#"{"op":2,"to":"x","rqi":"r","fr":"Ca","FR":"Cb"}"#,
        r#"{"op":2,"to":"x","rqi":"r","fr":"Ca","\u0066r":"Cb"}"#,
        r#"{"op":2,"op":4,"to":"x","rqi":"r"}"#,
        r#"{"op":2,"to":"x","rqi":"r","rqi":"s"}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"fu":1,"fu":2}}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"fu":1,"Fu":2}}"#,
        r#"{"op":2,"to":"x","rqi":"r","rt":{"rtv":1,"rtv":2}}"#,
        r#"{"op":1,"to":"x","rqi":"r","ty":3,"pc":{"m2m:cnt":{"rn":"a","rn":"b"}}}"#,
        r#"{"op":1,"to":"x","rqi":"r","ty":3,"pc":{"m2m:cnt":{},"m2m:ae":{}}}"#,
        // The type differs between the request and the content.
        r#"{"op":1,"to":"x","rqi":"r","ty":3,"pc":{"m2m:ae":{}}}"#,
        r#"{"op":1,"to":"x","rqi":"r","ty":2,"pc":{"m2m:cnt":{}}}"#,
        r#"{"op":1,"to":"x","rqi":"r","ty":3,"fc":{"ty":[2]},"pc":{"m2m:cnt":{}}}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"atr":[{"nm":"fr","val":"Cb"}]}}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"atr":[{"nm":"TO","val":"Cb"}]}}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"atr":[{"nm":"rcn","val":"4"}]}}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"atr":[{"nm":"lbl","val":"a"}]}}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"atr":[{"nm":"a&fr","val":"Cb"}]}}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"atr":[{"nm":"rn","val":"a","nm":"cr"}]}}"#,
        r#"{"op":2,"rsc":2000,"to":"x","rqi":"r"}"#,
        // Neither a request nor a response, or wrapped as in XML.
        r#"{"to":"x","rqi":"r"}"#,
        r#"{"m2m:rqp":{"op":2,"to":"x","rqi":"r"}}"#,
        // A look-alike, or an unknown name.
        r#"{"op":2,"to":"x","rqi":"r","Fr":"Ca"}"#,
        r#"{"op":2,"to":"x","rqi":"r","fr ":"Ca"}"#,
        r#"{"op":2,"to":"x","rqi":"r","from":"Ca"}"#,
        r#"{"op":2,"to":"x","rqi":"r","X-M2M-Origin":"Ca"}"#,
        r#"{"op":2,"to":"x","rqi":"r","fc":{"xyz":1}}"#,
        r#"{"op":2,"to":"x","rqi":"r","rt":{"rtv":3,"x":1}}"#,
    ] {
        assert_eq!(refusal(json).rsc, Rsc::BadRequest, "{json}");
    }
}

#[test]
fn values_have_the_types_of_the_table() {
    for members in [
        r#""op":"2""#,
        r#""op":0"#,
        r#""op":6"#,
        r#""op":2.0"#,
        r#""op":-2"#,
        r#""op":null"#,
        r#""op":[2]"#,
        r#""op":2,"fr":7"#,
        r#""op":2,"fr":null"#,
        r#""op":2,"fr":["Ca"]"#,
        r#""op":2,"fr":{"a":"Ca"}"#,
        r#""op":2,"rvi":3"#,
        r#""op":2,"rcn":"4""#,
        r#""op":2,"rcn":4.5"#,
        r#""op":2,"rcn":18446744073709551616"#,
        r#""op":2,"da":1"#,
        r#""op":2,"da":"true""#,
        r#""op":2,"ot":1"#,
        r#""op":2,"rqet":true"#,
        r#""op":2,"ec":"1""#,
        r#""op":2,"fc":[]"#,
        r#""op":2,"fc":"fu=1""#,
        r#""op":2,"fc":{"fu":"1"}"#,
        r#""op":2,"fc":{"lbl":"a"}"#,
        r#""op":2,"fc":{"lbl":[]}"#,
        r#""op":2,"fc":{"lbl":[1]}"#,
        r#""op":2,"fc":{"ty":3}"#,
        r#""op":2,"fc":{"ty":["3"]}"#,
        r#""op":2,"fc":{"atr":{"nm":"rn","val":"a"}}"#,
        r#""op":2,"fc":{"atr":[{"nm":"rn"}]}"#,
        r#""op":2,"fc":{"atr":[{"val":"a"}]}"#,
        r#""op":2,"fc":{"atr":[{"nm":"rn","val":["a"]}]}"#,
        r#""op":2,"fc":{"atr":[{"nm":"","val":"a"}]}"#,
        r#""op":2,"rt":2"#,
        r#""op":2,"rt":{"nu":["Ca"]}"#,
        r#""op":2,"rt":{"rtv":2,"nu":"Ca"}"#,
        r#""op":2,"rt":{"rtv":2,"nu":["http://a/&http://b/"]}"#,
        r#""op":2,"ty":3"#,
        r#""op":2,"pc":{"m2m:cnt":{}}"#,
        r#""op":3"#,
        r#""op":3,"pc":null"#,
        r#""op":3,"pc":{}"#,
        r#""op":3,"pc":[]"#,
        r#""op":3,"pc":"{}""#,
        r#""op":3,"pc":{"m2m:sgn":{}}"#,
        r#""op":1,"pc":{"m2m:cnt":{}}"#,
        r#""op":1,"ty":65536,"pc":{"m2m:cnt":{}}"#,
        r#""op":1,"ty":"3","pc":{"m2m:cnt":{}}"#,
        r#""op":5,"pc":{"m2m:cnt":{}}"#,
        r#""op":5"#,
    ] {
        let json = format!(r#"{{"rqi":"r","to":"x",{members}}}"#);
        let e = refusal(&json);
        assert_eq!((e.rsc, e.request_id.as_deref()), (Rsc::BadRequest, Some("r")), "{json}");
    }
    for json in ["", "1", "[]", "null", "{", "{}", "{}{}", r#"{"op":2,"to":"x","rqi":"r"}x"#] {
        assert_eq!(refusal(json).request_id, None, "{json}");
    }
    for rqi in ["", "\\u0000", "a\\nb", "é", &"x".repeat(1025)] {
        assert_eq!(refusal(&format!(r#"{{"op":2,"to":"x","rqi":"{rqi}"}}"#)).request_id, None);
    }
}

#[test]
fn values_fit_every_binding() {
    for value in ["a\\u0000", "a\\r\\nX-M2M-Origin: Cb", "é", "\\u007f", &"x".repeat(1025)] {
        for name in ["fr", "rvi", "ot", "rqet", "gid", "vsi"] {
            let json = format!(r#"{{"op":2,"to":"x","rqi":"r","{name}":"{value}"}}"#);
            assert_eq!(refusal(&json).rsc, Rsc::BadRequest, "{json}");
        }
    }
    for to in ["", "/", "x/../y", "x//y", "a b", "%63se", "~/c/x", "x?fr=Cb", &"x".repeat(3000)] {
        let json = format!(r#"{{"op":2,"to":"{to}","rqi":"r"}}"#);
        assert_eq!(refusal(&json).rsc, Rsc::BadRequest, "{to}");
    }
    let smf = request(r#"{"op":2,"to":"x","rqi":"r","fc":{"lbl":["a\nb","é"]}}"#);
    assert_eq!(smf.option("lbl").unwrap(), ["a\nb", "é"]);
    assert_eq!(
        refusal(r#"{"op":2,"to":"x","rqi":"r","fc":{"lbl":["a\u0000"]}}"#).rsc,
        Rsc::BadRequest
    );
}

#[test]
fn primitives_are_bounded() {
    let labels = |n: usize, length: usize| {
        let labels = vec![format!("\"{}\"", "x".repeat(length)); n].join(",");
        format!(r#"{{"op":2,"to":"x","rqi":"r","fc":{{"lbl":[{labels}]}}}}"#)
    };
    assert!(read(&labels(64, 10)).is_ok());
    assert!(read(&labels(65, 10)).is_err());
    assert!(read(&labels(2, 1020)).is_ok());
    assert!(read(&labels(2, 1024)).is_err());
    let members: String = (0..60).map(|n| format!(r#","a{n}":1"#)).collect();
    assert!(read(&format!(r#"{{"op":2,"to":"x","rqi":"r"{members}}}"#)).is_err());
    let conditions = vec![r#"{"nm":"rn","val":"a"}"#; 33].join(",");
    assert!(
        read(&format!(r#"{{"op":2,"to":"x","rqi":"r","fc":{{"atr":[{conditions}]}}}}"#)).is_err()
    );
    for nest in ["[", "{\"a\":"] {
        let deep = nest.repeat(100_000);
        for json in [
            deep.clone(),
            format!(r#"{{"op":{deep}"#),
            format!(r#"{{"op":1,"ty":3,"to":"x","rqi":"r","pc":{{"m2m:cnt":{{"x":{deep}"#),
        ] {
            assert!(read(&json).is_err());
        }
    }
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let json = format!(r#"{{"op":1,"ty":3,"to":"x","rqi":"r","pc":{{"m2m:cnt":{{"x":{deep}}}}}}}"#);
    assert_eq!(refusal(&json).request_id.as_deref(), Some("r"));
    let json = r#"{"op":2,"to":"x","rqi":"r"}"#;
    assert!(Serialization::Json.read(json.into(), json.len()).is_ok());
    assert!(Serialization::Json.read(json.into(), json.len() - 1).is_err());
    assert!(
        Serialization::Json.read(Bytes::from_static(b"{\"op\":2,\"rqi\":\"\xff\"}"), MAX).is_err()
    );
}

#[test]
fn unsupported_parameters_are_not_implemented() {
    for members in [r#""tqf":{}"#, r#""grtm":["a"]"#, r#""omr":1"#] {
        let json = format!(r#"{{"op":2,"to":"x","rqi":"r",{members}}}"#);
        assert_eq!(refusal(&json).rsc, Rsc::NotImplemented, "{json}");
    }
}

/// Only Token Request Information alone is a parameter, and only in a response.
#[test]
fn content_adds_no_members_to_primitive() {
    let respond = |content: &str| {
        let to = request(r#"{"op":2,"to":"x","rqi":"r"}"#);
        let mut response = ResponsePrimitive::to(&to, Rsc::OriginatorHasNoPrivilege);
        response.content = Some(content.to_owned().into());
        let written = writer::write_response(&response);
        serde_json::from_slice::<Value>(&written).unwrap()
    };
    assert_eq!(respond(r#"{"m2m:tqf":{"dasi":[]}}"#)["tqf"], json!({"dasi": []}));
    let injected = r#"{"m2m:tqf":{},"rsc":2001,"rqi":"other"}"#;
    let written = respond(injected);
    assert_eq!((&written["rsc"], &written["rqi"]), (&json!(4103), &json!("r")));
    assert_eq!(written["pc"]["rqi"], "other");
    let asked = request(r#"{"op":3,"to":"x","rqi":"r","pc":{"m2m:tqf":{}}}"#);
    let written: Value = serde_json::from_slice(&writer::write_request(&asked)).unwrap();
    assert_eq!((&written["pc"], written.get("tqf")), (&json!({"m2m:tqf": {}}), None));
}

#[test]
fn tokens_are_joined() {
    let with = |tokens: &str| format!(r#"{{"op":2,"to":"x","rqi":"r","tkns":{tokens}}}"#);
    let read = request(&with(r#"["a.b-_.c","d.e.f"]"#));
    assert_eq!(read.parameters.get(Parameter::Tokens), Some("a.b-_.c+d.e.f"));
    let written: Value = serde_json::from_slice(&writer::write_request(&read)).unwrap();
    assert_eq!(written["tkns"], json!(["a.b-_.c", "d.e.f"]));
    let long = |length| format!("[\"{}\"]", "t".repeat(length));
    let padded = format!("[\"t\"{}]", " ".repeat(9300));
    for bad in ["\"a.b.c\"", "[]", "[\"\"]", "[\"a+b\"]", "[\"a b\"]", "[1]", &long(8193), &padded]
    {
        assert_eq!(refusal(&with(bad)).rsc, Rsc::BadRequest, "{bad:.40}");
    }
    request(&with(&long(8192)));
}

#[test]
fn responses_are_read_strictly() {
    let json = r#"{"rsc":2000,"rqi":"r","fr":"Ca","to":"/c","rvi":"3","cnst":1,"cnot":5,"drt":1,
        "ati":{"ltia":[{"lti":"a","tkid":"b"}]},"pc":{"m2m:cin":{}}}"#;
    let Ok(Primitive::Response(response)) = read(json) else { panic!("not read") };
    assert_eq!((response.rsc, response.request_id.as_str()), (Rsc::Ok, "r"));
    assert_eq!(response.from.as_deref(), Some("Ca"));
    assert_eq!(response.content.as_deref(), Some(&br#"{"m2m:cin":{}}"#[..]));
    assert_eq!(response.parameters.get(Parameter::AssignedTokenIds), Some("a:b"));
    for bad in [
        r#"{"rsc":"2000","rqi":"r"}"#,
        r#"{"rsc":70000,"rqi":"r"}"#,
        r#"{"rsc":2000}"#,
        r#"{"rsc":2000,"rqi":"r","rsc":4000}"#,
        r#"{"rsc":2000,"rqi":"r","fr":1}"#,
        r#"{"rsc":2000,"rqi":"r","to":1}"#,
        r#"{"rsc":2000,"rqi":"r","x":1}"#,
        r#"{"rsc":2000,"rqi":"r","ati":{"ltia":[]}}"#,
        r#"{"rsc":2000,"rqi":"r","ati":{"ltia":[{"lti":"a:b","tkid":"c"}]}}"#,
    ] {
        assert_eq!(refusal(bad).rsc, Rsc::BadRequest, "{bad}");
    }
    for (bad, is_response) in [
        (r#"{"rsc":2000}"#, true),
        (r#"{"rsc":2000,"rqi":1}"#, true),
        (r#"{"rsc":"2000","rqi":"r"}"#, true),
        (r#"{"op":2,"to":"x"}"#, false),
        (r#"{"op":2,"to":"x","rqi":"r","rsc":2000}"#, false),
    ] {
        assert_eq!(refusal(bad).is_response, is_response, "{bad}");
    }
}

#[test]
fn responses_are_written_with_their_content_as_it_is() {
    let mut response = ResponsePrimitive::refusal("r", Some("3"), Rsc::NotFound, "no \"x\"");
    response.parameters.set(Parameter::ContentStatus, "1");
    response.content_location = Some("/c/x".into());
    let json = Serialization::Json.write_response(&response).unwrap();
    let value: Value = serde_json::from_slice(&json).unwrap();
    let expected = json!({"rsc": 4004, "rqi": "r", "rvi": "3", "cnst": 1,
        "pc": {"m2m:dbg": "no \"x\""}});
    assert_eq!(value, expected);
    let cbor = Serialization::Cbor.write_response(&response).unwrap();
    assert_eq!(cbor4ii::serde::from_slice::<Value>(&cbor).unwrap(), expected);
}

#[test]
fn cbor_is_read_as_the_same_json() {
    let value = json!({"op": 1, "to": "cse", "fr": "Ca", "rqi": "r1", "rvi": "3", "ty": 4,
        "pc": {"m2m:cin": {"con": "on", "n": [-1, 2.5, true, null, 18446744073709551615u64]}}});
    let Ok(Primitive::Request(request)) = Serialization::Cbor.read(cbor(&value).into(), MAX) else {
        panic!("not read")
    };
    assert_eq!(request.request_id, "r1");
    let content: Value = serde_json::from_slice(request.content.unwrap().bytes()).unwrap();
    assert_eq!(content, value["pc"]);
    // Definite lengths, texts of major type 3, and a null of one byte.
    assert_eq!(cbor(&json!({"a": [null, "b", 1]})), b"\xa1\x61a\x83\xf6\x61b\x01");
    // Indefinite lengths mean the same: {_ "op": 2, "to": "x", "rqi": (_ "r", "1")}.
    let indefinite = b"\xbf\x62op\x02\x62to\x61x\x63rqi\x7f\x61r\x611\xff\xff";
    let read = Serialization::Cbor.read(Bytes::from_static(indefinite), MAX);
    assert!(matches!(read, Ok(Primitive::Request(r)) if r.request_id == "r1"));
}

#[test]
fn cbor_without_a_meaning_in_json_is_refused() {
    let refused = |bytes: &[u8]| {
        let read = Serialization::Cbor.read(Bytes::copy_from_slice(bytes), MAX);
        assert!(read.is_err(), "{bytes:x?}: {read:?}");
    };
    // {"op": 2, "to": "x", "rqi": "r", …}
    let with = |rest: &[u8]| [b"\xa4\x62op\x02\x62to\x61x\x63rqi\x61r", rest].concat();
    for rest in [
        // A byte string for a name, or a value; a number for a name.
        &b"\x42fr\x62Ca"[..],
        b"\x62fr\x42Ca",
        b"\x07\x62Ca",
        // A duplicate name.
        b"\x62to\x61y",
        b"\x62TO\x61y",
        // Tags: a date, a big number.
        b"\x63rcn\xc1\x04",
        b"\x63rcn\xc2\x41\x04",
        // NaN, an infinity, a half float, a number beyond JSON's.
        b"\x63rcn\xfb\x7f\xf8\0\0\0\0\0\0",
        b"\x63rcn\xfa\x7f\x80\0\0",
        b"\x63rcn\xf9\x44\x00",
        b"\x63rcn\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
        // A simple value, a break without a beginning, a text that is not UTF-8, one that is too short.
        b"\x63rcn\xf8\x20",
        b"\x63rcn\xff",
        b"\x62fr\x62\xff\xff",
        b"\x62fr\x65Ca",
        b"\x62fr\x7b\xff\xff\xff\xff\xff\xff\xff\xffCa",
        // A missing value.
        b"",
    ] {
        refused(&with(rest));
    }
    let whole = with(b"\x62fr\x62Ca");
    assert!(Serialization::Cbor.read(whole.clone().into(), MAX).is_ok());
    refused(&[whole.as_slice(), b"\x00"].concat());
    for n in 0..whole.len() {
        refused(&whole[..n]);
    }
    refused(&[&[0x9f; 100_000][..]].concat());
    refused(&[&[0x81; 100_000][..]].concat());
    refused(&[&[0xa1, 0x61, b'a'].repeat(100_000)[..]].concat());
    refused(b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff");
    refused(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff");
}

/// A null is one byte in CBOR and four in JSON.
#[test]
fn cbor_is_bounded_by_its_json() {
    let nulls = [&b"\x98\xff"[..], &[0xf6; 255]].concat();
    assert!(cbor::to_json(&nulls, 2000).is_ok());
    assert!(cbor::to_json(&nulls, 1000).is_err());
    assert!(cbor::to_json(&nulls, 100).is_err());
}

proptest! {
    #[test]
    fn primitives_survive_both_serializations(
        from in "[CS][a-z0-9-]{1,20}",
        id in "[ -~]{1,40}",
        label in prop::collection::vec("[^\\p{Cc}]{0,20}", 1..4),
        name in "[a-z]{5,9}",
        value in "[ -~]{0,10}",
        number in 0u64..100,
        path in "[a-z0-9]{1,8}(/[a-z0-9-]{1,8}){0,3}",
    ) {
        let mut first = request(&format!(r#"{{"op":2,"to":"{path}","rqi":"r","fr":"{from}"}}"#));
        first.request_id = id;
        first.options.push(("rcn".into(), vec![number.to_string()]));
        first.options.push(("lbl".into(), label));
        first.options.push((name, vec![value]));
        for serialization in [Serialization::Json, Serialization::Cbor] {
            let written = serialization.write_request(&first).unwrap();
            let Ok(Primitive::Request(second)) = serialization.read(written, MAX) else {
                panic!("{first:?}")
            };
            prop_assert_eq!(&second.from, &first.from);
            prop_assert_eq!(&second.request_id, &first.request_id);
            prop_assert_eq!(&second.options, &first.options);
            prop_assert_eq!(&second.to, &first.to);
        }
    }

    #[test]
    fn arbitrary_serialization_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        for serialization in [Serialization::Json, Serialization::Cbor] {
            let _ = serialization.read(bytes.clone().into(), MAX);
            let _ = serialization.read(text.clone().into(), MAX);
        }
    }
}
