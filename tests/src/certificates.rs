//! Gateways that take certificates, and the certificates of those who come to them.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use saegis_test_ca::{Authority, Example, ExampleNames, Issued, RawKey};
use tempfile::TempDir;

use crate::client::{Client, Refused, Tool, python};
use crate::command_line::{Ran, to_end};
use crate::gateway::Gateway;
use crate::setup::Setup;

/// The name of the gateway of the worked example, as its certificate has it.
pub const GATEWAY_NAME: &str = "mn-cse-123456.in-cse.in.provider.com";

/// The policy file.
pub const CERTIFICATES: &str = "policies/certificates.toml";

/// The policy file that says whom certificates stand for.
pub const CERTIFICATE_TABLE: &str = "policies/certificate-table.csv";

/// The Credential-IDs of those who show the certificates of the worked example.
pub mod credential {
    /// The light with an AE-ID certificate.
    pub const AE: &str = "33-//in.provider.com/mn-cse-123456/Clight-AE1";
    /// The IN-CSE.
    pub const CSE: &str = "32-in-cse.in.provider.com";
    /// The node.
    pub const NODE: &str = "34-urn:gsma:imei:90420156-025763-0";
    /// The device.
    pub const DEVICE: &str = "31-1.3.6.1.4.1.32473.1-000001";
}

/// How a client with a certificate comes: its version, and its suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// TLS 1.3.
    Tls13,
    /// TLS 1.2 with a suite of today.
    Tls12,
    /// The suite that TS-0003 mandates, and no other.
    Mandated,
    /// The other one that TS-0003 has, and no other.
    Ccm,
}

impl Way {
    /// All of them. The gateway has one engine for the first two, and another for the others.
    pub const ALL: [Self; 4] = [Self::Tls13, Self::Tls12, Self::Mandated, Self::Ccm];

    /// What the gateway's log has of it.
    pub fn protocol(self) -> &'static str {
        if self == Self::Tls13 { "TLSv1.3" } else { "TLSv1.2" }
    }

    /// The registered name of the suite that comes of it.
    pub fn suite(self) -> &'static str {
        match self {
            Self::Tls13 => "TLS_AES_256_GCM_SHA384",
            Self::Tls12 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Self::Mandated => "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
            Self::Ccm => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
        }
    }

    /// OpenSSL's name of the suite, but of TLS 1.3.
    pub(crate) fn cipher(self) -> &'static str {
        match self {
            Self::Tls13 => "",
            Self::Tls12 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            Self::Mandated => "ECDHE-ECDSA-AES128-SHA256",
            Self::Ccm => "ECDHE-ECDSA-AES128-CCM",
        }
    }

    /// What a tool is given to offer this and nothing else.
    pub fn offers(self, tool: Tool) -> Vec<String> {
        let words = match (tool, self) {
            (Tool::OpenSsl, Self::Tls13) => vec!["-tls1_3"],
            (Tool::OpenSsl, _) => vec!["-tls1_2", "-cipher", self.cipher()],
            (Tool::GnuTls, _) => vec!["--priority", self.priority()],
        };
        words.into_iter().map(Into::into).collect()
    }

    fn priority(self) -> &'static str {
        match self {
            Self::Tls13 => "NORMAL:-VERS-ALL:+VERS-TLS1.3",
            Self::Tls12 => {
                "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:-CIPHER-ALL:+AES-128-GCM"
            }
            Self::Mandated => {
                "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:-CIPHER-ALL:+AES-128-CBC:\
                 -MAC-ALL:+SHA256"
            }
            Self::Ccm => {
                "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:-CIPHER-ALL:+AES-128-CCM"
            }
        }
    }
}

/// What a certificate says of a peer that has a key for it: files in PEM, for clients to take.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The certificate and those of the authorities between it and its root.
    pub chain: PathBuf,
    /// Those of the authorities alone, where there are any.
    pub issuers: Option<PathBuf>,
    /// The key.
    pub key: PathBuf,
}

/// The authorities and the certificates of the worked example, and a folder for what clients need.
pub struct Pki {
    /// Who has issued what.
    pub example: Example,
    folder: TempDir,
    written: Cell<u32>,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// Makes all anew.
    pub fn new() -> Self {
        let names = ExampleNames {
            service_provider: "in.provider.com".into(),
            in_cse: "in-cse".into(),
            ..ExampleNames::default()
        };
        let example = Example::new(&names).expect("certificates can be made");
        let folder = TempDir::with_prefix("saegis-test-").expect("a temporary folder");
        let pki = Self { example, folder, written: Cell::new(0) };
        fs::write(pki.anchor(), pki.example.cse_authority.pem()).expect("the folder is ours");
        pki
    }

    /// A gateway that shows a CSE-ID certificate, and believes each authority for its flavour.
    pub fn setup(&self) -> Setup {
        let of = &self.example;
        let flavours = [
            ("aes.pem", &of.ae_authority, "ae-id"),
            ("cses.pem", &of.cse_authority, "cse-id"),
            ("nodes.pem", &of.node_authority, "node-id"),
            ("devices.pem", &of.device_authority, "device"),
        ];
        let anchors = flavours.map(|(file, _, flavour)| anchor(file, &[flavour]));
        let setup =
            Setup::new().file("certificates.toml", &(own("gw") + &anchors.concat())).module(
                "certificate-table",
                "capabilities = [\"policy-tables\", \"service-subscription\"]",
            );
        for (file, authority, _) in flavours {
            setup.write(&format!("policies/{file}"), authority.pem().as_bytes());
        }
        write_own(&setup.path("policies"), "gw", &of.mn_cse);
        setup
    }

    /// The anchor of the gateway's certificate, for clients.
    pub fn anchor(&self) -> PathBuf {
        self.folder.path().join("anchor.pem")
    }

    /// A file for a client.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let nth = self.written.get();
        self.written.set(nth + 1);
        let path = self.folder.path().join(format!("{nth}-{name}"));
        fs::write(&path, bytes).expect("the folder is ours");
        path
    }

    /// Who shows a certificate with its chain.
    pub fn identity(&self, issued: &Issued) -> Identity {
        self.identity_of(issued.chain_pem(), &issued.key_pem())
    }

    /// Who shows a chain in PEM, its own certificate first, and has a key.
    pub fn identity_of(&self, chain: &str, key: &str) -> Identity {
        const END: &str = "-----END CERTIFICATE-----";
        let at = chain.find(END).map_or(chain.len(), |at| at + END.len());
        let (own, issuers) = chain.split_at(at);
        let issuers = issuers.trim_start();
        Identity {
            certificate: self.write("own.pem", own.trim_start().to_string() + "\n"),
            chain: self.write("chain.pem", chain),
            issuers: (!issuers.is_empty()).then(|| self.write("issuers.pem", issuers)),
            key: self.write("key.pem", key),
        }
    }

    /// The files of a key without a certificate: the public key, and the private one.
    pub fn raw(&self, key: &RawKey) -> (PathBuf, PathBuf) {
        (self.write("public.pem", key.public_pem()), self.write("key.pem", key.key_pem()))
    }
}

/// Clients that show certificates. All of them check the gateway's, name included.
impl Pki {
    /// Connects. A client of TLS 1.3 may still be turned away.
    ///
    /// # Errors
    /// How the handshake was refused.
    pub fn try_connect(
        &self,
        tool: Tool,
        port: u16,
        identity: Option<&Identity>,
        offers: &[String],
    ) -> Result<Client, Refused> {
        let anchor = self.anchor();
        let mut arguments: Vec<&str> = offers.iter().map(String::as_str).collect();
        let identity = identity.map(|i| (i, text(&i.certificate), text(&i.chain), text(&i.key)));
        match tool {
            Tool::OpenSsl => {
                arguments.extend(["-nocommands", "-verify", "5", "-verify_return_error"]);
                arguments.extend(["-CAfile", text(&anchor), "-verify_hostname", GATEWAY_NAME]);
                arguments.extend(["-servername", GATEWAY_NAME]);
                if let Some((identity, certificate, _, key)) = identity {
                    arguments.extend(["-cert", certificate, "-key", key]);
                    if let Some(issuers) = &identity.issuers {
                        arguments.extend(["-cert_chain", text(issuers)]);
                    }
                }
            }
            Tool::GnuTls => {
                arguments.extend(["--x509cafile", text(&anchor)]);
                arguments.extend(["--sni-hostname", GATEWAY_NAME]);
                arguments.extend(["--verify-hostname", GATEWAY_NAME]);
                if let Some((_, _, chain, key)) = identity {
                    arguments.extend(["--x509certfile", chain, "--x509keyfile", key]);
                }
            }
        }
        tool.try_with(port, None, &arguments)
    }

    /// Connects, which must work.
    #[track_caller]
    pub fn connect(&self, tool: Tool, port: u16, identity: &Identity, way: Way) -> Client {
        match self.try_connect(tool, port, Some(identity), &way.offers(tool)) {
            Ok(client) => client,
            Err(refused) => panic!("{tool:?} was refused by {way:?}: {refused:?}"),
        }
    }

    /// Connects, which must not work, and tells how it was refused.
    #[track_caller]
    pub fn refused(&self, tool: Tool, port: u16, identity: Option<&Identity>, way: Way) -> Refused {
        match self.try_connect(tool, port, identity, &way.offers(tool)) {
            Ok(client) if way == Way::Tls13 => client.turned_away(),
            Ok(_) => panic!("{tool:?} was let in by {way:?}"),
            Err(refused) => refused,
        }
    }

    /// Connects with Python.
    ///
    /// # Errors
    /// How the handshake was refused.
    pub fn python(&self, port: u16, identity: &Identity, way: Way) -> Result<Client, Refused> {
        let (anchor, port) = (self.anchor(), port.to_string());
        let files = [&anchor, &identity.chain, &identity.key].map(|path| text(path));
        python(&[&[port.as_str(), GATEWAY_NAME, way.cipher()][..], &files].concat())
    }

    /// Retrieves a resource with curl, and tells the status, the Response Status Code, the version
    /// of TLS and the content.
    pub fn curl(&self, port: u16, identity: &Identity, way: Way, from: &str, path: &str) -> Ran {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "10"]);
        match way {
            Way::Tls13 => command.arg("--tlsv1.3"),
            _ => command.args(["--tls-max", "1.2", "--ciphers", way.cipher()]),
        };
        command.args(["--resolve", &format!("{GATEWAY_NAME}:{port}:127.0.0.1")]);
        command.arg("--cacert").arg(self.anchor());
        command.arg("--cert").arg(&identity.chain).arg("--key").arg(&identity.key);
        command.args(["--header", &format!("X-M2M-Origin: {from}")]);
        command.args(["--header", "X-M2M-RI: curl", "--header", "X-M2M-RVI: 3"]);
        command.args(["--write-out", "\n%{http_code} %header{x-m2m-rsc}"]);
        to_end(command.arg(format!("https://{GATEWAY_NAME}:{port}{path}")))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// An entry of the policy file for a certificate of the gateway's own.
pub fn own(name: &str) -> String {
    format!("[[own]]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n")
}

/// An entry of the policy file for a trust anchor.
pub fn anchor(file: &str, flavours: &[&str]) -> String {
    format!("[[anchor]]\ncertificate = \"{file}\"\nflavours = {flavours:?}\n")
}

/// Puts a certificate of the gateway's own into a folder of policy files, and its key before it.
/// Each file is whole at any time.
pub fn write_own(policies: &Path, name: &str, issued: &Issued) {
    write_key(&policies.join(format!("{name}.key")), &issued.key_pem());
    put(&policies.join(format!("{name}.pem")), issued.chain_pem(), 0o644);
}

/// Writes a key that nobody else may read.
pub fn write_key(path: &Path, pem: &str) {
    put(path, pem, 0o600);
}

fn put(path: &Path, text: &str, mode: u32) {
    let aside = path.with_extension("new~");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(&aside);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&aside, path)).expect("the folder is ours");
}

impl Gateway {
    /// Replaces the certificate that it shows, and its key.
    pub fn replace_own(&self, name: &str, issued: &Issued) {
        write_own(&self.path("policies"), name, issued);
    }

    /// Replaces the file of an authority.
    pub fn replace_anchor(&self, file: &str, authority: &Authority) {
        self.replace(&format!("policies/{file}"), authority.pem());
    }
}
