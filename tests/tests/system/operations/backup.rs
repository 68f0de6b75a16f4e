//! `saegis backup` of a running gateway, and `saegis restore`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use saegis_tests::{LIGHT1, LIGHT2, Light, Request, Running, Setup, program, saegis, wait_until};
use serde_json::json;
use tempfile::TempDir;

/// The restored gateway has each change that was confirmed before the backup, although others were in
/// progress.
#[test]
fn backup_of_running_gateway_is_restored() {
    let mut gateway = Setup::new().with("audit", "file = \"state/audit.jsonl\"").start();
    let folder = gateway.path("");
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    light
        .ask(&Request::create_container("/cse/light1", "lamp").from("Clight-AE1"))
        .unwrap()
        .expect(201, 2001);
    let port = gateway.port();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let busy = std::thread::spawn(move || {
        let mut other = Light::connect(port, LIGHT2).unwrap();
        other.ask(&Request::create_ae("light2").from("Clight-AE2")).unwrap().expect(201, 2001);
        let mut requests = 0;
        while stopped.try_recv().is_err() {
            let name = format!("box{requests}");
            let request = Request::create_container("/cse/light2", &name).from("Clight-AE2");
            other.ask(&request).unwrap().expect(201, 2001);
            requests += 1;
        }
    });
    let archive = TempDir::new().unwrap();
    let file = archive.path().join("backup.tar.gz");
    let file_text = file.to_str().unwrap();
    // An interrupted backup left it behind.
    let left = folder.join("state/backup-0123456789abcdef");
    leave_copy(&left);
    let saved = saegis(&folder, &["backup", file_text]).expect(0);
    assert!(saved.out.contains("files of the running gateway; it contains keys"), "{saved:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    stop.send(()).unwrap();
    busy.join().unwrap();
    // Nothing is left behind, and nothing is overwritten.
    let left = fs::read_dir(folder.join("state")).unwrap();
    assert!(
        !left.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("backup-"))
    );
    assert_eq!(fs::read_dir(archive.path()).unwrap().count(), 1);
    assert!(saegis(&folder, &["backup", file_text]).expect(2).err.contains("exists"));
    let refused = saegis(&folder, &["restore", file_text, "--replace"]).expect(2);
    assert!(refused.err.contains("the gateway is running"), "{refused:?}");
    gateway.stop();
    let refused = saegis(&folder, &["restore", file_text]).expect(2);
    assert!(refused.err.contains("exists; move the old files away"), "{refused:?}");

    let other = TempDir::new().unwrap();
    let into = other.path().to_str().unwrap();
    saegis(&folder, &["restore", file_text, "--into", into]).expect(0);
    let folder = other.path().join(folder.canonicalize().unwrap().strip_prefix("/").unwrap());
    saegis(&folder, &["check"]).expect(0);
    let left = folder.join("state/backup-0123456789abcdef");
    leave_copy(&left);
    let mut command = std::process::Command::new(program());
    let restored = Running::start(command.arg("run").current_dir(&folder));
    wait_until("it answers", || saegis(&folder, &["status"]).code == 0);
    assert!(!left.exists(), "the start removes it");
    let text = restored.out.text();
    let (_, rest) = text.split_once("\n  TLS         127.0.0.1:").unwrap();
    let port = rest.lines().next().unwrap().parse().unwrap();
    let mut light = Light::connect(port, LIGHT1).unwrap();
    light.ask(&Request::retrieve("/cse/light1/lamp").from("Clight-AE1")).unwrap().expect(200, 2000);
}

fn leave_copy(folder: &Path) {
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("0"), "old").unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(folder.join("0"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// An archive cannot write outside of the folders that it names.
#[test]
fn foreign_archive_is_refused() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("0"), "evil").unwrap();
    for (folders, path) in
        [("/", "/../evil"), ("/a", "/evil"), ("/a", "/a/../evil"), ("/..", "/../evil")]
    {
        let content =
            json!({ "version": "1", "config": "/a", "folders": [folders], "files": { "0": path } });
        fs::write(folder.path().join("backup.json"), content.to_string()).unwrap();
        let packed = std::process::Command::new("tar")
            .args(["-czf", "a:b.tar.gz", "--force-local", "backup.json", "0"])
            .current_dir(folder.path())
            .status();
        assert!(packed.unwrap().success());
        let refused = saegis(folder.path(), &["restore", "a:b.tar.gz", "--into", "into"]).expect(2);
        assert!(refused.err.contains("names a file outside of it"), "{refused:?}");
        assert!(!folder.path().join("into").exists() && !folder.path().join("evil").exists());
    }
}

/// Links that the gateway could plant in its state folder lead to nothing that is read or written.
#[test]
fn links_in_state_folder_are_not_followed() {
    let folder = TempDir::new().unwrap();
    saegis(folder.path(), &["init", ".", "--demo"]).expect(0);
    let path = |name: &str| folder.path().join(name);
    fs::write(path("private"), "private").unwrap();
    let mut text = fs::read_to_string(path("saegis.toml")).unwrap();
    text.push_str("\n[decisions]\nrecord = \"state/decisions.jsonl\"\n");
    fs::write(path("saegis.toml"), text).unwrap();
    fs::create_dir_all(path("state")).unwrap();
    fs::write(path("state/decisions.jsonl"), "trail").unwrap();
    // A name with a colon is not that of a remote machine.
    saegis(folder.path(), &["backup", "a:b.tar.gz"]).expect(0);
    fs::remove_file(path("state/decisions.jsonl")).unwrap();
    symlink(path("private"), path("state/decisions.jsonl")).unwrap();
    let refused = saegis(folder.path(), &["backup", "b.tar.gz"]).expect(2);
    assert!(refused.err.contains("decisions.jsonl: is a symbolic link"), "{refused:?}");
    assert!(!path("b.tar.gz").exists() && !path(".b.tar.gz.partial").exists());
    saegis(folder.path(), &["restore", "a:b.tar.gz", "--replace"]).expect(0);
    assert_eq!(fs::read_to_string(path("private")).unwrap(), "private");
    assert!(path("state/decisions.jsonl").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(path("state/decisions.jsonl")).unwrap(), "trail");
}

/// A compromised gateway cannot have root remove a folder, read a file, or record another path.
#[test]
fn reply_of_compromised_gateway_is_checked() {
    let folder = TempDir::new().unwrap();
    saegis(folder.path(), &["init", ".", "--demo"]).expect(0);
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    let own = "state/backup-0123456789abcdef";
    for name in ["victim", "state", own, "state/backup-0", "victim/backup-0123456789abcdef"] {
        fs::create_dir_all(path(name)).unwrap();
        fs::write(path(name).join("0"), "private").unwrap();
    }
    fs::write(path("state/cse.redb"), "store").unwrap();
    symlink(path("victim/0"), path(own).join("1")).unwrap();
    let listener = UnixListener::bind(path("state/admin.sock")).unwrap();
    let (own, store) = (text(own), text("state/cse.redb"));
    let cases = [
        (text("victim"), None, "is not a file of its backup"),
        (text("state/backup-0"), None, "is not a file of its backup"),
        (text("victim/backup-0123456789abcdef"), None, "is not a file of its backup"),
        (format!("{own}/../../victim"), None, "is not a file of its backup"),
        (own.clone(), Some((text("victim/0"), store.clone())), "is not a file of its backup"),
        (own.clone(), Some((format!("{own}/../../victim/0"), store.clone())), "is not a file"),
        (own.clone(), Some((format!("{own}/0"), text("victim/0"))), "is not a file of its backup"),
        (own.clone(), Some((format!("{own}/1"), store.clone())), "is a symbolic link"),
    ];
    for (reported, copy, why) in cases {
        fs::create_dir_all(&own).unwrap();
        let copies: Vec<_> =
            copy.iter().map(|(copy, path)| json!({ "copy": copy, "path": path })).collect();
        let reply = json!({ "folder": reported, "copies": copies });
        let answered = std::thread::spawn({
            let listener = listener.try_clone().unwrap();
            move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                BufReader::new(&stream).read_line(&mut request).unwrap();
                stream.write_all(format!("{reply}\n").as_bytes()).unwrap();
            }
        });
        let refused = saegis(folder.path(), &["backup", "b.tar.gz"]).expect(2);
        answered.join().unwrap();
        assert!(refused.err.contains(why), "{why}: {refused:?}");
        assert_eq!(fs::read_to_string(path("victim/0")).unwrap(), "private");
        assert!(path("victim/backup-0123456789abcdef/0").exists() && !path("b.tar.gz").exists());
    }
}
