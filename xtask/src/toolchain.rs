//! Which compiler builds the policy modules.
//!
//! rustup's target for WebAssembly is the ordinary way. Debian's compiler with its library source
//! is the other, for machines that reach Debian's archive and crates.io, but not rustup's servers.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{debian, process, project::Project};

/// The target that policy modules are compiled for. It has no system interface, so a module can
/// call nothing but what the host gives it.
pub const TARGET: &str = "wasm32-unknown-unknown";

const VARIABLE: &str = "SAEGIS_WASM_TOOLCHAIN";
const PACKAGES: &[&str] = &["rustc-web", "rust-web-src"];
const BUILD_STD: &str = "-Zbuild-std=std,panic_abort";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A way to compile for WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The toolchain of rustup with the target added.
    Rustup,
    /// Debian's compiler, which builds the standard library from source as well.
    Debian,
}

/// What is the case on this machine.
#[derive(Clone, Copy)]
struct Facts {
    target_installed: bool,
    packages_installed: bool,
    /// rustup is there, and has not failed yet.
    rustup_may_work: bool,
    can_install_packages: bool,
}

/// What to do next for a compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Use(Way),
    AddTarget,
    InstallPackages,
    /// There is nothing we can do; somebody else can, for this way or, if none is forced, either.
    Ask(Option<Way>),
}

/// What is installed goes first, since it costs nothing; then rustup, which changes nothing of the
/// system; then Debian's packages.
fn plan(forced: Option<Way>, facts: Facts) -> Plan {
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

/// Reads the variable that forces a way.
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

/// What somebody has to run where we may not, or cannot.
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

/// A compiler for WebAssembly that is installed.
pub enum Toolchain {
    /// rustup's, complete in itself.
    Rustup,
    /// Debian's, which has no linker for WebAssembly and borrows rustup's.
    Debian {
        /// Where that linker is.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Takes what is installed, or installs what is missing.
    pub fn ready() -> Result<Self> {
        let forced = forced(env::var_os(VARIABLE).as_deref())?;
        let sysroot = sysroot()?;
        let mut facts = Facts {
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

    /// A cargo that is about to compile policy modules for WebAssembly.
    pub fn cargo_build(&self, project: &Project) -> Command {
        let mut cargo = project.guest_cargo();
        cargo.args(["build", "--release", "--target", TARGET]);
        if let Self::Debian { .. } = self {
            cargo.arg(BUILD_STD);
        }
        self.lead(&mut cargo);
        cargo
    }

    /// A make whose cargo compiles for WebAssembly, into the folder of the policy modules.
    pub fn make(&self, project: &Project) -> Command {
        let mut make = project.guest_make();
        if let Self::Debian { .. } = self {
            make.arg(format!("CARGOFLAGS={BUILD_STD}"));
        }
        self.lead(&mut make);
        make
    }

    /// Leads a cargo, or what starts one, to this compiler.
    fn lead(&self, command: &mut Command) {
        if let Self::Debian { linker } = self {
            command
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                // Under `cargo run` it leads to the libraries of rustup's compiler.
                .env_remove("LD_LIBRARY_PATH");
        }
    }

    /// What it is called while it works.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rustup => "rustup's toolchain",
            Self::Debian { .. } => "Debian's toolchain",
        }
    }
}

/// The folder of the compiler that builds the gateway.
fn sysroot() -> Result<PathBuf> {
    let sysroot = process::output(rustc().args(["--print", "sysroot"]))?;
    Ok(sysroot.trim_end().into())
}

fn has_target(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

/// The target that the gateway is compiled for, where nothing else is asked for.
pub fn host() -> Result<String> {
    let version = process::output(rustc().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// The linker that comes with rustup's compiler.
fn linker(sysroot: &Path) -> Result<PathBuf> {
    let linker = sysroot.join("lib/rustlib").join(host()?).join("bin/rust-lld");
    if !linker.is_file() {
        bail!(
            "{} is missing; build with rustup's cargo, whose linker Debian's compiler borrows",
            linker.display()
        );
    }
    Ok(linker)
}

/// The compiler that cargo itself would take.
fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Facts = Facts {
        target_installed: false,
        packages_installed: false,
        rustup_may_work: false,
        can_install_packages: false,
    };
    const ALL: Facts = Facts {
        target_installed: true,
        packages_installed: true,
        rustup_may_work: true,
        can_install_packages: true,
    };

    #[test]
    fn installed_toolchain_is_preferred() {
        assert_eq!(plan(None, ALL), Plan::Use(Way::Rustup));
        let facts = Facts { target_installed: false, ..ALL };
        assert_eq!(plan(None, facts), Plan::Use(Way::Debian));
    }

    #[test]
    fn rustup_is_tried_before_packages_are_installed() {
        let facts = Facts { rustup_may_work: true, can_install_packages: true, ..NOTHING };
        assert_eq!(plan(None, facts), Plan::AddTarget);
        let failed = Facts { rustup_may_work: false, ..facts };
        assert_eq!(plan(None, failed), Plan::InstallPackages);
        assert_eq!(plan(None, NOTHING), Plan::Ask(None));
    }

    #[test]
    fn forced_toolchain_has_no_alternative() {
        assert_eq!(plan(Some(Way::Debian), ALL), Plan::Use(Way::Debian));
        let only_rustup = Facts { packages_installed: false, can_install_packages: false, ..ALL };
        assert_eq!(plan(Some(Way::Debian), only_rustup), Plan::Ask(Some(Way::Debian)));
        let only_debian = Facts { target_installed: false, rustup_may_work: false, ..ALL };
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
