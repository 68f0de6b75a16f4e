//! The folder of a page, and the services that run in it.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::page::{Start, missing};
use crate::{acme, clients, example::Folder, process, project::Project};

/// Ports of the files and pages, which are replaced by free ones.
const PORTS: [&str; 10] =
    ["8443", "8444", "8445", "8883", "5684", "9464", "9465", "8080", "8081", "5000"];

/// Host of a registry in the pages.
const REGISTRY: &str = "registry.example";

/// Extensions of files whose ports are replaced.
const CONFIGURATIONS: [&str; 3] = ["toml", "ini", "yml"];

/// Timeout for the start of a service, and for one command.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum number of attempts to start a service. ACME exits if its start takes more than a few
/// seconds.
const MAX_STARTS: usize = 3;

/// Policy modules of the repository's configuration.
const MODULES: [&str; 4] = ["app-rules", "certificate-table", "originator-check", "psk-table"];

/// Commands that run until they are stopped, with the words that they print when they are ready.
const SERVICES: [(&str, &str); 5] = [
    ("saegis run", "gateway.ready"),
    ("saegis maf", "gateway.ready"),
    ("saegis mef", "gateway.ready"),
    ("acme-venv/bin/acmecse", "CSE started"),
    ("docker-registry serve", "listening on"),
];

/// Returns whether a command runs until it is stopped.
pub fn is_service(command: &str) -> bool {
    ready_words(command).is_some()
}

fn ready_words(command: &str) -> Option<&'static str> {
    let ends_itself = command.contains("--reencrypt");
    let service = SERVICES.iter().find(|(start, _)| command.starts_with(start) && !ends_itself);
    service.map(|(_, ready)| *ready)
}

/// The folder of a page.
pub struct Scene {
    // The services end before their folder is removed.
    services: Vec<Service>,
    folder: Folder,
    path: OsString,
    /// Modules of the repository, which the binary does not find from a build folder elsewhere.
    modules: PathBuf,
    ports: Vec<(&'static str, String)>,
}

impl Scene {
    /// Creates the folder with its files.
    pub fn new(project: &Project, start: Start) -> Result<Self> {
        let binary = project.gateway_binary("debug");
        ensure!(binary.is_file(), "{} does not exist; build it", binary.display());
        let own = binary.parent().context("the gateway has no folder")?.to_owned();
        let others = env::var_os("PATH").unwrap_or_default();
        let programs = project.root.join("xtask/src/pages/programs");
        let path = env::join_paths([own, programs].into_iter().chain(env::split_paths(&others)))?;
        let free = || -> Result<String> {
            Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string())
        };
        let ports = PORTS.into_iter().map(|port| Ok((port, free()?))).collect::<Result<_>>()?;
        let modules = project.root.join("policies/modules");
        let scene = Self { services: Vec::new(), folder: Folder::new()?, path, modules, ports };
        let to = &scene.folder.0;
        match start {
            Start::Worked => copy(&project.root.join("examples/worked"), to)?,
            Start::Gateway | Start::Files => scene.copy_repository(project)?,
        }
        // The pages find the modules, ACME and packages of JavaScript at these paths.
        fs::create_dir_all(to.join("guest-modules/target"))?;
        symlink(project.components(), to.join("guest-modules/target/components"))?;
        symlink(acme::folder()?, to.join("acme-venv"))?;
        symlink(clients::folder()?.join("node/node_modules"), to.join("node_modules"))?;
        scene.replace_ports()?;
        Ok(scene)
    }

    fn copy_repository(&self, project: &Project) -> Result<()> {
        let to = &self.folder.0;
        copy_file(&project.root.join("saegis.toml"), to)?;
        for folder in ["policies", "examples/devices", "examples/systemd"] {
            fs::create_dir_all(to.join(folder))?;
            copy(&project.root.join(folder), &to.join(folder))?;
        }
        for entry in fs::read_dir(project.root.join("examples"))? {
            let from = entry?.path();
            if from.is_file() {
                copy_file(&from, &to.join("examples"))?;
            }
        }
        for module in MODULES {
            let from = project.components().join(format!("{module}.wasm"));
            copy_file(&from, &to.join("policies/modules")).context("a module is not built")?;
        }
        Ok(())
    }

    /// Writes a file of the folder.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.0.join(file);
        fs::write(&path, text).with_context(|| file.to_owned())?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o600))?)
    }

    /// Adds text to a file of the folder.
    pub fn append(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.0.join(file);
        let opened = OpenOptions::new().append(true).open(&path).with_context(|| file.to_owned());
        Ok(opened?.write_all(text.as_bytes())?)
    }

    /// Replaces the ports of a text by free ones, and the registry's host by this machine.
    pub fn with_ports(&self, text: &str) -> String {
        let replace = |text: String, (port, free): &(&str, String)| {
            text.replace(&format!(":{port}"), &format!(":{free}"))
                .replace(&format!("Port={port}"), &format!("Port={free}"))
                .replace(&format!("-p {port}"), &format!("-p {free}"))
        };
        self.ports.iter().fold(text.replace(REGISTRY, "localhost"), replace)
    }

    /// Replaces the ports in all configurations of the folder, also in those that a command has
    /// written.
    pub fn replace_ports(&self) -> Result<()> {
        self.replace_ports_in(&self.folder.0)
    }

    fn replace_ports_in(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let extension = path.extension().unwrap_or_default();
            if entry.file_type()?.is_dir() {
                self.replace_ports_in(&path)?;
            } else if CONFIGURATIONS.iter().any(|known| extension == *known) {
                let text = fs::read_to_string(&path)?;
                let new = self.with_ports(&text);
                if new != text {
                    fs::write(&path, new)?;
                }
            }
        }
        Ok(())
    }

    /// Runs a command. Returns whether it succeeded, and its output.
    pub fn run(&self, command: &str) -> Result<(bool, String)> {
        let mut shell = Command::new("timeout");
        let command = self.with_ports(command);
        // Each line of several must succeed.
        let command = match command.contains('\n') {
            true => format!("(set -e\n{command}\n)"),
            false => command,
        };
        // Later commands see the exported variables of earlier ones.
        let script = format!(
            "exec 2>&1\n[ ! -f .exports ] || . ./.exports\n{command}\nstatus=$?\nexport -p > .exports\nexit $status"
        );
        shell.arg(TIMEOUT.as_secs().to_string()).args(["sh", "-c", &script]).stdin(Stdio::null());
        let ran = self.prepare(&mut shell).output().with_context(|| format!("`{command}`"))?;
        Ok((ran.status.success(), String::from_utf8_lossy(&ran.stdout).into_owned()))
    }

    /// Starts a service, and waits until it is ready and has printed these lines.
    pub fn start(&mut self, command: &str, shown: &[&str]) -> Result<()> {
        let shown: Vec<_> = shown.iter().map(|line| self.with_ports(line)).collect();
        let mut output = String::new();
        for _ in 0..MAX_STARTS {
            let service = self.spawn(command)?;
            let started = service.wait(command, &shown)?;
            match started {
                Ok(service) => {
                    self.services.push(service);
                    return Ok(());
                }
                Err(printed) => output = printed,
            }
        }
        bail!("`{command}` does not start:\n{output}")
    }

    fn spawn(&self, command: &str) -> Result<Service> {
        let log = self.folder.0.join(format!("service-{}.log", self.services.len()));
        let to = File::create(&log)?;
        let line = format!("exec {}", self.with_ports(command));
        let mut shell = process::tied(&["sh", "-c", &line]);
        shell.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to);
        // ACME resolves its own host name, and must not wait for an unreachable name server.
        shell.env("PYTHONUNBUFFERED", "1").env("RES_OPTIONS", "timeout:1 attempts:1");
        let child = self.prepare(&mut shell).spawn().with_context(|| command.to_owned())?;
        Ok(Service { command: command.into(), child, log })
    }

    /// Ends the service whose command starts with this.
    pub fn stop(&mut self, command: &str) -> Result<()> {
        let at = self.services.iter().position(|service| service.command.starts_with(command));
        let service =
            self.services.remove(at.with_context(|| format!("`{command}` is not running"))?);
        service.end()
    }

    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(&self.folder.0).env("PATH", &self.path).env_remove("SAEGIS_LOG");
        command.env("SAEGIS_MODULES", &self.modules)
    }

    /// Returns the outputs of the services.
    pub fn logs(&self) -> String {
        let logs = self.services.iter().map(|service| fs::read_to_string(&service.log));
        logs.map(Result::unwrap_or_default).collect()
    }
}

/// Copies the files of a folder and its subfolders, except for modules.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            let folder = to.join(entry.file_name());
            fs::create_dir_all(&folder)?;
            copy(&path, &folder)?;
        } else if path.extension().is_none_or(|extension| extension != "wasm") {
            copy_file(&path, to)?;
        }
    }
    Ok(())
}

/// Copies a file into a folder. Only its owner may use it.
fn copy_file(from: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(from.file_name().unwrap_or_default());
    fs::copy(from, &to).with_context(|| from.display().to_string())?;
    let mode = fs::metadata(from)?.permissions().mode() & 0o700;
    Ok(fs::set_permissions(&to, Permissions::from_mode(mode))?)
}

/// A running service. Dropping the value ends it.
struct Service {
    command: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Waits until it is ready and has printed these lines. The inner error is the output of a
    /// service that has ended.
    fn wait(mut self, command: &str, shown: &[String]) -> Result<Result<Self, String>> {
        let ready = ready_words(command).unwrap_or_default();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            // Checked before the output is read, because output before the end counts.
            let has_ended = self.child.try_wait()?.is_some();
            let printed = fs::read_to_string(&self.log)?;
            let missing = missing(shown, &printed);
            if missing.is_none() && printed.contains(ready) {
                return Ok(Ok(self));
            }
            if has_ended {
                return Ok(Err(printed));
            }
            if Instant::now() > deadline {
                bail!("no line {:?} in\n{printed}", missing.unwrap_or(ready));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the service with SIGTERM.
    fn end(mut self) -> Result<()> {
        process::run(Command::new("kill").arg(self.child.id().to_string()))?;
        let deadline = Instant::now() + TIMEOUT;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "`{}` does not end", self.command);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A process that was waited for is not killed, because its number may be reused.
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
