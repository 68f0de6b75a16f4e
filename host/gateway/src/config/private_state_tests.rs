use std::os::unix::fs::symlink;

use super::*;

/// Creates a configuration in a folder of its own, with additional text.
fn configured(more: &str) -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saegis.toml");
    fs::write(&file, format!("[cse]\ncse-id = \"mn\"\n{more}")).unwrap();
    let config = Config::load(&file).unwrap();
    (folder, config)
}

fn make(path: &Path, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
    set(path, mode);
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn state_folder_and_content_become_private() {
    let (folder, config) = configured("");
    let state = folder.path().join("state");
    for (name, mode) in [("cse.redb", 0o644), ("key-value/a.redb", 0o664), ("mine", 0o600)] {
        make(&state.join(name), mode);
    }
    make(&folder.path().join("elsewhere"), 0o644);
    symlink("../elsewhere", state.join("link")).unwrap();
    set(&state, 0o755);
    let exposed = make_private(&config).unwrap();
    assert_eq!(exposed.len(), 4, "{exposed:?}");
    for name in ["cse.redb", "key-value/a.redb", "mine"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
    assert_eq!((mode(&state), mode(&state.join("key-value"))), (0o700, 0o700));
    assert_eq!(mode(&folder.path().join("elsewhere")), 0o644, "a link leads out of it");
    assert_eq!(make_private(&config).unwrap(), []);
}

#[test]
fn configured_files_elsewhere_become_private() {
    let more = "store = \"data/store\"\n[audit]\nfile = \"data/trail\"\n";
    let (folder, config) = configured(more);
    let data = folder.path().join("data");
    for name in ["store", "trail", "trail.1", "trailer", "other"] {
        make(&data.join(name), 0o644);
    }
    set(&data, 0o755);
    make_private(&config).unwrap();
    for (name, is) in [("store", 0o600), ("trail", 0o600), ("trail.1", 0o600)] {
        assert_eq!(mode(&data.join(name)), is, "{name}");
    }
    for (name, is) in [("trailer", 0o644), ("other", 0o644), ("", 0o755)] {
        assert_eq!(mode(&data.join(name)), is, "{name}");
    }
    for (mode, refused) in [(0o777, true), (0o1777, false), (0o775, false)] {
        set(&data, mode);
        let inspected = inspect(&config);
        assert_eq!(inspected.is_err(), refused, "{mode:o}: {inspected:?}");
    }
}

#[test]
fn writable_file_is_refused_without_change() {
    for (name, bad) in [
        ("cse.redb", 0o666),
        ("key-value/a.redb", 0o602),
        ("code-cache/a", 0o664),
        ("code-cache/a", 0o606),
    ] {
        let (folder, config) = configured("");
        let state = folder.path().join("state");
        make(&state.join(name), bad);
        make(&state.join("other"), 0o644);
        let Faults(faults) = make_private(&config).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].file, state.join(name));
        assert!(faults[0].what.contains("can be written by others"), "{faults:?}");
        assert_eq!((mode(&state.join(name)), mode(&state.join("other"))), (bad, 0o644));
    }
}
