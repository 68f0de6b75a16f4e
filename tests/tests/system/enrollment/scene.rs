//! A MEF with an authority for AEs, a light with a key for it, and certificates of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use saegis_test_ca::{Authority, Issued, Name, Request as CaRequest};
use saegis_tests::certificates::{Identity, Pki};
use saegis_tests::{
    Client, CommandOutput, Credential, Gateway, Request, Response, Setup, Tool, openssl, saegis,
};

/// Domain name of the MEF.
pub const FQDN: &str = "mef.in.provider.com";
/// The light, its key at the MEF, and a device that must not be enrolled.
pub const LIGHT: &str = "//in.provider.com/mn-cse-123456/Clight-AE1";
pub const LIGHT_KPM: Credential<'static> =
    Credential { identity: "light@mef.in.provider.com", key: "505152535455565758595a5b5c5d5e5f" };
pub const OTHER: &str = "//in.provider.com/mn-cse-123456/Cother";
pub const OTHER_KPM: Credential<'static> =
    Credential { identity: "other@mef.in.provider.com", key: "606162636465666768696a6b6c6d6e6f" };
/// A CSE, and its domain name.
pub const CSE: &str = "//in.provider.com/mn-cse-123456";
pub const CSE_DOMAIN: &str = "mn-cse-123456.in-cse.in.provider.com";
pub const CSE_KPM: Credential<'static> =
    Credential { identity: "mn@mef.in.provider.com", key: "707172737475767778797a7b7c7d7e7f" };

/// The MEF, the authorities, and a folder for the files of clients.
pub struct Scene {
    pub mef: Gateway,
    pub pki: Pki,
    /// Certificate of the authority that issues the MEF's own certificate.
    pub mef_anchor: PathBuf,
}

/// Returns a MEF with an authority, before its start.
pub fn setup(pki: &Pki, ca: &Authority) -> (Setup, Authority) {
    let own = Authority::new(&CaRequest::new("MEFs").permit(Name::dns(FQDN))).unwrap();
    let certificate = own.issue(&CaRequest::new("mef").name(Name::dns(FQDN))).unwrap();
    let row = |id: &str, key: Credential<'_>| format!("{id},{},{}\n", key.key, key.identity);
    let table = [
        "client_id,km,km_id\n".to_string(),
        row(LIGHT, LIGHT_KPM),
        row(OTHER, OTHER_KPM),
        row(CSE, CSE_KPM),
    ];
    let certificates = "[[own]]\ncertificate = \"mef.pem\"\nkey = \"mef.key\"\n\n\
         [[anchor]]\ncertificate = \"aes.pem\"\nflavours = [\"ae-id\"]\n\n\
         [[anchor]]\ncertificate = \"cses.pem\"\nflavours = [\"cse-id\"]\n";
    let setup = Setup::mef(FQDN, ca)
        .with(
            "mef.est",
            "allowed-names = [\"//in.provider.com/mn-cse-123456/Clight*\", \
             \"mn-cse-123456.in-cse.in.provider.com\"]",
        )
        .file("km-table.csv", &table.concat())
        .file("mef.pem", certificate.chain_pem())
        .file("mef.key", &certificate.key_pem())
        .file("aes.pem", pki.example.ae_authority.pem())
        .file("cses.pem", pki.example.cse_authority.pem())
        .file("certificates.toml", certificates);
    (setup, own)
}

impl Scene {
    /// Starts a MEF that enrolls AEs, with many requests an hour.
    pub fn start() -> Self {
        Self::with(
            |pki| &pki.example.ae_authority,
            |setup| setup.with("mef.est", "requests-per-hour = 1000"),
        )
    }

    /// Starts a MEF with this authority, and other settings.
    pub fn with(
        ca: impl FnOnce(&Pki) -> &Authority,
        settings: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let pki = Pki::new();
        let (setup, own) = setup(&pki, ca(&pki));
        let mef_anchor = pki.write("mef-anchor.pem", own.pem());
        Self { mef: settings(setup).start(), pki, mef_anchor }
    }

    /// Connects with a key.
    #[track_caller]
    pub fn connect(&self, tool: Tool, credential: Credential<'_>) -> Connection {
        Connection(tool.connect(self.mef.port(), credential))
    }

    /// Sends a request with curl, and returns the status and the content.
    pub fn curl(&self, identity: &Identity, name: &str, more: &[&str]) -> (u16, String) {
        let address = format!("https://{FQDN}:{}/.well-known/est/{name}", self.mef.port());
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(["--resolve", &format!("{FQDN}:{}:127.0.0.1", self.mef.port())])
            .arg("--cacert")
            .arg(&self.mef_anchor)
            .arg("--cert")
            .arg(&identity.chain)
            .arg("--key")
            .arg(&identity.key)
            .args(["--write-out", "\n%{http_code}"])
            .args(more)
            .arg(address)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (content, status) = text.rsplit_once('\n').unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        (status.parse().unwrap_or_else(|_| panic!("{text} {said}")), content.into())
    }

    /// Enrolls with curl.
    pub fn curl_enroll(&self, identity: &Identity, name: &str, csr: &Csr) -> (u16, String) {
        let content = format!("@{}", csr.content.display());
        let kind = "Content-Type: application/pkcs10";
        self.curl(identity, name, &["--header", kind, "--data-binary", &content])
    }

    /// Returns the files of an issued certificate.
    pub fn identity(&self, issued: &Issued) -> Identity {
        self.pki.identity(issued)
    }

    /// Writes the configuration of the light, `ae.toml` in the folder of a gateway.
    pub fn write_light(&self, gateway: &Gateway, credential: &str) {
        let text = format!(
            "[registrar]\naddress = \"127.0.0.1:{}\"\ncse-id = \"mn-cse-123456\"\n\
             domain-name = \"{CSE_DOMAIN}\"\n\n\
             [credential]\ncertificate = \"light.pem\"\nkey = \"light.pem\"\n\
             trust-anchors = [\"{}\"]\n\n\
             [mef]\nfqdn = \"{FQDN}\"\naddress = \"127.0.0.1:{}\"\nclient-id = \"{LIGHT}\"\n\
             trust-anchors = [\"{}\"]\n{credential}\n\n\
             [ae]\nae-id = \"Clight-AE1\"\napp-id = \"Nlight\"\nname = \"light1\"\n",
            gateway.port(),
            self.pki.anchor().display(),
            self.mef.port(),
            self.mef_anchor.display(),
        );
        gateway.write("ae.toml", text);
    }
}

/// Returns the lines with the key of the light for the MEF.
pub fn kpm() -> String {
    let Credential { identity, key } = LIGHT_KPM;
    format!("credential = {{ kpm-id = \"{identity}\", kpm = \"{key}\" }}")
}

/// Runs a command of the light.
pub fn light(gateway: &Gateway, verb: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), &[&["ae", "--config", "ae.toml"], verb].concat())
}

/// An association with a key.
pub struct Connection(Client);

impl Connection {
    /// Sends a request of EST.
    pub fn ask(&mut self, request: &Request) -> Response {
        self.0.send(&request.bytes());
        self.0.read()
    }

    /// Sends a certification request.
    pub fn enroll(&mut self, name: &str, content: &str) -> Response {
        self.ask(&enrollment(name, content))
    }

    /// Sends a request, and returns whether the association ends without a certificate.
    pub fn ends(&mut self, request: &Request) -> bool {
        self.0.send(&request.bytes());
        self.0.try_read().is_none_or(|response| response.status() == 403)
    }

    /// Sends a certification request, and asserts the status of the refusal and a part of its reason.
    #[track_caller]
    pub fn refused(&mut self, content: &str, status: u16, why: &str) {
        let response = self.enroll("simpleenroll", content);
        assert_eq!(response.status(), status, "{why}: {}", response.text());
        assert!(response.text().contains(why), "{why}: {}", response.text());
    }
}

/// Returns a request with a certification request as its content.
pub fn enrollment(name: &str, content: &str) -> Request {
    Request::new("POST", &format!("/.well-known/est/{name}"))
        .header("Content-Type", "application/pkcs10")
        .body(content)
}

/// A certification request that OpenSSL made, with its key.
pub struct Csr {
    /// File with the request in base64.
    pub content: PathBuf,
    /// File with the key.
    pub key: PathBuf,
}

impl Csr {
    /// Creates a request for these subject alternative names, such as `URI://sp/Cx`.
    pub fn new(pki: &Pki, common_name: &str, names: &str) -> Self {
        let names =
            if names.is_empty() { String::new() } else { format!("subjectAltName={names}") };
        Self::with(
            pki,
            common_name,
            &names,
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        )
    }

    /// Creates a request with these extensions in the form of OpenSSL's configuration, and this key.
    pub fn with(pki: &Pki, common_name: &str, extensions: &str, key: &[&str]) -> Self {
        let requested = if extensions.is_empty() { "" } else { "req_extensions=extensions\n" };
        let configuration = format!(
            "[req]\nprompt=no\ndistinguished_name=name\n{requested}\n[name]\nCN={common_name}\n\n\
             [extensions]\n{extensions}\n"
        );
        Self::configured(pki, &configuration, key)
    }

    /// Creates a request with this configuration of OpenSSL.
    pub fn configured(pki: &Pki, configuration: &str, key: &[&str]) -> Self {
        let configuration = pki.write("req.cnf", configuration);
        let (der, key_file) = (pki.write("request.der", ""), pki.write("request.key", ""));
        let files = ["-config", text(&configuration), "-keyout", text(&key_file)];
        let out = ["-outform", "DER", "-out", text(&der)];
        openssl(&[&["req", "-new", "-nodes", "-sha256"][..], key, &files, &out].concat()).expect(0);
        let base64 = openssl(&["base64", "-in", text(&der)]).expect(0).out;
        Self { content: pki.write("request.b64", base64), key: key_file }
    }

    /// Returns the request in base64.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.content).unwrap()
    }

    /// Returns the certificate in a response as PEM, as OpenSSL reads it, with the key of the request.
    pub fn certified(&self, pki: &Pki, response: &str) -> Identity {
        let key = fs::read_to_string(&self.key).unwrap();
        pki.identity_of(&certificates(pki, response), &key)
    }
}

/// Returns the certificates of a response in PEM, as OpenSSL reads them.
pub fn certificates(pki: &Pki, response: &str) -> String {
    let text_file = pki.write("response.p7", response);
    let der = pki.write("response.der", "");
    openssl(&["base64", "-d", "-in", text(&text_file), "-out", text(&der)]).expect(0);
    let printed = openssl(&["pkcs7", "-inform", "DER", "-in", text(&der), "-print_certs"]);
    let printed = printed.expect(0).out;
    let mut pem = String::new();
    let mut inside = false;
    for line in printed.lines() {
        inside |= line.starts_with("-----BEGIN");
        if inside {
            pem.push_str(line);
            pem.push('\n');
        }
        inside &= !line.starts_with("-----END");
    }
    pem
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
