//! Modules and policy files of OCI registries: a real registry, and fake ones that send wrong data,
//! stall, or send endless data.

mod changes;
mod fake_registry;
mod registry;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fake_registry::{FakeRegistry, Response, digest, manifest};
use registry::{Registry, certify, log_in};
use saegis_tests::{
    CommandOutput, Gateway, LIGHT1, LIGHT2, Mark, Setup, Signer, Tool, component, saegis,
};

const TABLE: &str = "policies/modules/psk-table";

/// Returns a setup in which psk-table has no file and its manifest names a source.
fn with_source(setup: Setup, source: &str) -> Setup {
    fs::remove_file(setup.path(&format!("{TABLE}.wasm"))).unwrap();
    write_manifest(&setup.path(&format!("{TABLE}.toml")), source);
    setup
}

fn write_manifest(manifest: &Path, source: &str) {
    let lines = "order = 100\ncapabilities = [\"policy-tables\"]";
    fs::write(manifest, format!("{lines}\nsource = \"{source}\"\n")).unwrap();
}

fn shipped_module(setup: &Setup) -> std::path::PathBuf {
    setup.path(&format!("{TABLE}.wasm"))
}

fn check(setup: &Setup) -> CommandOutput {
    setup.configuration();
    saegis(&setup.path(""), &["check"])
}

/// Asserts that the check command and a start refuse the setup with this reason.
#[track_caller]
fn assert_refused(setup: &Setup, why: &str) {
    let checked = check(setup).expect(2);
    assert!(checked.err.contains(why), "{why}\n{}", checked.err);
}

fn assert_light_can_connect(gateway: &Gateway) {
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
}

#[test]
fn module_stays_after_registry_is_gone() {
    let mut registry = Registry::start();
    let setup = registry.allow(Setup::new());
    let source = registry.publish_module("modules/psk-table:1.0", &shipped_module(&setup));
    let setup = with_source(setup, &source);
    let checked = check(&setup).expect(0);
    let line = format!("psk-table: credential-lookup; may use policy-tables; from {source}");
    assert!(checked.out.contains(&line), "{checked:?}");
    fs::remove_dir_all(setup.path("state/artifacts")).unwrap();

    let gateway = setup.start();
    assert_light_can_connect(&gateway);
    let modules = saegis(&gateway.path(""), &["modules", "--json"]).expect(0).json();
    assert_eq!(modules["modules"][1]["source"], source);
    registry.stop();
    let gateway = gateway.restart();
    assert_light_can_connect(&gateway);
    for password in ["secret", "c2VjcmV0"] {
        assert!(!gateway.log().text().contains(password), "{}", gateway.log().text());
    }
}

#[test]
fn module_of_registry_is_loaded_at_reload() {
    let mut registry = Registry::start();
    let setup = registry.allow(Setup::new());
    let source = registry.publish_module("modules/psk-table:1.0", &shipped_module(&setup));
    let gateway = setup.start();
    let second = gateway.path("policies/modules/second.toml");
    let event = gateway.in_force_after(|_| write_manifest(&second, &source));
    assert!(event.message().contains("second"), "{event:?}");
    // A digest that the registry does not have changes nothing.
    let other = source.replace(&source[source.len() - 64..], &"ab".repeat(32));
    let why = format!(
        "second.toml: source: cannot fetch {other}, and it is not cached: it \
                       has no such artifact"
    );
    gateway.refused_after(&why, |_| write_manifest(&second, &other));
    assert_light_can_connect(&gateway);
    // An artifact that is not cached cannot be loaded after the registry is gone. A return to the
    // cached one works.
    registry.stop();
    let gone = source.replace(&source[source.len() - 64..], &"cd".repeat(32));
    gateway.refused_after("Connection refused", |_| write_manifest(&second, &gone));
    assert_light_can_connect(&gateway);
    write_manifest(&second, &source);
    saegis(&gateway.path(""), &["reload"]).expect(0);
    let event = gateway.in_force_after(|g| {
        let table = g.table();
        g.replace("policies/psk-lookup-table.csv", format!("{table}# changed\n"));
    });
    assert_eq!(event.number("generation"), 3);
}

#[test]
fn policy_files_are_loaded_from_registry() {
    let registry = Registry::start();
    let setup = registry.allow(Setup::new());
    let table = fs::read_to_string(setup.table()).unwrap();
    let both = [("psk-lookup-table.csv", table.as_str()), ("notes.txt", "for people\n")];
    let source = registry.publish_files("policies/home:1", &both);
    let file = |source: &str| format!("[[artifact]]\nsource = \"{source}\"\n");
    let setup = setup.file("artifacts.toml", &file(&source));
    assert_refused(&setup, "psk-lookup-table.csv is also in the folder; remove one of them");
    fs::remove_file(setup.table()).unwrap();
    let gateway = setup.start();
    assert_light_can_connect(&gateway);
    let mut light2 = Tool::OpenSsl.connect(gateway.port(), LIGHT2);

    // An invalid file changes nothing and is reported with its position.
    let broken =
        registry.publish_files("policies/home:2", &[("psk-lookup-table.csv", "kpsa\n1\n")]);
    gateway.refused_after(&format!("{broken} psk-lookup-table.csv:"), |g| {
        g.replace("policies/artifacts.toml", file(&broken));
    });
    assert_light_can_connect(&gateway);

    // Files that the new version lacks are removed.
    let rows: Vec<_> = table.lines().filter(|line| !line.contains("789015")).collect();
    let fewer = rows.join("\n") + "\n";
    let next = registry.publish_files("policies/home:3", &[("psk-lookup-table.csv", &fewer)]);
    gateway.in_force_after(|g| g.replace("policies/artifacts.toml", file(&next)));
    light2.ended();
    assert_light_can_connect(&gateway);

    for (name, why) in [
        ("certificates.toml", "certificates.toml must be in the folder"),
        ("artifacts.toml", "artifacts.toml must be in the folder"),
        ("../saegis.toml", "\"../saegis.toml\" is not the name of a policy file"),
        (".hidden.csv", "\".hidden.csv\" is not the name of a policy file"),
    ] {
        let bad = registry.publish_files("policies/bad:1", &[(name, "x\n")]);
        gateway.refused_after(why, |g| g.replace("policies/artifacts.toml", file(&bad)));
    }
    // Two artifacts must not contain the same file.
    let twice = format!("{}{}", file(&source), file(&next));
    gateway.refused_after("psk-lookup-table.csv is in two artifacts", |g| {
        g.replace("policies/artifacts.toml", &twice);
    });
    gateway.refused_after("artifacts.toml:1:", |g| {
        g.replace("policies/artifacts.toml", "artifacts = []\n");
    });
    assert_light_can_connect(&gateway);
}

/// Starts a fake registry, and returns a setup that may fetch from it.
fn with_fake_registry(
    source: impl FnOnce(&str) -> String,
    answers: Vec<(String, Response)>,
) -> (Setup, FakeRegistry) {
    let setup = Setup::new();
    certify(&setup.path(""));
    let registry = FakeRegistry::start(&setup.path(""), answers);
    let lines =
        format!("host = \"{}\"\nca-file = \"ca.pem\"\ntimeout-seconds = 2", registry.host());
    let setup = setup.with_another("[artifacts.registry]", &lines);
    let source = source(registry.host());
    (with_source(setup, &source), registry)
}

#[test]
fn invalid_registry_response_is_refused() {
    let module = fs::read(shipped_module(&Setup::new())).unwrap();
    let of_module = manifest(&digest(&module), module.len() as u64);
    let large = manifest(&digest(&module), 10 << 30);
    let blob = format!("blobs/{}", digest(&module));
    let files = |n: usize| {
        let one = String::from_utf8(of_module.clone()).unwrap();
        let (head, layer) = one.split_once("\"layers\":[").unwrap();
        let layer = layer.strip_suffix("]}").unwrap();
        format!("{head}\"layers\":[{}]}}", vec![layer; n].join(",")).into_bytes()
    };
    let of = |manifest: &[u8], answer: Response| {
        let pinned = digest(manifest);
        let at = format!("manifests/{pinned}");
        (pinned, vec![(at, Response::Complete(manifest.to_vec())), (blob.clone(), answer)])
    };
    let whole = || Response::Complete(module.clone());
    let first = |answer: Response| (digest(&of_module), vec![("manifests".to_owned(), answer)]);
    let other = Response::Complete(large.clone());
    let came = format!("received {}", digest(&large));
    for ((pinned, answers), why) in [
        (first(other), came.as_str()),
        (first(Response::Endless(Some(10 << 30))), "it sends more than 1048576 bytes"),
        (first(Response::Endless(None)), "it sends more than 1048576 bytes"),
        (first(Response::Stall), "it took longer than 2 s (timeout-seconds)"),
        (first(Response::SlowBytes), "it took longer than 2 s (timeout-seconds)"),
        (first(Response::Status("500 No", "x: y".into())), "it responds with the status 500"),
        (
            first(Response::Status("401 No", "www-authenticate: Magic".into())),
            "it requires an authentication scheme that is not supported",
        ),
        (
            first(Response::Status("401 No", "www-authenticate: Basic realm=\"x\"".into())),
            "it requires a password, and none is configured (credentials-file)",
        ),
        (
            first(Response::Status("302 There", "location: http://localhost:1/x".into())),
            "it redirects too often, or to an address without HTTPS",
        ),
        (
            first(Response::Status("302 There", "location: /v2/manifests".into())),
            "it redirects too often, or to an address without HTTPS",
        ),
        (of(b"{}", whole()), "is not a manifest of an OCI artifact: missing field"),
        (of(b"rubbish", whole()), "is not a manifest of an OCI artifact: expected value"),
        (of(&files(65), whole()), "it has more than 64 files"),
        (of(&files(2), whole()), "is not a WebAssembly artifact"),
        (of(&large, whole()), "has 10737418240 bytes; the maximum is 67108864"),
        (
            of(&of_module, Response::Complete(vec![0; module.len()])),
            "it sent content with another digest",
        ),
        (of(&of_module, Response::Endless(None)), "it sends more than "),
        (of(&of_module, Response::Endless(Some(10 << 30))), "it sends more than "),
        (of(&of_module, Response::Stall), "it took longer than 2 s (timeout-seconds)"),
        (of(&of_module, Response::Status("404 No", "x: y".into())), "it has no such artifact"),
    ] {
        let source = |host: &str| format!("oci://{host}/modules/psk-table:1@{pinned}");
        let (setup, registry) = with_fake_registry(source, answers);
        let ran = setup.run_until_exit().expect(2);
        assert!(ran.err.contains(why), "{why}\n{}", ran.err);
        assert!(ran.err.contains("psk-table.toml: source: "), "{}", ran.err);
        // The gateway stops reading an endless response soon after the limit.
        assert!(registry.sent() < 16 << 20, "{why}: {} bytes were taken", registry.sent());
        // An incomplete manifest is not cached.
        let cached = setup.path(&format!("state/artifacts/sha256/{}", &pinned["sha256:".len()..]));
        assert!(why.contains("not a WebAssembly artifact") || !cached.exists(), "{why}");
    }
    // The same fake registry works with correct responses.
    let (pinned, answers) = of(&of_module, whole());
    let source = |host: &str| format!("oci://{host}/modules/psk-table:1@{pinned}");
    assert_light_can_connect(&with_fake_registry(source, answers).0.start());
}

/// A stalling registry does not delay changes that do not need it.
#[test]
fn stalling_registry_does_not_delay_reload() {
    let pinned = digest(b"x");
    let setup = Setup::new();
    certify(&setup.path(""));
    let registry =
        FakeRegistry::start(&setup.path(""), vec![("manifests".into(), Response::Stall)]);
    let lines =
        format!("host = \"{}\"\nca-file = \"ca.pem\"\ntimeout-seconds = 3600", registry.host());
    let gateway = setup.with_another("[artifacts.registry]", &lines).start();
    let second = gateway.path("policies/modules/second.toml");
    let mut light2 = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    write_manifest(&second, &format!("oci://{}/x:1@{pinned}", registry.host()));
    gateway.log().wait("artifact.fetching");
    assert_light_can_connect(&gateway);
    gateway.in_force_after(|g| {
        fs::remove_file(&second).unwrap();
        let table = g.table();
        let rows: Vec<_> = table.lines().filter(|line| !line.contains("789015")).collect();
        g.replace("policies/psk-lookup-table.csv", rows.join("\n") + "\n");
    });
    light2.ended();
    assert!(gateway.log().all(Mark::START, "generation.refused", 0).is_empty());
}

#[test]
fn registry_credentials_go_to_registry_only() {
    let module = fs::read(shipped_module(&Setup::new())).unwrap();
    let of_module = manifest(&digest(&module), module.len() as u64);
    let setup = Setup::new();
    certify(&setup.path(""));
    let elsewhere =
        FakeRegistry::start(&setup.path(""), vec![("/stored".into(), Response::Complete(module))]);
    let there = format!("location: https://{}/stored", elsewhere.host());
    let tokens = FakeRegistry::start(
        &setup.path(""),
        vec![
            (
                "/token?scope=repository%3Amodules%2Fpsk%2Dtable%3Apull&service=reg|authorization: \
                 Basic dGVzdGVyOnNlY3JldA=="
                    .into(),
                Response::Complete(b"{\"token\":\"t0ken\"}".to_vec()),
            ),
            ("/token".into(), Response::Status("401 No", "x: y".into())),
        ],
    );
    let asks = |host: &str, scheme: &str| {
        format!("www-authenticate: Bearer realm=\"{scheme}://{host}/token\",service=\"reg\"")
    };
    let answers = |challenge: String| {
        vec![
            ("manifests|Bearer t0ken".into(), Response::Complete(of_module.clone())),
            ("blobs|Bearer t0ken".into(), Response::Status("307 There", there.clone())),
            ("/v2/".into(), Response::Status("401 Who?", challenge)),
        ]
    };
    let with = |challenge: String, password: &str| {
        let source = format!("modules/psk-table:1@{}", digest(&of_module));
        let registry = FakeRegistry::start(&setup.path(""), answers(challenge));
        let own = Setup::new();
        fs::copy(setup.path("ca.pem"), own.path("ca.pem")).unwrap();
        log_in(&own.path("credentials.json"), registry.host(), password);
        let files = "ca-file = \"ca.pem\"\ncredentials-file = \"credentials.json\"";
        let own = own.with_another(
            "[artifacts.registry]",
            &format!("host = \"{}\"\n{files}", registry.host()),
        );
        let source = format!("oci://{}/{source}", registry.host());
        (with_source(own, &source), registry)
    };
    let (wrong, _liar) = with(asks(tokens.host(), "https"), "guess");
    assert_refused(&wrong, "it rejects the password in credentials-file");
    let asked = tokens.requests().len();
    let (plain, registry) = with(asks(tokens.host(), "http"), "secret");
    assert_refused(&plain, "it redirects too often, or to an address without HTTPS");
    assert_eq!(tokens.requests().len(), asked, "a password went over HTTP");
    assert!(registry.requests().iter().all(|request| !request.contains("authorization")));
    let (good, _liar) = with(asks(tokens.host(), "https"), "secret");
    assert_light_can_connect(&good.start());
    assert_eq!(elsewhere.requests().len(), 1);
    assert!(!elsewhere.requests()[0].contains("authorization"), "{:?}", elsewhere.requests());
}

#[test]
fn unknown_registry_or_credential_is_refused() {
    let registry = Registry::start();
    let setup = registry.allow(Setup::new());
    let source = registry.publish_module("modules/psk-table:1.0", &shipped_module(&setup));
    let setup = with_source(setup, &source);
    let credentials = setup.path("credentials.json");
    log_in(&credentials, registry.host(), "guess");
    assert_refused(&setup, "it rejects the password in credentials-file");
    log_in(&credentials, "elsewhere.example", "secret");
    assert_refused(&setup, "credentials.json: has no password for localhost:");
    fs::write(&credentials, "{\"auths\": \"secret\"}").unwrap();
    assert_refused(&setup, "credentials.json: is not as `docker login`");
    log_in(&credentials, registry.host(), "secret");
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o640)).unwrap();
    assert_refused(&setup, "holds a password, and others on this machine may read it; chmod 600");
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
    let authority = fs::read(setup.path("ca.pem")).unwrap();
    certify(&setup.path(""));
    assert_refused(&setup, "invalid peer certificate");
    fs::write(setup.path("ca.pem"), "rubbish").unwrap();
    assert_refused(&setup, "ca.pem: has no certificates in PEM");
    fs::write(setup.path("ca.pem"), authority).unwrap();
    for (bad, why) in [
        ("oci://elsewhere.example/x:1@", "the registry elsewhere.example is not allowed"),
        ("https://localhost/x@", "is not a reference of the form oci://host:port/name:tag@sha256:"),
    ] {
        let bad = format!("{bad}sha256:{}", "ab".repeat(32));
        write_manifest(&setup.path(&format!("{TABLE}.toml")), &bad);
        assert_refused(&setup, why);
    }
    let (unpinned, _) = source.split_once('@').unwrap();
    write_manifest(&setup.path(&format!("{TABLE}.toml")), unpinned);
    assert_refused(
        &setup,
        "pins no digest; a tag can be moved, so @sha256: and 64 digits must follow",
    );
    write_manifest(&setup.path(&format!("{TABLE}.toml")), &source);
    check(&setup).expect(0);
    setup.install("psk-table", &fs::read_to_string(setup.path(&format!("{TABLE}.toml"))).unwrap());
    assert_refused(&setup, "has a source, but psk-table.wasm exists too");
}

/// A modified cache file cannot replace a module.
#[test]
fn cached_artifact_is_verified_by_digest() {
    let mut registry = Registry::start();
    let setup = registry.allow(Setup::new());
    let source = registry.publish_module("modules/psk-table:1.0", &shipped_module(&setup));
    let other = fs::read(setup.path("policies/modules/originator-check.wasm")).unwrap();
    let setup = with_source(setup, &source);
    check(&setup).expect(0);
    let cached: Vec<_> = fs::read_dir(setup.path("state/artifacts/sha256")).unwrap().collect();
    assert_eq!(cached.len(), 2, "{cached:?}");
    for file in &cached {
        fs::write(file.as_ref().unwrap().path(), &other).unwrap();
        // The gateway fetches the file again.
        check(&setup).expect(0);
        let now = fs::read(file.as_ref().unwrap().path()).unwrap();
        assert_ne!(now, other);
    }
    registry.stop();
    check(&setup).expect(0);
    for file in cached {
        fs::write(file.unwrap().path(), &other).unwrap();
    }
    assert_refused(&setup, "and it is not cached");
}

/// Unreferenced files are deleted after thirty days, and referenced files are never deleted.
#[test]
fn unreferenced_artifacts_are_deleted_after_a_month() {
    let registry = Registry::start();
    let setup = registry.allow(Setup::new());
    let table = registry.publish_module("modules/psk-table:1.0", &shipped_module(&setup));
    let other = registry.publish_module("modules/faulty:1.0", &component("faulty"));
    let young = registry.publish_module("modules/km-table:1.0", &component("km-table"));
    // This artifact has the same file as the table's module, and its own manifest.
    let same = registry.publish_module("modules/same:1.0", &shipped_module(&setup));
    let rows = registry.publish_files("policies/more:1", &[("notes.txt", "for people\n")]);
    let setup = with_source(setup, &table)
        .file("artifacts.toml", &format!("[[artifact]]\nsource = \"{rows}\"\n"));
    let manifest = |name: &str| setup.path(&format!("policies/modules/{name}.toml"));
    let capability = |name| if name == "faulty" { "log" } else { "policy-tables" };
    for (name, source) in [("faulty", &other), ("km-table", &young), ("same", &same)] {
        let asks = format!("capabilities = [\"{}\"]\n", capability(name));
        fs::write(manifest(name), format!("{asks}source = \"{source}\"\n")).unwrap();
    }
    let mut gateway = setup.start();
    let cached = gateway.path("state/artifacts/sha256");
    let files = || {
        let files = fs::read_dir(&cached).unwrap().map(|file| file.unwrap().file_name());
        files.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    let manifest_of = |source: &str| source.rsplit_once("@sha256:").unwrap().1.to_owned();
    assert_eq!(files().len(), 9, "{:?}", files());
    gateway.in_force_after(|g| {
        for name in ["faulty", "km-table", "same"] {
            fs::remove_file(g.path(&format!("policies/modules/{name}.toml"))).unwrap();
        }
    });
    gateway.stop();
    assert_eq!(files().len(), 9, "{:?}", files());
    for stray in [".new-abc", "README"] {
        fs::write(cached.join(stray), "stray").unwrap();
    }
    let recent_files =
        [manifest_of(&young), digest(&fs::read(component("km-table")).unwrap())[7..].into()];
    for file in files() {
        let days = if recent_files.contains(&file) { 29 } else { 31 };
        let changed = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        fs::File::open(cached.join(file)).unwrap().set_modified(changed).unwrap();
    }
    let gateway = gateway.start_in_same_folder();
    let deleted = gateway.log().wait("artifact.deleted");
    // Two files of `faulty`, the manifest of `same`, and a temporary file of a fetch.
    assert_eq!(deleted.number("files"), 4);
    let left = files();
    assert_eq!(left.len(), 7, "{left:?}");
    for there in [&manifest_of(&table), &manifest_of(&rows), &recent_files[0], &"README".to_owned()]
    {
        assert!(left.contains(there), "{there} is not in {left:?}");
    }
    // The gateway updates the modification time of used files, so they are not old when they become
    // unreferenced.
    let meta = fs::metadata(cached.join(manifest_of(&table))).unwrap();
    assert!(meta.modified().unwrap().elapsed().unwrap() < Duration::from_secs(3600));
    assert_light_can_connect(&gateway);
}

/// A signature covers a manifest that names a source. The gateway fetches nothing for an unsigned
/// manifest.
#[test]
fn unsigned_source_is_not_fetched() {
    let registry = Registry::start();
    let setup = registry.allow(Setup::new());
    let source = registry.publish_module("modules/psk-table:1.0", &shipped_module(&setup));
    let signer = Signer::new(&setup.path(""), "release");
    let other = |e: &str| setup.path(&format!("policies/modules/originator-check.{e}"));
    let pinned = digest(&fs::read(other("wasm")).unwrap());
    fs::write(other("toml"), format!("digest = \"{pinned}\"\n")).unwrap();
    ["wasm", "toml"].iter().for_each(|e| signer.sign(&other(e)));
    let setup = with_source(setup, &source)
        .with("modules.require-signature", "key-files = [\"release.pub\"]");
    assert_refused(&setup, "psk-table.toml: is not signed, and only signed modules are accepted");
    assert!(!setup.path("state/artifacts").exists());
    signer.sign(&setup.path(&format!("{TABLE}.toml")));
    let checked = check(&setup).expect(0);
    assert!(
        checked.out.contains(&format!("signed by {}; from oci://", signer.id())),
        "{checked:?}"
    );
    assert_light_can_connect(&setup.start());
}
