//! Detection of manipulated audit logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Light, Request, Setup, saegis, wait_until,
};

use super::audit::{lines, small, verify};

/// Returns a stopped gateway with an audit log of several files.
fn stopped_with_audit_log() -> (Gateway, Vec<PathBuf>) {
    let mut gateway = small().with("limits", "associations-per-credential = 1000").start();
    let unknown = Credential { identity: "nobody@in.provider.com", ..LIGHT1 };
    for n in 0..80 {
        let credential = if n % 2 == 0 { LIGHT1 } else { LIGHT2 };
        Light::connect(gateway.port(), credential).unwrap().close();
        assert!(Light::connect(gateway.port(), unknown).is_err());
    }
    gateway.stop();
    let newest = gateway.path("audit/trail.jsonl");
    let files = vec![newest.with_extension("jsonl.1"), newest];
    assert!(files.iter().all(|file| file.is_file()), "the file was rotated");
    (gateway, files)
}

fn write(file: &Path, lines: &[String]) {
    fs::write(file, lines.join("\n") + "\n").unwrap();
}

/// A manipulation of one of two files of an audit log.
struct Tampering {
    what: &'static str,
    file: usize,
    edited: Vec<String>,
    /// File and line at which it is detected.
    place: String,
}

/// Returns a manipulation of each kind.
fn tamperings(whole: &[Vec<String>], named: [&str; 2]) -> Vec<Tampering> {
    type Edit<'e> = &'e dyn Fn(&mut Vec<String>);
    let changed = |line: &mut String| *line = line.replace("\"message\":\"", "\"message\":\"no ");
    let made_up = |like: &str| like.replace("established", "ended").replace("refused", "ended");
    let tampering = |what, file: usize, place: (usize, u64), edit: Edit<'_>| {
        let mut edited = whole[file].clone();
        edit(&mut edited);
        Tampering { what, file, edited, place: format!("{}:{}", named[place.0], place.1) }
    };
    vec![
        tampering("a change", 1, (1, 6), &|l| changed(&mut l[4])),
        tampering("a cut", 1, (1, 5), &|l| drop(l.drain(4..6))),
        tampering("an insertion", 1, (1, 6), &|l| l.insert(4, made_up(&l[4]))),
        tampering("a line of no trail", 1, (1, 5), &|l| l.insert(4, "{}".into())),
        tampering("a copy", 1, (1, 10), &|l| l.insert(9, l[4].clone())),
        tampering("a reordering", 1, (1, 5), &|l| l.swap(4, 5)),
        tampering("a new start", 1, (1, 5), &|l| l[4] = made_up(&whole[0][0])),
        tampering("a cut between files", 0, (1, 1), &|l| drop(l.pop())),
        tampering("a cut at the start of a file", 1, (1, 1), &|l| drop(l.remove(0))),
        tampering("a change in an old file", 0, (0, 4), &|l| changed(&mut l[2])),
    ]
}

#[test]
fn manipulated_audit_log_is_reported_with_position() {
    let (gateway, files) = stopped_with_audit_log();
    let whole: Vec<_> = files.iter().map(|file| lines(file)).collect();
    let found = verify(&gateway, &["--json"]).expect(0).json();
    assert_eq!(found["whole"], true);
    let first = &found["trails"][0];
    assert_eq!(first["lines"], whole[0].len() + whole[1].len());
    assert_eq!(first["begins"], true, "the first line starts a chain");
    let named = ["audit/trail.jsonl.1", "audit/trail.jsonl"];
    // The order of the arguments does not matter. Without the older file, the first digest cannot
    // be checked.
    verify(&gateway, &[named[1], named[0]]).expect(0);
    let newer = verify(&gateway, &[named[1], "--json"]).expect(0).json();
    assert_eq!(newer["trails"][0]["begins"], false);

    for Tampering { what, file, edited, place } in tamperings(&whole, named) {
        write(&files[file], &edited);
        let ran = verify(&gateway, &[]).expect(1);
        assert!(ran.err.contains(&format!("{place}: ")), "{what} is not at {place}: {ran:?}");
        let found = verify(&gateway, &["--json"]).expect(1).json();
        assert_eq!((&found["whole"], &found["trails"][0]["whole"]), (&false.into(), &false.into()));
        let fault = &found["trails"][0]["faults"][0];
        assert_eq!(
            format!("{}:{}", fault["file"].as_str().unwrap(), fault["line"]),
            place,
            "{what}"
        );
        write(&files[file], &whole[file]);
    }
    verify(&gateway, &[]).expect(0);

    // Truncation at the end is detected by a noted digest.
    let head = first["head"].as_str().unwrap();
    verify(&gateway, &["--head", head]).expect(0);
    write(&files[1], &whole[1][..whole[1].len() - 1]);
    verify(&gateway, &[]).expect(0);
    let ran = verify(&gateway, &["--head", head]).expect(1);
    assert!(ran.err.contains("removed at the end"), "{ran:?}");
    // A recreated chain is detected by it as well.
    fs::remove_file(&files[0]).unwrap();
    verify(&gateway, &["--head", first["head"].as_str().unwrap()]).expect(1);

    for (arguments, what) in [
        (&["nothing.jsonl"][..], "nothing.jsonl: cannot be read"),
        (&["audit"], "is not a regular file"),
        (&["--head", "abc"], "64 hexadecimal digits"),
    ] {
        let ran = verify(&gateway, arguments).expect(2);
        assert!(ran.err.contains(what), "{ran:?}");
    }
}

/// A missing rotated file is detected, whether it is the oldest or between two others.
#[test]
fn missing_rotated_audit_file_is_reported() {
    let setup = Setup::new()
        .with("audit", "file = \"audit/trail.jsonl\"\nfile-bytes = 65536\nretained-files = 4")
        .with("limits", "associations-per-credential = 1000");
    let mut gateway = setup.start();
    let file = gateway.path("audit/trail.jsonl");
    let old = |n: u64| file.with_extension(format!("jsonl.{n}"));
    let unknown = Credential { identity: "nobody@in.provider.com", ..LIGHT1 };
    for _ in 0..120 {
        for credential in [LIGHT1, LIGHT2] {
            Light::connect(gateway.port(), credential).unwrap().close();
        }
        assert!(Light::connect(gateway.port(), unknown).is_err());
    }
    gateway.stop();
    assert!(old(3).is_file() && !old(4).is_file(), "the file was rotated three times");
    verify(&gateway, &[]).expect(0);
    let hidden = gateway.path("hidden");
    for (gone, at) in [
        (2, "audit/trail.jsonl.1:1: "),
        (1, "audit/trail.jsonl:1: "),
        (3, "audit/trail.jsonl.2:1: "),
    ] {
        fs::rename(old(gone), &hidden).unwrap();
        let ran = verify(&gateway, &[]).expect(1);
        assert!(ran.err.contains(at), "{ran:?}");
        fs::rename(&hidden, old(gone)).unwrap();
    }
    verify(&gateway, &[]).expect(0);
}

#[test]
fn chain_continues_after_kill_and_torn_line() {
    let gateway = small().start();
    let file = gateway.path("audit/trail.jsonl");
    Light::connect(gateway.port(), LIGHT1).unwrap().close();
    wait_until("the association's end", || {
        lines(&file).iter().any(|l| l.contains("association.ended"))
    });
    let status = saegis(&gateway.path(""), &["status", "--json"]).expect(0).json();
    let head = status["audit_head"].as_str().unwrap().to_string();
    verify(&gateway, &["--head", &head]).expect(0);
    let mut gateway = gateway.kill_and_restart();
    verify(&gateway, &["--head", &head]).expect(0);
    gateway.signal("KILL");
    gateway.wait();

    // Truncated at different positions, as by a kill.
    let before = fs::read(&file).unwrap();
    for rest in [1, 40, 100] {
        let last = before[..before.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        fs::write(&file, &before[..last + rest]).unwrap();
        let torn = verify(&gateway, &["--json"]).expect(0).json();
        let note = &torn["trails"][0]["notes"][0];
        assert!(note["what"].as_str().unwrap().contains("is incomplete"), "{torn}");
        gateway = gateway.start_in_same_folder();
        gateway.stop();
        let ran = verify(&gateway, &[]).expect(0);
        assert!(ran.out.contains("is incomplete"), "{ran:?}");
        // A modified torn line breaks the chain.
        let text = fs::read(&file).unwrap();
        let mut changed = text.clone();
        changed[last] ^= 1;
        fs::write(&file, changed).unwrap();
        verify(&gateway, &[]).expect(1);
        fs::write(&file, text).unwrap();
        // A file truncated between two runs is not a torn line.
        fs::write(&file, &before).unwrap();
    }

    // After a rotation, the first line of the new file names the last digest of the old one.
    fs::rename(&file, file.with_extension("jsonl.1")).unwrap();
    let mut gateway = gateway.start_in_same_folder();
    gateway.stop();
    let found = verify(&gateway, &["--json", "--head", &head]).expect(0).json();
    assert_eq!(found["trails"][0]["files"].as_array().unwrap().len(), 2);
}

/// A long text in a policy file is truncated in the log. A gateway starts after a long line of an
/// earlier version.
#[test]
fn gateway_starts_after_long_audit_line() {
    let gateway = Setup::new().with("audit", "file = \"audit/trail.jsonl\"").start();
    let file = gateway.path("audit/trail.jsonl");
    let refused = |lines: &[String]| lines.iter().any(|l| l.contains("generation.refused"));
    gateway.refused_after("unknown", |gateway| {
        let long = format!("{} = 1\n", "k".repeat(40_000));
        gateway.write("policies/service-subscription.toml", long);
    });
    wait_until("a line about it", || refused(&lines(&file)));
    assert!(lines(&file).iter().all(|line| line.len() < 20_000));
    fs::remove_file(gateway.path("policies/service-subscription.toml")).unwrap();
    saegis(&gateway.path(""), &["reload"]).expect(0);
    let mut gateway = gateway.kill_and_restart();
    gateway.stop();
    verify(&gateway, &[]).expect(0);
    // The earlier version has written the line completely, or was killed while writing it.
    for end in ["\n", ""] {
        let mut text = fs::read_to_string(&file).unwrap();
        let last = openssl::sha::sha256(text.lines().last().unwrap().as_bytes());
        let digest: String = last.iter().map(|byte| format!("{byte:02x}")).collect();
        let why = "k".repeat(80_000);
        text += &format!("{{\"chain\":\"{digest}\",\"event\":\"x\",\"why\":\"{why}\"}}{end}");
        fs::write(&file, &text).unwrap();
        verify(&gateway, &[]).expect(0);
        gateway = gateway.start_in_same_folder();
        gateway.stop();
        verify(&gateway, &[]).expect(0);
        // The long line is part of the chain.
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, whole.replacen("kkk\"}", "kkx\"}", 1)).unwrap();
        verify(&gateway, &[]).expect(1);
        fs::write(&file, whole).unwrap();
    }
}

/// Rotates a file like logrotate with `create`, `compress` and a `postrotate` script that sends
/// SIGHUP.
fn logrotate(gateway: &Gateway, file: &Path, n: usize) -> PathBuf {
    let rotated = file.with_extension(format!("jsonl.r{n}"));
    fs::rename(file, &rotated).unwrap();
    fs::File::create(file).unwrap();
    gateway.signal("HUP");
    // The duration of a script after a rotation.
    thread::sleep(Duration::from_millis(20));
    assert!(Command::new("gzip").arg(&rotated).status().unwrap().success());
    rotated
}

/// Returns whether the gateway has a file open.
fn has_open(gateway: &Gateway, file: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", gateway.id())).unwrap();
    let mut links = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    links.any(|link| link == file)
}

#[test]
fn logrotate_loses_no_line() {
    // Large enough that the gateway does not rotate the file itself.
    let mut gateway = Setup::new()
        .with("audit", "file = \"audit/trail.jsonl\"")
        .with("decisions", "record = \"audit/decisions.jsonl\"")
        .with_metrics()
        .start();
    let file = gateway.path("audit/trail.jsonl");
    let stop = AtomicBool::new(false);
    let mut rotated = Vec::new();
    thread::scope(|scope| {
        let port = gateway.port();
        let stop = &stop;
        let traffic = scope.spawn(move || {
            let mut times = 0;
            while !stop.load(Ordering::Relaxed) {
                Light::connect(port, if times % 2 == 0 { LIGHT1 } else { LIGHT2 }).unwrap().close();
                times += 1;
            }
            times
        });
        for n in 0..10 {
            thread::sleep(Duration::from_millis(60));
            rotated.push(logrotate(&gateway, &file, n));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(traffic.join().unwrap() > 0);
    });
    // A moved file is closed even if nothing is written.
    for name in ["trail", "trail-refusals", "decisions"] {
        let file = gateway.path(&format!("audit/{name}.jsonl"));
        let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
        let other = Request::retrieve("/cse/x").from("Clight-AE2");
        light.ask(&other).unwrap().expect_refusal(403, 4106);
        wait_until("the file is open", || has_open(&gateway, &file));
        let moved = gateway.path(&format!("audit/{name}.moved"));
        fs::rename(&file, &moved).unwrap();
        gateway.signal("HUP");
        wait_until("the file is closed", || !has_open(&gateway, &moved));
    }
    assert_eq!(gateway.monitor("/metrics").value("saegis_audit_lines_lost_total"), 0.0);
    gateway.stop();
    let mut files = vec![file, gateway.path("audit/trail.moved")];
    for file in &rotated {
        assert!(Command::new("gunzip").arg(file).status().unwrap().success());
        files.push(file.clone());
    }
    let files: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
    verify(&gateway, &files).expect(0);
}
