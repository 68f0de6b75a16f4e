use super::*;

const ALL: &[&str] = &[
    names::EXPIRATION_TIME,
    names::LABELS,
    names::ADMIN_FQDN,
    names::SUID,
    names::TARGET_IDS,
    names::KEY_VALUE,
];

fn with<T>(
    attributes: &str,
    read: impl FnOnce(&Attributes<'_>) -> Result<T, AttributeError>,
) -> Result<T, AttributeError> {
    let content = format!("{{\"sec:symmKeyReg\":{attributes}}}");
    read(&Attributes::read(content.as_bytes(), names::KEY_REGISTRATION, ALL)?)
}

#[test]
fn content_must_have_expected_root() {
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"sec:mafClientReg":{}}"#,
        r#"{"sec:symmKeyReg":[]}"#,
        "{\"sec:symmKeyReg\"",
    ] {
        let read = Attributes::read(bad.as_bytes(), names::KEY_REGISTRATION, ALL);
        assert_eq!(read.err(), Some(AttributeError::Root("sec:symmKeyReg")), "{bad}");
    }
    let unknown = with(r#"{"x":1}"#, |_| Ok(()));
    assert_eq!(unknown, Err(AttributeError::Unknown("sec:symmKeyReg")));
    assert!(with(r#"{"SUID":32}"#, |_| Ok(())).is_err());
    let long = format!("{{\"lbl\":[{}]}}", "1,".repeat(MAX_CONTENT));
    assert_eq!(with(&long, |_| Ok(())), Err(AttributeError::TooLong));
}

#[test]
fn attribute_values_are_validated() {
    assert_eq!(with(r#"{"et":"20261124T093000,5"}"#, |a| a.expiration()), Ok(Some(1_795_512_600)));
    assert_eq!(with("{}", |a| a.expiration()), Ok(None));
    for bad in ["1", "null", "\"tomorrow\"", "\"19691231T000000\""] {
        assert!(with(&format!("{{\"et\":{bad}}}"), |a| a.expiration()).is_err(), "{bad}");
    }
    assert_eq!(with(r#"{"suid":32}"#, |a| a.suid()), Ok(Some(32)));
    for bad in ["\"32\"", "256", "-1", "32.0", "null"] {
        assert!(with(&format!("{{\"suid\":{bad}}}"), |a| a.suid()).is_err(), "{bad}");
    }
    assert!(with(r#"{"adfq":"a..b"}"#, |a| a.admin()).is_err());
    assert_eq!(with(r#"{"lbl":["x","y"]}"#, |a| a.labels()), Ok(vec!["x".into(), "y".into()]));
    for bad in ["\"x\"", "[1]", "[\"\"]", "[\"\\u0001\"]", "null"] {
        assert!(with(&format!("{{\"lbl\":{bad}}}"), |a| a.labels()).is_err(), "{bad}");
    }
    let many = |n| format!("{{\"lbl\":[{}]}}", vec!["\"x\""; n].join(","));
    assert!(with(&many(MAX_LABELS), |a| a.labels()).is_ok());
    assert!(with(&many(MAX_LABELS + 1), |a| a.labels()).is_err());
    let long = |n| format!("{{\"lbl\":[\"{}\"]}}", "x".repeat(n));
    assert!(with(&long(MAX_LABEL), |a| a.labels()).is_ok());
    assert!(with(&long(MAX_LABEL + 1), |a| a.labels()).is_err());
    assert_eq!(with(r#"{"tgids":["//a.b/c"]}"#, |a| a.targets()).unwrap().len(), 1);
    for bad in [r#"["/c"]"#, r#"["//a.b/c","//a.b/c"]"#, r#"["Cae"]"#, r#""//a.b/c""#] {
        assert!(with(&format!("{{\"tgids\":{bad}}}"), |a| a.targets()).is_err(), "{bad}");
    }
    let targets: Vec<_> = (0..=MAX_TARGETS).map(|n| format!("\"//a.b/c{n}\"")).collect();
    let targets = format!("{{\"tgids\":[{}]}}", targets.join(","));
    let many = AttributeError::Wrong("tgids", ValueError::TooMany(MAX_TARGETS));
    assert_eq!(with(&targets, |a| a.targets()), Err(many));
}

#[test]
fn key_is_hexadecimal_and_not_in_errors() {
    let read = |digits: &str| {
        with(&format!("{{\"keyValue\":{digits}}}"), |a| a.key())
            .map(|key| key.unwrap().expose().to_vec())
    };
    assert_eq!(read("\"00fF\""), Ok(vec![0, 255]));
    assert_eq!(read(&format!("\"{}\"", "ab".repeat(64))), Ok(vec![0xab; 64]));
    for bad in ["\"\"", "\"0\"", "12", "null", "\"0g\"", "\"\\u0030\\u0030\"", "\"", "\"é0\"", "[]"]
    {
        let Err(error) = read(bad) else { panic!("{bad}") };
        if bad != "\"" {
            assert_eq!(error, AttributeError::Wrong("keyValue", ValueError::Key), "{bad}");
        }
    }
    assert!(read(&format!("\"{}\"", "ab".repeat(65))).is_err());
}

#[test]
fn written_attributes_are_readable() {
    let key = PresharedKey::new(&[0xa5; 64]).unwrap();
    let mut attributes = Map::new();
    let empty = write(names::KEY_REGISTRATION, attributes.clone(), Some(&key));
    assert!(serde_json::from_slice::<Value>(&empty).is_ok());
    put(&mut attributes, names::SUID, 32);
    put_labels(&mut attributes, &["x\"".into()]);
    let written = write(names::KEY_REGISTRATION, attributes.clone(), Some(&key));
    let read = Attributes::read(&written, names::KEY_REGISTRATION, ALL).unwrap();
    assert_eq!(read.key().unwrap().unwrap().expose(), key.expose());
    assert_eq!(read.labels(), Ok(vec!["x\"".into()]));
    assert_eq!(read.suid(), Ok(Some(32)));
    let written = write(names::KEY_REGISTRATION, attributes, None);
    let read = Attributes::read(&written, names::KEY_REGISTRATION, ALL).unwrap();
    assert!(!read.has(names::KEY_VALUE));
}
