//! `cargo xtask example`: the complete worked example of TS-0003 clause 7.1. A MAF, the IN-CSE and
//! a home gateway run as three processes, with two lights and a smartphone as clients, which use CoAP,
//! MQTT and WebSocket. Another client uses HTTP.
//!
//! The files are a temporary copy of `examples/worked` with free ports. Each printed command is
//! executed by a shell in that folder, and its whole output is printed.

use std::{
    cell::RefCell,
    env,
    ffi::OsString,
    fmt::Write as _,
    fs::{self, DirBuilder, File},
    io,
    net::TcpListener,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{process, project::Project};

/// Timeout for each wait for a service.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of log lines that are printed if a step fails.
const LAST_LINES: usize = 12;

/// Prefix of addresses in the files.
const LOOPBACK: &str = "127.0.0.1:";

/// Exit code of `saegis ae` for a refused request.
const REFUSED: i32 = 4;

/// The services, named after their folders.
const MAF: &str = "maf";
const IN: &str = "in";
const HOME: &str = "mn";

/// The services with their ports in the files. The home gateway has one for MQTT and one for CoAP, too.
const PORTS: [(&str, u16); 5] = [(MAF, 8445), (IN, 8444), (HOME, 8443), (HOME, 8883), (HOME, 5684)];

/// Page with the same commands.
const PAGE: &str = "docs/src/tutorials/worked-example.md";

/// Runs the example with the gateway of a build profile.
pub fn run(project: &Project, profile: &str) -> Result<()> {
    let mut scene = Scene::new(project, profile)?;
    prepare(&scene)?;
    scene.start(MAF, "saegis maf --config maf/maf.toml")?;
    scene.start(IN, "saegis run --config in/saegis.toml")?;
    scene.start(HOME, "saegis run --config mn/saegis.toml")?;
    the_home_gateway_registers(&mut scene)?;
    the_lights_register(&scene)?;
    the_smartphone_switches_a_light(&mut scene)?;
    others_are_refused(&mut scene)?;
    scene.matches(&project.root.join(PAGE))?;
    scene.end()
}

fn prepare(scene: &Scene) -> Result<()> {
    println!("# In a copy of examples/worked, whose ports are");
    for (name, port, free) in &scene.ports {
        println!("#   {free} in place of {port} ({name})");
    }
    println!("# COMPONENTS is the folder guest-modules/target/components of the checkout.");

    print_section(
        "Certificates for the two CSEs. Each believes the authority for CSEs, and shows its own.",
    );
    scene.expect(&[], "saegis certs init --folder trial", 0, &["created "])?;
    scene.expect(&[], "cp trial/in/in-cse.* trial/in/cse-authority.pem in/policies/", 0, &[])?;
    scene.expect(&[], "cp trial/mn/mn-cse.* trial/mn/cse-authority.pem mn/policies/", 0, &[])?;

    print_section(
        "The key of the MAF's store, and for each service the modules that decide for it.",
    );
    let key = "(umask 077; od -An -tx1 -N32 /dev/urandom | tr -d ' \\n' > maf/store.key)";
    scene.expect(&[], key, 0, &[])?;
    for (name, modules) in [
        (MAF, "km-table maf-rules originator-check"),
        (IN, "maf-keys app-rules originator-check"),
        (HOME, "psk-table app-rules originator-check"),
    ] {
        let copy = format!("cp \"$COMPONENTS/$m.wasm\" {name}/policies/modules/");
        scene.expect(&[], &format!("for m in {modules}; do {copy}; done"), 0, &[])?;
    }
    scene.expect(&[], "chmod -R go= .", 0, &[])?;

    print_section("The MAF, the IN-CSE and the home gateway start.");
    Ok(())
}

fn the_home_gateway_registers(scene: &mut Scene) -> Result<()> {
    print_section(
        "The home gateway registers with the IN-CSE over TLS in which both show certificates.",
    );
    scene.wait(HOME, "peer.registered")?;
    let peers = "saegis peers --config mn/saegis.toml";
    scene.expect(&[HOME, IN], peers, 0, &["/in-cse ", " certificate ", " registered "])?;
    let associations = "saegis associations --config in/saegis.toml";
    let certificate = "32-mn-cse-123456.in-cse.in.provider.com";
    scene.expect(&[IN], associations, 0, &["CSE /mn-cse-123456 ", certificate])
}

fn the_lights_register(scene: &Scene) -> Result<()> {
    let at_home = |line: &str, shows: &str| scene.expect(&[HOME], line, 0, &[shows]);
    let light1 = "saegis ae --config devices/light1.toml --binding coap";
    let light2 = "saegis ae --config devices/light2.toml --binding mqtt";

    print_section(
        "Two lights register at the home gateway, each with the key that it shares with it: light 1 over \
         CoAP, light 2 over MQTT.",
    );
    at_home(&format!("{light1} register"), "registered as Clight-AE1: -/light1")?;
    at_home(&format!("{light2} register"), "registered as Clight-AE2: -/light2")?;

    print_section(
        "Each writes a value. Light 1 lets the smartphone use its lamp, light 2 lets nobody.",
    );
    at_home(&format!("{light1} create container lamp"), "created: -/light1/lamp")?;
    at_home(&format!("{light1} send lamp on"), "sent to -/light1/lamp: on")?;
    at_home(&format!("{light1} allow lamp /in-cse/Cphone"), "values into it: /in-cse/Cphone")?;
    at_home(&format!("{light2} create container lamp"), "created: -/light2/lamp")?;
    at_home(&format!("{light2} send lamp on"), "sent to -/light2/lamp: on")
}

fn the_smartphone_switches_a_light(scene: &mut Scene) -> Result<()> {
    let phone = "saegis ae --config devices/phone.toml --binding websocket";

    print_section(
        "The smartphone uses WebSocket. Its AE and the IN-CSE share no key. The MAF has one for both.",
    );
    let register = format!("{phone} register");
    let shows = ["@maf.in.provider.com", "registered as Cphone: -/phone"];
    scene.expect(&[MAF, IN], &register, 0, &shows)?;
    scene.wait(IN, "entity=AE Cphone")?;
    let log = "grep -o 'saef=maf .* entity=AE Cphone' in.log";
    scene.expect(&[IN], log, 0, &["saef=maf "])?;

    print_section("At the IN-CSE it asks for the lamp's value, which is at the home gateway.");
    let read = format!("{phone} show /mn-cse-123456/cse/light1/lamp/la");
    scene.expect(&[IN, HOME], &read, 0, &["with /in-cse at", "\"con\": \"on\""])?;

    print_section("It switches the light, and light 1 reads the new value.");
    let switch = format!("{phone} send /mn-cse-123456/cse/light1/lamp off");
    let shows = ["sent to /mn-cse-123456/cse/light1/lamp: off"];
    scene.expect(&[IN, HOME], &switch, 0, &shows)?;
    let latest = "saegis ae --config devices/light1.toml --binding coap latest lamp";
    scene.expect(&[HOME], latest, 0, &["with /mn-cse-123456 at", "\noff\n"])
}

fn others_are_refused(scene: &mut Scene) -> Result<()> {
    print_section("Light 2 lets nobody use its lamp, so the home gateway refuses the smartphone.");
    let phone = "saegis ae --config devices/phone.toml --binding websocket";
    let read = &format!("{phone} show /mn-cse-123456/cse/light2/lamp/la");
    scene.expect(&[IN, HOME], read, REFUSED, &["refused with 4103"])?;

    print_section(
        "Somebody with light 2's key says that it is light 1. The home gateway refuses that.",
    );
    let send = "saegis ae --config devices/impostor.toml send lamp on";
    scene.expect(&[HOME], send, REFUSED, &["refused with 4106"])?;
    scene.wait(HOME, "rsc=4106")?;
    let log = "grep -o 'from=.* rsc=4106' mn.log";
    scene.expect(&[HOME], log, 0, &["from=\"Clight-AE1\""])?;
    let latest = "saegis ae --config devices/light1.toml --binding coap latest lamp";
    scene.expect(&[HOME], latest, 0, &["\noff\n"])
}

fn print_section(what: &str) {
    println!("\n# {what}");
}

/// The folder and the running services.
struct Scene {
    // The services end before their folder is removed.
    services: Vec<Service>,
    folder: Folder,
    /// Search path for commands, with the gateway's folder first.
    path: OsString,
    components: PathBuf,
    /// Each service with its port in the files and its actual port.
    ports: Vec<(&'static str, u16, u16)>,
    /// Reserves the ports of services that have not started yet.
    kept: Vec<(&'static str, TcpListener)>,
    /// Commands so far.
    commands: RefCell<Vec<String>>,
}

impl Scene {
    fn new(project: &Project, profile: &str) -> Result<Self> {
        let binary = project.gateway_binary(profile);
        ensure!(binary.is_file(), "{} is missing; build it first", binary.display());
        let programs = binary.parent().context("the gateway is in no folder")?.to_owned();
        let others = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([programs].into_iter().chain(env::split_paths(&others)))?;

        let mut kept = Vec::new();
        let mut ports = Vec::new();
        for (name, port) in PORTS {
            let listener = TcpListener::bind((LOOPBACK.trim_end_matches(':'), 0))?;
            ports.push((name, port, listener.local_addr()?.port()));
            kept.push((name, listener));
        }
        let folder = Folder::new()?;
        copy(&project.root.join("examples/worked"), &folder.0, &ports)?;
        let components = project.components();
        Ok(Self {
            services: Vec::new(),
            folder,
            path,
            components,
            ports,
            kept,
            commands: RefCell::default(),
        })
    }

    fn start(&mut self, name: &'static str, line: &str) -> Result<()> {
        self.show(format!("{line} > {name}.log 2>&1 &"));
        let log = self.folder.0.join(format!("{name}.log"));
        let to = File::create(&log)?;
        let mut command = process::tied(&line.split(' ').collect::<Vec<_>>());
        command.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to);
        self.kept.retain(|(service, _)| *service != name);
        let child = self.place(&mut command).spawn().with_context(|| format!("step `{line}`"))?;
        self.services.push(Service { name, child, log });
        self.wait(name, "gateway.ready")
    }

    fn place<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(&self.folder.0)
            .env("PATH", &self.path)
            .env("COMPONENTS", &self.components)
            .env_remove("SAEGIS_LOG")
    }

    /// Prints a command and records it.
    fn show(&self, line: String) {
        println!("$ {line}");
        self.commands.borrow_mut().push(line);
    }

    /// Checks that a page shows the commands so far.
    fn matches(&self, page: &Path) -> Result<()> {
        let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
        let shown = text.lines().filter_map(|line| line.strip_prefix("    $ "));
        let shown: Vec<_> = shown.collect();
        let commands = self.commands.borrow();
        for (run, shown) in commands.iter().zip(&shown) {
            ensure!(run == shown, "{} shows `{shown}` for `{run}`", page.display());
        }
        let (run, shown) = (commands.len(), shown.len());
        ensure!(run == shown, "{} shows {shown} of {run} commands", page.display());
        Ok(())
    }

    /// Waits until a service's log contains these words.
    fn wait(&mut self, name: &str, words: &str) -> Result<()> {
        let service = self.services.iter_mut().find(|service| service.name == name);
        let service = service.with_context(|| format!("{name} was not started"))?;
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            // Checked before the log is read, because output before the exit counts.
            let ended = service.child.try_wait()?.is_some();
            if fs::read_to_string(&service.log)?.contains(words) {
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                bail!("step \"{name}\": no {words:?} in its log{}", self.logs(&[name]));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command, and checks its exit code and that it prints all of `shows`. A failure
    /// includes the logs of the `concerned` services.
    fn expect(&self, concerned: &[&str], line: &str, code: i32, shows: &[&str]) -> Result<()> {
        self.show(line.to_string());
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec 2>&1\n{line}")).stdin(Stdio::null());
        let ran = self.place(&mut shell).output().with_context(|| format!("step `{line}`"))?;
        let printed = String::from_utf8_lossy(&ran.stdout);
        print!("{printed}");
        let logs = || self.logs(concerned);
        ensure!(
            ran.status.code() == Some(code),
            "step `{line}`: {} where the exit code should be {code}{}",
            ran.status,
            logs()
        );
        for words in shows {
            let there = printed.contains(words);
            ensure!(there, "step `{line}`: it did not print {words:?}{}", logs());
        }
        Ok(())
    }

    /// Returns the last lines of some logs.
    fn logs(&self, names: &[&str]) -> String {
        let mut text = String::new();
        for service in self.services.iter().filter(|service| names.contains(&service.name)) {
            let log = fs::read_to_string(&service.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = write!(text, "\nthe last lines of {}.log:\n{}", service.name, last.join("\n"));
        }
        text
    }

    /// Ends the services with SIGTERM.
    fn end(mut self) -> Result<()> {
        print_section("The services end.");
        let names: Vec<_> = self.services.iter().map(|service| service.name).collect();
        let ids: Vec<_> =
            self.services.iter().map(|service| service.child.id().to_string()).collect();
        self.expect(&names, &format!("kill {}", ids.join(" ")), 0, &[])?;
        let deadline = Instant::now() + WAIT_TIMEOUT;
        for at in 0..self.services.len() {
            let Some(Service { name, child, .. }) = self.services.get_mut(at) else { break };
            let status = loop {
                match child.try_wait()? {
                    Some(status) => break Some(status),
                    None if Instant::now() > deadline => break None,
                    None => thread::sleep(Duration::from_millis(20)),
                }
            };
            let name = *name;
            let well = status.is_some_and(|status| status.success());
            ensure!(well, "{name} did not exit cleanly{}", self.logs(&[name]));
        }
        println!("\nAll steps succeeded.");
        Ok(())
    }
}

/// A service. Dropping the value ends it.
struct Service {
    name: &'static str,
    child: Child,
    log: PathBuf,
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

/// A private temporary folder. Dropping the value removes it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("saegis-example-{}", id()));
        // Fails if the folder exists.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Copies a folder of text files, with other ports.
fn copy(from: &Path, to: &Path, ports: &[(&str, u16, u16)]) -> Result<()> {
    let entries = || -> io::Result<Vec<_>> { fs::read_dir(from)?.collect() };
    for entry in entries().with_context(|| format!("cannot read {}", from.display()))? {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let at = || format!("cannot copy {}", from.display());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to).with_context(at)?;
            copy(&from, &to, ports)?;
        } else {
            let text = fs::read_to_string(&from).with_context(at)?;
            fs::write(&to, with_ports(&text, ports).with_context(at)?).with_context(at)?;
        }
    }
    Ok(())
}

/// Replaces the ports of the files by free ones, all at once, because a free port may equal another
/// port of the files.
fn with_ports(text: &str, ports: &[(&str, u16, u16)]) -> Result<String> {
    let mut parts = text.split(LOOPBACK);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = part.strip_suffix(rest).unwrap_or_default();
        let known = ports.iter().find(|(_, port, _)| port.to_string() == digits);
        let (_, _, free) =
            known.with_context(|| format!("{LOOPBACK}{digits} is not the port of a service"))?;
        replaced.push_str(&format!("{LOOPBACK}{free}{rest}"));
    }
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_replaced_all_at_once() {
        let ports = [("one", 8443, 8444), ("other", 8444, 50000)];
        let text = "a = \"127.0.0.1:8443\"\nb = [\"https://127.0.0.1:8444\"]\n8443\n";
        assert_eq!(
            with_ports(text, &ports).unwrap(),
            "a = \"127.0.0.1:8444\"\nb = [\"https://127.0.0.1:50000\"]\n8443\n"
        );
        for unknown in ["127.0.0.1:84", "127.0.0.1:84430", "127.0.0.1:"] {
            assert!(with_ports(unknown, &ports).is_err(), "{unknown}");
        }
    }

    #[test]
    fn temporary_folder_is_removed_with_content() {
        let folder = Folder::new().unwrap();
        let path = folder.0.clone();
        fs::create_dir(path.join("in")).unwrap();
        assert!(Folder::new().is_err(), "an existing folder is refused");
        drop(folder);
        assert!(!path.exists());
    }
}
