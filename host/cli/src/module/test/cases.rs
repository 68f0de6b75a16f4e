//! The file of cases: the questions for a module, the policy around them, and the expected
//! responses.

use std::collections::BTreeMap;
use std::path::Path;

use saegis_policy::{Document, Fault, Faults, Hook};
use serde::Deserialize;
use toml::Spanned;

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Policy of all cases.
    #[serde(default)]
    pub policy: Policy,
    /// Limits of each call.
    #[serde(default)]
    pub limits: Limits,
    /// Association of all requests and registrations.
    #[serde(default)]
    pub association: Association,
    /// The cases.
    #[serde(default, rename = "case")]
    pub cases: Vec<Case>,
}

/// Policy around a call. Entries of a case override those of the file.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// CSE-ID of the CSE that the gateway protects.
    pub cse_id: Option<Spanned<String>>,
    /// Domain name of its service provider.
    pub service_provider: Option<String>,
    /// CSE-IDs of its registrar CSEs.
    pub registrars: Option<Vec<Spanned<String>>>,
    /// Policy tables by name, in the syntax of the CSV files.
    pub tables: Option<BTreeMap<String, Spanned<String>>>,
    /// Policy files by name.
    pub files: Option<BTreeMap<String, String>>,
    /// Service subscription, in the syntax of its policy file.
    pub service_subscription: Option<Spanned<String>>,
    /// M2M Authentication Functions.
    pub mafs: Option<Vec<Maf>>,
    /// Values for a module with the capability `config`, by name.
    pub config: Option<BTreeMap<String, String>>,
    /// Content of the store of a module with the capability `key-value`, by key.
    pub key_value: Option<BTreeMap<String, String>>,
    /// Quota of that store, in bytes.
    pub quota_bytes: Option<u64>,
    /// Responses to the requests of a module with `outgoing-http`. Other requests fail. No request
    /// is sent.
    pub http: Option<Vec<Http>>,
    /// Current time, such as `20261231T235959`.
    pub now: Option<Spanned<String>>,
}

/// Response to an HTTP request.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// URL of the request, with its query.
    pub url: String,
    /// Status of the response.
    #[serde(default = "ok")]
    pub status: Spanned<u16>,
    /// Body of the response.
    #[serde(default)]
    pub body: String,
}

fn ok() -> Spanned<u16> {
    Spanned::new(0..0, 200)
}

/// M2M Authentication Function, and its keys for this CSE.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Maf {
    /// Domain name.
    pub fqdn: String,
    /// Whether it can be reached.
    #[serde(default = "yes")]
    pub reachable: bool,
    /// Keys for this CSE.
    #[serde(default)]
    pub keys: Vec<MafKey>,
}

/// Key at a MAF.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafKey {
    /// RelativeKeyID.
    pub id: Spanned<String>,
    /// Entity that registered it.
    pub source: Spanned<Entity>,
    /// Key, in hexadecimal digits.
    pub key: Spanned<String>,
    /// Security usage: 32 for a security association.
    #[serde(default = "saef")]
    pub suid: u8,
    /// Expiration time.
    pub expires: Spanned<String>,
}

fn yes() -> bool {
    true
}

fn saef() -> u8 {
    32
}

/// Limits of a call.
#[derive(Deserialize, Default, Clone, Copy)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Computing time, as `modules.deadline-milliseconds`.
    pub deadline_milliseconds: Option<u64>,
    /// Memory, as `modules.memory-bytes`.
    pub memory_bytes: Option<usize>,
    /// Maximum fuel of the call. It is measured, not enforced: exceeding it fails the case.
    pub fuel: Option<u64>,
}

/// Security association. Entries of a case override those of the file.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Association {
    /// Security Association Establishment Framework.
    pub saef: Option<Saef>,
    /// Entity that it stands for.
    pub entity: Option<Spanned<Entity>>,
    /// Credential-ID.
    pub credential_id: Option<Spanned<String>>,
    /// IP address of the peer.
    pub peer: Option<std::net::IpAddr>,
}

/// Security Association Establishment Framework (SAEF) of an association.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub enum Saef {
    ProvisionedSymmetricKey,
    Certificate,
    Maf,
}

/// Entity of a credential or an association.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Entity {
    NotYetKnown,
    Ae(String),
    Aes(Vec<String>),
    Cse(String),
    MafClient(String),
}

/// One question and the expected response.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// Purpose of the case, in one sentence.
    pub name: Spanned<String>,
    /// A psk_identity, for `credential-lookup`.
    pub lookup: Option<Lookup>,
    /// A certificate, for `certificate-mapping`.
    pub certificate: Option<Certificate>,
    /// A request, for `impersonation-check`.
    pub request: Option<Request>,
    /// A create request for an AE, for `registration-check`.
    pub registration: Option<Registration>,
    /// A registration of a key at a MAF, for `key-registration-check`.
    pub key_registration: Option<KeyRegistration>,
    /// Overrides of the association.
    #[serde(default)]
    pub association: Association,
    /// Overrides of the policy.
    #[serde(default)]
    pub policy: Policy,
    /// Overrides of the limits.
    #[serde(default)]
    pub limits: Limits,
    /// Expected response.
    pub expect: Spanned<Expect>,
}

/// Values from a TLS-PSK handshake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lookup {
    pub psk_identity: String,
    pub server_name: Option<String>,
    pub peer: Option<std::net::IpAddr>,
}

/// A certificate or raw public key that does not name an entity.
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
    /// The representation, in JSON. The originators in it are extracted.
    pub content: Option<Spanned<String>>,
}

/// Operation of a request.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    Create,
    Retrieve,
    Update,
    Delete,
    Notify,
}

/// A create request for an AE.
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

/// Expected response of a module.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// A lookup or a mapping does not know the credential.
    NotMine,
    /// A lookup or a mapping finds the credential.
    Found(Found),
    /// A lookup or a mapping rejects it; the reason contains this text.
    Refused(String),
    /// A check allows it, with this scope.
    Allow(Allow),
    /// A check denies it.
    Deny(Deny),
    /// The call fails with this cause.
    Failed(Cause),
}

/// Expected entity, key and expiry. Entries that are missing match anything.
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

/// Scope of an allowance.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Allow {
    ThisRequest,
    Originator,
}

/// Expected denial. The reason contains the text.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Deny {
    pub rsc: u16,
    #[serde(default)]
    pub reason: String,
}

/// Cause of a failed call.
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
    /// Returns its name, as logged by gateways.
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

/// Maximum number of cases of a file.
const MAX_CASES: usize = 10_000;

/// Maximum size of a file, in bytes.
pub const MAX_FILE: u64 = 8 << 20;

impl File {
    /// Parses a file of cases and checks its syntax.
    ///
    /// # Errors
    /// Returns all faults of the file.
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
                document.add_fault("case", "is missing; each case is a table [[case]]");
            }
            if let Some(case) = read.cases.get(MAX_CASES) {
                let what = format!("exceeds the maximum number of cases ({MAX_CASES})");
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
    /// Returns the hooks that the case calls; a valid case has one.
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
            document.add_fault_in(&self.expect, &format!("{hook} responds with {answers}"));
        }
        if let Expect::Found(Found { credential_id, key, .. }) = self.expect.get_ref()
            && *hook == Hook::CertificateMapping
            && (credential_id.is_some() || key.is_some())
        {
            let what = format!("{hook} finds an entity, not a Credential-ID or a key");
            document.add_fault_in(&self.expect, &what);
        }
    }
}
