//! Gateways that accept certificates, and the certificates of their clients.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use saegis_test_ca::{Authority, Example, ExampleNames, Issued, RawKey};
use tempfile::TempDir;

use crate::client::{Client, RefusedHandshake, Tool, python};
use crate::command_line::{CommandOutput, to_end};
use crate::gateway::Gateway;
use crate::setup::Setup;

/// Name of the gateway in the worked example, as in its certificate.
pub const GATEWAY_NAME: &str = "mn-cse-123456.in-cse.in.provider.com";

/// The policy file.
pub const CERTIFICATES: &str = "policies/certificates.toml";

/// Policy file that maps certificates to entities.
pub const CERTIFICATE_TABLE: &str = "policies/certificate-table.csv";

/// Credential-IDs of the certificates in the worked example.
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

/// TLS version and cipher suite of a client with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.3.
    Tls13,
    /// TLS 1.2 with an AES-GCM suite.
    Tls12,
    /// Only the suite that TS-0003 mandates.
    Mandated,
    /// Only the other suite in TS-0003.
    Ccm,
}

impl TlsProfile {
    /// All variants. One engine of the gateway serves the first two, another engine the others.
    pub const ALL: [Self; 4] = [Self::Tls13, Self::Tls12, Self::Mandated, Self::Ccm];

    /// Returns the protocol version as the gateway logs it.
    pub fn protocol(self) -> &'static str {
        if self == Self::Tls13 { "TLSv1.3" } else { "TLSv1.2" }
    }

    /// Returns the registered name of the negotiated suite.
    pub fn suite(self) -> &'static str {
        match self {
            Self::Tls13 => "TLS_AES_256_GCM_SHA384",
            Self::Tls12 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Self::Mandated => "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
            Self::Ccm => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
        }
    }

    /// Returns OpenSSL's name of the suite, or an empty string for TLS 1.3.
    pub(crate) fn cipher(self) -> &'static str {
        match self {
            Self::Tls13 => "",
            Self::Tls12 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            Self::Mandated => "ECDHE-ECDSA-AES128-SHA256",
            Self::Ccm => "ECDHE-ECDSA-AES128-CCM",
        }
    }

    /// Returns the arguments that make a tool offer only this version and suite.
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

/// A certificate and its private key, as PEM files for clients.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The certificate and its intermediate authorities, without the root.
    pub chain: PathBuf,
    /// The intermediate authorities alone, if any.
    pub issuers: Option<PathBuf>,
    /// The key.
    pub key: PathBuf,
}

/// The authorities and certificates of the worked example, and a folder for the files of clients.
pub struct Pki {
    /// The authorities and the certificates that they issued.
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
    /// Creates new authorities and certificates.
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

    /// Returns a gateway that presents a CSE-ID certificate and trusts each authority for its
    /// flavor.
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
        write_gateway_certificate(&setup.path("policies"), "gw", &of.mn_cse);
        setup
    }

    /// Returns the same gateway with a revocation list of the AEs' authority, which revokes nothing:
    /// `policies/aes.crl`.
    pub fn setup_with_list(&self) -> Setup {
        let setup = self.setup();
        let text = fs::read_to_string(setup.path(CERTIFICATES)).expect("the file was written");
        let entry = anchor("aes.pem", &["ae-id"]);
        let with_list = text.replace(&entry, &format!("{entry}crls = [\"aes.crl\"]\n"));
        setup.write(CERTIFICATES, with_list.as_bytes());
        let list = self.example.ae_authority.revoke(&[]).expect("a list can be made");
        setup.write("policies/aes.crl", list.pem().as_bytes());
        setup
    }

    /// Returns the trust anchor of the gateway's certificate, for clients.
    pub fn anchor(&self) -> PathBuf {
        self.folder.path().join("anchor.pem")
    }

    /// Writes a file for a client.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let nth = self.written.get();
        self.written.set(nth + 1);
        let path = self.folder.path().join(format!("{nth}-{name}"));
        fs::write(&path, bytes).expect("the folder is ours");
        path
    }

    /// Returns the identity of a certificate with its chain.
    pub fn identity(&self, issued: &Issued) -> Identity {
        self.identity_of(issued.chain_pem(), &issued.key_pem())
    }

    /// Returns the identity of a chain in PEM, end-entity certificate first, and a key.
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

    /// Returns the files of a key without a certificate: the public key and the private key.
    pub fn raw(&self, key: &RawKey) -> (PathBuf, PathBuf) {
        (self.write("public.pem", key.public_pem()), self.write("key.pem", key.key_pem()))
    }
}

/// Clients that present certificates. Each of them verifies the gateway's certificate and its name.
impl Pki {
    /// Connects. The gateway may still reject a client of TLS 1.3 after this.
    ///
    /// # Errors
    /// Returns how the gateway refused the handshake.
    pub fn try_connect(
        &self,
        tool: Tool,
        port: u16,
        identity: Option<&Identity>,
        offers: &[String],
    ) -> Result<Client, RefusedHandshake> {
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

    /// Connects, and panics if the handshake fails.
    #[track_caller]
    pub fn connect(
        &self,
        tool: Tool,
        port: u16,
        identity: &Identity,
        profile: TlsProfile,
    ) -> Client {
        match self.try_connect(tool, port, Some(identity), &profile.offers(tool)) {
            Ok(client) => client,
            Err(refused) => panic!("{tool:?} was refused with {profile:?}: {refused:?}"),
        }
    }

    /// Connects, panics if the gateway accepts the client, and returns the refusal.
    #[track_caller]
    pub fn refused(
        &self,
        tool: Tool,
        port: u16,
        identity: Option<&Identity>,
        profile: TlsProfile,
    ) -> RefusedHandshake {
        match self.try_connect(tool, port, identity, &profile.offers(tool)) {
            Ok(client) if profile == TlsProfile::Tls13 => client.rejected_after_handshake(),
            Ok(_) => panic!("{tool:?} was accepted with {profile:?}"),
            Err(refused) => refused,
        }
    }

    /// Connects with Python.
    ///
    /// # Errors
    /// Returns how the gateway refused the handshake.
    pub fn python(
        &self,
        port: u16,
        identity: &Identity,
        profile: TlsProfile,
    ) -> Result<Client, RefusedHandshake> {
        let (anchor, port) = (self.anchor(), port.to_string());
        let files = [&anchor, &identity.chain, &identity.key].map(|path| text(path));
        python(&[&[port.as_str(), GATEWAY_NAME, profile.cipher()][..], &files].concat())
    }

    /// Retrieves a resource with curl. The output holds the content, the HTTP status and the
    /// Response Status Code.
    pub fn curl(
        &self,
        port: u16,
        identity: &Identity,
        profile: TlsProfile,
        from: &str,
        path: &str,
    ) -> CommandOutput {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "10"]);
        match profile {
            TlsProfile::Tls13 => command.arg("--tlsv1.3"),
            _ => command.args(["--tls-max", "1.2", "--ciphers", profile.cipher()]),
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

/// Returns a policy file entry for a certificate of the gateway.
pub fn own(name: &str) -> String {
    format!("[[own]]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n")
}

/// Returns a policy file entry for a trust anchor.
pub fn anchor(file: &str, flavours: &[&str]) -> String {
    format!("[[anchor]]\ncertificate = \"{file}\"\nflavours = {flavours:?}\n")
}

/// Writes the key and then the certificate of the gateway into a folder of policy files. Each file
/// is replaced atomically.
pub fn write_gateway_certificate(policies: &Path, name: &str, issued: &Issued) {
    write_key(&policies.join(format!("{name}.key")), &issued.key_pem());
    put(&policies.join(format!("{name}.pem")), issued.chain_pem(), 0o644);
}

/// Writes a key that only the owner may read.
pub fn write_key(path: &Path, pem: &str) {
    put(path, pem, 0o600);
}

fn put(path: &Path, text: &str, mode: u32) {
    let temporary = path.with_extension("new~");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(&temporary);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&temporary, path)).expect("the folder is ours");
}

impl Gateway {
    /// Replaces the gateway's certificate and key.
    pub fn replace_gateway_certificate(&self, name: &str, issued: &Issued) {
        write_gateway_certificate(&self.path("policies"), name, issued);
    }

    /// Replaces the certificate file of an authority.
    pub fn replace_anchor(&self, file: &str, authority: &Authority) {
        self.replace(&format!("policies/{file}"), authority.pem());
    }
}
