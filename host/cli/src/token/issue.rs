//! `saegis token issue`.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::RngExt as _;
use saegis_jose::SigningKey;
use saegis_onem2m::id::AbsoluteId;
use saegis_onem2m::role::RoleId;
use saegis_onem2m::target::Target;
use saegis_onem2m::timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::error::TokenCommandError;
use crate::output::print;

/// Version of the claims (tkvr).
const VERSION: &str = "1.0.0";

/// Arguments of `saegis token issue`.
#[derive(clap::Args)]
pub struct Issue {
    /// File with the private key of the issuer in PEM (PKCS #8), of P-256 or P-384
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Name of the key, as in `token-issuers.toml`
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// Identifier of the issuer, as in `token-issuers.toml`
    #[arg(long)]
    issuer: String,
    /// Holder: absolute AE-ID or CSE-ID, such as `//in.provider.com/mn-cse-123456/Cphone`
    #[arg(long)]
    holder: String,
    /// Absolute CSE-ID of a CSE that may accept the token. May be repeated.
    #[arg(long = "cse", required = true, value_name = "CSE-ID")]
    cses: Vec<String>,
    /// Token-ID; by default 16 random hexadecimal digits
    #[arg(long)]
    id: Option<String>,
    /// Role of the holder, for all resources. May be repeated.
    #[arg(long = "role", required_unless_present = "resources")]
    roles: Vec<String>,
    /// Address of a resource that the holder may use. May be repeated.
    #[arg(long = "resource", value_name = "ADDRESS")]
    resources: Vec<String>,
    /// Operations that the holder may use on these resources
    #[arg(long, value_enum, value_delimiter = ',', default_value = "retrieve")]
    operations: Vec<Operation>,
    /// Start of its validity, in UTC, such as 20271231T080000; by default now
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Minutes for which it is valid
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=44_640))]
    minutes: u64,
    /// File to create, readable by its owner only; by default standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// An operation of an access control rule.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Operation {
    Create,
    Retrieve,
    Update,
    Delete,
    Notify,
    Discover,
}

impl Operation {
    /// Returns its bit in accessControlOperations.
    fn bit(self) -> u8 {
        match self {
            Self::Create => 1,
            Self::Retrieve => 2,
            Self::Update => 4,
            Self::Delete => 8,
            Self::Notify => 16,
            Self::Discover => 32,
        }
    }
}

/// Issues a token.
///
/// # Errors
/// Fails if an argument or the key is not valid, or the file cannot be created.
pub fn issue(args: &Issue, as_json: bool) -> Result<(), TokenCommandError> {
    let pem = fs::read(&args.key).map(Zeroizing::new);
    let pem = pem.map_err(TokenCommandError::file(&args.key))?;
    let wrong = |what: String| TokenCommandError::Argument(what);
    let key = SigningKey::from_pem(&pem).map_err(|e| wrong(format!("{:?} {e}", args.key)))?;
    let claims = claims(args, SystemTime::now()).map_err(wrong)?;
    let token = key.sign(&claims, args.key_id.as_deref());
    let token = token.map_err(|e| wrong(format!("the token {e}")))?;
    if let Some(file) = &args.output {
        let mut options = OpenOptions::new();
        let new = options.write(true).create_new(true).mode(0o600).open(file);
        new.and_then(|mut new| new.write_all(token.as_bytes()))
            .map_err(TokenCommandError::file(file))?;
    }
    let id = claims.get("jti").and_then(Value::as_str).unwrap_or_default();
    match &args.output {
        Some(file) if as_json => print(&json!({"id": id, "file": file}).to_string()),
        None if as_json => print(&json!({"id": id, "token": *token}).to_string()),
        Some(file) => print(&format!("wrote the token {id} to {}", file.display())),
        None => print(&token),
    }
    Ok(())
}

/// Returns the claims.
fn claims(args: &Issue, now: SystemTime) -> Result<Value, String> {
    for id in args.cses.iter().chain([&args.holder]) {
        AbsoluteId::parse(id).map_err(|e| format!("{id:?} {e}"))?;
    }
    for role in &args.roles {
        RoleId::check(role).map_err(|e| format!("{role:?} {e}"))?;
    }
    for address in &args.resources {
        Target::from_address(address).map_err(|e| format!("{address:?}: {e}"))?;
    }
    let from = match &args.from {
        Some(text) => timestamp::parse(text)
            .map_err(|_| format!("{text:?} is not a time such as 20271231T080000"))?,
        None => now,
    };
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let until = from + Duration::from_secs(args.minutes * 60);
    let random = || hex::encode(rand::rng().random::<[u8; 8]>());
    let id = args.id.clone().unwrap_or_else(random);
    let mut permissions = Vec::new();
    if !args.resources.is_empty() {
        let acop: u8 = args.operations.iter().fold(0, |all, operation| all | operation.bit());
        let rules = json!({"acr": [{"acor": [args.holder], "acop": acop}]});
        permissions.push(json!({"ris": args.resources, "pv": rules}));
    }
    if !args.roles.is_empty() {
        permissions.push(json!({ "rids": args.roles }));
    }
    Ok(json!({
        "tkvr": VERSION, "iss": args.issuer, "jti": id, "azp": args.holder, "aud": args.cses,
        "nbf": seconds(from), "exp": seconds(until), "tkps": {"pm": permissions},
    }))
}
