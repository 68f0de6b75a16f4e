//! The file of cases: what a module is asked, over which policy, and what it should answer.

use std::collections::BTreeMap;
use std::path::Path;

use saegis_policy::{Document, Fault, Faults, Hook};
use serde::Deserialize;
use toml::Spanned;

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// What every case is asked over.
    #[serde(default)]
    pub policy: Policy,
    /// Bounds on every call.
    #[serde(default)]
    pub limits: Limits,
    /// The association of every request and registration.
    #[serde(default)]
    pub association: Association,
    /// The cases.
    #[serde(default, rename = "case")]
    pub cases: Vec<Case>,
}

/// What a module is asked over. What a case has of its own takes the place of the file's.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// The CSE-ID of the CSE at whose door this is.
    pub cse_id: Option<Spanned<String>>,
    /// Its service provider's domain name.
    pub service_provider: Option<String>,
    /// The CSE-IDs of those that it registers with.
    pub registrars: Option<Vec<Spanned<String>>>,
    /// Policy tables by name, as the CSV files have them.
    pub tables: Option<BTreeMap<String, Spanned<String>>>,
    /// Policy files by name.
    pub files: Option<BTreeMap<String, String>>,
    /// The service subscription, as its policy file has it.
    pub service_subscription: Option<Spanned<String>>,
    /// M2M Authentication Functions.
    pub mafs: Option<Vec<Maf>>,
    /// What a module with `config` reads, by name.
    pub config: Option<BTreeMap<String, String>>,
    /// What is in the store of a module with `key-value`, by key.
    pub key_value: Option<BTreeMap<String, String>>,
    /// What fits into that store, in bytes.
    pub quota_bytes: Option<u64>,
    /// What the requests of a module with `outgoing-http` are answered. Others are refused, and none is
    /// sent.
    pub http: Option<Vec<Http>>,
    /// What the clock says, as `20261231T235959`.
    pub now: Option<Spanned<String>>,
}

/// What an HTTP request is answered.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// The address of the request, with its query.
    pub url: String,
    /// The status of the answer.
    #[serde(default = "ok")]
    pub status: Spanned<u16>,
    /// Its content.
    #[serde(default)]
    pub body: String,
}

fn ok() -> Spanned<u16> {
    Spanned::new(0..0, 200)
}

/// An M2M Authentication Function, and its keys for this CSE.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Maf {
    /// Its domain name.
    pub fqdn: String,
    /// Whether it can be reached.
    #[serde(default = "yes")]
    pub reachable: bool,
    /// The keys that it has for this CSE.
    #[serde(default)]
    pub keys: Vec<MafKey>,
}

/// A key at a MAF.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafKey {
    /// Its RelativeKeyID.
    pub id: Spanned<String>,
    /// Who registered it.
    pub source: Spanned<Entity>,
    /// The key, in hexadecimal digits.
    pub key: Spanned<String>,
    /// What it is for: 32 for a security association.
    #[serde(default = "saef")]
    pub suid: u8,
    /// From when on it no longer holds.
    pub expires: Spanned<String>,
}

fn yes() -> bool {
    true
}

fn saef() -> u8 {
    32
}

/// Bounds on a call, and what it may cost.
#[derive(Deserialize, Default, Clone, Copy)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Computing time, as `modules.deadline-milliseconds`.
    pub deadline_milliseconds: Option<u64>,
    /// Memory, as `modules.memory-bytes`.
    pub memory_bytes: Option<usize>,
    /// Most fuel that the call may use. It is counted, not enforced: more fails the case.
    pub fuel: Option<u64>,
}

/// A security association. What a case has of its own takes the place of the file's.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Association {
    /// How it was established.
    pub saef: Option<Saef>,
    /// Whom it stands for.
    pub entity: Option<Spanned<Entity>>,
    /// Its Credential-ID.
    pub credential_id: Option<Spanned<String>>,
    /// The peer's IP address.
    pub peer: Option<std::net::IpAddr>,
}

/// How an association was established.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub enum Saef {
    ProvisionedSymmetricKey,
    Certificate,
    Maf,
}

/// Whom a credential or an association stands for.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Entity {
    NotYetKnown,
    Ae(String),
    Aes(Vec<String>),
    Cse(String),
    MafClient(String),
}

/// One question, and the answer to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// What it shows, in a sentence.
    pub name: Spanned<String>,
    /// A psk_identity, for `credential-lookup`.
    pub lookup: Option<Lookup>,
    /// A certificate, for `certificate-mapping`.
    pub certificate: Option<Certificate>,
    /// A request, for `impersonation-check`.
    pub request: Option<Request>,
    /// A create of an AE, for `registration-check`.
    pub registration: Option<Registration>,
    /// A registration of a key at a MAF, for `key-registration-check`.
    pub key_registration: Option<KeyRegistration>,
    /// Of the association, what differs from the file's.
    #[serde(default)]
    pub association: Association,
    /// Of the policy, what differs from the file's.
    #[serde(default)]
    pub policy: Policy,
    /// Of the bounds, what differs from the file's.
    #[serde(default)]
    pub limits: Limits,
    /// What the module should answer.
    pub expect: Spanned<Expect>,
}

/// What a TLS-PSK handshake tells.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lookup {
    pub psk_identity: String,
    pub server_name: Option<String>,
    pub peer: Option<std::net::IpAddr>,
}

/// A certificate, or raw public key, that names nobody by itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Certificate {
    pub credential_id: Spanned<String>,
    pub server_name: Option<String>,
    pub peer: Option<std::net::IpAddr>,
}

/// A request primitive.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Request {
    pub operation: Operation,
    /// An address: `light`, `/mn-cse/light`, `//in.provider.com/mn-cse/light`.
    pub to: Spanned<String>,
    pub from: Option<String>,
    pub resource_type: Option<u16>,
    /// The representation, in JSON. The originators that it names are found in it.
    pub content: Option<Spanned<String>>,
}

/// The operation of a request.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    Create,
    Retrieve,
    Update,
    Delete,
    Notify,
}

/// A create of an AE.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registration {
    pub from: Option<String>,
    pub app_id: String,
}

/// A registration of a key at a MAF.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyRegistration {
    #[serde(default = "saef")]
    pub suid: u8,
    pub targets: Vec<Spanned<String>>,
}

/// What a module should answer.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// A look-up or a mapping does not know it.
    NotMine,
    /// A look-up or a mapping finds it.
    Found(Found),
    /// A look-up or a mapping refuses it; the reason contains this.
    Refused(String),
    /// A check allows it, that far.
    Allow(Allow),
    /// A check denies it.
    Deny(Deny),
    /// The call fails for that cause.
    Failed(Cause),
}

/// What is found. What is left out may be anything.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Found {
    pub entity: Spanned<Entity>,
    pub credential_id: Option<String>,
    /// In hexadecimal digits.
    pub key: Option<Spanned<String>>,
    /// A time, or `never`.
    pub expires: Option<Spanned<String>>,
}

/// How far an allowance holds.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Allow {
    ThisRequest,
    Originator,
}

/// A denial. The reason contains the text.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Deny {
    pub rsc: u16,
    #[serde(default)]
    pub reason: String,
}

/// Why a call fails.
#[derive(Deserialize, Debug, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    Deadline,
    Memory,
    Trap,
    InvalidResponse,
    NoSandbox,
}

impl Cause {
    /// Its name, as gateways log it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Trap => "trap",
            Self::InvalidResponse => "invalid-response",
            Self::NoSandbox => "no-sandbox",
        }
    }
}

/// Most cases of a file.
const MAX_CASES: usize = 10_000;

/// Largest file, in bytes.
pub const MAX_FILE: u64 = 8 << 20;

impl File {
    /// Reads a file of cases, as far as its form goes.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(file: &Path) -> Result<(Self, String), Faults> {
        let bytes = saegis_policy::read_file(file, MAX_FILE).map_err(|f| Faults(vec![f]))?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_string(),
            Err(_) => return Err(Faults(vec![Fault::of(file, "is not UTF-8")])),
        };
        let mut document = Document::parse(file, &text);
        let read: Option<Self> = document.read();
        if let Some(read) = &read {
            if read.cases.is_empty() && !document.is_faulty("case") {
                document.add_fault("case", "there is none; each is a table [[case]]");
            }
            if let Some(case) = read.cases.get(MAX_CASES) {
                let what = format!("is one case more than a file may have ({MAX_CASES})");
                document.add_fault_of(&case.name, &what);
            }
            read.cases.iter().for_each(|case| case.check(&mut document));
        }
        let faults = document.into_faults();
        match read {
            Some(read) if faults.is_empty() => Ok((read, text)),
            _ => Err(Faults(faults)),
        }
    }
}

impl Case {
    /// The hooks that it asks; one, where it is as it should be.
    fn hooks(&self) -> Vec<Hook> {
        let asks = [
            (self.lookup.is_some(), Hook::CredentialLookup),
            (self.certificate.is_some(), Hook::CertificateMapping),
            (self.request.is_some(), Hook::ImpersonationCheck),
            (self.registration.is_some(), Hook::RegistrationCheck),
            (self.key_registration.is_some(), Hook::KeyRegistrationCheck),
        ];
        asks.into_iter().filter_map(|(asks, hook)| asks.then_some(hook)).collect()
    }

    fn check(&self, document: &mut Document<'_>) {
        let hooks = self.hooks();
        let [hook] = hooks.as_slice() else {
            let what = "must have one of lookup, certificate, request, registration and \
                        key-registration";
            document.add_fault_of(&self.name, what);
            return;
        };
        let finds = matches!(hook, Hook::CredentialLookup | Hook::CertificateMapping);
        let fits = match self.expect.get_ref() {
            Expect::NotMine | Expect::Found(_) | Expect::Refused(_) => finds,
            Expect::Allow(_) | Expect::Deny(_) => !finds,
            Expect::Failed(_) => true,
        };
        if !fits {
            let answers = if finds {
                "\"not-mine\", found, refused or failed"
            } else {
                "allow, deny or failed"
            };
            document.add_fault_in(&self.expect, &format!("{hook} answers with {answers}"));
        }
        if let Expect::Found(Found { credential_id, key, .. }) = self.expect.get_ref()
            && *hook == Hook::CertificateMapping
            && (credential_id.is_some() || key.is_some())
        {
            let what = format!("{hook} finds an entity, and neither a Credential-ID nor a key");
            document.add_fault_in(&self.expect, &what);
        }
    }
}
