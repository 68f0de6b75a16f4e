//! The gateway's files and memory are private, whatever the umask and the previous modes are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use saegis_tests::{Gateway, LIGHT1, Light, Mark, Request, Setup, eventually, saegis};

/// Starts the gateway with a umask that removes no permission.
const WITHOUT_UMASK: [&str; 4] = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns a folder and its whole content.
fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_path_buf()];
    let mut at = 0;
    while at < found.len() {
        if fs::symlink_metadata(&found[at]).unwrap().is_dir() {
            let entries = fs::read_dir(&found[at]).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    found
}

#[track_caller]
fn assert_private(folder: &Path) {
    for path in all(folder) {
        let mode = mode(&path);
        assert_eq!(mode & 0o077, 0, "{} has the mode {mode:o}", path.display());
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Enables every file that the gateway writes: stores, audit log, recording, compiled code, keys
/// and sockets.
fn with_all_files(setup: Setup) -> Setup {
    setup
        .without_state()
        .with("audit", "file = \"state/audit.jsonl\"")
        .with("decisions", "record = \"state/decisions.jsonl\"")
        .with("modules.grants", "io-probe = [\"outgoing-http\", \"key-value\", \"config\"]")
        .with("modules.outgoing-http.io-probe", "hosts = [\"http://127.0.0.1:1\"]")
        .with("modules.key-value.io-probe", "quota-bytes = 1000")
        .with("modules.config.io-probe", "values = { color = \"green\" }")
        .module(
            "io-probe",
            "order = 9\ncapabilities = [\"outgoing-http\", \"key-value\", \"config\"]\n",
        )
}

#[test]
fn files_are_private_with_any_umask() {
    let gateway = with_all_files(Setup::new()).started_through(&WITHOUT_UMASK).start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    let state = gateway.path("state");
    let names = ["cse.redb", "ae-ids.redb", "admin.sock", "audit.jsonl", "decisions.jsonl"];
    for name in names {
        assert!(state.join(name).exists(), "{name}");
    }
    assert!(all(&state.join("code-cache")).iter().any(|path| path.is_file()));
    assert_private(&state);
}

/// Other commands compile modules as well, and cache the code for the gateway.
#[test]
fn files_of_other_commands_are_private() {
    let setup = Setup::new();
    setup.configuration();
    setup.write("none.jsonl", b"");
    for verb in [&["check"][..], &["decisions", "replay", "none.jsonl"]] {
        saegis(&setup.path(""), verb).expect(0);
        assert_private(&setup.path("state"));
        fs::remove_dir_all(setup.path("state")).unwrap();
    }
}

#[test]
fn notification_key_and_maf_store_are_private() {
    let gateway = Setup::new()
        .without_state()
        .upstream(1)
        .with("upstream", "notification-listen = \"127.0.0.1:0\"")
        .started_through(&WITHOUT_UMASK)
        .start();
    assert!(gateway.path("state/notifications.key").exists());
    assert_private(&gateway.path("state"));
    let mut maf =
        Setup::maf("maf.in.provider.com").without_state().started_through(&WITHOUT_UMASK).start();
    let store = maf.path("state/maf.redb");
    assert_eq!(mode(&store), 0o600);
    assert_private(&maf.path("state"));
    maf.stop();
    set(&store, 0o644);
    let maf = maf.start_in_same_folder();
    assert_eq!(mode(&store), 0o600);
    let changed = maf.log().wait("state.mode-changed");
    assert!(changed.text("path").ends_with("state/maf.redb"), "{changed:?}");
}

#[test]
fn readable_state_files_are_made_private() {
    let mut gateway = with_all_files(Setup::new()).start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    gateway.stop();
    let state = gateway.path("state");
    fs::write(state.join("audit.jsonl.1"), "{}\n").unwrap();
    let before = all(&state);
    for path in &before {
        set(path, if path.is_dir() { 0o755 } else { 0o644 });
    }
    let gateway = gateway.start_in_same_folder();
    assert_private(&state);
    let reported = gateway.log().all(Mark::START, "state.mode-changed", before.len());
    assert_eq!(reported.len(), before.len(), "{reported:?}");
    assert!(reported[0].message().contains("the mode was"), "{reported:?}");
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let own = Request::retrieve("/cse/light1").from("Clight-AE1");
    light.ask(&own).unwrap().expect(200, 2000);
    // A second start changes no mode.
    let gateway = gateway.restart();
    assert_eq!(gateway.log().all(Mark::START, "state.mode-changed", 0).len(), 0);
}

/// Returns a stopped gateway.
fn stopped_gateway() -> Gateway {
    let mut gateway = Setup::new().start();
    gateway.stop();
    gateway
}

#[track_caller]
fn assert_does_not_start(gateway: &Gateway, file: &str, why: &str) {
    for verb in ["run", "check"] {
        let ran = saegis(&gateway.path(""), &[verb]).expect(2);
        let reported = ran.err.lines().any(|line| line.contains(file) && line.contains(why));
        assert!(reported, "{verb}: {ran:?}");
    }
}

#[test]
fn writable_state_files_are_refused() {
    let written = "can be written by others";
    for (name, bad, why) in [
        ("state/cse.redb", 0o666, written),
        ("state/ae-ids.redb", 0o602, written),
        ("state", 0o777, written),
        ("state/code-cache", 0o770, written),
    ] {
        let gateway = stopped_gateway();
        let path = gateway.path(name);
        set(&path, bad);
        assert_does_not_start(&gateway, name, why);
        assert_eq!(mode(&path), bad);
    }
}

#[test]
fn state_file_of_other_user_is_refused() {
    if !is_root() {
        return;
    }
    let gateway = stopped_gateway();
    chown(gateway.path("state/cse.redb"), Some(65534), None).unwrap();
    assert_does_not_start(&gateway, "state/cse.redb", "belongs to another user");
}

/// An earlier version used other file names. The gateway does not silently start with empty stores.
#[test]
fn store_of_earlier_version_is_refused() {
    for (name, former) in [("cse.redb", "registrar.redb"), ("ae-ids.redb", "bindings.redb")] {
        let gateway = stopped_gateway();
        let (name, former) = (format!("state/{name}"), format!("state/{former}"));
        fs::rename(gateway.path(&name), gateway.path(&former)).unwrap();
        let ran = saegis(&gateway.path(""), &["run"]).expect(2);
        let is_named = |file: &str| ran.err.contains(file);
        assert!(is_named(&name) && is_named(&former) && ran.err.contains("rename"), "{ran:?}");
        assert!(!gateway.path(&name).exists(), "{name}");
        fs::rename(gateway.path(&former), gateway.path(&name)).unwrap();
        gateway.start_in_same_folder().stop();
    }
}

/// Runs a program as the gateway's user without root's capabilities.
const SAME_USER: [&str; 3] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

#[test]
fn process_is_not_dumpable() {
    let gateway = Setup::new().started_through(&SAME_USER).start();
    let of = |pid: u32, file: &str| {
        let [program, arguments @ ..] = SAME_USER;
        let file = format!("/proc/{pid}/{file}");
        Command::new(program).args(arguments).args(["cat", &file]).output().unwrap()
    };
    let limits = String::from_utf8(of(gateway.id(), "limits").stdout).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // Other processes of the same user are dumpable.
    let [program, arguments @ ..] = SAME_USER;
    let mut other = Command::new(program).args(arguments).args(["sleep", "60"]).spawn().unwrap();
    let readable = |pid: u32| of(pid, "environ").status.success();
    // The program becomes readable after it has dropped its capabilities.
    let begun = std::time::Instant::now();
    while !readable(other.id()) && begun.elapsed() < saegis_tests::BOUND {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let other_is_readable = readable(other.id());
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(other_is_readable);
    for file in ["environ", "maps"] {
        let read = of(gateway.id(), file);
        assert!(!read.status.success() && read.stdout.is_empty(), "{file}: {read:?}");
    }
    // The gateway works as usual.
    Light::connect(gateway.port(), LIGHT1).unwrap().close();
}

/// Runs the gateway with a limit of locked memory, and without the capability to exceed it.
fn with_locked_memory_limit(limit: &str) -> Setup {
    let limit = format!("--memlock={limit}");
    let without_right = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
    let right: &[&str] = if is_root() { &without_right } else { &[] };
    Setup::new().started_through(&[right, &["prlimit", &limit]].concat())
}

/// Returns the locked memory of a gateway in KiB.
fn locked_memory(gateway: &Gateway) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    locked.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn wait_for_locked_memory(gateway: &Gateway, fits: impl Fn(usize) -> bool) {
    eventually(|| {
        let locked = locked_memory(gateway);
        if fits(locked) { Ok(()) } else { Err(format!("{locked} KiB are locked")) }
    });
}

/// The keys of a table are in locked memory while the table is in force, in as many pages as
/// needed. The gateway raises the soft limit to the hard limit.
#[test]
fn table_keys_are_in_locked_memory() {
    const ROWS: usize = 20_000;
    let gateway = with_locked_memory_limit("0:8388608").start();
    let table = gateway.table();
    let few = locked_memory(&gateway);
    assert!((1..=256).contains(&few), "{few} KiB are locked");
    let row = |n| format!("C{n:07},0011223344556677{n:016x},light{n:07}@in.provider.com\n");
    let many = table.clone() + &(0..ROWS).map(row).collect::<String>();
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", &many));
    // Each row needs at least the 16 bytes of its key and at most the length of its text.
    let bounds = few + ROWS * 16 / 1024..=few + many.len() / 1024 + 1;
    wait_for_locked_memory(&gateway, |now| bounds.contains(&now));
    Light::connect(gateway.port(), LIGHT1).unwrap();
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", &table));
    wait_for_locked_memory(&gateway, |now| now == few);
    assert!(gateway.log().all(Mark::START, "policy.key-lock-failed", 0).is_empty());
}

/// If memory cannot be locked, the gateway works, and its log names the limit.
#[test]
fn failed_memory_lock_is_a_warning() {
    let gateway = with_locked_memory_limit("0:0").start();
    let warning = gateway.log().wait("policy.key-lock-failed");
    assert_eq!(warning.text("level"), "WARN");
    for part in ["psk-lookup-table.csv", "1 KiB", "RLIMIT_MEMLOCK", "LimitMEMLOCK="] {
        assert!(warning.message().contains(part), "{}", warning.message());
    }
    assert_eq!(locked_memory(&gateway), 0);
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
}

/// A pool of sandboxes reserves terabytes of addresses. Without it, the gateway works where addresses
/// and writable memory are limited. `RLIMIT_DATA` limits the mappings that `vm.overcommit_memory=2`
/// counts.
#[test]
fn gateway_works_with_limited_addresses_and_memory() {
    let limited =
        |setup: Setup| setup.started_through(&["prlimit", "--as=1000000000", "--data=67108864"]);
    let ran = limited(Setup::new()).run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("set modules.pool = false"), "{ran:?}");
    let gateway = limited(Setup::new().with("modules", "pool = false")).start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    light
        .ask(&Request::retrieve("/cse/light1").from("Clight-AE2"))
        .unwrap()
        .expect_refusal(403, 4106);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).unwrap().expect(200, 2000);
}
