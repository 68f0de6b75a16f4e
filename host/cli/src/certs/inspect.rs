//! `saegis certs inspect`: what is in a file of certificates or keys.

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
use crate::certs::verify::{Judge, Verdict};

/// Arguments of `saegis certs inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// The file, in PEM or DER.
    file: PathBuf,
    /// The configuration of the gateway that is to judge it; without this option, saegis.toml, if
    /// there is one.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Something in a file, for people and for programs.
struct Told {
    title: String,
    lines: Vec<(&'static str, String)>,
    json: Value,
}

/// Says what is in a file, and what a gateway makes of it. Returns the exit code.
///
/// # Errors
/// When the file can't be read, or the gateway's configuration is wrong.
pub async fn run(args: &Args, as_json: bool) -> Result<u8, CertsError> {
    let unreadable = |why: String| CertsError::Unreadable { file: args.file.clone(), why };
    let bytes = read(&args.file).map_err(unreadable)?;
    let items = pem::items(&bytes).map_err(|e| unreadable(reason(&e)))?;
    drop(bytes);
    let told: Result<Vec<_>, _> = items.iter().map(|item| tell(item).map_err(unreadable)).collect();
    let told = told?;
    let config = args.config.clone().or_else(|| {
        let usual = PathBuf::from("saegis.toml");
        usual.is_file().then_some(usual)
    });
    if !as_json {
        told.iter().for_each(show);
    }
    let verdicts = match &config {
        Some(config) => verdicts(&Judge::new(config)?, &items).await?,
        None => Vec::new(),
    };
    if as_json {
        let items: Vec<_> = told.into_iter().map(|told| told.json).collect();
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
    let unreadable = |e: std::io::Error| format!("can't be read: {e}");
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
        pem::PemError::Malformed => "can't be read, neither as PEM nor as DER".into(),
        pem::PemError::Nothing(_) => format!("{error}, nor is it DER"),
    }
}

/// What the gateway makes of the certificates, taken as a chain, and of each public key.
async fn verdicts(judge: &Judge, items: &[Item]) -> Result<Vec<Verdict>, CertsError> {
    let certificate = |item: &Item| match item {
        Item::Certificate(der) => Some(der.clone()),
        _ => None,
    };
    let chain: Vec<_> = items.iter().filter_map(certificate).collect();
    let mut all = Vec::new();
    if !chain.is_empty() {
        all.push(judge.chain(&chain).await?);
    }
    for item in items {
        if let Item::PublicKey(spki) = item {
            all.push(judge.key(spki).await?);
        }
    }
    Ok(all)
}

fn tell(item: &Item) -> Result<Told, String> {
    let bare = |title: &str, kind: &str| Told {
        title: title.into(),
        lines: Vec::new(),
        json: json!({ "kind": kind }),
    };
    Ok(match item {
        Item::Certificate(der) => of_certificate(&summary(der).map_err(|e| e.to_string())?),
        Item::PublicKey(spki) => {
            let kind = KeyKind::of_key(spki).ok_or("has a public key that can't be read")?;
            of_key(kind.ok(), spki)
        }
        Item::PrivateKey => bare("a private key, which is not shown", "private-key"),
        Item::RevocationList => bare("a revocation list", "revocation-list"),
        Item::Other => bare("something else", "other"),
    })
}

fn of_certificate(summary: &Summary) -> Told {
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
        ("key", key.clone().unwrap_or_else(|| "of a kind that certificates may not have".into())),
        ("key usage", list(&summary.usage)),
        ("for", list(&summary.purposes)),
        ("authority", if summary.is_ca { "yes" } else { "no" }.into()),
        ("names", list(&summary.names)),
        ("constraints", list(&summary.constraints)),
    ];
    Told {
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

fn of_key(kind: Option<KeyKind>, spki: &[u8]) -> Told {
    let ids = PublicKeyId::all_of(spki).map(|id| id.to_string());
    let kind = kind.map(|kind| kind.to_string());
    let named = kind.clone().unwrap_or_else(|| "of a kind that certificates may not have".into());
    let lines = ids.iter().map(|id| ("identifier", id.clone()));
    Told {
        title: "a public key".into(),
        lines: std::iter::once(("key", named)).chain(lines).collect(),
        json: json!({ "kind": "public-key", "key": kind, "ids": ids }),
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

fn show(told: &Told) {
    print(&told.title);
    for (name, value) in &told.lines {
        print(&format!("  {name:<11} {value}"));
    }
}

/// Whoever made the file chose the names in it: they are not to move a terminal's cursor.
fn print(line: &str) {
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_control() { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    crate::output::print(&plain);
}
