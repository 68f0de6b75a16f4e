//! Digests pinned in manifests, and required signatures, made by minisign itself.

use std::fs;
use std::path::Path;

use saegis_tests::{Gateway, LIGHT1, Mark, Setup, Signer, Tool, openssl as openssl_tool, saegis};

const MODULES: &str = "policies/modules";

/// Returns the digest of a file, calculated by OpenSSL.
fn digest(file: &Path) -> String {
    let ran = openssl_tool(&["dgst", "-sha256", "-r", file.to_str().unwrap()]).expect(0);
    format!("sha256:{}", ran.out.split(' ').next().unwrap())
}

/// Returns a setup with signed modules and manifests that accepts no unsigned ones.
fn signed() -> (Setup, Signer) {
    let setup = Setup::new();
    let signer = Signer::new(&setup.path(""), "release");
    for name in ["psk-table", "originator-check"] {
        pin_and_sign(&setup, &signer, name);
    }
    let setup = setup.with("modules.require-signature", "key-files = [\"release.pub\"]");
    (setup, signer)
}

/// Adds a module's digest to its manifest, and signs both.
fn pin_and_sign(setup: &Setup, signer: &Signer, name: &str) {
    let module = setup.path(&format!("{MODULES}/{name}.wasm"));
    let manifest = setup.path(&format!("{MODULES}/{name}.toml"));
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("{text}digest = \"{}\"\n", digest(&module))).unwrap();
    signer.sign(&module);
    signer.sign(&manifest);
}

/// Asserts that no second generation came into force, and that handshakes succeed.
fn assert_first_generation_in_force(gateway: &Gateway) {
    assert!(gateway.log().all(Mark::START, "generation.in-force", 0).is_empty());
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
}

/// Asserts that the gateway refuses a changed file, and restores the file. Nothing else changes
/// meanwhile.
fn assert_refused_and_restored(gateway: &Gateway, file: &str, bytes: &[u8], why: &str) {
    let path = format!("{MODULES}/{file}");
    let good = fs::read(gateway.path(&path)).unwrap();
    let refused = gateway.refused_after(why, |g| g.replace(&path, bytes));
    let message = refused.message();
    assert!(message.ends_with("generation 1 stays in force"), "{message}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    let ran = saegis(&gateway.path(""), &["check"]).expect(2);
    assert!(ran.err.contains(why), "{ran:?}");
    gateway.replace(&path, good);
}

#[test]
fn mismatching_digest_is_refused_with_both_digests() {
    let gateway = Setup::new().start();
    let module = gateway.path(&format!("{MODULES}/psk-table.wasm"));
    let manifest = format!("{MODULES}/psk-table.toml");
    let text = fs::read_to_string(gateway.path(&manifest)).unwrap();
    let pinned = digest(&module);
    gateway.in_force_after(|g| g.replace(&manifest, format!("{text}digest = \"{pinned}\"\n")));
    let other = gateway.path(&format!("{MODULES}/originator-check.wasm"));
    let good = fs::read(&module).unwrap();
    let refused = gateway.refused_after("but its manifest pins", |g| {
        g.replace(&format!("{MODULES}/psk-table.wasm"), fs::read(&other).unwrap());
    });
    let message = refused.message();
    let wanted = format!(
        "{}: has the digest {}, but its manifest pins {pinned};",
        module.display(),
        digest(&other)
    );
    assert!(message.starts_with(&wanted), "{message}\n{wanted}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    gateway.replace(&format!("{MODULES}/psk-table.wasm"), good);
    for bad in ["sha256:12", "md5:12", "", &format!("sha256:{}", "g".repeat(64))] {
        let what = format!("psk-table.toml:4:10: {bad:?} is not a digest; a digest is \"sha256:\"");
        gateway.refused_after(&what, |g| g.replace(&manifest, format!("{text}digest = {bad:?}\n")));
    }
}

#[test]
fn signer_is_reported() {
    let (setup, signer) = signed();
    let folder = setup.path("");
    let gateway = setup.start();
    let id = signer.id();
    let line = format!("psk-table: credential-lookup; may use policy-tables; signed by {id}");
    assert!(gateway.printed().contains(&line), "{}", gateway.printed());
    let checked = saegis(&folder, &["check"]).expect(0);
    assert!(checked.out.contains(&line), "{checked:?}");
    let modules = saegis(&folder, &["modules"]).expect(0).out;
    assert_eq!(modules.matches(&id).count(), 2, "{modules}");
    let json = saegis(&folder, &["modules", "--json"]).expect(0).json();
    assert_eq!(json["modules"][0]["signed_by"], id);
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
}

#[test]
fn module_with_invalid_signature_is_refused() {
    let (setup, signer) = signed();
    let stranger = Signer::new(&setup.path(""), "stranger");
    let gateway = setup.start();
    let file = |name: &str| gateway.path(&format!("{MODULES}/{name}"));
    let read = |name: &str| fs::read(file(name)).unwrap();
    let other = read("originator-check.wasm");
    assert_refused_and_restored(
        &gateway,
        "psk-table.wasm",
        &other,
        "but does not match psk-table.wasm",
    );
    assert_refused_and_restored(
        &gateway,
        "psk-table.wasm.minisig",
        b"x",
        "is not a minisign signature",
    );

    // A signature of another file by the same key.
    let of_other = read("originator-check.wasm.minisig");
    let why = format!("claims the key {}, but does not match psk-table.wasm", signer.id());
    assert_refused_and_restored(&gateway, "psk-table.wasm.minisig", &of_other, &why);

    // A signature by an unknown key.
    let copy = gateway.path("psk-table.wasm");
    fs::copy(file("psk-table.wasm"), &copy).unwrap();
    stranger.sign(&copy);
    let of_stranger = fs::read(gateway.path("psk-table.wasm.minisig")).unwrap();
    let unknown = format!("is by the key {}, which is not trusted", stranger.id());
    assert_refused_and_restored(&gateway, "psk-table.wasm.minisig", &of_stranger, &unknown);

    // A signature by a foreign key that claims the number of a trusted key.
    let text = String::from_utf8(of_stranger).unwrap();
    let ours = String::from_utf8(read("psk-table.wasm.minisig")).unwrap();
    let (mine, theirs) = (ours.lines().nth(1).unwrap(), text.lines().nth(1).unwrap());
    let bytes = |line: &str| openssl::base64::decode_block(line).unwrap();
    let borrowed = [&bytes(mine)[..10], &bytes(theirs)[10..]].concat();
    let borrowed = text.replace(theirs, &openssl::base64::encode_block(&borrowed));
    assert_refused_and_restored(&gateway, "psk-table.wasm.minisig", borrowed.as_bytes(), &why);

    // Malformed, too large, not UTF-8, and in the legacy format.
    let malformed = "psk-table.wasm.minisig: is not a minisign signature";
    assert_refused_and_restored(&gateway, "psk-table.wasm.minisig", b"rubbish", malformed);
    // The gateway repeats a report only after it has seen the restored file, so the check command
    // tests these.
    for bad in ["", "a\nb\nc\nd\n", &ours[..ours.len() / 2]] {
        gateway.replace(&format!("{MODULES}/psk-table.wasm.minisig"), bad);
        let ran = saegis(&gateway.path(""), &["check"]).expect(2);
        assert!(ran.err.contains(malformed), "{ran:?}");
    }
    gateway.replace(&format!("{MODULES}/psk-table.wasm.minisig"), &ours);
    let name = "psk-table.wasm.minisig";
    // Another trusted comment, which the signature covers as well.
    let later = ours.replace("timestamp:", "timestamp:4");
    assert_refused_and_restored(&gateway, name, later.as_bytes(), &why);
    assert_refused_and_restored(&gateway, name, &vec![b'a'; 5000], "is larger than 4096 bytes");
    assert_refused_and_restored(
        &gateway,
        name,
        b"\xff\xfe",
        "psk-table.wasm.minisig: is not UTF-8",
    );
    signer.sign_as(&copy, &["-l"]);
    let legacy = fs::read(gateway.path("psk-table.wasm.minisig")).unwrap();
    assert_refused_and_restored(
        &gateway,
        name,
        &legacy,
        "is in minisign's legacy format; sign without -l",
    );

    // A signature for another file name, and for none.
    signer.sign_as(&copy, &["-t", "timestamp:1795539612\tfile:km-table.wasm"]);
    let misnamed = fs::read(gateway.path("psk-table.wasm.minisig")).unwrap();
    let why = "is for a file with the name \"km-table.wasm\", not for psk-table.wasm";
    assert_refused_and_restored(&gateway, name, &misnamed, why);
    signer.sign_as(&copy, &["-t", "our release"]);
    let nameless = fs::read(gateway.path("psk-table.wasm.minisig")).unwrap();
    assert_refused_and_restored(&gateway, name, &nameless, "does not name its file");
    assert_first_generation_in_force(&gateway);
}

#[test]
fn unsigned_module_is_refused() {
    let (setup, _) = signed();
    let gateway = setup.start();
    let signature = gateway.path(&format!("{MODULES}/psk-table.wasm.minisig"));
    let original = fs::read(&signature).unwrap();
    let why = "psk-table.wasm: is not signed, and only signed modules are accepted";
    gateway.refused_after(why, |_| fs::remove_file(&signature).unwrap());
    gateway.replace(&format!("{MODULES}/psk-table.wasm.minisig"), original);
    // An unsigned module, and a module with an unsigned manifest.
    gateway.refused_after("km-table.toml: is not signed", |g| {
        g.install("km-table", "capabilities = [\"policy-tables\"]");
    });
    gateway.refused_after("km-table.wasm: is not signed", |g| {
        fs::remove_file(g.path(&format!("{MODULES}/km-table.toml"))).unwrap();
    });
    fs::remove_file(gateway.path(&format!("{MODULES}/km-table.wasm"))).unwrap();
    assert_first_generation_in_force(&gateway);
}

/// A manifest grants capabilities and sets the order of modules, so write access to the folder must
/// not suffice to change it.
#[test]
fn manifest_is_covered_by_signature() {
    let (setup, signer) = signed();
    let gateway = setup.start();
    let read = |name: &str| fs::read(gateway.path(&format!("{MODULES}/{name}"))).unwrap();
    let manifest = String::from_utf8(read("psk-table.toml")).unwrap();
    let altered = manifest.replace("order = 100", "order = 1");
    let why = format!("the key {}, but does not match psk-table.toml", signer.id());
    assert_refused_and_restored(&gateway, "psk-table.toml", altered.as_bytes(), &why);
    // A manifest without a digest would fit any signed module, so it is refused.
    let copy = gateway.path("psk-table.toml");
    fs::write(&copy, "order = 100\ncapabilities = [\"policy-tables\"]\n").unwrap();
    signer.sign(&copy);
    gateway.refused_after("psk-table.toml: has no digest, which a signed manifest requires", |g| {
        for name in ["psk-table.toml.minisig", "psk-table.toml"] {
            g.replace(&format!("{MODULES}/{name}"), fs::read(g.path(name)).unwrap());
        }
    });
}

/// A manifest sets the mode of a module and the module that it replaces, so its removal would
/// change both.
#[test]
fn signed_module_without_manifest_is_refused() {
    let (setup, _) = signed();
    let gateway = setup.start();
    gateway.refused_after(
        "originator-check.wasm: has no manifest; a signed module needs a signed manifest",
        |g| {
            fs::remove_file(g.path(&format!("{MODULES}/originator-check.toml"))).unwrap();
        },
    );
    assert_first_generation_in_force(&gateway);
}

/// Two signed modules cannot replace each other, with or without their signatures and manifests.
#[test]
fn swapped_signed_modules_are_refused() {
    let (setup, _) = signed();
    let gateway = setup.start();
    let path = |name: &str| format!("{MODULES}/{name}");
    let why = "is for a file with the name \"originator-check.wasm\", not for psk-table.wasm";
    gateway.refused_after(why, |g| {
        let all = ["wasm", "wasm.minisig", "toml", "toml.minisig"];
        let read = |of: &str, e: &str| fs::read(g.path(&path(&format!("{of}.{e}")))).unwrap();
        let both = all.map(|e| (e, read("psk-table", e), read("originator-check", e)));
        for (e, table, check) in both {
            // Without the manifests, whose names are reported first.
            if e.starts_with("toml") {
                for of in ["psk-table", "originator-check"] {
                    fs::remove_file(g.path(&path(&format!("{of}.{e}")))).unwrap();
                }
            } else {
                g.replace(&path(&format!("psk-table.{e}")), check);
                g.replace(&path(&format!("originator-check.{e}")), table);
            }
        }
    });
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
}

/// Promotion requires the signing key, not only write access to the folder, and creates one
/// generation.
#[test]
fn signed_shadow_is_promoted_with_signing_key_only() {
    let (setup, signer) = signed();
    let file = |e: &str| format!("{MODULES}/psk-table-2.{e}");
    fs::copy(setup.path(&format!("{MODULES}/psk-table.wasm")), setup.path(&file("wasm"))).unwrap();
    let shadow =
        "mode = \"shadow\"\nreplaces = \"psk-table\"\ncapabilities = [\"policy-tables\"]\n";
    setup.write(&file("toml"), shadow.as_bytes());
    pin_and_sign(&setup, &signer, "psk-table-2");
    let gateway = setup.start();
    let ask = |arguments: &[&str]| saegis(&gateway.path(""), arguments);
    let in_force = || {
        let all = ask(&["modules", "--json"]).expect(0).json();
        all["modules"][1]["name"].as_str().unwrap().to_owned()
    };
    for (verb, mode, other, now) in [
        ("promote", "in-force", "shadow", "psk-table-2"),
        ("rollback", "shadow", "in-force", "psk-table"),
    ] {
        let before = fs::read_to_string(gateway.path(&file("toml"))).unwrap();
        let ran = ask(&["module", verb, "psk-table-2"]).expect(2);
        for what in [
            "psk-table-2.toml: is signed (modules.require-signature)",
            &format!("write mode = \"{mode}\" into it and sign it: minisign -Sm psk-table-2.toml"),
        ] {
            assert!(ran.err.contains(what), "{ran:?}");
        }
        assert_eq!(fs::read_to_string(gateway.path(&file("toml"))).unwrap(), before);
        // The steps of the error message.
        gateway.write(
            "psk-table-2.toml",
            before.replace(&format!("\"{other}\""), &format!("\"{mode}\"")),
        );
        signer.sign(&gateway.path("psk-table-2.toml"));
        gateway.in_force_after(|g| {
            for e in ["toml.minisig", "toml"] {
                g.replace(&file(e), fs::read(g.path(&format!("psk-table-2.{e}"))).unwrap());
            }
        });
        assert_eq!(in_force(), now);
        Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    }
    // Any other change is refused.
    let altered =
        fs::read_to_string(gateway.path(&file("toml"))).unwrap().replace("shadow", "in-force");
    gateway.refused_after("but does not match psk-table-2.toml", |g| {
        g.replace(&file("toml"), altered)
    });
    assert_eq!(in_force(), "psk-table");
}

/// A module can be tried before it is signed. The report states that it is unsigned.
#[test]
fn unsigned_module_can_be_tried() {
    let (setup, _) = signed();
    setup.configuration();
    fs::create_dir(setup.path("new")).unwrap();
    fs::copy(setup.path(&format!("{MODULES}/psk-table.wasm")), setup.path("new/psk-table.wasm"))
        .unwrap();
    setup.write("new/psk-table.toml", b"capabilities = [\"policy-tables\"]\n");
    let ran = saegis(&setup.path(""), &["module", "try", "new/psk-table.wasm"]).expect(0);
    assert!(ran.out.starts_with("psk-table would be in force, replacing psk-table"), "{ran:?}");
    assert!(ran.out.contains("was tried without a signature"), "{ran:?}");
    // Installed modules must be signed.
    fs::remove_file(setup.path(&format!("{MODULES}/originator-check.wasm.minisig"))).unwrap();
    let ran = saegis(&setup.path(""), &["module", "try", "new/psk-table.wasm"]).expect(2);
    assert!(ran.err.contains("originator-check.wasm: is not signed"), "{ran:?}");
}

/// Older signed versions can be excluded.
#[test]
fn signature_before_not_before_is_refused() {
    let (setup, signer) = signed();
    let setup = setup.with("modules.require-signature", "not-before = \"20261101T000000\"");
    let checked = saegis(setup.configuration().parent().unwrap(), &["check"]).expect(0);
    assert!(checked.out.contains("signed by"), "{checked:?}");
    let module = setup.path(&format!("{MODULES}/psk-table.wasm"));
    // 31 October 2026, 23:59:59 UTC.
    signer.sign_as(&module, &["-t", "timestamp:1793491199\tfile:psk-table.wasm"]);
    let checked = saegis(&setup.path(""), &["check"]).expect(2);
    let why = "psk-table.wasm.minisig: was made at 20261031T235959, before \
               modules.require-signature.not-before, 20261101T000000";
    assert!(checked.err.contains(why), "{checked:?}");
    let ran = setup.run_until_exit().expect(2);
    assert!(ran.err.contains(why), "{ran:?}");
}

#[test]
fn invalid_signature_keys_are_reported_with_position() {
    let setup = Setup::new();
    let signer = Signer::new(&setup.path(""), "release");
    for name in ["psk-table", "originator-check"] {
        pin_and_sign(&setup, &signer, name);
    }
    let check = |lines: &str| {
        let setup = setup.path("");
        let text = "[cse]\ncse-id = \"mn-cse-123456\"\n[modules.require-signature]\n";
        fs::write(setup.join("saegis.toml"), format!("{text}{lines}\n")).unwrap();
        saegis(&setup, &["check"])
    };
    let good = check(&format!("keys = [\"{}\"]", signer.public())).expect(0);
    assert!(good.out.contains(&signer.id()), "{good:?}");
    for (lines, why) in [
        ("", "saegis.toml:3:1: modules.require-signature: has neither keys nor key-files"),
        ("keys = [\"rubbish\"]", "saegis.toml:4:8: is not a minisign public key"),
        ("key-files = [\"missing.pub\"]", "missing.pub: cannot be opened"),
        ("key-files = [\"saegis.toml\"]", "saegis.toml: is not a minisign public key"),
        ("keyfiles = []", "saegis.toml:4:1: unknown field `keyfiles`"),
        ("not-before = \"yesterday\"", "saegis.toml:4:14: \"yesterday\""),
    ] {
        let ran = check(lines).expect(2);
        assert!(ran.err.contains(why), "{lines}: {ran:?}");
    }
    let secret = check("key-files = [\"release.key\"]").expect(2);
    assert!(secret.err.contains("release.key: is not a minisign public key"), "{secret:?}");
}
