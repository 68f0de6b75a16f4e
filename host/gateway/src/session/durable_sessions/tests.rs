use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn credential(name: &str) -> CredentialId {
    CredentialId::parse(&format!("12-{name}@b.c")).unwrap()
}

fn notification(content: &str) -> StoredNotification {
    StoredNotification {
        credential: "12-a@b.c".into(),
        cause: "12-b@b.c".into(),
        ae: "Ca".into(),
        registrant: None,
        about: "/c/sub".into(),
        from: "/c".into(),
        request_id: "r".into(),
        release: "3".into(),
        category: None,
        content: content.into(),
        at: now(),
    }
}

fn filters() -> Vec<(Filter, bool)> {
    vec![("/oneM2M/req/+/Ca/#".into(), true)]
}

fn aes() -> Vec<String> {
    vec!["Ca".into()]
}

#[tokio::test]
async fn session_and_its_notifications_are_there_after_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.redb");
    let (sessions, waiting) = DurableSessions::open(&path, DAY).unwrap();
    assert!(waiting.is_empty());
    let a = credential("a");
    assert_eq!(sessions.resume(&a, "lamp".into(), false), None);
    assert!(sessions.subscribe(&a, "lamp", filters(), aes()).wait().await);
    for number in 1..=3 {
        assert!(sessions.put(number, notification("{}")).wait().await);
    }
    sessions.remove(2);
    assert!(sessions.put(4, notification("{}")).wait().await);
    // The thread closes the file when it has written everything.
    drop(sessions);
    let (sessions, waiting) = loop {
        match DurableSessions::open(&path, DAY) {
            Ok(opened) => break opened,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(waiting.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 3, 4]);
    assert!(sessions.take_requests(&a) && !sessions.take_requests(&credential("b")));
    assert_eq!(sessions.holder("Ca", None), Some(a.clone()));
    assert_eq!(sessions.holder("Cb", None), None);
    // Another credential has a session with the same AE-ID.
    let b = credential("b");
    sessions.resume(&b, "lamp".into(), false);
    assert!(sessions.subscribe(&b, "lamp", filters(), aes()).wait().await);
    for its in [&a, &b] {
        assert_eq!(sessions.holder("Ca", Some(&its.to_string())).as_ref(), Some(its));
    }
    assert_eq!(sessions.holder("Ca", Some("12-c@b.c")), None);
    let resumed = sessions.resume(&a, "lamp".into(), false).unwrap();
    assert_eq!(resumed.filters, filters());
    assert_eq!(sessions.resume(&credential("c"), "lamp".into(), false), None);
    // A clean session ends it.
    assert_eq!(sessions.resume(&a, "lamp".into(), true), None);
    assert_eq!(sessions.resume(&a, "lamp".into(), false), None);
    assert!(!sessions.take_requests(&a));
}

#[tokio::test]
async fn sessions_of_credential_are_bounded_and_expire() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.redb");
    let (sessions, _) = DurableSessions::open(&path, DAY).unwrap();
    let a = credential("a");
    for n in 0..MAX_PER_CREDENTIAL + 5 {
        sessions.resume(&a, n.to_string().into(), false);
        sessions.leave(&a, &n.to_string());
    }
    assert_eq!(sessions.sessions()[&a].len(), MAX_PER_CREDENTIAL);
    assert!(sessions.resume(&a, (MAX_PER_CREDENTIAL + 4).to_string().into(), false).is_some());
    let path = folder.path().join("short.redb");
    let (sessions, _) = DurableSessions::open(&path, Duration::ZERO).unwrap();
    sessions.resume(&a, "lamp".into(), false);
    sessions.subscribe(&a, "lamp", filters(), aes());
    assert!(sessions.take_requests(&a));
    sessions.expire();
    assert!(sessions.take_requests(&a), "its client is connected");
    sessions.leave(&a, "lamp");
    assert!(!sessions.take_requests(&a));
    sessions.expire();
    assert!(sessions.sessions().is_empty());
    assert_eq!(sessions.resume(&a, "lamp".into(), false), None);
}
