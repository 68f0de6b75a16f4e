//! `saegis certs inspect`: prints the content of a certificate or key file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use saegis_certificate::pem::{self, Item};
use saegis_certificate::{KeyKind, PublicKeyId, Summary, summary};
use saegis_onem2m::timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::error::CertsError;
use super::error::REFUSED;
use crate::certs::verify::{CertificateVerifier, Verdict};

/// Arguments of `saegis certs inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// File, in PEM or DER
    file: PathBuf,
    /// Configuration of the gateway that verifies it; by default saegis.toml, if that exists
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Maximum size of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Item of a file, as text and as JSON.
struct Description {
    title: String,
    lines: Vec<(&'static str, String)>,
    json: Value,
}

/// Prints the content of a file, and whether a gateway accepts it. Returns the exit code.
///
/// # Errors
/// Fails if the file cannot be read, or if the configuration of the gateway is invalid.
pub async fn run(args: &Args, as_json: bool) -> Result<u8, CertsError> {
    let unreadable = |why: String| CertsError::Unreadable { file: args.file.clone(), why };
    let bytes = read(&args.file).map_err(unreadable)?;
    let items = pem::items(&bytes).map_err(|e| unreadable(reason(&e)))?;
    drop(bytes);
    let descriptions: Result<Vec<_>, _> =
        items.iter().map(|item| describe(item).map_err(unreadable)).collect();
    let descriptions = descriptions?;
    let config = args.config.clone().or_else(|| {
        let usual = PathBuf::from("saegis.toml");
        usual.is_file().then_some(usual)
    });
    if !as_json {
        descriptions.iter().for_each(show);
    }
    let verdicts = match &config {
        Some(config) => verdicts(&CertificateVerifier::new(config)?, &items).await?,
        None => Vec::new(),
    };
    if as_json {
        let items: Vec<_> = descriptions.into_iter().map(|item| item.json).collect();
        let verdicts: Vec<_> = verdicts.iter().map(Verdict::as_json).collect();
        let out = json!({
            "file": args.file.to_string_lossy(), "items": items, "gateway": config, "verdicts": verdicts,
        });
        crate::output::print(&out.to_string());
    } else {
        verdicts.iter().for_each(|verdict| print(&verdict.to_string()));
    }
    let refused = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Refused { .. }));
    Ok(if refused { REFUSED } else { 0 })
}

/// Reads a file, which may be a pipe.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(file).map_err(unreadable)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    Ok(bytes)
}

fn reason(error: &pem::PemError) -> String {
    match error {
        pem::PemError::Malformed => "is neither valid PEM nor valid DER".into(),
        pem::PemError::Nothing(_) => format!("{error}, and it is not DER"),
    }
}

/// Returns whether the gateway accepts the certificates, as one chain, and each public key.
async fn verdicts(
    verifier: &CertificateVerifier,
    items: &[Item],
) -> Result<Vec<Verdict>, CertsError> {
    let certificate = |item: &Item| match item {
        Item::Certificate(der) => Some(der.clone()),
        _ => None,
    };
    let chain: Vec<_> = items.iter().filter_map(certificate).collect();
    let mut all = Vec::new();
    if !chain.is_empty() {
        all.push(verifier.chain(&chain).await?);
    }
    for item in items {
        if let Item::PublicKey(spki) = item {
            all.push(verifier.key(spki).await?);
        }
    }
    Ok(all)
}

fn describe(item: &Item) -> Result<Description, String> {
    let bare = |title: &str, kind: &str| Description {
        title: title.into(),
        lines: Vec::new(),
        json: json!({ "kind": kind }),
    };
    Ok(match item {
        Item::Certificate(der) => of_certificate(&summary(der).map_err(|e| e.to_string())?),
        Item::PublicKey(spki) => {
            let kind = KeyKind::of_key(spki).ok_or("has an invalid public key")?;
            of_key(kind.ok(), spki)
        }
        Item::PrivateKey => bare("a private key, which is not shown", "private-key"),
        Item::RevocationList => bare("a revocation list", "revocation-list"),
        Item::Other => bare("something else", "other"),
    })
}

fn of_certificate(summary: &Summary) -> Description {
    let now = SystemTime::now();
    let (from, until) =
        (timestamp::format(summary.not_before), timestamp::format(summary.not_after));
    let validity = if summary.not_after <= now {
        "expired"
    } else if summary.not_before > now {
        "not yet valid"
    } else {
        "valid now"
    };
    let key = summary.key.map(|key| key.to_string());
    let lines = [
        ("subject", summary.subject.clone()),
        ("issuer", summary.issuer.clone()),
        ("serial", summary.serial.clone()),
        ("valid", format!("from {from} until {until}, UTC: {validity}")),
        (
            "key",
            key.clone().unwrap_or_else(|| "of a type that is not allowed in certificates".into()),
        ),
        ("key usage", list(&summary.usage)),
        ("for", list(&summary.purposes)),
        ("authority", if summary.is_ca { "yes" } else { "no" }.into()),
        ("names", list(&summary.names)),
        ("constraints", list(&summary.constraints)),
    ];
    Description {
        title: if summary.is_ca { "the certificate of an authority" } else { "a certificate" }
            .into(),
        lines: lines.into(),
        json: json!({
            "kind": "certificate",
            "subject": summary.subject,
            "issuer": summary.issuer,
            "serial": summary.serial,
            "not_before": from,
            "not_after": until,
            "validity": validity,
            "key": key,
            "key_usage": summary.usage,
            "extended_key_usage": summary.purposes,
            "authority": summary.is_ca,
            "names": summary.names,
            "constraints": summary.constraints,
        }),
    }
}

fn of_key(kind: Option<KeyKind>, spki: &[u8]) -> Description {
    let ids = PublicKeyId::all_of(spki).map(|id| id.to_string());
    let kind = kind.map(|kind| kind.to_string());
    let named =
        kind.clone().unwrap_or_else(|| "of a type that is not allowed in certificates".into());
    let lines = ids.iter().map(|id| ("identifier", id.clone()));
    Description {
        title: "a public key".into(),
        lines: std::iter::once(("key", named)).chain(lines).collect(),
        json: json!({ "kind": "public-key", "key": kind, "ids": ids }),
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

fn show(item: &Description) {
    print(&item.title);
    for (name, value) in &item.lines {
        print(&format!("  {name:<11} {value}"));
    }
}

/// The creator of the file chose the names in it: control characters must not reach the terminal.
fn print(line: &str) {
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_control() { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    crate::output::print(&plain);
}
