use super::super::{Answer, Question, Stores};

/// Size of an entry with a key and a value of one byte each.
const ONE: u64 = 34;

fn set(key: &str, value: &str) -> Question {
    Question::Set(vec![(key.into(), value.into())])
}

async fn value(store: &super::super::Store, key: &str) -> Option<String> {
    match store.ask(Question::Get(vec![key.into()])).await {
        Answer::Values(values) => {
            values.into_iter().next().flatten().map(|value| String::from_utf8(value).unwrap())
        }
        _ => panic!("no value"),
    }
}

async fn fails(store: &super::super::Store, question: Question) -> String {
    match store.ask(question).await {
        Answer::Failed(why) => why,
        _ => panic!("it did not fail"),
    }
}

#[tokio::test]
async fn quota_counts_each_byte() {
    let stores = Stores::in_memory();
    let store = stores.of("m", 2 * ONE);
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "")] {
        assert!(matches!(store.ask(set(key, value)).await, Answer::Done), "{key} {value}");
    }
    assert!(matches!(store.ask(set("b", "4")).await, Answer::Done));
    let full = "the quota of 68 bytes is reached";
    assert_eq!(fails(&store, set("b", "55")).await, full);
    assert_eq!(fails(&store, set("c", "")).await, full);
    assert_eq!(fails(&store, Question::Increment("c".into(), 1)).await, full);
    assert_eq!(value(&store, "b").await.as_deref(), Some("4"));
    assert!(matches!(store.ask(Question::Delete(vec!["a".into()])).await, Answer::Done));
    assert!(matches!(store.ask(Question::Increment("c".into(), 9)).await, Answer::Number(9)));
    assert_eq!(fails(&store, Question::Increment("c".into(), 1)).await, full, "10 is longer");
    // With a lower quota it may shrink, but not grow.
    let store = stores.of("m", 1);
    assert!(matches!(store.ask(set("b", "")).await, Answer::Done));
    assert!(fails(&store, set("b", "x")).await.contains("of 1 bytes"));
}

#[tokio::test]
async fn keys_come_in_pages_and_each_once() {
    let store = Stores::in_memory().of("m", 1 << 20);
    for n in 0..600 {
        store.ask(set(&format!("{n:03}"), "")).await;
    }
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let Answer::Keys { keys, next } = store.ask(Question::Keys { from: at }).await else {
            panic!("no keys")
        };
        assert!(keys.len() <= 256);
        all.extend(keys);
        from = next;
    }
    assert_eq!(all, (0..600).map(|n| format!("{n:03}")).collect::<Vec<_>>());
    let answer = store.ask(Question::Keys { from: u64::MAX }).await;
    assert!(matches!(answer, Answer::Keys { keys, next: None } if keys.is_empty()));
}

#[tokio::test]
async fn non_number_is_not_incremented() {
    let store = Stores::in_memory().of("m", 1 << 20);
    store.ask(set("a", "x")).await;
    assert!(fails(&store, Question::Increment("a".into(), 1)).await.contains("not a number"));
    store.ask(set("a", &u64::MAX.to_string())).await;
    assert!(fails(&store, Question::Increment("a".into(), 1)).await.contains("too large"));
}

#[tokio::test]
async fn damaged_store_on_disk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stores");
    {
        let store = Stores::in_folder(path.clone()).of("m", 1 << 20);
        store.ask(set("a", "1")).await;
    }
    // The thread that has opened it ends with the store.
    let store = loop {
        let store = Stores::in_folder(path.clone()).of("m", 1 << 20);
        if matches!(store.ask(Question::Keys { from: 0 }).await, Answer::Keys { .. }) {
            break store;
        }
    };
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
    std::fs::write(path.join("bad.redb"), "rubbish").unwrap();
    let store = Stores::in_folder(path).of("bad", 1 << 20);
    assert!(fails(&store, Question::Keys { from: 0 }).await.contains("cannot be opened"));
    assert!(fails(&store, set("a", "1")).await.contains("cannot be opened"));
}
