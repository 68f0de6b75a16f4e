//! Differences between the policy on disk and the policy in force: unreadable, hanging or missing
//! files. The last valid generation stays, and the operator sees the difference.

use std::fs;
use std::path::Path;
use std::process::Command;

use saegis_tests::{
    CommandOutput, Gateway, LIGHT1, LIGHT2, Mark, Request, Setup, Tool, eventually, saegis,
    wait_until,
};
use serde_json::Value;

const TABLE: &str = "policies/psk-lookup-table.csv";
const RULES: &str = "policies/service-subscription.toml";

fn ask(gateway: &Gateway, arguments: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), arguments)
}

fn status(gateway: &Gateway) -> Value {
    ask(gateway, &["status", "--json"]).expect(0).json()
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Waits until `saegis status` satisfies a condition.
#[track_caller]
fn wait_for_status(gateway: &Gateway, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(|| {
        let status = status(gateway);
        if fits(&status) { Ok(status) } else { Err(status) }
    })
}

fn policy_starts_with(status: &Value, start: &str) -> bool {
    status["policy"].as_str().unwrap().starts_with(start)
}

#[test]
fn refused_policy_is_reported_until_recovery() {
    let gateway = Setup::new().with_metrics().start();
    wait_for_status(&gateway, |status| status["policy"] == "in force");
    assert_eq!(gateway.monitor("/readyz").text, "ready\n");
    gateway.refused_after("is not a file but a named pipe", |g| pipe(&g.path("policies/z.csv")));
    let refused = status(&gateway);
    assert!(policy_starts_with(&refused, "refused since 20"), "{refused}");
    let fault = refused["policy_faults"][0].as_str().unwrap();
    assert!(fault.ends_with("policies/z.csv: is not a file but a named pipe"), "{refused}");
    let words = ask(&gateway, &["status"]).expect(0);
    assert!(words.out.contains("\npolicy        refused since 20"), "{words:?}");
    assert!(words.out.contains("\npolicy_faults "), "{words:?}");
    let ready = gateway.monitor("/readyz");
    assert_eq!(ready.status, 200, "{ready:?}");
    assert!(ready.text.starts_with("ready; the policy on disk is refused since 20"), "{ready:?}");
    assert!((gateway.monitor("/metrics").value("saegis_policy_outdated") - 1.0).abs() < 0.1);
    // Another reload reports the same fault, and the start time does not change.
    let reload = ask(&gateway, &["reload"]).expect(4);
    assert!(reload.err.contains("policies/z.csv: is not a file but a named pipe"), "{reload:?}");
    assert_eq!(status(&gateway)["policy"], refused["policy"]);

    let mark = gateway.log().mark();
    fs::remove_file(gateway.path("policies/z.csv")).unwrap();
    let good = gateway.log().wait_after(mark, "generation.recovered");
    assert_eq!(good.number("generation"), 1);
    let good = status(&gateway);
    assert_eq!(
        (&good["policy"], &good["policy_faults"]),
        (&"in force".into(), &Value::Array(vec![]))
    );
    assert_eq!(gateway.monitor("/readyz").text, "ready\n");
    assert!(gateway.monitor("/metrics").value("saegis_policy_outdated").abs() < 0.1);
    assert_eq!(
        ask(&gateway, &["reload"]).expect(0).out,
        "nothing has changed since generation 1\n"
    );
}

/// The reload command detects the recovery first.
#[test]
fn reload_reports_recovered_policy() {
    let gateway = Setup::new().start();
    let good = gateway.table();
    gateway.refused_after("kpsa", |g| g.replace(TABLE, "ae_id,kpsa,kpsa_id\nCx,0g,x@y.z\n"));
    gateway.replace(TABLE, good);
    let mut said = Vec::new();
    wait_until("good again", || {
        let good = policy_starts_with(&status(&gateway), "in force");
        if !good {
            said.push(ask(&gateway, &["reload"]).out);
        }
        good
    });
    gateway.log().wait("generation.recovered");
    assert_eq!(gateway.log().all(Mark::START, "generation.recovered", 1).len(), 1);
    // The gateway may have detected the recovery by itself.
    let again = "the files on disk are valid again: generation 1 is in force\n";
    let unchanged = "nothing has changed since generation 1\n";
    assert!(said.iter().all(|out| out == again || out == unchanged), "{said:?}");
}

#[test]
fn gateway_is_unready_while_policy_is_refused() {
    let setup = Setup::new().with_metrics().with("policy", "unready-when-outdated = true");
    let gateway = setup.start();
    assert_eq!(gateway.monitor("/readyz").status, 200);
    let good = gateway.table();
    gateway.refused_after("is empty", |g| g.replace(TABLE, ""));
    let ready = gateway.monitor("/readyz");
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.text.starts_with("the policy on disk is refused since 20"), "{ready:?}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    let mark = gateway.log().mark();
    gateway.replace(TABLE, good);
    gateway.log().wait_after(mark, "generation.recovered");
    assert_eq!(gateway.monitor("/readyz").status, 200);
}

/// A named pipe and a table replace each other repeatedly, so the file often changes between the
/// check of its name and its opening.
#[test]
fn swapped_in_pipe_does_not_block_reload() {
    let gateway = Setup::new().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let (name, moved) = (gateway.path("policies/z.csv"), gateway.path("aside.csv"));
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for _ in 0..3000 {
                pipe_or_table(&moved, true);
                fs::rename(&moved, &name).unwrap();
                pipe_or_table(&moved, false);
                fs::rename(&moved, &name).unwrap();
            }
        });
        while !swapping.is_finished() {
            let reload = ask(&gateway, &["reload"]);
            assert!([0, 4].contains(&reload.code), "{reload:?}");
        }
        swapping.join().unwrap();
    });
    let table = gateway.table_without(LIGHT1);
    gateway.in_force_after(|g| g.replace(TABLE, table));
    light.ended();
}

fn pipe_or_table(path: &Path, is_pipe: bool) {
    if is_pipe {
        use std::os::unix::fs::FileTypeExt;
        pipe(path);
        assert!(fs::metadata(path).unwrap().file_type().is_fifo());
    } else {
        fs::write(path, "credential_id,ae_id\n").unwrap();
    }
}

/// Preloads a library that delays opening a file of this name while another file exists, like a
/// network file system whose server is down.
fn with_hanging_file(setup: Setup, name: &str) -> Setup {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <fcntl.h>
        #include <stdarg.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        int open64(const char *path, int flags, ...) {
            int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
            va_list rest;
            va_start(rest, flags);
            int mode = va_arg(rest, int);
            va_end(rest);
            size_t length = strlen(path), own = strlen(getenv("HANG_AT"));
            if (length >= own && strcmp(path + length - own, getenv("HANG_AT")) == 0)
                while (access(getenv("HANG_WHILE"), F_OK) == 0) usleep(1000);
            return next(path, flags, mode);
        }
    "#;
    let (source, library) = (setup.path("hang.c"), setup.path("hang.so"));
    fs::write(&source, SOURCE).unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compile.status().unwrap().success());
    let environment = [
        format!("LD_PRELOAD={}", library.display()),
        format!("HANG_AT={name}"),
        format!("HANG_WHILE={}", setup.path("hang").display()),
    ];
    let env: Vec<_> =
        std::iter::once("env").chain(environment.iter().map(String::as_str)).collect();
    setup.started_through(&env)
}

#[test]
fn hanging_file_system_costs_one_reload() {
    let setup = Setup::new().with_metrics().with("policy", "load-seconds = 4");
    let gateway = with_hanging_file(setup, "/z.csv").start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.write("hang", "");
    let refused = gateway.refused_after("reading it takes longer than 4 s", |g| {
        g.write("policies/z.csv", "credential_id,ae_id\n");
    });
    assert!(refused.message().contains("policies/z.csv: "), "{refused:?}");
    assert!(policy_starts_with(&status(&gateway), "refused since"));
    light.assert_served_as("Clight-AE1");
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
    // While it hangs, each reload ends with an error, and the number of blocked threads is bounded.
    for _ in 0..3 {
        let reload = ask(&gateway, &["reload"]).expect(4);
        assert!(reload.err.contains("policies/z.csv: "), "{reload:?}");
    }
    let threads = fs::read_dir(format!("/proc/{}/task", gateway.id())).unwrap();
    let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    let names: Vec<_> = threads.flatten().flat_map(|task| name(&task)).collect();
    let stuck = names.iter().filter(|name| name.starts_with("policy-tables")).count();
    assert!((1..=16).contains(&stuck), "{names:?}");
    // When the file system responds again, all threads end and the policy on disk is loaded.
    let table = gateway.table_without(LIGHT1);
    gateway.in_force_after(|g| {
        g.replace(TABLE, table);
        fs::remove_file(g.path("hang")).unwrap();
    });
    light.ended();
    wait_until("threads end", || {
        gateway.monitor("/metrics").value("saegis_policy_file_threads") <= 1.0
    });
}

/// The state is visible before the timeout.
#[test]
fn slow_load_is_reported() {
    let setup = Setup::new().with_metrics().with("policy", "load-seconds = 60");
    let gateway = with_hanging_file(setup, "/z.csv").start();
    gateway.write("hang", "");
    gateway.write("policies/z.csv", "credential_id,ae_id\n");
    wait_for_status(&gateway, |status| policy_starts_with(status, "being loaded since 20"));
    let loading = "ready; the policy on disk is being loaded since 20";
    eventually(|| {
        let ready = gateway.monitor("/readyz");
        if ready.text.starts_with(loading) { Ok(()) } else { Err(ready) }
    });
    assert!(gateway.monitor("/metrics").value("saegis_policy_outdated") > 0.0);
    gateway.in_force_after(|g| fs::remove_file(g.path("hang")).unwrap());
    assert_eq!(gateway.monitor("/readyz").text, "ready\n");
}

/// The hanging file is removed while its threads are still blocked.
#[test]
fn reload_succeeds_while_other_threads_hang() {
    let setup = Setup::new().with("policy", "load-seconds = 4");
    let gateway = with_hanging_file(setup, "/z.csv").start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.write("hang", "");
    gateway.refused_after("reading it takes longer than 4 s", |g| {
        g.write("policies/z.csv", "credential_id,ae_id\n");
    });
    let table = gateway.table_without(LIGHT1);
    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/z.csv")).unwrap();
        g.replace(TABLE, table);
    });
    light.ended();
    fs::remove_file(gateway.path("hang")).unwrap();
}

#[test]
fn start_fails_on_hanging_file_system() {
    let setup = Setup::new().with("policy", "load-seconds = 1");
    let setup = with_hanging_file(setup, "/psk-lookup-table.csv");
    setup.write("hang", b"");
    let ran = setup.run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("psk-lookup-table.csv: reading it takes longer than 1 s"), "{ran:?}");
}

#[test]
fn missing_table_revokes_nothing() {
    let gateway = Setup::new().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let moved = gateway.path("elsewhere.csv");
    let refused = gateway.refused_after("is missing, and the generation in force needs it", |g| {
        fs::rename(g.path(TABLE), &moved).unwrap();
    });
    assert!(refused.message().contains("psk-lookup-table.csv: "), "{refused:?}");
    assert!(refused.message().contains("saegis reload --accept-removals"), "{refused:?}");
    let reload = ask(&gateway, &["reload"]).expect(4);
    assert!(reload.err.contains("is missing"), "{reload:?}");
    light.assert_served_as("Clight-AE1");
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
    // The file returns, and nothing has changed.
    let mark = gateway.log().mark();
    fs::rename(&moved, gateway.path(TABLE)).unwrap();
    gateway.log().wait_after(mark, "generation.recovered");
    light.assert_served_as("Clight-AE1");
    assert!(gateway.log().all(Mark::START, "association.revoked", 0).is_empty());
}

#[test]
fn accepted_removal_reports_ended_associations() {
    let gateway = Setup::new().start();
    let mut lights = [LIGHT1, LIGHT2].map(|light| Tool::OpenSsl.connect(gateway.port(), light));
    gateway.refused_after("is missing", |g| fs::remove_file(g.path(TABLE)).unwrap());
    let accepted = ask(&gateway, &["reload", "--accept-removals"]).expect(0);
    assert_eq!(accepted.out, "generation 2 is in force: psk-lookup-table +0 -2 ~0 rows\n");
    lights.iter_mut().for_each(|light| drop(light.ended()));
    let ended = gateway.log().wait("generation.ended-associations");
    assert_eq!((ended.number("generation"), ended.number("associations")), (2, 2));
    assert_eq!(ended.text("level"), "WARN");
    assert!(ended.text("why").starts_with("2: "), "{ended:?}");
    assert_eq!(status(&gateway)["policy"], "in force");
    // The removal stays accepted.
    assert_eq!(
        ask(&gateway, &["reload"]).expect(0).out,
        "nothing has changed since generation 2\n"
    );
    gateway.in_force_after(|g| g.write(TABLE, "ae_id,kpsa,kpsa_id\n"));
}

/// Each kind of file whose absence would revoke or allow something.
#[test]
fn missing_policy_file_of_each_kind_is_reported() {
    let rules = fs::read_to_string(saegis_tests::repository().join(RULES)).unwrap();
    let setup = Setup::new()
        .module("app-rules", "capabilities = [\"service-subscription\", \"log\"]")
        .file("service-subscription.toml", &rules)
        .file("artifacts.toml", "")
        .file("certificates.toml", "")
        .file("second.csv", "credential_id,ae_id\n");
    let gateway = setup.start();
    let good = gateway.table();
    for file in [
        RULES,
        "policies/artifacts.toml",
        "policies/certificates.toml",
        "policies/second.csv",
        // A module whose manifest differs from the default.
        "policies/modules/psk-table.toml",
    ] {
        let moved = gateway.path("aside");
        let refused = gateway.refused_after("is missing, and", |g| {
            fs::rename(g.path(file), &moved).unwrap();
        });
        assert!(refused.text("file").ends_with(file), "{file}: {refused:?}");
        // The missing file does not delay other changes.
        let table = gateway.table_without(LIGHT1);
        let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
        let mark = gateway.log().mark();
        gateway.in_force_after(|g| g.replace(TABLE, table));
        light.ended();
        let missing = gateway.log().wait_after(mark, "policy.file-missing");
        assert!(missing.text("file").ends_with(file), "{file}: {missing:?}");
        let mark = gateway.log().mark();
        fs::rename(&moved, gateway.path(file)).unwrap();
        gateway.log().wait_after(mark, "generation.recovered");
        gateway.in_force_after(|g| g.replace(TABLE, &good));
    }
}

/// Without its manifest, a shadow module would decide.
#[test]
fn shadow_without_manifest_does_not_decide() {
    let manifest = "mode = \"shadow\"\n";
    let gateway = Setup::new().module("faulty", manifest).start();
    let moved = gateway.path("aside");
    let refused = gateway.refused_after("is missing, and without it faulty.wasm would", |g| {
        fs::rename(g.path("policies/modules/faulty.toml"), &moved).unwrap();
    });
    assert!(refused.text("file").ends_with("modules/faulty.toml"), "{refused:?}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    // With both files gone, the module is removed.
    gateway.in_force_after(|g| fs::remove_file(g.path("policies/modules/faulty.wasm")).unwrap());
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
}

#[test]
fn changed_configuration_is_reported() {
    let gateway = Setup::new().with_metrics().start();
    assert_eq!(status(&gateway)["configuration"], "in force");
    let before = fs::read(gateway.path("saegis.toml")).unwrap();
    gateway.write("saegis.toml", [before.as_slice(), b"# changed\n"].concat());
    let warned = gateway.log().wait("config.changed");
    assert!(warned.message().contains("saegis.toml has changed since the start"), "{warned:?}");
    let changed = status(&gateway);
    assert!(changed["configuration"].as_str().unwrap().starts_with("changed since the start"));
    let reload = ask(&gateway, &["reload"]).expect(0);
    let said = "saegis.toml has changed since the start; restart the gateway to apply it\n\
                nothing has changed since generation 1\n";
    assert_eq!(reload.out, said);
    assert!(gateway.monitor("/metrics").value("saegis_configuration_changed") > 0.0);
    gateway.write("saegis.toml", before);
    gateway.log().wait("config.restored");
    wait_for_status(&gateway, |status| status["configuration"] == "in force");
}

/// inotify instances are limited for each user, and other programs may use all of them.
#[test]
fn gateway_without_inotify_polls() {
    let none = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    let setup = Setup::new();
    let gateway = setup
        .started_through(&["unshare", "--user", "--map-root-user", "sh", "-c", none, "sh"])
        .start();
    let warned = gateway.log().wait("policy.watch-failed");
    assert!(warned.message().contains("raise fs.inotify.max_user_instances"), "{warned:?}");
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let table = gateway.table_without(LIGHT1);
    gateway.in_force_after(|g| g.replace(TABLE, table));
    light.ended();
    assert_eq!(gateway.log().all(Mark::START, "policy.watch-failed", 1).len(), 1);
}

#[test]
fn unused_table_is_warned_about() {
    let setup = Setup::new()
        .file("fleet2.csv", "ae_id,kpsa,kpsa_id\nC2,0f1e2d3c4b5a69788796a5b4c3d2e1f7,f@x.y\n");
    let folder = setup.path("");
    setup.configuration();
    let checked = saegis(&folder, &["check"]).expect(0);
    let table = "  table       fleet2: 1 row; no module reads it\n";
    assert!(checked.out.contains(table), "{checked:?}");
    let warning = "no module reads the table fleet2 (1 row), so it has no effect";
    assert!(checked.out.contains(&format!("  warning     {warning}")), "{checked:?}");
    assert!(!checked.out.contains("no module reads the table psk-lookup-table"), "{checked:?}");
    let json = saegis(&folder, &["check", "--json"]).expect(0).json();
    assert!(json["warnings"].to_string().contains(warning), "{json}");

    let gateway = setup.start();
    let warned = gateway.log().wait("policy.table-unused");
    assert_eq!((warned.text("table"), warned.number("rows")), ("fleet2".into(), 1));
    assert!(status(&gateway)["warnings"].to_string().contains(warning));
    let modules = ask(&gateway, &["modules", "--json"]).expect(0).json();
    assert_eq!(modules["tables"][0]["read_by"], Value::Array(vec![]));
    assert_eq!(modules["tables"][1]["read_by"][0], "psk-table");
    let words = ask(&gateway, &["modules"]).expect(0);
    assert!(words.out.contains("READ_BY"), "{words:?}");
    // With the name that the module reads, the table has an effect.
    let table = fs::read(gateway.path("policies/fleet2.csv")).unwrap();
    let mark = gateway.log().mark();
    gateway.in_force_after(|g| g.replace(TABLE, table));
    // The warning about the other table is the same, so it is not repeated.
    assert!(gateway.log().all(mark, "policy.table-unused", 0).is_empty());
    let mark = gateway.log().mark();
    gateway.remove("policies/fleet2.csv");
    assert!(gateway.log().all(mark, "policy.table-unused", 0).is_empty());
}

#[test]
fn longest_key_identifier_can_connect() {
    let id = |length: usize| format!("{}@in.provider.com", "a".repeat(length - 16));
    let row = |length: usize| format!("ae_id,kpsa,kpsa_id\nC1,{},{}\n", LIGHT1.key, id(length));
    let gateway = Setup::new().start();
    gateway.refused_after("kpsa_id is longer than 253 bytes", |g| g.replace(TABLE, row(254)));
    gateway.in_force_after(|g| g.replace(TABLE, row(253)));
    let identity = id(253);
    let light = saegis_tests::Credential { identity: &identity, key: LIGHT1.key };
    let mut light = Tool::GnuTls.connect(gateway.port(), light);
    light.ask(&Request::create_ae("one").from("C1")).expect(201, 2001);
}
