//! The tree of files of a package.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{package::release::Release, process::run, project::Project};

/// Documents beside the reference of the configuration.
const DOCUMENTS: &[&str] = &["README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"];

/// Writes the files into a folder as they are installed, and returns the configuration files.
pub fn write(project: &Project, release: &Release, root: &Path) -> Result<Vec<String>> {
    let put = |from: &Path, to: &str, mode: u32| put(from, &root.join(to), mode);
    let repository = |path: &str| project.root.join(path);
    put(&release.binary, "usr/bin/saegis", 0o755)?;
    for unit in ["saegis.service", "saegis.socket"] {
        let to = root.join("usr/lib/systemd/system").join(unit);
        let text = fs::read_to_string(repository("examples/systemd").join(unit))?;
        create_folder(&to)?;
        fs::write(&to, text.replace("/usr/local/bin/", "/usr/bin/"))?;
        set_mode(&to, 0o644)?;
    }
    for document in DOCUMENTS {
        put(&repository(document), &format!("usr/share/doc/saegis/{document}"), 0o644)?;
    }
    put(
        &repository("docs/src/reference/configuration.md"),
        "usr/share/doc/saegis/configuration.md",
        0o644,
    )?;
    for (from, to) in [
        ("examples/grafana/saegis.json", "grafana.json"),
        ("examples/prometheus/saegis-rules.yml", "prometheus-rules.yml"),
    ] {
        put(&repository(from), &format!("usr/share/doc/saegis/{to}"), 0o644)?;
    }
    write_manual(release, root)?;
    write_completions(release, root)?;
    // From here, `saegis init` copies the modules.
    for file in files(&repository("policies/modules"))? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        put(&file, &format!("usr/share/saegis/modules/{name}"), 0o644)?;
    }

    let mut configuration = Vec::new();
    let mut configure = |from: PathBuf, to: String| -> Result<()> {
        // A module that a new version adds must be readable without a change of its owner.
        let mode = if to.starts_with("/etc/saegis/policies/modules/") { 0o644 } else { 0o640 };
        put(&from, to.trim_start_matches('/'), mode)?;
        configuration.push(to);
        Ok(())
    };
    let config = repository("packaging/config");
    configure(config.join("saegis.toml"), "/etc/saegis/saegis.toml".into())?;
    for (from, to) in [
        (config.join("policies"), "/etc/saegis/policies"),
        (repository("policies/modules"), "/etc/saegis/policies/modules"),
    ] {
        for file in files(&from)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            configure(file, format!("{to}/{name}"))?;
        }
    }
    Ok(configuration)
}

/// Files of completions, where the shells look for them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/saegis"),
    ("zsh", "usr/share/zsh/vendor-completions/_saegis"),
    ("fish", "usr/share/fish/vendor_completions.d/saegis.fish"),
];

/// Writes the manual pages, compressed as distributions do it.
fn write_manual(release: &Release, root: &Path) -> Result<()> {
    let folder = root.join("usr/share/man/man1");
    fs::create_dir_all(&folder)?;
    run(Command::new(&release.binary).args(["man", "--folder"]).arg(&folder))?;
    let pages = files(&folder)?;
    // Without the time, so that the package depends on nothing but the files.
    run(Command::new("gzip").args(["-9", "--no-name"]).args(&pages))?;
    files(&folder)?.iter().try_for_each(|page| set_mode(page, 0o644))
}

fn write_completions(release: &Release, root: &Path) -> Result<()> {
    for (shell, to) in COMPLETIONS {
        let to = root.join(to);
        create_folder(&to)?;
        let ran = Command::new(&release.binary).args(["completions", shell]).output()?;
        if !ran.status.success() {
            bail!("saegis completions {shell} failed: {}", String::from_utf8_lossy(&ran.stderr));
        }
        fs::write(&to, ran.stdout)?;
        set_mode(&to, 0o644)?;
    }
    Ok(())
}

/// Returns the files of a folder that are not hidden, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn create_folder(file: &Path) -> Result<()> {
    let folder = file.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Copies a file, and sets its mode.
pub fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    create_folder(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    set_mode(to, mode)
}

fn set_mode(file: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(mode))?)
}

/// Writes a folder into an archive whose bytes depend on nothing but the files.
pub fn archive(folder: &Path, content: &[&str], file: &Path, compress: bool) -> Result<()> {
    let mut tar = std::process::Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg("--mtime=@0")
        .arg("--directory")
        .arg(folder)
        .arg("--file")
        .arg(file)
        // By default gzip stores the time.
        .args(compress.then_some("--use-compress-program=gzip -n"))
        .args(content);
    run(&mut tar)
}
