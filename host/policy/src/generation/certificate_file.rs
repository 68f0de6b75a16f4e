//! Loads the policy file `certificates.toml` and the files that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use saegis_certificate::{
    Anchor, Flavour, KeyKind, Names, OwnCertificate, PublicKeyId, Trust, TrustBuilder, list_times,
    pem,
};
use serde::Deserialize;
use toml::Spanned;

use crate::data::document::Document;
use crate::data::fault::{Fault, Faults};
use crate::data::files::{self, Digest, Source};
use crate::data::text;
use crate::generation::certificates::Certificates;
use crate::generation::expiry::FileExpiry;
use crate::generation::removals::{self, MissingFiles};
use crate::generation::settings::Settings;

/// Name of the policy file.
pub(crate) const FILE: &str = "certificates.toml";

/// Maximum size of a file, in bytes. Revocation lists are the largest files, and their signatures
/// are verified with each certificate of their authority.
const MAX_FILE: u64 = 1 << 20;

impl Certificates {
    /// Loads only the certificates of a policy. Returns `None` without the policy file.
    ///
    /// # Errors
    /// Returns all faults of the policy file and the files that it names.
    pub fn load(settings: &Settings) -> Result<Option<Arc<Self>>, Faults> {
        let mut faults = Vec::new();
        let loaded = load(settings, None, &mut MissingFiles::new(None), &mut faults);
        if faults.is_empty() { Ok(loaded) } else { Err(Faults(faults)) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InFile {
    #[serde(default)]
    own: Vec<OwnInFile>,
    #[serde(default)]
    anchor: Vec<AnchorInFile>,
    #[serde(default, rename = "public-key")]
    public_key: Vec<KeyInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnInFile {
    certificate: Spanned<String>,
    key: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorInFile {
    certificate: Spanned<String>,
    flavours: Vec<Spanned<String>>,
    #[serde(default)]
    keys: Vec<Spanned<String>>,
    #[serde(default)]
    crls: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyInFile {
    id: Spanned<String>,
}

/// Loads the policy file. Returns `None` if it does not exist. Unchanged parts of `last` are
/// reused.
pub(crate) fn load(
    settings: &Settings,
    last: Option<&Arc<Certificates>>,
    missing: &mut MissingFiles<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Arc<Certificates>> {
    let file = settings.policies.join(FILE);
    let source = match files::read_if_there(&file, MAX_FILE) {
        Ok(Some(source)) => Arc::new(source),
        Ok(None) => {
            let last = missing.policy(settings, FILE)?.certificates.as_ref()?;
            last.sources.get(FILE)?.clone()
        }
        Err(fault) => {
            faults.push(fault);
            return None;
        }
    };
    let text = match text::decode(&file, &source.bytes) {
        Ok(text) => text,
        Err(fault) => {
            faults.push(fault);
            return None;
        }
    };
    let names = settings.names();
    let mut reader = Reader {
        folder: &settings.policies,
        document: Document::parse(&file, text),
        missing,
        digests: BTreeMap::from([(FILE.into(), source.digest)]),
        sources: BTreeMap::from([(FILE.into(), source.clone())]),
        own_files: Vec::new(),
        faults: Vec::new(),
        expiries: Vec::new(),
    };
    let read = reader.read(names);
    let Reader { document, digests, sources, own_files, faults: of_files, expiries, .. } = reader;
    faults.extend(document.into_faults());
    faults.extend(of_files);
    let (trust, own) = read?;
    if let Some(last) = last.filter(|last| last.digests == digests) {
        return Some(last.clone());
    }
    let trust = Arc::new(trust);
    Some(Arc::new(Certificates { trust, own, digests, sources, own_files, expiries }))
}

/// Returns whether the file is directly in the policies folder.
fn is_plain(name: &str) -> bool {
    !(name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']))
}

struct Reader<'a, 'last> {
    folder: &'a Path,
    document: Document<'a>,
    missing: &'a mut MissingFiles<'last>,
    digests: BTreeMap<String, Digest>,
    sources: BTreeMap<String, Arc<Source>>,
    own_files: Vec<(String, String)>,
    /// Faults of the files that it names.
    faults: Vec<Fault>,
    expiries: Vec<FileExpiry>,
}

impl Reader<'_, '_> {
    /// Loads all files, and continues after a fault.
    fn read(&mut self, names: Names) -> Option<(Trust, Vec<Arc<OwnCertificate>>)> {
        let InFile { own, anchor, public_key } = self.document.read()?;
        let mut trust = TrustBuilder::new(names);
        for entry in &anchor {
            for anchor in self.anchors(entry) {
                trust.add_anchor(anchor);
            }
        }
        for entry in &public_key {
            if let Some(id) = self.parsed::<PublicKeyId>(&entry.id) {
                trust.add_key(id);
            }
        }
        let own = own.iter().filter_map(|entry| self.own(entry)).collect();
        Some((trust.build(), own))
    }

    fn own(&mut self, entry: &OwnInFile) -> Option<Arc<OwnCertificate>> {
        self.own_files.push((entry.certificate.get_ref().clone(), entry.key.get_ref().clone()));
        if let Some(own) = self.carried_own(entry) {
            return Some(own);
        }
        let certificates = self.source(&entry.certificate);
        let key = self.source(&entry.key);
        let (path, certificates) = certificates?;
        let (key_path, key) = key?;
        let key = self.of_file(&key_path, key.private())?;
        let chain = pem::certificates(&certificates.bytes);
        let chain = self.of_file(&path, chain)?;
        let key = pem::private_key(&key.bytes);
        let key = self.of_file(&key_path, key)?;
        self.of_file(&path, OwnCertificate::new(chain, key)).map(Arc::new)
    }

    /// Returns the certificate in force, if its file or that of its key is missing.
    fn carried_own(&mut self, entry: &OwnInFile) -> Option<Arc<OwnCertificate>> {
        let names = [entry.certificate.get_ref(), entry.key.get_ref()];
        if !names.iter().all(|name| is_plain(name)) {
            return None;
        }
        let paths = names.map(|name| self.folder.join(name));
        let mut carried = None;
        for path in paths.iter().filter(|path| removals::is_gone(path)) {
            carried = self.missing.of_certificates(path, |last| {
                let pairs = last.own_files.iter().zip(&last.own);
                let same = |files: &(String, String)| [&files.0, &files.1] == names;
                Some((last, pairs.into_iter().find(|(files, _)| same(files))?.1.clone()))
            });
        }
        let (last, own) = carried?;
        let digests = names.iter().filter_map(|name| last.digests.get_key_value(*name));
        self.digests.extend(digests.map(|(name, digest)| (name.clone(), *digest)));
        Some(own)
    }

    fn anchors(&mut self, entry: &AnchorInFile) -> Vec<Anchor> {
        let flavours: Vec<Flavour> = entry.flavours.iter().filter_map(|f| self.parsed(f)).collect();
        let mut keys: Vec<KeyKind> = entry.keys.iter().filter_map(|k| self.parsed(k)).collect();
        if entry.keys.is_empty() {
            keys.push(KeyKind::P256);
        }
        let mut crls = Vec::new();
        for name in &entry.crls {
            if let Some((path, source)) = self.public_source(name) {
                let lists = pem::revocation_lists(&source.bytes);
                let lists: Vec<_> = self.of_file(&path, lists).into_iter().flatten().collect();
                let times = lists.iter().filter_map(|der| list_times(der));
                let ends =
                    times.map(|(issued, at)| FileExpiry::of_list(name.get_ref(), issued, at));
                self.expiries.extend(ends);
                crls.extend(lists);
            }
        }
        let Some((path, source)) = self.public_source(&entry.certificate) else {
            return Vec::new();
        };
        let all = pem::certificates(&source.bytes);
        let all = self.of_file(&path, all).unwrap_or_default();
        if flavours.len() < entry.flavours.len() {
            // The fault is already reported.
            return Vec::new();
        }
        let anchors = all.into_iter().map(|der| Anchor::new(der, &flavours, &keys, &crls));
        let anchors: Vec<_> = anchors.filter_map(|anchor| self.of_file(&path, anchor)).collect();
        let file = entry.certificate.get_ref();
        let ends = anchors.iter().map(|anchor| FileExpiry::of_anchor(file, anchor.not_after()));
        self.expiries.extend(ends);
        anchors
    }

    /// Reads a file without keys. It is stored, and reused when the file is missing.
    fn public_source(&mut self, name: &Spanned<String>) -> Option<(PathBuf, Arc<Source>)> {
        let text = name.get_ref();
        let path = self.folder.join(text);
        let carried = (is_plain(text) && removals::is_gone(&path))
            .then(|| self.missing.of_certificates(&path, |last| last.sources.get(text).cloned()));
        let (path, source) = match carried.flatten() {
            Some(source) => {
                self.digests.insert(text.clone(), source.digest);
                (path, source)
            }
            None => self.source(name).map(|(path, source)| (path, Arc::new(source)))?,
        };
        self.sources.insert(text.clone(), source.clone());
        Some((path, source))
    }

    /// Reads a file of the policies folder.
    fn source(&mut self, name: &Spanned<String>) -> Option<(PathBuf, Source)> {
        let text = name.get_ref();
        if !is_plain(text) {
            self.document.add_fault_of(name, "is not the name of a file in the policies folder");
            return None;
        }
        let path = self.folder.join(text);
        let read = files::read(&path, MAX_FILE);
        match read {
            Ok(source) => {
                self.digests.insert(text.clone(), source.digest);
                Some((path, source))
            }
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        }
    }

    fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, text: &Spanned<String>) -> Option<T> {
        match text.get_ref().parse() {
            Ok(parsed) => Some(parsed),
            Err(e) => {
                self.document.add_fault_of(text, &e.to_string());
                None
            }
        }
    }

    fn of_file<T, E: std::fmt::Display>(&mut self, path: &Path, result: Result<T, E>) -> Option<T> {
        result.map_err(|e| self.faults.push(Fault::of(path, e.to_string()))).ok()
    }
}
