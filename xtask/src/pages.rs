//! Pages of the book whose commands are run, each page in a folder and with a gateway of its own.
//!
//! A page takes part with a comment that starts with [`MARK`]. The lines of the comment are added to the configuration. Each line of its code that starts with `$ ` is run by a shell, and the lines
//! below it must be in the output, in that order; `…` stands for any text. Exported variables remain.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{example::Folder, process, project::Project};

const MARK: &str = "<!-- tested: gateway";

/// Ports of the files and pages, which are replaced by free ones.
const PORTS: [&str; 2] = ["8443", "9464"];

/// Timeout for the start of a gateway, and for one command.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Policy modules of the repository's configuration.
const MODULES: [&str; 4] = ["app-rules", "certificate-table", "originator-check", "psk-table"];

/// Runs the commands of all marked pages, or of the one at this path.
pub fn check(project: &Project, only: Option<&Path>) -> Result<()> {
    let mut pages = Vec::new();
    for folder in ["docs/src/how-to", "docs/src/tutorials"] {
        for entry in fs::read_dir(project.root.join(folder)).context(folder)? {
            pages.push(entry?.path());
        }
    }
    pages.sort();
    for page in pages.iter().filter(|page| only.is_none_or(|only| page.ends_with(only))) {
        let text = fs::read_to_string(page)?;
        if text.starts_with(MARK) {
            println!("{}", page.strip_prefix(&project.root)?.display());
            follow(project, &text).with_context(|| page.display().to_string())?;
        }
    }
    Ok(())
}

/// A command of a page, with the lines that it shows.
struct Step<'a> {
    number: usize,
    command: &'a str,
    shown: Vec<&'a str>,
}

fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut open = false;
    for (line, number) in page.lines().zip(1..) {
        let text = line.trim_start();
        let is_code = line.starts_with("    ");
        if let Some(command) = text.strip_prefix("$ ").filter(|_| is_code) {
            steps.push(Step { number, command, shown: Vec::new() });
            open = true;
        } else if !is_code || text.is_empty() {
            open = false;
        } else if let Some(step) = steps.last_mut().filter(|_| open) {
            step.shown.push(text);
        }
    }
    steps
}

fn follow(project: &Project, page: &str) -> Result<()> {
    let scene = Scene::new(project)?;
    let comment = page.strip_prefix(MARK).and_then(|rest| rest.split_once("-->"));
    let (added, page) = comment.context("the comment does not end")?;
    let configuration = scene.folder.0.join("saegis.toml");
    fs::write(&configuration, fs::read_to_string(&configuration)? + added)?;
    let _gateway = scene.start()?;
    for Step { number, command, shown } in steps(page) {
        println!("  $ {command}");
        let mut shell = Command::new("timeout");
        shell.arg(TIMEOUT.as_secs().to_string()).args(["sh", "-c"]);
        // Later commands see the exported variables of earlier ones.
        let line = scene.with_ports(command);
        let script = format!(
            "exec 2>&1\n[ ! -f .exports ] || . ./.exports\n{line}\nstatus=$?\nexport -p > .exports\nexit $status"
        );
        shell.arg(script).stdin(Stdio::null());
        let ran = scene.prepare(&mut shell).output().with_context(|| format!("`{command}`"))?;
        let printed = String::from_utf8_lossy(&ran.stdout);
        let log = || fs::read_to_string(scene.folder.0.join("gateway.log")).unwrap_or_default();
        ensure!(ran.status.success(), "line {number}: {}\n{printed}\n{}", ran.status, log());
        let missing = missing(&shown, &printed);
        ensure!(missing.is_none(), "line {number}: no line {missing:?} in\n{printed}\n{}", log());
        scene.replace_ports(&scene.folder.0)?;
    }
    Ok(())
}

/// Returns the first shown line that is not in the output behind the one before.
fn missing<'a>(shown: &[&'a str], printed: &str) -> Option<&'a str> {
    let mut lines = printed.lines().map(str::trim);
    shown.iter().find(|shown| **shown != "…" && !lines.any(|line| matches(shown, line))).copied()
}

fn matches(shown: &str, line: &str) -> bool {
    let (Some(first), Some(last)) = (shown.split('…').next(), shown.rsplit('…').next()) else {
        return false;
    };
    if !shown.contains('…') {
        return shown == line;
    }
    let mut rest = line;
    line.starts_with(first)
        && line.ends_with(last)
        && shown.split('…').all(|part| match rest.split_once(part) {
            Some((_, behind)) => {
                rest = behind;
                true
            }
            None => false,
        })
}

/// A copy of the repository's configuration and policy.
struct Scene {
    folder: Folder,
    path: OsString,
    ports: Vec<(&'static str, String)>,
}

impl Scene {
    fn new(project: &Project) -> Result<Self> {
        let binary = project.gateway_binary("debug");
        ensure!(binary.is_file(), "{} does not exist; build it", binary.display());
        let own = binary.parent().context("the gateway has no folder")?.to_owned();
        let others = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([own].into_iter().chain(env::split_paths(&others)))?;
        let free = || -> Result<String> {
            Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string())
        };
        let ports = PORTS.into_iter().map(|port| Ok((port, free()?))).collect::<Result<_>>()?;
        let scene = Self { folder: Folder::new()?, path, ports };
        let to = &scene.folder.0;
        for folder in ["policies/modules", "examples"] {
            fs::create_dir_all(to.join(folder))?;
        }
        for folder in ["", "policies", "policies/modules", "examples"] {
            for entry in fs::read_dir(project.root.join(folder))? {
                let from = entry?.path();
                let name = from.file_name().unwrap_or_default();
                let is_table = from.extension().is_some_and(|e| e == "csv");
                let is_configuration = from.extension().is_some_and(|e| e == "toml");
                if is_table || is_configuration && (!folder.is_empty() || name == "saegis.toml") {
                    let to = to.join(folder).join(name);
                    fs::copy(&from, &to)?;
                    fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
                }
            }
        }
        fs::create_dir(to.join("examples/devices"))?;
        for entry in fs::read_dir(project.root.join("examples/devices"))? {
            let from = entry?.path();
            fs::copy(
                &from,
                to.join("examples/devices").join(from.file_name().unwrap_or_default()),
            )?;
        }
        for module in MODULES {
            let name = format!("{module}.wasm");
            fs::copy(project.components().join(&name), to.join("policies/modules").join(&name))
                .with_context(|| format!("{name} is not built"))?;
        }
        scene.replace_ports(to)?;
        Ok(scene)
    }

    fn with_ports(&self, text: &str) -> String {
        let replace = |text: String, (port, free): &(&str, String)| {
            text.replace(&format!(":{port}"), &format!(":{free}"))
        };
        self.ports.iter().fold(text.into(), replace)
    }

    /// Replaces the ports in all configurations of a folder, also in those that a command has written.
    fn replace_ports(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.replace_ports(&path)?;
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path)?;
                let new = self.with_ports(&text);
                if new != text {
                    fs::write(&path, new)?;
                }
            }
        }
        Ok(())
    }

    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(&self.folder.0).env("PATH", &self.path).env_remove("SAEGIS_LOG")
    }

    fn start(&self) -> Result<Gateway> {
        let path = self.folder.0.join("gateway.log");
        let log = File::create(&path)?;
        let mut command = process::tied(&["saegis", "run"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let gateway = Gateway(self.prepare(&mut command).spawn().context("saegis run")?);
        let deadline = Instant::now() + TIMEOUT;
        while !fs::read_to_string(&path)?.contains("gateway.ready") {
            if Instant::now() > deadline {
                bail!("the gateway does not start:\n{}", fs::read_to_string(&path)?);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(gateway)
    }
}

/// A gateway. Dropping the value ends it.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_output_are_read_from_code() {
        let page = "$ not code\n\n    $ one | two\n    out …\n\n    other\n\n1. x\n\n       $ three\n       more\n";
        let steps = steps(page);
        let found: Vec<_> =
            steps.iter().map(|step| (step.number, step.command, &step.shown[..])).collect();
        assert_eq!(found, [(3, "one | two", &["out …"][..]), (10, "three", &["more"][..])]);
    }

    #[test]
    fn shown_lines_are_found_in_order() {
        let printed = "a 1 b\nc\nd 2\n";
        assert_eq!(missing(&["a … b", "…", "d …"], printed), None);
        assert_eq!(missing(&["c", "a … b"], printed), Some("a … b"));
        assert_eq!(missing(&["a …2"], printed), Some("a …2"));
    }
}
