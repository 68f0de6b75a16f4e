//! Modules and policy files from an OCI registry instead of a file in a folder.
//!
//! A manifest without a module beside it names one by `source`. The policy file `artifacts.toml`
//! names artifacts with policy files, which are treated like files of the folder. References pin a
//! digest. An [`ArtifactSource`](crate::ArtifactSource) fetches and stores the artifacts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::task::JoinSet;

use crate::data::disk::{AbandonedFlag, DiskThreads, Urgency};
use crate::data::document::Document;
use crate::data::fault::Fault;
use crate::data::files::{self, Source};
use crate::generation::certificate_file;
use crate::generation::generation::Generation;
use crate::generation::removals::MissingFiles;
use crate::generation::settings::Settings;
use crate::module::artifact_source::{StoredArtifact, StoredFile};
use crate::module::manifest::load_manifest;
use crate::module::signature::{Required, Trust};

/// Policy file that names artifacts with policy files.
pub(crate) const FILE: &str = "artifacts.toml";
/// Maximum size of that file, in bytes.
const MAX_SIZE: u64 = 64 << 10;

/// Media type of the configuration of a WebAssembly artifact, as defined by the CNCF.
const WASM_KIND: &str = "application/vnd.wasm.config.v0+json";
const WASM: &str = "application/wasm";

fn stored(settings: &Settings, source: &str) -> Result<StoredArtifact, String> {
    match &settings.artifacts {
        Some(artifacts) => artifacts.stored(source),
        None => Err("no registry is configured".into()),
    }
}

/// Reads the module that a manifest names.
pub(crate) fn read_module(
    settings: &Settings,
    manifest: &Path,
    source: &str,
) -> Result<Source, Fault> {
    let fault = |what: String| Fault::of(manifest, format!("source: {what}"));
    let artifact = stored(settings, source).map_err(fault)?;
    match artifact.files.as_slice() {
        [file] if artifact.kind == WASM_KIND && file.media_type == WASM => {
            file.read(manifest, settings.limits.module_size)
        }
        _ => Err(fault(format!(
            "{source} is not a WebAssembly artifact: its type is {}, and it does not have exactly one file of {WASM}",
            artifact.kind
        ))),
    }
}

/// Policy files of the folder and of artifacts.
pub(crate) struct PolicyFiles<'s> {
    folder: &'s Path,
    fetched: BTreeMap<String, (PathBuf, StoredFile)>,
    /// The artifacts that they come from.
    pub sources: Vec<String>,
    /// Whether there is a policy file that names artifacts.
    pub named: bool,
}

impl<'s> PolicyFiles<'s> {
    pub fn find(
        settings: &'s Settings,
        missing: &mut MissingFiles<'_>,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let folder = &settings.policies;
        let mut found =
            Self { folder, fetched: BTreeMap::new(), sources: Vec::new(), named: false };
        let file = settings.policies.join(FILE);
        let sources = match sources(&settings.policies) {
            Ok(sources) => {
                let carried = || missing.policy(settings, FILE).map(|last| last.artifacts.clone());
                let sources = sources.or_else(carried);
                found.named = sources.is_some();
                sources.unwrap_or_default()
            }
            Err(more) => {
                faults.extend(more);
                return found;
            }
        };
        for source in sources {
            match stored(settings, &source) {
                Ok(artifact) => {
                    for kept in artifact.files {
                        if let Err(what) = found.add(&source, kept) {
                            faults.push(Fault::of(&file, format!("{source}: {what}")));
                        }
                    }
                }
                Err(why) => faults.push(Fault::of(&file, why)),
            }
            found.sources.push(source);
        }
        found
    }

    fn add(&mut self, source: &str, file: StoredFile) -> Result<(), String> {
        let name = file.title.clone().ok_or("a file in it has no name")?;
        let plain = !name.is_empty()
            && !name.starts_with('.')
            && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control());
        if !plain {
            return Err(format!("{name:?} is not the name of a policy file"));
        }
        if [FILE, certificate_file::FILE].contains(&name.as_str()) {
            return Err(format!("{name} must be in the folder"));
        }
        if self.folder.join(&name).symlink_metadata().is_ok() {
            return Err(format!("{name} is also in the folder; remove one of them"));
        }
        let called = PathBuf::from(format!("{source} {name}"));
        match self.fetched.insert(name.clone(), (called, file)) {
            None => Ok(()),
            Some(_) => Err(format!("{name} is in two artifacts")),
        }
    }

    /// Returns the names, without the extension, of the files from artifacts with that extension.
    pub fn fetched(&self, extension: &str) -> impl Iterator<Item = (String, PathBuf)> {
        self.fetched.iter().filter_map(move |(name, (called, _))| {
            let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
            Some((stem.to_owned(), called.clone()))
        })
    }

    /// Returns whether a file comes from an artifact.
    pub fn is_fetched(&self, name: &str) -> bool {
        self.fetched.contains_key(name)
    }

    /// Returns the name of a file for messages: its path, or its artifact and its name.
    pub fn called(&self, name: &str) -> PathBuf {
        match self.fetched.get(name) {
            Some((called, _)) => called.clone(),
            None => self.folder.join(name),
        }
    }

    /// Reads a file of at most `limit` bytes.
    pub fn read(&self, name: &str, limit: u64) -> Result<Source, Fault> {
        match self.fetched.get(name) {
            Some((called, file)) => file.read(called, limit),
            None => files::read(&self.folder.join(name), limit),
        }
    }

    /// Reads a file of at most `limit` bytes. Returns `None` if it does not exist.
    pub fn read_if_there(&self, name: &str, limit: u64) -> Result<Option<Source>, Fault> {
        match self.fetched.get(name) {
            Some((called, file)) => file.read(called, limit).map(Some),
            None => files::read_if_there(&self.folder.join(name), limit),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InFile {
    #[serde(default)]
    artifact: Vec<ArtifactInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArtifactInFile {
    source: String,
}

/// Returns the artifacts with policy files, if there is a policy file that names some.
fn sources(policies: &Path) -> Result<Option<Vec<String>>, Vec<Fault>> {
    let file = policies.join(FILE);
    let text = files::read_text_if_there(&file, MAX_SIZE).map_err(|fault| vec![fault])?;
    let Some(text) = text else { return Ok(None) };
    let mut document = Document::parse(&file, &text);
    let named: Option<InFile> = document.read();
    let faults = document.into_faults();
    match named.filter(|_| faults.is_empty()) {
        Some(named) => Ok(Some(named.artifact.into_iter().map(|one| one.source).collect())),
        None => Err(faults),
    }
}

/// Returns all artifacts that the next generation needs. Faults of the files that name them are
/// reported by the build.
fn wanted(settings: &Settings) -> Vec<String> {
    let mut wanted = sources(&settings.policies).ok().flatten().unwrap_or_default();
    // No artifact is fetched for an unsigned manifest.
    let Ok(trust) = settings.signatures.as_ref().map(Required::trust).transpose() else {
        return wanted;
    };
    let manifests = files::list(&settings.modules, "toml", &mut Vec::new());
    wanted.extend(manifests.values().filter_map(|file| source_of(settings, file, trust.as_ref())));
    wanted.sort();
    wanted.dedup();
    wanted
}

fn source_of(settings: &Settings, manifest: &Path, trust: Option<&Trust>) -> Option<String> {
    load_manifest(Some(&settings.modules), manifest, trust).ok()??.0.source
}

/// Returns all artifacts that files name, with and without a signature. Returns `None` if they
/// cannot be determined.
fn named(settings: &Settings) -> Option<Vec<String>> {
    let mut named = sources(&settings.policies).ok()?.unwrap_or_default();
    let mut faults = Vec::new();
    for manifest in files::list(&settings.modules, "toml", &mut faults).values() {
        named.extend(
            load_manifest(Some(&settings.modules), manifest, None)
                .ok()?
                .and_then(|(found, _)| found.source),
        );
    }
    faults.is_empty().then_some(named)
}

/// Removes stored artifacts that neither the generation nor a file names. If the names cannot be
/// determined, nothing is removed.
pub(crate) async fn tidy(settings: &Settings, threads: &DiskThreads, generation: &Generation) {
    let Some(artifacts) = settings.artifacts.clone() else { return };
    let mut in_use = generation.artifacts.clone();
    in_use.extend(generation.all_modules().filter_map(|m| m.manifest.source.clone()));
    let settings = settings.clone();
    let work = move |_: &AbandonedFlag| {
        if let Some(named) = named(&settings) {
            in_use.extend(named);
            artifacts.remove_unused(&in_use);
        }
    };
    // If they cannot be determined in time, nothing is removed.
    let _ = threads.run(Urgency::Routine, work).await;
}

/// Returns the artifacts that the next generation needs.
pub(crate) async fn needed(
    settings: &Settings,
    threads: &DiskThreads,
    urgency: Urgency,
) -> Vec<String> {
    if settings.artifacts.is_none() {
        return Vec::new();
    }
    let settings = settings.clone();
    // A timeout is reported by the build of the generation.
    threads.run(urgency, move |_| wanted(&settings)).await.unwrap_or_default()
}

/// Fetches artifacts, as far as possible.
pub(crate) async fn fetch(settings: &Settings, sources: Vec<String>) {
    let Some(artifacts) = &settings.artifacts else { return };
    let mut under_way = JoinSet::new();
    for source in sources {
        under_way.spawn(artifacts.clone().fetch(source));
    }
    under_way.join_all().await;
}

/// Fetches the artifacts that the next generation needs, as far as possible.
pub(crate) async fn obtain(settings: &Settings, threads: &DiskThreads, urgency: Urgency) {
    let sources = needed(settings, threads, urgency).await;
    fetch(settings, sources).await;
}
