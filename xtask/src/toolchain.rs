//! The compiler of the policy modules.
//!
//! The default is rustup's target for WebAssembly. The alternative is Debian's compiler with its
//! library source, for machines without access to rustup's servers.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{debian, process, project::Project};

/// Target of policy modules. It has no system interface, so a module can call only functions of the
/// host.
pub const TARGET: &str = "wasm32-unknown-unknown";

const VARIABLE: &str = "SAEGIS_WASM_TOOLCHAIN";
const PACKAGES: &[&str] = &["rustc-web", "rust-web-src"];
const BUILD_STD: &str = "-Zbuild-std=std,panic_abort";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler for WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The rustup toolchain with the target.
    Rustup,
    /// Debian's compiler, which also builds the standard library from source.
    Debian,
}

/// State of this machine.
#[derive(Clone, Copy)]
struct MachineState {
    target_installed: bool,
    packages_installed: bool,
    /// rustup is installed and has not failed yet.
    rustup_may_work: bool,
    can_install_packages: bool,
}

/// Next step to get a compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Use(Way),
    AddTarget,
    InstallPackages,
    /// This program cannot install it. The value is the forced way, or `None` for either.
    Ask(Option<Way>),
}

/// Selects an installed compiler first, because it costs nothing. Then rustup, which does not
/// change the system, and then Debian's packages.
fn plan(forced: Option<Way>, facts: MachineState) -> Plan {
    let rustup = forced != Some(Way::Debian);
    let debian = forced != Some(Way::Rustup);
    if rustup && facts.target_installed {
        Plan::Use(Way::Rustup)
    } else if debian && facts.packages_installed {
        Plan::Use(Way::Debian)
    } else if rustup && facts.rustup_may_work {
        Plan::AddTarget
    } else if debian && facts.can_install_packages {
        Plan::InstallPackages
    } else {
        Plan::Ask(forced)
    }
}

/// Parses the variable that forces a way.
fn forced(value: Option<&OsStr>) -> Result<Option<Way>> {
    match value.map(OsStr::as_encoded_bytes) {
        None => Ok(None),
        Some(b"rustup") => Ok(Some(Way::Rustup)),
        Some(b"debian") => Ok(Some(Way::Debian)),
        Some(other) => bail!(
            "{VARIABLE} is `{}`; it may be rustup or debian, or not set",
            String::from_utf8_lossy(other)
        ),
    }
}

/// Returns the command that the user must run.
fn request(way: Option<Way>) -> String {
    let rustup = format!("`rustup target add {TARGET}`");
    let debian = format!("`{}` as root on Debian", debian::install_line(PACKAGES));
    let run = match way {
        Some(Way::Rustup) => rustup,
        Some(Way::Debian) => debian,
        None => format!("{rustup}, or {debian}"),
    };
    format!("there is no compiler for WebAssembly here; run {run}")
}

/// An installed compiler for WebAssembly.
pub enum Toolchain {
    /// rustup's compiler, which is complete.
    Rustup,
    /// Debian's compiler, which has no linker for WebAssembly and uses rustup's.
    Debian {
        /// Path of that linker.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Returns an installed compiler, or installs one.
    pub fn ready() -> Result<Self> {
        let forced = forced(env::var_os(VARIABLE).as_deref())?;
        let sysroot = sysroot()?;
        let mut facts = MachineState {
            target_installed: has_target(&sysroot),
            packages_installed: debian::has(PACKAGES),
            rustup_may_work: process::on_path("rustup"),
            can_install_packages: debian::can_install(),
        };
        loop {
            match plan(forced, facts) {
                Plan::Use(Way::Rustup) => return Ok(Self::Rustup),
                Plan::Use(Way::Debian) => {
                    let linker = linker(&sysroot)?;
                    return Ok(Self::Debian { linker });
                }
                Plan::AddTarget => {
                    println!("Adding the target {TARGET} with rustup");
                    let mut rustup = Command::new("rustup");
                    if let Err(error) = process::run(rustup.args(["target", "add", TARGET])) {
                        eprintln!("{error:#}");
                    }
                    facts.target_installed = has_target(&sysroot);
                    facts.rustup_may_work = false;
                }
                Plan::InstallPackages => {
                    debian::install(PACKAGES).with_context(|| request(forced))?;
                    facts.packages_installed = debian::has(PACKAGES);
                    facts.can_install_packages = false;
                }
                Plan::Ask(way) => bail!(request(way)),
            }
        }
    }

    /// Returns a cargo command that compiles policy modules for WebAssembly.
    pub fn cargo_build(&self, project: &Project) -> Command {
        let mut cargo = project.guest_cargo();
        cargo.args(["build", "--release", "--target", TARGET]);
        if let Self::Debian { .. } = self {
            cargo.arg(BUILD_STD);
        }
        self.lead(&mut cargo);
        cargo
    }

    /// Returns a make command whose cargo compiles for WebAssembly, into the folder of the policy
    /// modules.
    pub fn make(&self, project: &Project) -> Command {
        let mut make = project.guest_make();
        if let Self::Debian { .. } = self {
            make.arg(format!("CARGOFLAGS={BUILD_STD}"));
        }
        self.lead(&mut make);
        make
    }

    /// Configures a cargo command, or a program that starts cargo, for this compiler.
    fn lead(&self, command: &mut Command) {
        if let Self::Debian { linker } = self {
            command
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                // Under `cargo run`, the variable refers to the libraries of rustup's compiler.
                .env_remove("LD_LIBRARY_PATH");
        }
    }

    /// Returns the name for progress messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rustup => "rustup's toolchain",
            Self::Debian { .. } => "Debian's toolchain",
        }
    }
}

/// Returns the sysroot of the compiler that builds the gateway.
fn sysroot() -> Result<PathBuf> {
    let sysroot = process::output(rustc().args(["--print", "sysroot"]))?;
    Ok(sysroot.trim_end().into())
}

fn has_target(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

/// Returns the default target of the gateway.
pub fn host() -> Result<String> {
    let version = process::output(rustc().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// Returns the linker of rustup's compiler.
fn linker(sysroot: &Path) -> Result<PathBuf> {
    let linker = sysroot.join("lib/rustlib").join(host()?).join("bin/rust-lld");
    if !linker.is_file() {
        bail!(
            "{} is missing; build with rustup's cargo, because Debian's compiler uses its linker",
            linker.display()
        );
    }
    Ok(linker)
}

/// Returns the compiler that cargo uses.
fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: MachineState = MachineState {
        target_installed: false,
        packages_installed: false,
        rustup_may_work: false,
        can_install_packages: false,
    };
    const ALL: MachineState = MachineState {
        target_installed: true,
        packages_installed: true,
        rustup_may_work: true,
        can_install_packages: true,
    };

    #[test]
    fn installed_toolchain_is_preferred() {
        assert_eq!(plan(None, ALL), Plan::Use(Way::Rustup));
        let facts = MachineState { target_installed: false, ..ALL };
        assert_eq!(plan(None, facts), Plan::Use(Way::Debian));
    }

    #[test]
    fn rustup_is_tried_before_packages_are_installed() {
        let facts = MachineState { rustup_may_work: true, can_install_packages: true, ..NOTHING };
        assert_eq!(plan(None, facts), Plan::AddTarget);
        let failed = MachineState { rustup_may_work: false, ..facts };
        assert_eq!(plan(None, failed), Plan::InstallPackages);
        assert_eq!(plan(None, NOTHING), Plan::Ask(None));
    }

    #[test]
    fn forced_toolchain_has_no_alternative() {
        assert_eq!(plan(Some(Way::Debian), ALL), Plan::Use(Way::Debian));
        let only_rustup =
            MachineState { packages_installed: false, can_install_packages: false, ..ALL };
        assert_eq!(plan(Some(Way::Debian), only_rustup), Plan::Ask(Some(Way::Debian)));
        let only_debian = MachineState { target_installed: false, rustup_may_work: false, ..ALL };
        assert_eq!(plan(Some(Way::Rustup), only_debian), Plan::Ask(Some(Way::Rustup)));
    }

    #[test]
    fn toolchain_variable_accepts_two_values() {
        assert_eq!(forced(None).unwrap(), None);
        assert_eq!(forced(Some("rustup".as_ref())).unwrap(), Some(Way::Rustup));
        assert_eq!(forced(Some("debian".as_ref())).unwrap(), Some(Way::Debian));
        for wrong in ["", "Debian", "nightly"] {
            let error = forced(Some(wrong.as_ref())).unwrap_err().to_string();
            assert!(error.contains("rustup or debian"), "{error}");
        }
    }

    #[test]
    fn missing_toolchain_error_has_one_command() {
        assert!(request(Some(Way::Rustup)).ends_with("`rustup target add wasm32-unknown-unknown`"));
        assert!(!request(Some(Way::Debian)).contains("rustup"));
        assert!(request(None).contains("apt-get install rustc-web rust-web-src"));
    }
}
