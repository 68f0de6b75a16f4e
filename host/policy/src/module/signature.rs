//! Signatures of modules, in the format of minisign.
//!
//! The trusted comment of minisign is signed with the file, and has the name of the file and the time of
//! the signature. Both are checked, so that no signed file passes for another or for a newer one.

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

/// Largest file with a signature or a public key, in bytes: a few lines.
const MAX_SIZE: u64 = 4096;

/// The number of a key, by which a signature says whose it is. By itself it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Of a line of minisign's: two bytes of algorithm, the number, and the rest.
    fn of_line(line: &str) -> Option<Self> {
        let bytes = STANDARD.decode(line).ok()?;
        bytes.get(2..10)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    /// As minisign prints it, without leading zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}", u64::from_le_bytes(self.0))
    }
}

/// A public key whose signatures count.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    id: KeyId,
    key: PublicKey,
}

/// A text that is not a public key.
#[derive(Debug, thiserror::Error)]
#[error("is no minisign public key; it is the second line of the file that `minisign -G` made")]
pub struct NoPublicKey;

impl FromStr for TrustedKey {
    type Err = NoPublicKey;

    fn from_str(base64: &str) -> Result<Self, NoPublicKey> {
        let key = PublicKey::from_base64(base64).map_err(|_| NoPublicKey)?;
        Ok(Self { id: KeyId::of_line(base64).ok_or(NoPublicKey)?, key })
    }
}

impl TrustedKey {
    /// Reads a file that minisign made, such as `minisign.pub`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(file: &Path) -> Result<Self, Fault> {
        let text = files::read_text(file, MAX_SIZE)?;
        let line = text.lines().nth(1).unwrap_or_default();
        line.parse().map_err(|e: NoPublicKey| Fault::of(file, e.to_string()))
    }
}

/// The signatures that a gateway requires.
#[derive(Debug, Clone, Default)]
pub struct Required {
    /// Keys, any of which will do.
    pub keys: Vec<TrustedKey>,
    /// Files with more of them. They are read with each generation.
    pub key_files: Vec<PathBuf>,
    /// When a file must have been signed at the earliest, so that an older version does not come
    /// back.
    pub not_before: Option<SystemTime>,
}

impl Required {
    /// All the keys.
    ///
    /// # Errors
    /// The files that can't be read, or are no keys.
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

/// The keys whose signatures count.
pub(crate) struct Trust {
    keys: Vec<TrustedKey>,
    not_before: Option<SystemTime>,
}

/// A signature that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The key that made it.
    pub by: KeyId,
    /// When it was made, by its own word.
    pub at: SystemTime,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// It is not in minisign's format.
    #[error("is no signature in minisign's format")]
    Malformed,
    /// It is of the format that minisign had before 2020, in which whole files are signed.
    #[error("is in minisign's legacy format; sign without -l")]
    Legacy,
    /// None of the keys that count has that number.
    #[error("is by the key {0}, which is none of those that count (modules.require-signature)")]
    UnknownKey(KeyId),
    /// It is no signature of that file by that key.
    #[error(
        "says that it is by the key {0}, and does not fit {1}: that was altered after it was signed, \
         or this is the signature of another file, or another's forgery; sign it anew"
    )]
    Wrong(KeyId, String),
    /// Its trusted comment does not say which file it is for.
    #[error(
        "does not say for which file it is; sign with `minisign -S`, and without -t, or with \
         -t 'timestamp:SECONDS file:NAME', with a tab between them"
    )]
    Nameless,
    /// It is good, and was made for a file of another name.
    #[error("is for a file of the name {said:?}, and not for {is}; one can't stand for the other")]
    OtherName {
        /// The name in it.
        said: String,
        /// The name of the file.
        is: String,
    },
    /// It is good, and too old.
    #[error(
        "was made at {}, before modules.require-signature.not-before, {}; sign it anew, if this \
         version is to count", timestamp::format(*.at), timestamp::format(*.not_before)
    )]
    TooOld {
        /// When it was made.
        at: SystemTime,
        /// When it should have been at the earliest.
        not_before: SystemTime,
    },
}

/// The file with a file's signature.
#[must_use]
pub fn signature_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// What there is to be seen of a file's signature: nothing, where it has none; else whose it says
/// it is, and, if that key is among those given, whether it is good.
///
/// # Errors
/// When the signature can't be read.
pub fn look_at_signature(
    file: &Path,
    bytes: &[u8],
    keys: &[TrustedKey],
) -> Result<Option<Result<Signed, BadSignature>>, Fault> {
    let beside = signature_file(file);
    let Some(text) = files::read_text_if_there(&beside, MAX_SIZE)? else { return Ok(None) };
    Ok(Some(verify(&text, &name(file), bytes, keys)))
}

/// Makes sure of a file's signature.
pub(crate) fn demand(file: &Path, bytes: &[u8], trust: &Trust) -> Result<Signed, Fault> {
    let fault = |why: BadSignature| Fault::of(&signature_file(file), why.to_string());
    let Some(seen) = look_at_signature(file, bytes, &trust.keys)? else {
        let what = format!(
            "is not signed, and only signed modules are taken (modules.require-signature); sign it \
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
    // Two keys may have one number: it is eight bytes that anybody can choose.
    let mut of_that_number = keys.iter().filter(|key| key.id == by).peekable();
    if of_that_number.peek().is_none() {
        return Err(BadSignature::UnknownKey(by));
    }
    let tried = of_that_number.map(|key| key.key.verify(bytes, &signature, false));
    let failed = |error: Error| match error {
        Error::UnexpectedAlgorithm => BadSignature::Legacy,
        _ => BadSignature::Wrong(by, name.into()),
    };
    // The first that is good counts, and else the last failure, of which all are alike.
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
