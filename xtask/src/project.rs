//! Where things are, and the two kinds of cargo that build them.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf, absolute},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{process, python};

/// The folders of this checkout. All are absolute, since children run in other folders than ours.
pub struct Project {
    /// The checkout itself.
    pub root: PathBuf,
    /// What cargo builds of the main workspace.
    pub host_target: PathBuf,
    /// The workspace of the policy modules.
    pub guests: PathBuf,
    /// What cargo builds of the policy modules, natively and as WebAssembly.
    pub guest_target: PathBuf,
}

impl Project {
    /// Finds the checkout that this program belongs to.
    pub fn find() -> Result<Self> {
        // At run time where possible: a checkout that was moved may still have the old binary.
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root =
            package.parent().context("the package of xtask is not inside a checkout")?.to_owned();
        let guests = root.join("guest-modules");
        let guest_target = match env::var_os("SAEGIS_GUEST_TARGET_DIR") {
            Some(folder) if !folder.is_empty() => {
                absolute(folder).context("SAEGIS_GUEST_TARGET_DIR names no folder")?
            }
            _ => guests.join("target"),
        };
        // Cargo knows best: the folder may be set in the environment or in any of its
        // configuration files.
        let host_target = metadata(cargo(), &root)?
            .get("target_directory")
            .and_then(Value::as_str)
            .context("cargo metadata names no target folder")?
            .into();
        Ok(Self { root, host_target, guests, guest_target })
    }

    /// A cargo for the main workspace.
    pub fn host_cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.host_target);
        command
    }

    /// A cargo for the policy modules, without any setting that is meant for the gateway.
    pub fn guest_cargo(&self) -> Command {
        let mut command = cargo();
        self.as_guest(&mut command);
        command.current_dir(&self.guests);
        command
    }

    /// A cargo for the filter that `cargo xtask bench` gives Envoy.
    pub fn filter_cargo(&self) -> Command {
        let mut command = self.guest_cargo();
        command.current_dir(self.filter());
        command
    }

    /// Where that filter is.
    pub fn filter(&self) -> PathBuf {
        self.root.join("load/envoy-filter")
    }

    /// A make whose cargo is one for policy modules.
    pub fn guest_make(&self) -> Command {
        let mut command = Command::new("make");
        process::forget(&mut command, is_of_cargo_run);
        self.as_guest(&mut command);
        command
    }

    fn as_guest(&self, command: &mut Command) {
        process::forget(command, is_for_the_host);
        command.env("CARGO_TARGET_DIR", &self.guest_target);
    }

    /// The gateway of a build profile's folder, about to run in the checkout.
    pub fn gateway(&self, profile: &str, args: &[String]) -> Command {
        let mut command = Command::new(self.gateway_binary(profile));
        process::forget(&mut command, is_of_cargo_run);
        command.arg("run").args(args).current_dir(&self.root);
        command
    }

    /// Where a build profile puts the gateway.
    pub fn gateway_binary(&self, profile: &str) -> PathBuf {
        self.host_target.join(profile).join("saegis")
    }

    /// Where the components of all policy modules are collected.
    pub fn components(&self) -> PathBuf {
        self.guest_target.join("components")
    }
}

/// What cargo knows of the workspace in a folder, without its dependencies.
pub fn metadata(mut cargo: Command, folder: &Path) -> Result<Value> {
    cargo
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"));
    serde_json::from_str(&process::output(&mut cargo)?).context("cargo metadata is not JSON")
}

/// The cargo that started us, so that the toolchain somebody chose (`cargo +nightly xtask`) is kept.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    process::forget(&mut command, is_of_cargo_run);
    if let Some(path) = python::search_path() {
        command.env("PATH", path);
    }
    command
}

/// Variables that `cargo run` sets for the program it runs. Handed on to another cargo they would
/// make it build again what depends on them, each time that it is called another way.
fn is_of_cargo_run(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_")
        || variable.starts_with("CARGO_BIN_")
        || matches!(
            variable,
            "CARGO_MANIFEST_DIR"
                | "CARGO_MANIFEST_PATH"
                | "CARGO_MANIFEST_LINKS"
                | "CARGO_CRATE_NAME"
                | "CARGO_PRIMARY_PACKAGE"
                | "OUT_DIR"
        )
}

/// Variables that somebody sets for building the gateway. A policy module is built the same
/// whatever they say.
fn is_for_the_host(variable: &str) -> bool {
    variable.starts_with("CARGO_PROFILE_")
        || matches!(
            variable,
            "RUSTFLAGS"
                | "RUSTDOCFLAGS"
                | "RUSTC_BOOTSTRAP"
                | "RUSTC_WORKSPACE_WRAPPER"
                | "CARGO_ENCODED_RUSTFLAGS"
                | "CARGO_ENCODED_RUSTDOCFLAGS"
                | "CARGO_INCREMENTAL"
                | "CARGO_TARGET_DIR"
                | "CARGO_BUILD_BUILD_DIR"
                | "CARGO_BUILD_INCREMENTAL"
                | "CARGO_BUILD_RUSTDOCFLAGS"
                | "CARGO_BUILD_RUSTFLAGS"
                | "CARGO_BUILD_TARGET"
                | "CARGO_BUILD_TARGET_DIR"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_variables_are_not_passed_on() {
        for leak in ["RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_PROFILE_RELEASE_LTO"] {
            assert!(is_for_the_host(leak), "{leak}");
        }
        for common in ["PATH", "CARGO_HOME", "CARGO_BUILD_JOBS", "RUSTUP_TOOLCHAIN", "CARGO"] {
            assert!(!is_for_the_host(common), "{common}");
            assert!(!is_of_cargo_run(common), "{common}");
        }
    }

    #[test]
    fn checkout_is_found() {
        let project = Project::find().unwrap();
        assert!(project.root.join("xtask/src/project.rs").is_file());
        assert!(project.gateway_binary("debug").is_absolute());
        assert!(project.components().is_absolute());
    }
}
