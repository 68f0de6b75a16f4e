//! An audit trail that nobody empties from outside, and nobody changes unseen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use saegis_tests::{
    BOUND, CommandOutput, Credential, Gateway, LIGHT1, LIGHT2, Light, Request, Setup, Tool,
    connect_from, saegis, wait_until,
};
use serde_json::Value;

/// A gateway whose trails hold little: 128 KiB each.
fn small() -> Setup {
    Setup::new()
        .with("audit", "file = \"audit/trail.jsonl\"")
        .with("audit", "file-bytes = 65536")
        .with("audit", "old-files = 1")
}

/// The lines of a trail and its old files, the oldest first.
fn trail(gateway: &Gateway, name: &str) -> Vec<Value> {
    let newest = gateway.path(&format!("audit/{name}"));
    let mut lines = Vec::new();
    for file in [newest.with_extension("jsonl.1"), newest] {
        let text = fs::read_to_string(file).unwrap_or_default();
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    lines
}

fn of<'l>(lines: &'l [Value], event: &str, credential: Credential<'_>) -> Vec<&'l Value> {
    let id = format!("12-{}", credential.identity);
    lines.iter().filter(|l| l["event"] == event && l["credential_id"] == *id).collect()
}

/// How many events of a credential were summed up.
fn summed(lines: &[Value], event: &str, credential: Credential<'_>) -> u64 {
    let sums = of(lines, "audit.repeated", credential).into_iter();
    sums.filter(|line| line["of"] == event).map(|line| line["count"].as_u64().unwrap()).sum()
}

fn verify(gateway: &Gateway, arguments: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), &[&["audit", "verify"], arguments].concat())
}

#[test]
fn refusals_drive_nothing_out_of_the_trail() {
    const TIMES: u64 = 3000;
    let mut gateway = small().start();
    // The evidence: who was in, and what they tried.
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::retrieve("/cse/x").from("Clight-AE2")).unwrap().expect_refusal(403, 4106);
    // As much as would fill both files several times, in two ways that are refused.
    let mut flood = Light::connect(gateway.port(), LIGHT2).unwrap();
    for _ in 0..TIMES {
        let request = Request::retrieve("/cse/x").from("Clight-AE1");
        flood.ask(&request).unwrap().expect_refusal(403, 4106);
    }
    for _ in 0..100 {
        let request = Request::retrieve("/cse/x").from("no originator");
        flood.ask(&request).unwrap().expect_refusal(400, 4000);
    }
    gateway.stop();
    let (events, refusals) =
        (trail(&gateway, "trail.jsonl"), trail(&gateway, "trail-refusals.jsonl"));
    for credential in [LIGHT1, LIGHT2] {
        assert_eq!(of(&events, "association.established", credential).len(), 1);
        assert_eq!(of(&events, "association.ended", credential).len(), 1);
    }
    assert!(of(&events, "request.refused", LIGHT1).is_empty(), "they have a file of their own");
    assert_eq!(of(&refusals, "request.refused", LIGHT1).len(), 1);
    // None is passed over: each was written, or is in a sum with its cause and its time.
    let written = of(&refusals, "request.refused", LIGHT2);
    assert!(written.len() < 1000, "{} lines", written.len());
    assert_eq!(written.len() as u64 + summed(&refusals, "request.refused", LIGHT2), TIMES + 100);
    let sums = of(&refusals, "audit.repeated", LIGHT2);
    for cause in ["4000", "4106"] {
        let sum = sums.iter().find(|sum| sum["cause"] == cause).unwrap();
        assert!(sum["since"].as_str() <= sum["until"].as_str(), "{sum}");
    }
    let ran = verify(&gateway, &[]).expect(0);
    assert!(ran.out.contains("trail.jsonl") && ran.out.contains("trail-refusals.jsonl"), "{ran:?}");
}

/// Nor does whoever may come in, by doing so again and again.
#[test]
fn reconnecting_drives_nothing_out_of_the_trail() {
    const TIMES: u64 = 700;
    let mut gateway = small().start();
    let light = Light::connect(gateway.port(), LIGHT1).unwrap();
    gateway.log().wait("association.established");
    for _ in 0..TIMES {
        Light::connect(gateway.port(), LIGHT2).unwrap().close();
    }
    drop(light);
    gateway.stop();
    let events = trail(&gateway, "trail.jsonl");
    assert_eq!(of(&events, "association.established", LIGHT1).len(), 1);
    for event in ["association.established", "association.ended"] {
        let written = of(&events, event, LIGHT2).len() as u64;
        assert!(written < 400, "{written} {event}");
        assert_eq!(written + summed(&events, event, LIGHT2), TIMES, "{event}");
    }
    verify(&gateway, &[]).expect(0);
}

/// Refused handshakes are summed up by the address that they come from.
#[test]
fn refused_handshakes_drive_nothing_out_of_the_trail() {
    const TIMES: u64 = 1500;
    let mut gateway = small().with("limits", "failed-handshakes-per-minute = 100000").start();
    Light::connect(gateway.port(), LIGHT1).unwrap().close();
    let unknown = Credential { identity: "nobody@in.provider.com", ..LIGHT1 };
    for _ in 0..TIMES {
        assert!(Light::connect(gateway.port(), unknown).is_err());
    }
    gateway.stop();
    let events = trail(&gateway, "trail.jsonl");
    assert_eq!(of(&events, "association.established", LIGHT1).len(), 1);
    let written = events.iter().filter(|line| line["event"] == "handshake.refused").count();
    assert!(written < 1000, "{written}");
    let sums = events.iter().filter(|line| line["of"] == "handshake.refused");
    let summed: u64 = sums
        .map(|line| {
            assert_eq!((&line["peer"], &line["cause"]), (&"127.0.0.1".into(), &"identity".into()));
            line["count"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(written as u64 + summed, TIMES);
}

/// A credential without an AE-ID in the table.
const NEW: Credential<'static> =
    Credential { identity: "new-1@in.provider.com", key: "00112233445566778899aabbccddeeff" };

/// Whoever takes an AE-ID is named, however many they took before; and how many they take is bounded.
#[test]
fn each_ae_id_that_a_credential_takes_is_in_the_trail() {
    let rows = format!(
        "ae_id,kpsa,kpsa_id\nClight-AE1,{},{}\n,{},{}\n",
        LIGHT1.key, LIGHT1.identity, NEW.key, NEW.identity
    );
    let setup = Setup::new().with("audit", "file = \"audit/trail.jsonl\"");
    let mut gateway = setup.file("psk-lookup-table.csv", &rows).start();
    // Lines about associations are summed up by then.
    for _ in 0..150 {
        Light::connect(gateway.port(), NEW).unwrap().close();
    }
    let mut taken = Vec::new();
    let refused = loop {
        let name = format!("Cjunk{}", taken.len());
        let mut light = Light::connect(gateway.port(), NEW).unwrap();
        let answer = light.ask(&Request::create_ae("junk").from(&name)).unwrap();
        if answer.status() != 201 {
            break answer;
        }
        light.ask(&Request::delete("/cse/junk").from(&name)).unwrap().expect(200, 2002);
        taken.push(name);
        assert!(taken.len() < 500, "there is a bound");
    };
    refused.expect_refusal(406, 5207);
    gateway.stop();
    let events = trail(&gateway, "trail.jsonl");
    for event in ["ae-id.bound", "ae-id.released"] {
        let named = of(&events, event, NEW).into_iter().map(|line| line["ae_id"].as_str().unwrap());
        assert_eq!(named.collect::<Vec<_>>(), taken, "{event}");
    }
    let learnt = of(&events, "association.ae-id-assigned", NEW);
    assert!(taken.iter().all(|name| learnt.iter().any(|l| l["entity"] == format!("AE {name}"))));
}

/// A flood in one name hides nobody else that a credential speaks as.
#[test]
fn another_from_is_news() {
    let mut gateway = small().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut ask = |from: &str| {
        light.ask(&Request::retrieve("/cse/x").from(from)).unwrap().expect_refusal(403, 4106);
    };
    (0..200).for_each(|_| ask("Cjunk"));
    (0..3).for_each(|_| ask("Clight-AE2"));
    gateway.stop();
    let refusals = trail(&gateway, "trail-refusals.jsonl");
    let from = |event: &str| {
        let all = of(&refusals, event, LIGHT1).into_iter();
        all.filter(|line| line["from"] == "Clight-AE2").collect::<Vec<_>>()
    };
    assert_eq!(from("request.refused").len(), 1);
    let sums = from("audit.repeated");
    assert_eq!((sums.len(), &sums[0]["count"]), (1, &2.into()));
    assert_eq!(summed(&refusals, "request.refused", LIGHT1), 200 - 64 + 2);
}

/// A key in two hands shows by the addresses that it comes from.
#[test]
fn another_address_of_a_credential_is_news() {
    let mut gateway = small().start();
    let from = |address: &str| {
        let socket = connect_from(address, gateway.port());
        Light::over(socket, LIGHT1, BOUND).unwrap().close();
    };
    (0..150).for_each(|_| from("127.0.0.1"));
    (0..2).for_each(|_| from("127.0.0.9"));
    gateway.stop();
    let events = trail(&gateway, "trail.jsonl");
    for event in ["association.established", "association.ended"] {
        let thief = |l: &&Value| l["peer"].as_str().unwrap().starts_with("127.0.0.9");
        assert_eq!(of(&events, event, LIGHT1).into_iter().filter(thief).count(), 1, "{event}");
        let sums = of(&events, "audit.repeated", LIGHT1).into_iter().filter(thief);
        assert_eq!(sums.filter(|sum| sum["of"] == event).count(), 1, "{event}");
    }
}

/// A gateway that has ended, with a trail of several files.
fn with_a_trail() -> (Gateway, Vec<PathBuf>) {
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
    assert!(files.iter().all(|file| file.is_file()), "it was rotated");
    (gateway, files)
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(ToString::to_string).collect()
}

fn write(file: &Path, lines: &[String]) {
    fs::write(file, lines.join("\n") + "\n").unwrap();
}

#[test]
fn what_was_done_to_a_trail_is_found_with_its_place() {
    let (gateway, files) = with_a_trail();
    let whole: Vec<_> = files.iter().map(|file| lines(file)).collect();
    let found = verify(&gateway, &["--json"]).expect(0).json();
    assert_eq!(found["whole"], true);
    let first = &found["trails"][0];
    assert_eq!(first["lines"], whole[0].len() + whole[1].len());
    assert_eq!(first["begins"], true, "the first line is that of a chain");
    let named = ["audit/trail.jsonl.1", "audit/trail.jsonl"];
    // By name, in whatever order, and without the older file, whose end the newer one names.
    verify(&gateway, &[named[1], named[0]]).expect(0);
    let newer = verify(&gateway, &[named[1], "--json"]).expect(0).json();
    assert_eq!(newer["trails"][0]["begins"], false);

    let (old, new) = (&whole[0], &whole[1]);
    let edit = |lines: &[String], edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.to_vec();
        edit(&mut lines);
        lines
    };
    let changed = |line: &mut String| *line = line.replace("\"message\":\"", "\"message\":\"no ");
    let made_up = |like: &str| like.replace("established", "ended").replace("refused", "ended");
    // What is done, the file that it is done to, and where it is found.
    type Edit<'e> = (&'e str, usize, Vec<String>, String);
    let edits: Vec<Edit<'_>> = vec![
        ("a change", 1, edit(new, &|l| changed(&mut l[4])), format!("{}:6", named[1])),
        ("a cut", 1, edit(new, &|l| drop(l.drain(4..6))), format!("{}:5", named[1])),
        ("an insertion", 1, edit(new, &|l| l.insert(4, made_up(&l[4]))), format!("{}:6", named[1])),
        (
            "a line of no trail",
            1,
            edit(new, &|l| l.insert(4, "{}".into())),
            format!("{}:5", named[1]),
        ),
        ("a copy", 1, edit(new, &|l| l.insert(9, l[4].clone())), format!("{}:10", named[1])),
        ("a reordering", 1, edit(new, &|l| l.swap(4, 5)), format!("{}:5", named[1])),
        ("a new start", 1, edit(new, &|l| l[4] = made_up(&old[0])), format!("{}:5", named[1])),
        ("a cut between files", 0, edit(old, &|l| drop(l.pop())), format!("{}:1", named[1])),
        (
            "a cut at the start of a file",
            1,
            edit(new, &|l| drop(l.remove(0))),
            format!("{}:1", named[1]),
        ),
        (
            "a change in an old file",
            0,
            edit(old, &|l| changed(&mut l[2])),
            format!("{}:4", named[0]),
        ),
    ];
    for (what, file, edited, place) in edits {
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

    // A cut at the end shows by a digest that was noted.
    let head = first["head"].as_str().unwrap();
    verify(&gateway, &["--head", head]).expect(0);
    write(&files[1], &edit(new, &|l| drop(l.pop())));
    verify(&gateway, &[]).expect(0);
    let ran = verify(&gateway, &["--head", head]).expect(1);
    assert!(ran.err.contains("cut off at the end"), "{ran:?}");
    // So does a chain that somebody has made anew.
    fs::remove_file(&files[0]).unwrap();
    verify(&gateway, &["--head", first["head"].as_str().unwrap()]).expect(1);

    for (arguments, what) in [
        (&["nothing.jsonl"][..], "nothing.jsonl: can't be read"),
        (&["audit"], "is not a regular file"),
        (&["--head", "abc"], "64 hexadecimal digits"),
    ] {
        let ran = verify(&gateway, arguments).expect(2);
        assert!(ran.err.contains(what), "{ran:?}");
    }
}

/// A rotated file that is gone is missed, be it the oldest or one between two others.
#[test]
fn a_rotated_file_that_is_gone_is_missed() {
    let setup = Setup::new()
        .with("audit", "file = \"audit/trail.jsonl\"\nfile-bytes = 65536\nold-files = 4")
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
    assert!(old(3).is_file() && !old(4).is_file(), "it was rotated three times");
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

    // Cut off as a kill does it, at each kind of place.
    let before = fs::read(&file).unwrap();
    for rest in [1, 40, 100] {
        let last = before[..before.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        fs::write(&file, &before[..last + rest]).unwrap();
        let torn = verify(&gateway, &["--json"]).expect(0).json();
        let note = &torn["trails"][0]["notes"][0];
        assert!(note["what"].as_str().unwrap().contains("breaks off"), "{torn}");
        gateway = gateway.start_in_same_folder();
        gateway.stop();
        let ran = verify(&gateway, &[]).expect(0);
        assert!(ran.out.contains("breaks off"), "{ran:?}");
        // Behind a torn line that was changed the chain does not go on.
        let text = fs::read(&file).unwrap();
        let mut changed = text.clone();
        changed[last] ^= 1;
        fs::write(&file, changed).unwrap();
        verify(&gateway, &[]).expect(1);
        fs::write(&file, text).unwrap();
        // What is made shorter behind its back is no torn line.
        fs::write(&file, &before).unwrap();
    }

    // Rotated away and gone on with: the new file's first line names the last of the old one.
    fs::rename(&file, file.with_extension("jsonl.1")).unwrap();
    let mut gateway = gateway.start_in_same_folder();
    gateway.stop();
    let found = verify(&gateway, &["--json", "--head", &head]).expect(0).json();
    assert_eq!(found["trails"][0]["files"].as_array().unwrap().len(), 2);
}

/// A long text in a policy file makes no long line, and a gateway starts after one of a former version.
#[test]
fn a_long_line_keeps_no_gateway_from_its_start() {
    let gateway = Setup::new().with("audit", "file = \"audit/trail.jsonl\"").start();
    let file = gateway.path("audit/trail.jsonl");
    let refused = |lines: &[String]| lines.iter().any(|l| l.contains("generation.refused"));
    gateway.refused_after("unknown", |gateway| {
        let long = format!("{} = 1\n", "k".repeat(40_000));
        gateway.write("policies/service-subscription.toml", long);
    });
    wait_until("a line about it", || refused(&lines(&file)));
    assert!(lines(&file).iter().all(|line| line.len() < 20_000));
    gateway.remove("policies/service-subscription.toml");
    let mut gateway = gateway.kill_and_restart();
    gateway.stop();
    verify(&gateway, &[]).expect(0);
    // A former version has written it whole, or was killed at it.
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
        // It is part of the chain.
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, whole.replacen("kkk\"}", "kkx\"}", 1)).unwrap();
        verify(&gateway, &[]).expect(1);
        fs::write(&file, whole).unwrap();
    }
}

/// What logrotate does with `create`, `compress` and a `postrotate` that sends SIGHUP.
fn logrotate(gateway: &Gateway, file: &Path, n: usize) -> PathBuf {
    let rotated = file.with_extension(format!("jsonl.r{n}"));
    fs::rename(file, &rotated).unwrap();
    fs::File::create(file).unwrap();
    gateway.signal("HUP");
    // As long as a script behind a rotation takes.
    thread::sleep(Duration::from_millis(20));
    assert!(Command::new("gzip").arg(&rotated).status().unwrap().success());
    rotated
}

/// Whether the gateway has a file open.
fn has_open(gateway: &Gateway, file: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", gateway.id())).unwrap();
    let mut links = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    links.any(|link| link == file)
}

#[test]
fn logrotate_loses_no_line() {
    // Large enough that the gateway itself rotates nothing meanwhile.
    let mut gateway = Setup::new()
        .with("audit", "file = \"audit/trail.jsonl\"")
        .with("decisions", "record = \"audit/decisions.jsonl\"")
        .with_metrics()
        .start();
    let file = gateway.path("audit/trail.jsonl");
    let over = AtomicBool::new(false);
    let mut rotated = Vec::new();
    thread::scope(|scope| {
        let port = gateway.port();
        let over = &over;
        let traffic = scope.spawn(move || {
            let mut times = 0;
            while !over.load(Ordering::Relaxed) {
                Light::connect(port, if times % 2 == 0 { LIGHT1 } else { LIGHT2 }).unwrap().close();
                times += 1;
            }
            times
        });
        for n in 0..10 {
            thread::sleep(Duration::from_millis(60));
            rotated.push(logrotate(&gateway, &file, n));
        }
        over.store(true, Ordering::Relaxed);
        assert!(traffic.join().unwrap() > 0);
    });
    // Nothing is written any more, and still a file that was moved away is let go.
    for name in ["trail", "trail-refusals", "decisions"] {
        let file = gateway.path(&format!("audit/{name}.jsonl"));
        let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
        let other = Request::retrieve("/cse/x").from("Clight-AE2");
        light.ask(&other).unwrap().expect_refusal(403, 4106);
        wait_until("the file is open", || has_open(&gateway, &file));
        let moved = gateway.path(&format!("audit/{name}.moved"));
        fs::rename(&file, &moved).unwrap();
        gateway.signal("HUP");
        wait_until("the file is let go", || !has_open(&gateway, &moved));
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

/// Who asked for what is in the trail, and a reload by SIGHUP goes on as before.
#[test]
fn administration_is_in_the_trail() {
    let gateway = small().start();
    let file = gateway.path("audit/trail.jsonl");
    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let ask = |arguments: &[&str]| saegis(&gateway.path(""), arguments);
    ask(&["status"]).expect(0);
    ask(&["reload"]).expect(0);
    ask(&["release-ae-id", "12-nobody@in.provider.com"]).expect(4);
    ask(&["end-association", "1"]).expect(0);
    let commands = || -> Vec<Value> {
        let all = lines(&file).into_iter().map(|l| serde_json::from_str::<Value>(&l).unwrap());
        all.filter(|line| line["event"] == "admin.command").collect()
    };
    wait_until("three commands", || commands().len() >= 3);
    let all = commands();
    let words: Vec<_> = all.iter().map(|line| line["command"].as_str().unwrap()).collect();
    assert_eq!(words, ["reload", "release-ae-id 12-nobody@in.provider.com", "end-association 1"]);
    assert!(all.iter().all(|line| line["uid"].is_u64()));
}
