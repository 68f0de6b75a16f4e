//! Paths of the checkout, and the cargo commands for both workspaces.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf, absolute},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{process, python};

/// The folders of this checkout. All are absolute, because child processes run in other folders.
pub struct Project {
    /// The checkout.
    pub root: PathBuf,
    /// Target folder of the main workspace.
    pub host_target: PathBuf,
    /// Workspace of the policy modules.
    pub guests: PathBuf,
    /// Target folder of the policy modules, for native code and WebAssembly.
    pub guest_target: PathBuf,
}

impl Project {
    /// Finds the checkout of this program.
    pub fn find() -> Result<Self> {
        // At run time if possible, because a moved checkout may contain the old binary.
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root =
            package.parent().context("the package of xtask is not inside a checkout")?.to_owned();
        let guests = root.join("guest-modules");
        let guest_target = match env::var_os("SAEGIS_GUEST_TARGET_DIR") {
            Some(folder) if !folder.is_empty() => {
                absolute(folder).context("SAEGIS_GUEST_TARGET_DIR is not a folder")?
            }
            _ => guests.join("target"),
        };
        // From cargo, because the folder may be set in the environment or in any of cargo's
        // configuration files.
        let host_target = metadata(cargo(), &root)?
            .get("target_directory")
            .and_then(Value::as_str)
            .context("cargo metadata names no target folder")?
            .into();
        Ok(Self { root, host_target, guests, guest_target })
    }

    /// Returns a cargo command for the main workspace.
    pub fn host_cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.host_target);
        command
    }

    /// Returns a cargo command for a build that is measured. The environment may ask for incremental
    /// builds, which split each crate into many more units, and whose code is slower.
    pub fn measured_cargo(&self) -> Command {
        let mut command = self.host_cargo();
        command.env("CARGO_INCREMENTAL", "0");
        command
    }

    /// Returns a cargo command for the policy modules, without the settings for the gateway.
    pub fn guest_cargo(&self) -> Command {
        let mut command = cargo();
        self.as_guest(&mut command);
        command.current_dir(&self.guests);
        command
    }

    /// Returns a cargo command for the Envoy filter of `cargo xtask bench`.
    pub fn filter_cargo(&self) -> Command {
        let mut command = self.guest_cargo();
        command.current_dir(self.filter());
        command
    }

    /// Returns the folder of that filter.
    pub fn filter(&self) -> PathBuf {
        self.root.join("load/envoy-filter")
    }

    /// Returns a make command whose cargo is that of policy modules.
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

    /// Returns the command that runs the gateway of a build profile in the checkout.
    pub fn gateway(&self, profile: &str, args: &[String]) -> Command {
        let mut command = Command::new(self.gateway_binary(profile));
        process::forget(&mut command, is_of_cargo_run);
        command.arg("run").args(args).current_dir(&self.root);
        command
    }

    /// Returns the gateway's path in a build profile.
    pub fn gateway_binary(&self, profile: &str) -> PathBuf {
        self.host_target.join(profile).join("saegis")
    }

    /// Returns the folder of the components of all policy modules.
    pub fn components(&self) -> PathBuf {
        self.guest_target.join("components")
    }
}

/// Returns cargo's metadata of the workspace in a folder, without dependencies.
pub fn metadata(mut cargo: Command, folder: &Path) -> Result<Value> {
    cargo
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"));
    serde_json::from_str(&process::output(&mut cargo)?).context("cargo metadata is not JSON")
}

/// Returns the cargo that started this program, so that its toolchain (`cargo +nightly xtask`) is
/// used.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    process::forget(&mut command, is_of_cargo_run);
    if let Some(path) = python::search_path() {
        command.env("PATH", path);
    }
    command
}

/// Returns whether `cargo run` sets this variable for its program. Another cargo would rebuild the
/// crates that depend on it.
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

/// Returns whether a variable configures the build of the gateway. It must not affect policy
/// modules.
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
