//! Key of an AE that a MAF distributes (TS-0003 clauses 8.2.2.3 and 8.8.2.7). The AE registers a
//! key for its registrar and stores it until it expires. Both sides derive the key from the TLS
//! session and never send it.

use std::time::{Duration, SystemTime};

use rand::RngExt;
use saegis_certificate::Flavour;
use saegis_maf::client::{Client, KeyTerms, Terms, read_registered_key};
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp;
use saegis_policy::{Fault, Faults};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::connect::establish;
use super::error::{AeError, broken};
use crate::ae::config::{Maf, Proof, Registrar};
use saegis_client::{Binding, Credential};
use saegis_gateway::config::private_file;

/// Security usage of a key for security associations (TS-0004 clause 6.3.4.2.39).
const SAEF: u8 = 32;

/// Maximum size of a key file, in bytes.
const MAX_FILE: u64 = 4096;

/// Requested duration of the registration as a client.
const REGISTERED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Content of a key file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct InFile {
    client_id: String,
    target: String,
    fqdn: String,
    relative_key_id: String,
    key: String,
    registered: String,
    expires: String,
}

/// Returns the stored key, or registers a new one if the stored one is about to expire.
///
/// # Errors
/// Fails if the file is invalid or the MAF does not provide a key.
pub async fn credential(maf: &Maf, proof: &Proof) -> Result<Credential, AeError> {
    match in_hand(maf)? {
        Some(credential) => Ok(credential),
        None => register(maf, proof).await,
    }
}

fn in_hand(maf: &Maf) -> Result<Option<Credential>, AeError> {
    if matches!(maf.key_file.try_exists(), Ok(false)) {
        return Ok(None);
    }
    let fault = |what: String| AeError::Config(Faults(vec![Fault::of(&maf.key_file, what)]));
    let text = saegis_policy::read_private_key(&maf.key_file, MAX_FILE);
    let text = text.map_err(|fault| AeError::Config(Faults(vec![fault])))?;
    // The text of a parse error could contain the key.
    let bad = || fault("is not a valid key file; remove it to request a new key".into());
    let text = std::str::from_utf8(&text).map_err(|_| bad())?;
    let found: InFile = toml::from_str(text).map_err(|_| bad())?;
    let InFile { client_id, target, fqdn, relative_key_id, key, registered, expires } = found;
    let key = Zeroizing::new(key);
    if client_id != maf.client_id.as_str() {
        let what = format!("contains the key of {client_id}; each AE needs its own key-file");
        return Err(fault(what));
    }
    let time = |text: &str| timestamp::parse(text).map_err(|_| bad());
    let (registered, expires) = (time(&registered)?, time(&expires)?);
    // The new key is stored before the old one expires. The MAF may grant less time than requested.
    let granted = expires.duration_since(registered).unwrap_or_default();
    let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
    if left <= granted / 5 || target != maf.target.as_str() || fqdn != maf.fqdn {
        return Ok(None);
    }
    let key = Zeroizing::new(hex::decode(&*key).map_err(|_| bad())?);
    let key = PresharedKey::new(&key).map_err(|_| bad())?;
    make(maf, &relative_key_id, &key).map(Some)
}

fn make(maf: &Maf, relative_key_id: &str, key: &PresharedKey) -> Result<Credential, AeError> {
    let id = format!("{relative_key_id}@{}", maf.fqdn);
    let kpsa_id = id.parse().map_err(|e| broken(format!("the key's identifier {e}")))?;
    let key =
        PresharedKey::new(maf.key.of(key.expose())).map_err(|e| broken(format!("the key {e}")))?;
    Ok(Credential { kpsa_id, kpsa: key, suites: None })
}

/// Registers with the MAF, and registers a key for the registrar.
async fn register(maf: &Maf, proof: &Proof) -> Result<Credential, AeError> {
    let broken = |why: String| broken(format!("the MAF {}: {why}", maf.fqdn));
    let place = Registrar {
        address: maf.address.clone(),
        cse_id: maf.base.clone(),
        domain_name: Some(maf.fqdn.clone()),
        timeout_seconds: maf.timeout_seconds,
    };
    let from = maf.client_id.to_string();
    let mut session = establish((&place, Flavour::Fqdn), proof, from, Binding::Http).await?;
    let client = Client::new(maf.client_id.clone(), &maf.fqdn, maf.base.clone())
        .map_err(|e| broken(e.to_string()))?;
    let admin = maf.target.as_str().trim_start_matches('/').split('/').next().unwrap_or_default();
    let id = || format!("{:016x}", rand::rng().random::<u64>());
    let now = SystemTime::now();
    let terms = Terms::until(now + REGISTERED_FOR, admin);
    let request = client.register(&id(), &terms).map_err(|e| broken(e.to_string()))?;
    let answer = session.send(request).await?;
    if !answer.rsc.is_success() && answer.rsc != Rsc::OriginatorHasAlreadyRegistered {
        return Err(refused(&answer));
    }
    let lifetime = Duration::from_secs(maf.lifetime_seconds);
    let wanted = KeyTerms {
        terms: Terms::until(now + lifetime, admin),
        suid: SAEF,
        targets: vec![maf.target.clone()],
    };
    let request = client.register_key(&id(), &wanted, None).map_err(|e| broken(e.to_string()))?;
    let answer = session.send(request).await?;
    if !answer.rsc.is_success() {
        return Err(refused(&answer));
    }
    let exported = session.exported.take();
    let exported =
        exported.ok_or_else(|| broken("its TLS has no extended master secret".into()))?;
    let registered = read_registered_key(&answer, Some(&exported));
    let registered = registered.map_err(|e| broken(e.to_string()))?;
    let key = exported.key().ok_or_else(|| broken("TLS exported no key".into()))?;
    keep(maf, &registered.relative_key_id, &key, now, registered.expires)?;
    make(maf, &registered.relative_key_id, &key)
}

fn refused(answer: &saegis_onem2m::primitive::ResponsePrimitive) -> AeError {
    AeError::Refused { rsc: answer.rsc, why: answer.reason_or_none() }
}

/// Writes a key to its file atomically.
fn keep(
    maf: &Maf,
    id: &str,
    key: &PresharedKey,
    registered: SystemTime,
    expires: SystemTime,
) -> Result<(), AeError> {
    let text = Zeroizing::new(format!(
        "client-id = \"{}\"\ntarget = \"{}\"\nfqdn = \"{}\"\nrelative-key-id = \"{id}\"\n\
         key = \"{}\"\nregistered = \"{}\"\nexpires = \"{}\"\n",
        maf.client_id,
        maf.target,
        maf.fqdn,
        &*Zeroizing::new(hex::encode(key.expose())),
        timestamp::format(registered),
        timestamp::format(expires),
    ));
    let file = maf.key_file.as_path();
    private_file::replace(file, text.as_bytes()).map_err(|e| {
        AeError::Config(Faults(vec![Fault::of(file, format!("cannot be written: {e}"))]))
    })
}
