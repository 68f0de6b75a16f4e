//! Container image, as an OCI layout: the binary, the libraries that it loads, the authorities of TLS,
//! and the configuration of the packages. There is no shell in it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    package::release::{Release, digest, write_json},
    package::tree,
    process,
    project::Project,
};

/// User and group of the gateway in the container.
const USER: u32 = 65532;

const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Writes the layout into a folder, and returns the name of an archive of it.
pub fn write(project: &Project, release: &Release) -> Result<String> {
    let root = release.work.join("image");
    tree::write(project, release, &root)?;
    fs::remove_dir_all(root.join("usr/lib/systemd"))?;
    // A loopback address is not reachable from outside the container.
    let config = root.join("etc/saegis/saegis.toml");
    let text = fs::read_to_string(&config)?.replace("\"127.0.0.1:8443\"", "\"0.0.0.0:8443\"");
    fs::write(&config, text)?;
    for library in libraries(&release.binary)? {
        let to = root.join("usr/lib").join(library.file_name().unwrap_or_default());
        tree::put(&library, &to, 0o755)?;
    }
    // The path of the loader is in the binary.
    symlink("usr/lib", root.join("lib"))?;
    symlink("usr/lib", root.join("lib64"))?;
    if Path::new(AUTHORITIES).exists() {
        tree::put(Path::new(AUTHORITIES), &root.join(AUTHORITIES.trim_start_matches('/')), 0o644)?;
    }
    fs::write(root.join("etc/passwd"), format!("saegis:x:{USER}:{USER}::/:/sbin/nologin\n"))?;
    fs::write(root.join("etc/group"), format!("saegis:x:{USER}:\n"))?;
    fs::create_dir_all(root.join("var/lib/saegis"))?;

    let layer = release.work.join("layer.tar");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--mtime=@0", "--numeric-owner"])
        .arg(format!("--owner={USER}"))
        .arg(format!("--group={USER}"))
        .arg("--directory")
        .arg(&root)
        .arg("--file")
        .arg(&layer)
        .arg(".");
    for private in ["etc/saegis", "var/lib/saegis"] {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(root.join(private), mode)?;
    }
    process::run(&mut tar)?;
    let name = format!("saegis-{}-{}-image.tar", release.version, release.architecture);
    let layout = release.out.join("saegis-image");
    if layout.exists() {
        fs::remove_dir_all(&layout)?;
    }
    layout_of(release, &layout, &layer)?;
    tree::archive(
        &layout,
        &["oci-layout", "index.json", "blobs"],
        &release.out.join(&name),
        false,
    )?;
    Ok(name)
}

/// Writes the blobs and the index.
fn layout_of(release: &Release, layout: &Path, layer: &Path) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let content = digest(layer)?;
    process::run(Command::new("gzip").args(["-n", "--keep"]).arg(layer))?;
    let layer = blob(&blobs, &layer.with_extension("tar.gz"), "layer.v1.tar+gzip")?;
    let architecture = match &*release.architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => "arm",
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "ExposedPorts": { "8443/tcp": {} },
            "Entrypoint": ["/usr/bin/saegis"],
            "Cmd": ["run", "--config", "/etc/saegis/saegis.toml"],
            "WorkingDir": "/var/lib/saegis",
            "Volumes": { "/var/lib/saegis": {} },
            "StopSignal": "SIGTERM",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{content}")] },
    });
    let file = release.work.join("config.json");
    write_json(&file, &config)?;
    let config = blob(&blobs, &file, "config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let file = release.work.join("manifest.json");
    write_json(&file, &manifest)?;
    let mut manifest = blob(&blobs, &file, "manifest.v1+json")?;
    if let Some(descriptor) = manifest.as_object_mut() {
        let version = json!({ "org.opencontainers.image.ref.name": release.version });
        descriptor.insert("annotations".into(), version);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    write_json(&layout.join("index.json"), &index)?;
    fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}\n")?;
    Ok(())
}

/// Copies a file to the blobs, and returns its descriptor.
fn blob(blobs: &Path, file: &Path, kind: &str) -> Result<Value> {
    let digest = digest(file)?;
    let size = fs::copy(file, blobs.join(&digest))?;
    Ok(json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{digest}"),
        "size": size,
    }))
}

/// Returns the libraries that a program loads, with the loader.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let listed = process::output(Command::new("ldd").arg(binary))
        .context("the image needs a binary of this machine's processor")?;
    Ok(paths(&listed))
}

/// Returns the paths in the output of ldd.
fn paths(listed: &str) -> Vec<PathBuf> {
    let words =
        listed.lines().filter_map(|line| line.split_whitespace().find(|w| w.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let paths = super::paths(listed);
        let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
