use std::path::PathBuf;

use super::*;

fn credential(name: &str) -> CredentialId {
    CredentialId::parse(&format!("12-{name}@in.provider.com")).unwrap()
}

fn stem(text: &str) -> AeIdStem {
    AeIdStem::parse(text).unwrap()
}

fn bindings() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ae-ids.redb");
    (folder, path)
}

async fn bound(bindings: &AeIdStore, name: &str, to: &str) {
    let aside = bindings.reserve(&credential(name), Some(stem(to))).unwrap();
    aside.confirm(stem(to), vec![format!("cse/{name}"), to.into()]).await.unwrap();
}

#[tokio::test]
async fn confirmed_ae_ids_survive_restart() {
    let (_folder, path) = bindings();
    let first = AeIdStore::open(&path).unwrap();
    bound(&first, "a", "Cone").await;
    bound(&first, "b", "Ctwo").await;
    assert!(first.free(&credential("b")).await.unwrap().is_some());
    drop(first);
    let again = AeIdStore::open(&path).unwrap();
    assert_eq!(again.of(&credential("a")), Some(stem("Cone")));
    assert_eq!(again.of(&credential("b")), None);
    assert!(again.is_at(&credential("a"), "cse/a") && !again.is_at(&credential("b"), "cse/a"));
    assert_eq!(again.all().len(), 1);
}

#[tokio::test]
async fn ae_id_belongs_to_one_credential() {
    let (_folder, path) = bindings();
    let bindings = AeIdStore::open(&path).unwrap();
    bound(&bindings, "a", "Cone").await;
    let taken = bindings.reserve(&credential("b"), Some(stem("Cone"))).err();
    assert!(matches!(taken, Some(ReservationError::ByAnother)));
    // A registrar cannot assign it either.
    let aside = bindings.reserve(&credential("b"), None).unwrap();
    assert!(matches!(
        aside.confirm(stem("Cone"), Vec::new()).await,
        Err(ReservationError::ByAnother)
    ));
    assert_eq!(bindings.of(&credential("b")), None);
    assert_eq!(bindings.holder(&stem("Cone")), Some(credential("a")));
    // After its release it is available.
    bindings.free(&credential("a")).await.unwrap();
    bound(&bindings, "b", "Cone").await;
    assert!(bindings.is_at(&credential("b"), "Cone"));
}

#[tokio::test]
async fn credential_has_one_ae_id() {
    let (_folder, path) = bindings();
    let bindings = AeIdStore::open(&path).unwrap();
    bound(&bindings, "a", "Cone").await;
    for other in [Some(stem("Ctwo")), None] {
        let taken = bindings.reserve(&credential("a"), other).err();
        assert!(matches!(taken, Some(ReservationError::HasAnother)));
    }
    // Its own AE-ID may be registered again.
    bound(&bindings, "a", "Cone").await;
    assert_eq!(bindings.all().len(), 1);
}

#[tokio::test]
async fn reserved_ae_id_is_not_available() {
    let (_folder, path) = bindings();
    let bindings = AeIdStore::open(&path).unwrap();
    let aside = bindings.reserve(&credential("a"), Some(stem("Cone"))).unwrap();
    let taken = bindings.reserve(&credential("b"), Some(stem("Cone"))).err();
    assert!(matches!(taken, Some(ReservationError::ByAnother)));
    assert!(bindings.reserve(&credential("a"), None).is_err(), "one registration at a time");
    drop(aside);
    let aside = bindings.reserve(&credential("b"), Some(stem("Cone"))).unwrap();
    // The registrar assigns another one than requested.
    assert!(matches!(
        aside.confirm(stem("Ctwo"), Vec::new()).await,
        Err(ReservationError::HasAnother)
    ));
    assert_eq!((bindings.holder(&stem("Cone")), bindings.holder(&stem("Ctwo"))), (None, None));
    assert!(bindings.all().is_empty());
}

#[test]
fn invalid_ae_id_store_is_refused() {
    let (_folder, path) = bindings();
    std::fs::write(&path, "no bindings").unwrap();
    assert!(AeIdStore::open(&path).is_err());
}

#[tokio::test]
async fn missing_ae_id_store_is_not_recreated() {
    let (_folder, path) = bindings();
    let bindings = AeIdStore::open(&path).unwrap();
    bound(&bindings, "a", "Cone").await;
    std::fs::remove_file(&path).unwrap();
    bindings.file().suspect();
    let aside = bindings.reserve(&credential("b"), Some(stem("Ctwo"))).unwrap();
    assert!(matches!(aside.confirm(stem("Ctwo"), vec![]).await, Err(ReservationError::Failed(_))));
    assert!(!path.exists());
    assert_eq!(bindings.of(&credential("b")), None);
    assert_eq!(bindings.holder(&stem("Cone")), Some(credential("a")));
}

#[tokio::test]
async fn pending_registration_survives_restart() {
    let (_folder, path) = bindings();
    let asked = Intent::Register {
        stem: "Cone".into(),
        app_id: "Nx".into(),
        place: "cse/one".into(),
        at: 1_795_512_600,
    };
    let first = AeIdStore::open(&path).unwrap();
    let aside = first.reserve(&credential("a"), Some(stem("Cone"))).unwrap();
    assert_eq!(aside.earlier(), None);
    aside.intend(asked.clone()).await.unwrap();
    drop((aside, first));
    let again = AeIdStore::open(&path).unwrap();
    assert_eq!(again.of(&credential("a")), None);
    let aside = again.reserve(&credential("a"), Some(stem("Cone"))).unwrap();
    assert_eq!(aside.earlier(), Some(&asked));
    aside.settle().await.unwrap();
    drop((aside, again));
    let again = AeIdStore::open(&path).unwrap();
    let aside = again.reserve(&credential("a"), Some(stem("Cone"))).unwrap();
    assert_eq!(aside.earlier(), None);
    aside.intend(asked).await.unwrap();
    // A confirmed request is no longer pending.
    aside.confirm(stem("Cone"), vec![]).await.unwrap();
    let aside = again.reserve(&credential("a"), Some(stem("Cone"))).unwrap();
    assert_eq!(aside.earlier(), None);
}

#[tokio::test]
async fn ae_ids_per_credential_are_limited_for_a_time() {
    let (_folder, path) = bindings();
    let bindings = AeIdStore::open(&path).unwrap();
    bound(&bindings, "b", "Cother").await;
    let mut count = 0;
    while !bindings.has_too_many(&credential("a")) {
        bound(&bindings, "a", "Cone").await;
        bindings.free(&credential("a")).await.unwrap();
        count += 1;
        assert!(count < 1000);
    }
    assert!(count >= 32, "{count}");
    assert!(!bindings.has_too_many(&credential("b")));
    let later = Instant::now() + 2 * REFILL_INTERVAL;
    assert!(!bindings.maps().has_too_many(&credential("a"), later));
}
