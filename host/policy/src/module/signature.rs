//! Signatures of modules, in the format of minisign.
//!
//! The trusted comment of minisign is signed together with the file, and contains the name of the
//! file and the time of the signature. Both are checked, so that a signed file cannot replace
//! another or a newer one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::{Error, PublicKey, Signature};
use saegis_onem2m::timestamp;

use crate::data::fault::Fault;
use crate::data::files;
use crate::data::text::printable;

/// Maximum size of a file with a signature or a public key, in bytes.
const MAX_SIZE: u64 = 4096;

/// Number of a key, which a signature contains. It is not a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Reads it from a line of minisign: two bytes of algorithm, the number, and further bytes.
    fn of_line(line: &str) -> Option<Self> {
        let bytes = STANDARD.decode(line).ok()?;
        bytes.get(2..10)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    /// Formats it like minisign, without leading zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}", u64::from_le_bytes(self.0))
    }
}

/// A trusted public key.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    id: KeyId,
    key: PublicKey,
}

/// A text that is not a public key.
#[derive(Debug, thiserror::Error)]
#[error("is not a minisign public key; use the second line of the file from `minisign -G`")]
pub struct NoPublicKey;

impl FromStr for TrustedKey {
    type Err = NoPublicKey;

    fn from_str(base64: &str) -> Result<Self, NoPublicKey> {
        let key = PublicKey::from_base64(base64).map_err(|_| NoPublicKey)?;
        Ok(Self { id: KeyId::of_line(base64).ok_or(NoPublicKey)?, key })
    }
}

impl TrustedKey {
    /// Reads a file from minisign, such as `minisign.pub`.
    ///
    /// # Errors
    /// Fails if it is not a public key.
    pub fn read(file: &Path) -> Result<Self, Fault> {
        let text = files::read_text(file, MAX_SIZE)?;
        let line = text.lines().nth(1).unwrap_or_default();
        line.parse().map_err(|e: NoPublicKey| Fault::of(file, e.to_string()))
    }
}

/// Signatures that a gateway requires.
#[derive(Debug, Clone, Default)]
pub struct Required {
    /// Keys; a signature by any of them is accepted.
    pub keys: Vec<TrustedKey>,
    /// Files with further keys. They are read for each generation.
    pub key_files: Vec<PathBuf>,
    /// Earliest allowed time of a signature, so that older versions are rejected.
    pub not_before: Option<SystemTime>,
}

impl Required {
    /// Returns all keys.
    ///
    /// # Errors
    /// Returns the files that cannot be read or are not keys.
    pub(crate) fn trust(&self) -> Result<Trust, Vec<Fault>> {
        let mut trust = Trust { keys: self.keys.clone(), not_before: self.not_before };
        let mut faults = Vec::new();
        for file in &self.key_files {
            match TrustedKey::read(file) {
                Ok(key) => trust.keys.push(key),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(trust) } else { Err(faults) }
    }
}

/// Trusted signing keys.
pub(crate) struct Trust {
    keys: Vec<TrustedKey>,
    not_before: Option<SystemTime>,
}

/// A valid signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The signing key.
    pub by: KeyId,
    /// The time of the signature, according to the signer.
    pub at: SystemTime,
}

/// Error of a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// It does not have the format of minisign.
    #[error("is not a minisign signature")]
    Malformed,
    /// It has the format from before 2020, in which whole files are signed.
    #[error("is in minisign's legacy format; sign without -l")]
    Legacy,
    /// Its key is not trusted.
    #[error("is by the key {0}, which is not trusted (modules.require-signature)")]
    UnknownKey(KeyId),
    /// It does not match the file and the key.
    #[error(
        "claims the key {0}, but does not match {1}: the file was altered after it was signed, \
         or the signature belongs to another file or is forged; sign it again"
    )]
    Wrong(KeyId, String),
    /// Its trusted comment does not name a file.
    #[error(
        "does not name its file; sign with `minisign -S`, without -t or with \
         -t 'timestamp:SECONDS file:NAME', separated by a tab"
    )]
    Nameless,
    /// It is valid for a file with another name.
    #[error("is for a file with the name {said:?}, not for {is}")]
    OtherName {
        /// The signed name.
        said: String,
        /// The name of the file.
        is: String,
    },
    /// It is valid, but too old.
    #[error(
        "was made at {}, before modules.require-signature.not-before, {}; sign it again to \
         accept this version", timestamp::format(*.at), timestamp::format(*.not_before)
    )]
    TooOld {
        /// The time of the signature.
        at: SystemTime,
        /// The earliest allowed time.
        not_before: SystemTime,
    },
}

/// Returns the path of the signature of a file.
#[must_use]
pub fn signature_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// Returns the signature of a file: `None` without one, else the claimed key. If that key is in
/// `keys`, also returns whether the signature is valid.
///
/// # Errors
/// Fails if the signature cannot be read.
pub fn look_at_signature(
    file: &Path,
    bytes: &[u8],
    keys: &[TrustedKey],
) -> Result<Option<Result<Signed, BadSignature>>, Fault> {
    let beside = signature_file(file);
    let Some(text) = files::read_text_if_there(&beside, MAX_SIZE)? else { return Ok(None) };
    Ok(Some(verify(&text, &name(file), bytes, keys)))
}

/// Verifies the signature of a file.
pub(crate) fn demand(file: &Path, bytes: &[u8], trust: &Trust) -> Result<Signed, Fault> {
    let fault = |why: BadSignature| Fault::of(&signature_file(file), why.to_string());
    let Some(seen) = look_at_signature(file, bytes, &trust.keys)? else {
        let what = format!(
            "is not signed, and only signed modules are accepted (modules.require-signature); sign it \
             with `minisign -Sm {}`",
            name(file)
        );
        return Err(Fault::of(file, what));
    };
    let signed = seen.map_err(fault)?;
    match trust.not_before {
        Some(not_before) if signed.at < not_before => {
            Err(fault(BadSignature::TooOld { at: signed.at, not_before }))
        }
        _ => Ok(signed),
    }
}

fn name(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn verify(
    text: &str,
    name: &str,
    bytes: &[u8],
    keys: &[TrustedKey],
) -> Result<Signed, BadSignature> {
    let signature = Signature::decode(text).map_err(|_| BadSignature::Malformed)?;
    let by = text.lines().nth(1).and_then(KeyId::of_line).ok_or(BadSignature::Malformed)?;
    // Two keys may have the same number: its eight bytes can be chosen freely.
    let mut of_that_number = keys.iter().filter(|key| key.id == by).peekable();
    if of_that_number.peek().is_none() {
        return Err(BadSignature::UnknownKey(by));
    }
    let tried = of_that_number.map(|key| key.key.verify(bytes, &signature, false));
    let failed = |error: Error| match error {
        Error::UnexpectedAlgorithm => BadSignature::Legacy,
        _ => BadSignature::Wrong(by, name.into()),
    };
    // The first valid one counts, or else the last error; all errors are equal.
    tried.reduce(Result::or).unwrap_or(Err(Error::UnexpectedKeyId)).map_err(failed)?;
    let mut said = (None, None);
    for part in signature.trusted_comment().split('\t') {
        match part.split_once(':') {
            Some(("timestamp", at)) => said.0 = at.parse::<u32>().ok(),
            Some(("file", file)) => said.1 = Some(file),
            _ => {}
        }
    }
    let (Some(at), Some(file)) = said else { return Err(BadSignature::Nameless) };
    if file != name {
        return Err(BadSignature::OtherName { said: printable(file), is: name.into() });
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at.into());
    Ok(Signed { by, at })
}
