//! The folder of a gateway: configuration, policy files, modules.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::code_cache;
use crate::command_line::{CommandOutput, to_end_with};
use crate::paths;

/// The folder of a gateway, created from the worked example and removed on drop.
pub struct Setup {
    folder: TempDir,
    /// Tables of the configuration by name, with their lines.
    tables: Vec<(String, Vec<String>)>,
    /// The program, with its arguments, that starts the gateway.
    through: Vec<String>,
    /// A file descriptor that the gateway inherits.
    descriptor: Option<OwnedFd>,
    /// The command of the program.
    verb: &'static str,
    /// Whether the gateway starts with cached compiled modules.
    warm: bool,
}

/// Saves the modules that the gateway has compiled, unless the test failed.
impl Drop for Setup {
    fn drop(&mut self) {
        if self.warm && !std::thread::panicking() {
            code_cache::save(self.folder.path());
        }
    }
}

/// Passes a socket as descriptor 3, as a service manager does. LISTEN_PID names the process that
/// the shell becomes. The shell receives the socket as its standard input.
const PASS_SOCKET: &str =
    "exec 3<&0 < /dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\"";

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// Returns the worked example: both lights, the shipped modules and the embedded CSE.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("saegis-test-").expect("a temporary folder");
        let setup = Self::in_folder(folder, "run")
            .with("cse", "cse-id = \"mn-cse-123456\"")
            .with("cse", "service-provider = \"in.provider.com\"")
            .with("listen", "address = \"127.0.0.1:0\"")
            .with("log", "format = \"json\"");
        fs::create_dir_all(setup.path("policies/modules")).expect("a folder");
        let shipped = paths::repository().join("policies");
        let table = fs::read(shipped.join("psk-lookup-table.csv")).expect("it is shipped");
        write_private(&setup.table(), &table);
        for name in ["psk-table", "originator-check"] {
            let manifest = format!("modules/{name}.toml");
            copy(&shipped.join(&manifest), &setup.path("policies").join(&manifest));
            copy(&paths::component(name), &setup.path(&format!("policies/modules/{name}.wasm")));
        }
        setup
    }

    fn in_folder(folder: TempDir, verb: &'static str) -> Self {
        Self { folder, tables: Vec::new(), through: Vec::new(), descriptor: None, verb, warm: true }
    }

    /// Returns an M2M Authentication Function of that domain name with its modules, without clients
    /// and rules.
    pub fn maf(fqdn: &str) -> Self {
        let folder = TempDir::with_prefix("saegis-test-").expect("a temporary folder");
        let setup = Self::in_folder(folder, "maf")
            .with("maf", &format!("fqdn = \"{fqdn}\"\nservice-provider = \"in.provider.com\""))
            .with("maf", "store-key-file = \"store.key\"")
            .with("listen", "address = \"127.0.0.1:0\"")
            .with("log", "format = \"json\"")
            .with("modules.grants", "maf-rules = [\"policy-files\"]");
        fs::create_dir_all(setup.path("policies/modules")).expect("a folder");
        setup.write("store.key", "5e5f".repeat(16).as_bytes());
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(setup.path("store.key"), owner).expect("the folder is ours");
        setup
            .module("km-table", "capabilities = [\"policy-tables\"]")
            .module("originator-check", "")
            .module("maf-rules", "capabilities = [\"policy-files\"]\nfiles = [\"maf-rules.toml\"]")
            .file("maf-rules.toml", "")
            .file("km-table.csv", "client_id,km,km_id\n")
    }

    /// Returns an M2M Enrolment Function of that domain name with its modules, without clients. Its
    /// authority is in `ca.pem` and `ca.key`.
    pub fn mef(fqdn: &str, ca: &saegis_test_ca::Authority) -> Self {
        let folder = TempDir::with_prefix("saegis-test-").expect("a temporary folder");
        let setup = Self::in_folder(folder, "mef")
            .with("mef", &format!("fqdn = \"{fqdn}\"\nservice-provider = \"in.provider.com\""))
            .with("mef", "in-cse = \"in-cse\"")
            .with("mef.est", "ca-certificate = \"ca.pem\"\nca-key = \"ca.key\"")
            .with("listen", "address = \"127.0.0.1:0\"")
            .with("log", "format = \"json\"");
        fs::create_dir_all(setup.path("policies/modules")).expect("a folder");
        setup.write("ca.pem", ca.pem().as_bytes());
        setup.write("ca.key", ca.key_pem().as_bytes());
        setup
            .module("km-table", "capabilities = [\"policy-tables\"]")
            .module("originator-check", "")
            .file("km-table.csv", "client_id,km,km_id\n")
    }

    /// Returns the command of the program: gateway, MAF or MEF.
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// Omits the `state` folder, which otherwise holds the cached compiled modules.
    pub fn without_state(mut self) -> Self {
        self.warm = false;
        self
    }

    /// Fills the code cache before a start.
    pub(crate) fn fill_code_cache(&self) {
        if self.warm {
            code_cache::fill(self.folder.path());
        }
    }

    /// Listens for CoAP over DTLS.
    pub fn with_coap(self) -> Self {
        self.with("coap", "listen = \"127.0.0.1:0\"")
    }

    /// Adds a line to a table of the configuration.
    pub fn with(mut self, table: &str, line: &str) -> Self {
        let named = self.tables.iter().position(|(name, _)| name == table);
        let at = named.unwrap_or_else(|| {
            self.tables.push((table.into(), Vec::new()));
            self.tables.len() - 1
        });
        self.tables[at].1.push(line.into());
        self
    }

    /// Removes a table from the configuration.
    pub fn without(mut self, table: &str) -> Self {
        self.tables.retain(|(name, _)| name != table);
        self
    }

    /// Adds a table to an array of tables, such as `[peer]`.
    pub fn with_another(mut self, table: &str, lines: &str) -> Self {
        self.tables.push((table.into(), vec![lines.into()]));
        self
    }

    /// Adds a line to the table that was added last.
    pub fn with_last(mut self, line: &str) -> Self {
        self.tables.last_mut().expect("there is a table").1.push(line.into());
        self
    }

    /// Starts the gateway through another program that executes the given command, such as `env`.
    pub fn started_through(mut self, program: &[&str]) -> Self {
        self.through = program.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts the gateway on one processor, so that one listener accepts all connections in their
    /// order.
    pub fn on_one_processor(self) -> Self {
        let processor = rustix::thread::sched_getcpu().to_string();
        self.started_through(&["taskset", "-c", &processor])
    }

    /// Passes a descriptor as a service manager does, which may not be a listening socket.
    pub fn with_descriptor(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.descriptor = Some(descriptor.into());
        self.started_through(&["sh", "-c", PASS_SOCKET, "sh"])
    }

    /// Returns the standard input of the gateway.
    pub(crate) fn input(&self) -> Stdio {
        match &self.descriptor {
            Some(descriptor) => descriptor.try_clone().expect("there are descriptors").into(),
            None => Stdio::piped(),
        }
    }

    /// Returns the command that starts the gateway.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut words = self.through.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().expect("there is the program"));
        command.args(words);
        command
    }

    /// Changes the CSE-ID and the type of the CSE.
    pub fn with_cse(mut self, cse_id: &str, kind: &str) -> Self {
        for (_, lines) in self.tables.iter_mut().filter(|(table, _)| table == "cse") {
            lines.retain(|line| !line.starts_with("cse-id"));
        }
        self.with("cse", &format!("cse-id = \"{cse_id}\"\nkind = \"{kind}\""))
    }

    /// Changes the address of the TLS listener.
    pub fn listening_at(mut self, address: &str) -> Self {
        for (_, lines) in self.tables.iter_mut().filter(|(table, _)| table == "listen") {
            lines.retain(|line| !line.starts_with("address"));
        }
        self.with("listen", &format!("address = \"{address}\""))
    }

    /// Adds a metrics listener at a free port.
    pub fn with_metrics(self) -> Self {
        self.with("metrics", "address = \"127.0.0.1:0\"")
    }

    /// Adds an MQTT listener at a free port.
    pub fn with_mqtt(self) -> Self {
        self.with("mqtt", "listen = \"127.0.0.1:0\"")
    }

    /// Configures a CSE behind the gateway at a local port.
    pub fn upstream(self, port: u16) -> Self {
        self.with("upstream", &format!("url = \"http://127.0.0.1:{port}\""))
    }

    /// Adds a test module and its manifest.
    pub fn module(self, name: &str, manifest: &str) -> Self {
        self.install(name, manifest);
        self
    }

    /// Adds a policy file.
    pub fn file(self, name: &str, text: &str) -> Self {
        self.write(&format!("policies/{name}"), text.as_bytes());
        self
    }

    /// Installs the manifest and then the module.
    pub fn install(&self, name: &str, manifest: &str) {
        install(self.folder.path(), name, manifest);
    }

    /// Writes a file of the gateway's folder.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        write_private(&self.path(path), bytes);
    }

    /// Returns a path in the gateway's folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Returns the path of the pre-shared key table.
    pub fn table(&self) -> PathBuf {
        self.path("policies/psk-lookup-table.csv")
    }

    /// Writes the configuration and returns its path.
    pub fn configuration(&self) -> PathBuf {
        let mut text = String::new();
        for (table, lines) in &self.tables {
            text.push_str(&format!("[{table}]\n{}\n\n", lines.join("\n")));
        }
        self.write("saegis.toml", text.as_bytes());
        self.path("saegis.toml")
    }

    /// Runs the gateway until it exits by itself.
    pub fn run_until_exit(&self) -> CommandOutput {
        self.fill_code_cache();
        let mut command = self.command(&paths::binary());
        command.args([self.verb, "--config"]).arg(self.configuration());
        command.current_dir(self.folder.path()).env_remove("SAEGIS_LOG");
        to_end_with(&mut command, self.input())
    }
}

/// Writes a file in place. A new file is readable by its owner only, because it may hold keys.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("the folder is ours");
}

/// Installs a test module into the folder of a gateway. The manifest is written first and the
/// module is renamed into place, because a gateway may be watching.
pub fn install(folder: &Path, name: &str, manifest: &str) {
    let modules = folder.join("policies/modules");
    fs::write(modules.join(format!("{name}.toml")), manifest).expect("the folder is ours");
    let temporary = modules.join(format!(".{name}.new"));
    copy(&paths::component(name), &temporary);
    fs::rename(temporary, modules.join(format!("{name}.wasm"))).expect("the folder is ours");
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|e| panic!("cannot copy {}: {e}", from.display()));
}
