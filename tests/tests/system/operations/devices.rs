//! `saegis init` and `saegis device`: a gateway from nothing, and devices whose programs connect.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use saegis_tests::{
    CommandOutput, Credential, Running, Tool, program, repository, saegis, wait_until,
};
use serde_json::Value;
use tempfile::TempDir;

/// A gateway that `saegis init` has written.
struct Fresh {
    folder: TempDir,
    running: Option<Running>,
    port: u16,
}

impl Fresh {
    /// Writes the files of a gateway, with further arguments.
    fn init(arguments: &[&str]) -> Self {
        let folder = TempDir::with_prefix("saegis-test-").unwrap();
        // The port is free at this moment.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let fresh = Self { folder, running: None, port };
        let start = ["init", "gateway", "--listen", &listen];
        fresh.run(&[&start, arguments].concat()).expect(0);
        // Other gateways of this machine may use the port of the web page.
        let file = fresh.path("gateway/saegis.toml");
        let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:9465", "127.0.0.1:0");
        fs::write(&file, text).unwrap();
        fresh
    }

    /// Starts the gateway with the printed command.
    fn start(&mut self) {
        let mut command = Command::new(program());
        command.args(["run", "--config", "gateway/saegis.toml"]).current_dir(self.folder.path());
        self.running = Some(Running::start(&mut command));
        let socket = self.path("gateway/state/admin.sock");
        wait_until("the gateway answers", || socket.exists() && self.status().code == 0);
    }

    fn status(&self) -> CommandOutput {
        self.run(&["status", "--config", "gateway/saegis.toml"])
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        saegis(self.folder.path(), arguments)
    }

    /// Runs `saegis device`.
    fn device(&self, arguments: &[&str]) -> CommandOutput {
        self.run(&[&["device", "--config", "gateway/saegis.toml"], arguments].concat())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn table(&self) -> String {
        fs::read_to_string(self.path("gateway/policies/psk-lookup-table.csv")).unwrap()
    }

    /// Writes a file, such as the program of a device.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Returns the values of a device with its key.
    fn values(&self, name: &str) -> Value {
        self.device(&["show", name, "--format", "json"]).expect(0).json()
    }
}

const NAMES: [&str; 4] = ["--cse-id", "mn-cse-7", "--service-provider", "in.provider.com"];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn demo_starts_and_its_device_registers() {
    let mut fresh = Fresh::init(&["--demo"]);
    for private in ["saegis.toml", "policies/psk-lookup-table.csv", "light1.toml"] {
        assert_eq!(mode(&fresh.path("gateway").join(private)), 0o600, "{private}");
    }
    let checked = fresh.run(&["check", "--config", "gateway/saegis.toml"]).expect(0);
    assert!(checked.out.starts_with("gateway/saegis.toml: good\n"), "{checked:?}");
    fresh.start();
    let light = ["ae", "--config", "gateway/light1.toml", "register"];
    let registered = fresh.run(&light).expect(0);
    assert!(registered.out.ends_with("registered as Clight1: -/light1\n"), "{registered:?}");
    // The web page is on only in a demonstration.
    let link = fresh.run(&["admin", "link", "--config", "gateway/saegis.toml"]).expect(0);
    assert!(link.out.starts_with("http://") && link.out.contains(".localhost:"), "{link:?}");
    // Nothing that exists is changed.
    let before = fresh.table();
    let again = fresh.run(&["init", "gateway", "--demo"]).expect(2);
    assert!(again.err.contains("saegis.toml exists"), "{again:?}");
    assert_eq!(fresh.table(), before);
}

#[test]
fn init_needs_names_and_modules() {
    let folder = TempDir::new().unwrap();
    let run = |arguments: &[&str]| saegis(folder.path(), &[&["init", "g"], arguments].concat());
    for (arguments, why) in [
        (&[][..], "--cse-id is missing"),
        (&["--cse-id", "mn/x", "--service-provider", "a.example"], "is not a CSE-ID"),
        (&["--cse-id", "mn", "--service-provider", "a_b"], "a_b"),
        (&["--demo", "--listen", "nowhere"], "is not an address with a port"),
        (&["--demo", "--modules", "none"], "are in none of these folders: none; name their folder"),
    ] {
        let refused = run(arguments).expect(2);
        assert!(refused.err.contains(why), "{why}: {refused:?}");
    }
    assert!(!folder.path().join("g").exists());
}

#[test]
fn device_is_added_rotated_and_revoked() {
    let mut fresh = Fresh::init(&NAMES);
    fresh.start();
    let added = fresh.device(&["add", "lamp"]).expect(0);
    for words in ["generation ", "[credential]", "openssl s_client", "lamp.toml"] {
        assert!(added.out.contains(words), "{words}: {added:?}");
    }
    let table = fresh.table();
    assert!(table.starts_with("# Devices with pre-shared keys"), "{table}");
    let first = fresh.values("lamp");
    let text = |values: &Value, name: &str| values[name].as_str().unwrap().to_string();
    assert_eq!(text(&first, "kpsa_id"), "lamp@in.provider.com");
    assert_eq!((text(&first, "kpsa").len(), text(&first, "ae_id")), (32, "Clamp".into()));
    // The list and the plain form of `show` have no keys.
    for command in [&["list"][..], &["show", "lamp"], &["list", "--json"]] {
        let shown = fresh.device(command).expect(0);
        assert!(shown.out.contains("lamp@in.provider.com"), "{shown:?}");
        assert!(!shown.out.contains(&text(&first, "kpsa")), "{shown:?}");
    }
    let refused = fresh.device(&["add", "lamp"]).expect(2);
    assert!(refused.err.contains("rotate-key lamp"), "{refused:?}");

    // Both keys are valid until the old one ends.
    let connects = |values: &Value| {
        let (identity, key) = (text(values, "kpsa_id"), text(values, "kpsa"));
        let credential = Credential { identity: &identity, key: &key };
        Tool::OpenSsl.try_connect(fresh.port, credential, saegis_tests::Offer::MANDATED).is_ok()
    };
    assert!(connects(&first));
    let rotated = fresh.device(&["rotate-key", "lamp", "--json"]).expect(0).json();
    let second = rotated["device"].clone();
    assert_eq!(text(&second, "kpsa_id"), "lamp-2@in.provider.com");
    assert!(connects(&first) && connects(&second));
    let third = fresh.device(&["rotate-key", "lamp", "--overlap-days", "0", "--json"]).expect(0);
    let third = third.json()["device"].clone();
    assert!(!connects(&first) && !connects(&second) && connects(&third));
    // The new key may use the AE of the old one, because it may register it.
    let file = fresh.write("lamp.toml", &fresh.device(&["show", "lamp", "--format", "ae"]).out);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fresh.run(&["ae", "--config", "lamp.toml", "register"]).expect(0);

    let revoked = fresh.device(&["revoke", "lamp"]).expect(0);
    assert!(revoked.out.starts_with("revoked lamp-3@in.provider.com: generation"), "{revoked:?}");
    assert!(!connects(&third));
    let rules = fs::read_to_string(fresh.path("gateway/policies/service-subscription.toml"));
    assert!(!rules.unwrap().contains("lamp"));
    fresh.device(&["show", "lamp"]).expect(2);
}

/// Many associations with a stolen key do not prevent its removal.
#[test]
fn revocation_exceeds_limit_on_ended_associations() {
    let mut fresh = Fresh::init(&NAMES);
    let config = fs::read_to_string(fresh.path("gateway/saegis.toml")).unwrap();
    let limited = config.replacen("[policy]\n", "[policy]\nmax-ended-associations = 1\n", 1);
    assert_ne!(limited, config);
    fs::write(fresh.path("gateway/saegis.toml"), limited).unwrap();
    fresh.start();
    let connect = |values: &Value| {
        let text = |name: &str| values[name].as_str().unwrap().to_string();
        let (identity, key) = (text("kpsa_id"), text("kpsa"));
        let credential = Credential { identity: &identity, key: &key };
        let connected = || {
            Tool::OpenSsl
                .try_connect(fresh.port, credential, saegis_tests::Offer::MANDATED)
                .unwrap()
        };
        [connected(), connected(), connected()]
    };
    fresh.device(&["add", "lamp"]).expect(0);
    let stolen = connect(&fresh.values("lamp"));
    let rotated = fresh.device(&["rotate-key", "lamp", "--overlap-days", "0", "--json"]).expect(0);
    stolen.into_iter().for_each(|mut one| {
        one.ended();
    });
    let stolen = connect(&rotated.json()["device"]);
    let revoked = fresh.device(&["revoke", "lamp"]).expect(0);
    assert!(revoked.out.starts_with("revoked lamp-2@"), "{revoked:?}");
    stolen.into_iter().for_each(|mut one| {
        one.ended();
    });
}

/// The rules of the operator stay, although a device or its rule has the same name.
#[test]
fn rules_of_operator_are_not_changed() {
    let mut fresh = Fresh::init(&NAMES);
    let file = fresh.path("gateway/policies/service-subscription.toml");
    let rule = |name: &str| {
        format!(
            "\n[[rule]]\nname = \"{name}\"\napplicable-cred-ids = [\"12-x*@in.provider.com\"]\n\
             allowed-app-ids = [\"Nx\"]\nallowed-aes = [\"Cx*\"]\n"
        )
    };
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("rule-links = []", "rule-links = [\"lights\", \"device-lamp\"]");
    let text = text + &rule("lights") + &rule("device-lamp");
    fs::write(&file, &text).unwrap();
    fresh.start();
    fresh.device(&["add", "lights"]).expect(0);
    let added = fs::read_to_string(&file).unwrap();
    assert!(
        added.contains("name = \"device-lights\"") && added.contains(&rule("lights")),
        "{added}"
    );
    fresh.device(&["revoke", "lights"]).expect(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let table = fresh.table();
    let refused = fresh.device(&["add", "lamp"]).expect(2);
    assert!(refused.err.contains("the rule device-lamp exists"), "{refused:?}");
    assert_eq!((fs::read_to_string(&file).unwrap(), fresh.table()), (text, table));
}

/// No value ends the text of a program or a row of CSV.
#[test]
fn values_that_change_a_program_are_refused() {
    let fresh = Fresh::init(&NAMES);
    let before = fresh.table();
    for app_id in ["N'; reboot; '", "N\"x", "N,x", "N$(x)", "N\\x"] {
        let app_id = app_id.replace(' ', "");
        let refused = fresh.device(&["add", "lamp", "--app-id", &app_id]).expect(2);
        assert!(refused.err.contains("could change a printed program"), "{refused:?}");
    }
    let refused = fresh.device(&["add", "lamp", "--gateway", "a';reboot;':8443"]).expect(2);
    assert!(refused.err.contains("could change a printed program"), "{refused:?}");
    fresh.write("new.csv", "name,app_id\nlamp,N\"x\n");
    fresh.device(&["import", "new.csv", "--output", "keys.csv"]).expect(2);
    assert_eq!(fresh.table(), before);
}

/// A change that the gateway rejects is undone.
#[test]
fn rejected_change_is_undone() {
    let mut fresh = Fresh::init(&NAMES);
    fresh.start();
    fs::write(fresh.path("gateway/policies/certificates.toml"), "nonsense = 1\n").unwrap();
    let before = fresh.table();
    let refused = fresh.device(&["add", "lamp"]).expect(4);
    assert!(refused.err.contains("nothing was changed"), "{refused:?}");
    assert_eq!(fresh.table(), before);
}

#[test]
fn devices_are_imported_all_or_none() {
    let fresh = Fresh::init(&NAMES);
    let import = |text: &str| {
        fresh.write("new.csv", text);
        fresh.device(&["import", "new.csv", "--output", "keys.csv"])
    };
    let before = fresh.table();
    let faulty =
        "name,app_id,expires\nlamp1,Nlamp,\nla mp,Nlamp,\nlamp2,Xlamp,tomorrow\nlamp3,Nlamp\n";
    let refused = import(faulty).expect(2);
    assert!(refused.err.contains("new.csv:5:1: has 2 fields"), "{refused:?}");
    let refused = import(&faulty.replace("lamp3,Nlamp\n", "lamp1,Nlamp,\n")).expect(2);
    for line in [3, 4, 5] {
        assert!(refused.err.contains(&format!("new.csv:{line}:1: ")), "{refused:?}");
    }
    assert_eq!(fresh.table(), before);
    assert!(!fresh.path("keys.csv").exists());
    let rows: String = (1..=2000).map(|n| format!("lamp{n},Nlamp,20991231T235959\n")).collect();
    let added = import(&format!("name,app_id,expires\n{rows}")).expect(0);
    assert!(added.out.starts_with("added 2000 devices"), "{added:?}");
    assert_eq!(mode(&fresh.path("keys.csv")), 0o600);
    let keys = fs::read_to_string(fresh.path("keys.csv")).unwrap();
    assert!(keys.starts_with("name,ae_id,app_id,kpsa_id,kpsa,expires\nlamp1,Clamp1,Nlamp,"));
    assert_eq!(fresh.device(&["export"]).expect(0).out, keys);
    fresh.run(&["check", "--config", "gateway/saegis.toml"]).expect(0);
}

/// Each printed program registers its device. Those whose runtime is missing are left out.
#[test]
fn printed_programs_connect() {
    let mut fresh = Fresh::init(&NAMES);
    fresh.start();
    let compiled = |source: &str, libraries: &[&str]| {
        let mut arguments = vec!["cc", "-o", "device", source];
        arguments.extend(libraries);
        format!("{} && ./device", arguments.join(" "))
    };
    let has = |command: &str| {
        Command::new("sh").args(["-c", command]).output().is_ok_and(|ran| ran.status.success())
    };
    let python = ["python3.13", "python3.14", "python3"].into_iter().find(|python| {
        has(&format!("{python} -c 'import ssl; ssl.SSLContext.set_psk_client_callback'"))
    });
    let cases = [
        ("openssl", "device.sh", Some("sh device.sh".to_string())),
        ("c", "device.c", Some(compiled("device.c", &["-lssl", "-lcrypto"]))),
        (
            "mbedtls",
            "device-mbedtls.c",
            has("test -e /usr/include/mbedtls/ssl.h").then(|| {
                compiled("device-mbedtls.c", &["-lmbedtls", "-lmbedcrypto", "-lmbedx509"])
            }),
        ),
        ("node", "device.mjs", has("node --version").then(|| "node device.mjs".into())),
        ("python", "device.py", python.map(|python| format!("{python} device.py"))),
        ("esp-idf", "device-esp-idf.c", None),
        ("arduino", "device.ino", None),
        ("qr", "device.txt", None),
    ];
    for (format, file, command) in cases {
        let name = format!("of-{format}");
        let added = fresh.device(&["add", &name, "--format", format]).expect(0);
        fresh.write(file, &added.out);
        if format != "qr" {
            assert!(added.out.contains(&format!("{name}@in.provider.com")), "{format}: {added:?}");
            assert!(!added.out.contains("light1"), "{format}: {added:?}");
        }
        let Some(command) = command else { continue };
        let mut run = Command::new("sh");
        let mut running =
            Running::start(run.args(["-c", &command]).current_dir(fresh.folder.path()));
        running.close_input();
        let status = running.wait(saegis_tests::BOUND);
        let log = || fresh.running.as_ref().map(|gateway| gateway.err.text());
        let texts = (running.out.text(), running.err.text(), log());
        assert!(status.is_some_and(|status| status.success()), "{format}: {texts:?}");
        assert!(texts.0.contains(&format!("Cof-{format}")), "{format}: {texts:?}");
    }
    assert!(repository().join("examples/devices/light-esp-idf.c").exists());
}
