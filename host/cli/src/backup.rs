//! `saegis backup` and `saegis restore`: configuration, policy and state in one archive, while the gateway
//! runs.

mod copies;
mod files;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use saegis_gateway::admin::backup::stores;
use saegis_gateway::config::Config;
use saegis_policy::Shown;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin;
use crate::output::print;
use copies::Copies;
use files::{create_private, is_number, located, of, open, put};

/// Arguments of `saegis backup`.
#[derive(clap::Args)]
pub struct Backup {
    /// Archive to create (tar with gzip); only its owner can read it
    file: PathBuf,
    /// Configuration of the gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

/// Arguments of `saegis restore`.
#[derive(clap::Args)]
pub struct Restore {
    /// Archive of `saegis backup`
    file: PathBuf,
    /// Folder under which the files are restored, instead of their original paths
    #[arg(long, default_value = "/")]
    into: PathBuf,
    /// Replace existing files
    #[arg(long)]
    replace: bool,
}

/// Content of an archive, in its file `backup.json`.
#[derive(Serialize, Deserialize)]
struct Content {
    /// Version of the program.
    version: String,
    /// Absolute path of the configuration.
    config: PathBuf,
    /// Absolute paths of the folders of configuration, policy and state. All files are below them.
    folders: Vec<PathBuf>,
    /// Absolute paths of the files, by their names in the archive.
    files: BTreeMap<String, PathBuf>,
}

const CONTENT: &str = "backup.json";
/// Name of the unfinished archive in the folder of its content.
const ARCHIVE: &str = "archive";

/// Creates an archive.
///
/// # Errors
/// Returns the reason if it cannot be created. Then nothing is left behind.
pub fn backup(args: &Backup, as_json: bool) -> Result<u8, String> {
    let config = Config::load(&args.config).map_err(|e| e.to_string())?;
    if args.file.symlink_metadata().is_ok() {
        return Err(format!("{} exists", Shown(&args.file)));
    }
    let stage = Stage::beside(&args.file)?;
    let file = located(&args.config).map_err(of(&args.config))?;
    let state = stores(&config).into_iter().chain(other_files(&config));
    let mut content = Content {
        version: env!("CARGO_PKG_VERSION").into(),
        folders: folders(&config, &file, state),
        config: file,
        files: BTreeMap::new(),
    };
    let reply = admin::copy_stores(&config)?;
    let is_running = reply.is_some();
    stage.add(open(&args.config), &args.config, &mut content)?;
    for folder in [&config.policy.folder, &config.modules.folder] {
        stage.add_folder(folder, &mut content)?;
    }
    match reply {
        Some(reply) => {
            for (path, copy) in &Copies::check(&reply, &config)?.open()? {
                stage.add(copy.try_clone(), path, &mut content)?;
            }
        }
        None => {
            for path in stores(&config) {
                stage.add(files::open_itself(&path), &path, &mut content)?;
            }
        }
    }
    for path in other_files(&config) {
        stage.add(files::open_itself(&path), &path, &mut content)?;
    }
    let text = serde_json::to_string_pretty(&content).map_err(|e| e.to_string())?;
    fs::write(stage.0.join(CONTENT), text).map_err(of(&stage.0))?;
    let new = stage.0.join(ARCHIVE);
    let archive = create_private(&new).map_err(of(&new))?;
    let exclude = format!("--exclude=./{ARCHIVE}");
    tar(&stage.0, &["-czf", "-", &exclude, "."], Stdio::null(), archive.into())?;
    fs::rename(&new, &args.file).map_err(of(&args.file))?;
    let files = content.files.len();
    if as_json {
        print(&json!({ "file": args.file, "files": files, "running": is_running }).to_string());
    } else {
        let how = if is_running { "the running gateway" } else { "a gateway that is not running" };
        print(&format!("{}: {files} files of {how}; it contains keys", Shown(&args.file)));
    }
    Ok(0)
}

/// A file to restore.
struct Target<'a> {
    /// Its name in the archive.
    from: PathBuf,
    /// The folder of configuration, policy or state that contains it.
    folder: PathBuf,
    /// Its path in that folder.
    path: &'a Path,
}

/// Restores an archive.
///
/// # Errors
/// Returns the reason if nothing was restored, or the file at which it failed.
pub fn restore(args: &Restore, as_json: bool) -> Result<u8, String> {
    let stage = Stage::in_temporary_folder()?;
    let archive = File::open(&args.file).map_err(of(&args.file))?;
    tar(&stage.0, &["-xpzf", "-"], archive.into(), Stdio::null())?;
    let text = fs::read(stage.0.join(CONTENT)).map_err(of(&args.file))?;
    let content: Content = serde_json::from_slice(&text)
        .map_err(|e| format!("{} is not an archive of saegis backup: {e}", Shown(&args.file)))?;
    let mut targets = Vec::new();
    for (name, path) in &content.files {
        let target = target(&content.folders, path).filter(|_| is_number(name));
        let (folder, path) =
            target.ok_or_else(|| format!("{} names a file outside of it", Shown(&args.file)))?;
        let folder = args.into.join(folder);
        targets.push(Target { from: stage.0.join(name), folder, path });
    }
    let existing = targets.iter().map(|target| target.folder.join(target.path));
    let existing = existing.into_iter().find(|target| target.symlink_metadata().is_ok());
    if let Some(target) = existing.filter(|_| !args.replace) {
        let what = "exists; move the old files away, or use --replace";
        return Err(format!("{} {what}", Shown(&target)));
    }
    let config = args.into.join(content.config.strip_prefix("/").unwrap_or(&content.config));
    if let Ok(now) = Config::load(&config)
        && std::os::unix::net::UnixStream::connect(&now.admin.socket).is_ok()
    {
        return Err("the gateway is running; stop it first".into());
    }
    for Target { from, folder, path } in &targets {
        let restored = files::open_itself(from).and_then(|from| put(&from, folder, path));
        restored.map_err(of(&folder.join(path)))?;
    }
    let (files, shown) = (targets.len(), Shown(&config).to_string());
    if as_json {
        print(&json!({ "files": files, "config": shown }).to_string());
    } else {
        print(&format!("restored {files} files; now run saegis check --config {shown}"));
    }
    Ok(0)
}

/// Returns the outermost folder that contains a path, relative to the root, and the path in it.
fn target<'a>(folders: &'a [PathBuf], path: &'a Path) -> Option<(&'a Path, &'a Path)> {
    let is_plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    let containing = folders.iter().filter(|folder| path.starts_with(folder));
    let folder = containing.min_by_key(|folder| folder.components().count())?;
    let (path, folder) = (path.strip_prefix(folder).ok()?, folder.strip_prefix("/").ok()?);
    let is_file = path.file_name().is_some() && is_plain(path);
    (is_file && is_plain(folder)).then_some((folder, path))
}

/// Returns the folders of configuration, policy and state. A file of the state has a folder of its own
/// only if it is not in the state folder: the gateway can replace folders in it by links.
fn folders(
    config: &Config,
    file: &Path,
    state_files: impl Iterator<Item = PathBuf>,
) -> Vec<PathBuf> {
    let state = config.state_folder.clone().unwrap_or_default();
    let elsewhere = state_files.filter(|path| !path.starts_with(&state));
    let elsewhere: Vec<_> =
        elsewhere.filter_map(|path| located(&path).ok()?.parent().map(Path::to_path_buf)).collect();
    let own = [&config.policy.folder, &config.modules.folder, &state];
    let own = own.into_iter().filter_map(|folder| folder.canonicalize().ok());
    let mut all: Vec<_> =
        own.chain(file.parent().map(Path::to_path_buf)).chain(elsewhere).collect();
    all.sort();
    all.dedup();
    all
}

/// Returns the other files of the state: trails, recorded decisions, and small files.
fn other_files(config: &Config) -> Vec<PathBuf> {
    let key = config.upstream.as_ref().map(|cse| cse.notification_key_file.clone());
    let rotated =
        [config.audit.file.clone(), config.audit.refusals_file(), config.decisions.record.clone()];
    let rotated = rotated.into_iter().flatten().flat_map(|file| {
        let numbered = (1..=1000).map_while({
            let file = file.clone();
            move |number| {
                let mut name = file.as_os_str().to_owned();
                name.push(format!(".{number}"));
                Some(PathBuf::from(name)).filter(|path| path.is_file())
            }
        });
        std::iter::once(file).chain(numbered).collect::<Vec<_>>()
    });
    let rules = config.service_subscription.store.clone();
    key.into_iter().chain([rules]).chain(rotated).filter(|path| path.is_file()).collect()
}

/// A folder with the content of an archive. It is removed when this is dropped.
struct Stage(PathBuf);

impl Drop for Stage {
    fn drop(&mut self) {
        // It is a hidden folder that only its owner can read.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Stage {
    fn beside(file: &Path) -> Result<Self, String> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Self::new(file.with_file_name(format!(".{name}.partial")))
    }

    fn in_temporary_folder() -> Result<Self, String> {
        Self::new(std::env::temp_dir().join(format!("saegis-restore-{}", std::process::id())))
    }

    fn new(folder: PathBuf) -> Result<Self, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(of(&folder))?;
        Ok(Self(folder))
    }

    /// Adds the opened copy of a file.
    fn add(
        &self,
        from: io::Result<File>,
        path: &Path,
        content: &mut Content,
    ) -> Result<(), String> {
        let mut from = from.map_err(of(path))?;
        let path = located(path).map_err(of(path))?;
        if content.files.values().any(|known| *known == path) {
            return Ok(());
        }
        if target(&content.folders, &path).is_none() {
            let what = "is outside of the folders of configuration, policy and state";
            return Err(format!("{} {what}", Shown(&path)));
        }
        let name = content.files.len().to_string();
        let to = self.0.join(&name);
        let copied = (|| {
            let mut new = create_private(&to)?;
            io::copy(&mut from, &mut new)?;
            let meta = from.metadata()?;
            // As root, the owner of the original is restored later.
            if rustix::process::geteuid().is_root() {
                fchown(&new, Some(meta.uid()), Some(meta.gid()))?;
            }
            new.set_permissions(files::permissions(&meta))
        })();
        copied.map_err(of(&path))?;
        content.files.insert(name, path);
        Ok(())
    }

    /// Adds the visible files of a folder.
    fn add_folder(&self, folder: &Path, content: &mut Content) -> Result<(), String> {
        for entry in fs::read_dir(folder).map_err(of(folder))?.flatten() {
            let path = entry.path();
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if path.is_file() && !is_hidden {
                self.add(open(&path), &path, content)?;
            }
        }
        Ok(())
    }
}

/// Runs tar in a folder.
fn tar(folder: &Path, arguments: &[&str], input: Stdio, output: Stdio) -> Result<(), String> {
    let mut command = Command::new("tar");
    command.args(arguments).current_dir(folder).stdin(input).stdout(output);
    let ran =
        command.stderr(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output);
    let ran = ran.map_err(|e| format!("tar cannot be run: {e}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("tar: {}", String::from_utf8_lossy(&ran.stderr).trim()))
}
