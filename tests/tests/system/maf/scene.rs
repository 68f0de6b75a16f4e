//! A MAF, the IN-CSE as the target of its keys, and a smartphone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use saegis_test_ca::{Example, ExampleNames, Name, Request};
use saegis_tests::{CommandOutput, Gateway, Setup, saegis};

/// Domain name of the MAF.
pub const FQDN: &str = "maf.in.provider.com";
/// Identifier of the smartphone at the MAF.
pub const PHONE: &str = "//in.provider.com/in-cse/Cphone";
/// Identifier of the IN-CSE at the MAF.
pub const IN_CSE: &str = "//in.provider.com/in-cse";

/// KmIDs and Kms.
pub const PHONE_KM: (&str, &str) =
    ("phone@maf.in.provider.com", "101112131415161718191a1b1c1d1e1f");
pub const IN_KM: (&str, &str) = ("in@maf.in.provider.com", "202122232425262728292a2b2c2d2e2f");
/// Another smartphone without a rule, and another CSE.
pub const OTHER_KM: (&str, &str) =
    ("other@maf.in.provider.com", "303132333435363738393a3b3c3d3e3f");
pub const THIEF_KM: (&str, &str) =
    ("thief@maf.in.provider.com", "404142434445464748494a4b4c4d4e4f");

/// Rules that allow smartphones of the IN-CSE to register keys for it, for security associations
/// and ESPrim.
pub const RULES: &str = "[[rule]]\nsources = [\"//in.provider.com/in-cse/Cphone*\"]\n\
    targets = [\"//in.provider.com/in-cse\"]\nsuids = [32, 33]\n";

/// The MAF and the IN-CSE. The smartphone has only files.
pub struct Scene {
    /// The MAF.
    pub maf: Gateway,
    /// The IN-CSE.
    pub infrastructure: Gateway,
}

/// Settings of the two services.
pub struct Settings {
    pub maf: Setup,
    pub infrastructure: Setup,
    /// Additional lines of `[[maf-peer]]` at the IN-CSE.
    pub more: String,
    /// The authorities and certificates, if any.
    pub certificates: Option<Example>,
}

impl Settings {
    pub fn new() -> Self {
        let row = |client: &str, (id, key): (&str, &str)| format!("{client},{key},{id}\n");
        let table = [
            "client_id,km,km_id\n".to_string(),
            row(PHONE, PHONE_KM),
            row(IN_CSE, IN_KM),
            row("//in.provider.com/in-cse/Cother", OTHER_KM),
            row("//in.provider.com/mn-thief", THIEF_KM),
        ];
        let maf = Setup::maf(FQDN)
            .with_metrics()
            .file("km-table.csv", &table.concat())
            .file("maf-rules.toml", RULES);
        let infrastructure = Setup::new()
            .with_cse("in-cse", "IN-CSE")
            .with("modules.grants", "maf-keys = [\"maf-keys\"]")
            .module("maf-keys", "order = 200\ncapabilities = [\"maf-keys\"]");
        Self { maf, infrastructure, more: String::new(), certificates: None }
    }

    /// Returns settings with certificates and without keys.
    pub fn with_certificates() -> Self {
        let mut settings = Self::new();
        let names = ExampleNames {
            service_provider: "in.provider.com".into(),
            in_cse: "in-cse".into(),
            ..ExampleNames::default()
        };
        let example = Example::new(&names).unwrap();
        let put = |setup: &Setup, path: &str, text: &str| {
            setup.write(path, text.as_bytes());
            fs::set_permissions(setup.path(path), Permissions::from_mode(0o600)).unwrap();
        };
        for (setup, own, believes, flavour) in [
            (
                &settings.maf,
                &example.maf,
                &[&example.cse_authority, &example.ae_authority][..],
                ["cse-id", "ae-id"],
            ),
            (&settings.infrastructure, &example.in_cse, &[&example.fqdn_authority], ["fqdn", ""]),
        ] {
            put(setup, "policies/own.pem", own.chain_pem());
            put(setup, "policies/own.key", &own.key_pem());
            let mut text = "[[own]]\ncertificate = \"own.pem\"\nkey = \"own.key\"\n".to_string();
            for (authority, flavour) in believes.iter().zip(flavour) {
                put(setup, &format!("policies/{flavour}.pem"), authority.pem());
                text.push_str(&format!(
                    "\n[[anchor]]\ncertificate = \"{flavour}.pem\"\nflavours = [\"{flavour}\"]\n"
                ));
            }
            put(setup, "policies/certificates.toml", &text);
        }
        let phone = Request::new("phone").name(Name::uri(PHONE));
        let phone = example.ae_authority.issue(&phone).unwrap();
        put(&settings.infrastructure, "phone.pem", phone.chain_pem());
        put(&settings.infrastructure, "phone.key", &phone.key_pem());
        put(&settings.infrastructure, "maf-ca.pem", example.fqdn_authority.pem());
        settings.certificates = Some(example);
        settings
    }

    /// Returns another IN-CSE for a running MAF.
    pub fn infrastructure_of(self, maf: &Gateway) -> Setup {
        infrastructure_of(self.infrastructure, maf, self.certificates.is_some(), &self.more)
    }

    pub fn start(self) -> Scene {
        // The socket keeps the port across restarts.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let maf = self.maf.with_descriptor(socket).start();
        let certificates = self.certificates.is_some();
        let infrastructure = infrastructure_of(self.infrastructure, &maf, certificates, &self.more);
        let infrastructure = infrastructure.start();
        let scene = Scene { maf, infrastructure };
        let credential = match certificates {
            false => {
                let (id, key) = PHONE_KM;
                format!("kpsa-id = \"{id}\"\nkpsa = \"{key}\"\n")
            }
            true => "certificate = \"phone.pem\"\nkey = \"phone.key\"\ntrust-anchors = [\"maf-ca.pem\"]\n".into(),
        };
        scene.write_phone(&credential, IN_CSE, "");
        scene
    }
}

/// Adds a MAF to the IN-CSE.
fn infrastructure_of(setup: Setup, maf: &Gateway, certificates: bool, more: &str) -> Setup {
    let (id, key) = IN_KM;
    let credential = match certificates {
        false => format!("credential = {{ km-id = \"{id}\", km = \"{key}\" }}\n"),
        true => String::new(),
    };
    let at = format!("fqdn = \"{FQDN}\"\naddress = \"127.0.0.1:{}\"\n", maf.port());
    setup.with_another("[maf-peer]", &(at + &credential + more))
}

impl Scene {
    pub fn start() -> Self {
        Settings::new().start()
    }

    pub fn with_certificates() -> Self {
        Settings::with_certificates().start()
    }

    /// Writes the configuration of the smartphone.
    pub fn write_phone(&self, credential: &str, target: &str, more: &str) {
        let text = format!(
            "[registrar]\naddress = \"127.0.0.1:{}\"\ncse-id = \"in-cse\"\n\n\
             [credential]\n{credential}\n\
             [maf]\nfqdn = \"{FQDN}\"\naddress = \"127.0.0.1:{}\"\nclient-id = \"{PHONE}\"\n\
             target = \"{target}\"\n{more}\n\n\
             [ae]\nae-id = \"Cphone\"\napp-id = \"Nphone\"\nname = \"phone\"\n",
            self.infrastructure.port(),
            self.maf.port(),
        );
        self.infrastructure.write("phone.toml", text);
    }

    /// Runs a command of the smartphone.
    pub fn phone(&self, verb: &[&str]) -> CommandOutput {
        let arguments = [&["ae", "--config", "phone.toml"], verb].concat();
        saegis(&self.infrastructure.path(""), &arguments)
    }

    /// Returns the identity and the key of the smartphone.
    pub fn phone_key(&self) -> (String, String) {
        let text = fs::read_to_string(self.infrastructure.path("maf-key.toml")).unwrap();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split('"').nth(1).unwrap().to_string()
        };
        (format!("{}@{FQDN}", value("relative-key-id")), value("key"))
    }

    /// Restarts the IN-CSE with an empty key cache.
    pub fn with_new_infrastructure(self) -> Self {
        Self { infrastructure: self.infrastructure.restart(), ..self }
    }

    /// Kills and restarts the MAF.
    pub fn with_killed_maf(self) -> Self {
        Self { maf: self.maf.kill_and_restart(), ..self }
    }
}
