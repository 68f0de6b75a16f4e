//! A folder with all that a gateway needs: configuration, policy files, modules.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::code_cache;
use crate::command_line::{Ran, to_end_with};
use crate::paths;

/// A gateway's folder, made afresh from the worked example and gone with this value.
pub struct Setup {
    folder: TempDir,
    /// Tables of the configuration by name, each with its lines.
    tables: Vec<(String, Vec<String>)>,
    /// The program, with its arguments, that starts the gateway.
    through: Vec<String>,
    /// A descriptor that the gateway is handed.
    descriptor: Option<OwnedFd>,
    /// What the program is to be.
    verb: &'static str,
    /// Whether it starts with modules that are compiled already.
    warm: bool,
}

/// Keeps what its gateway has compiled, unless the test went wrong.
impl Drop for Setup {
    fn drop(&mut self) {
        if self.warm && !std::thread::panicking() {
            code_cache::keep(self.folder.path());
        }
    }
}

/// As a service manager hands a socket over: it is descriptor 3, and the variables say so to the
/// very process that the shell becomes. The shell is given it as its standard input.
const HAND_OVER: &str =
    "exec 3<&0 < /dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\"";

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The worked example: both lights, the modules that ship, the embedded registrar.
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

    /// An M2M Authentication Function of that domain name, with the modules that one needs; without a
    /// client, and with no rule.
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

    /// What the program is to be: a gateway, or a MAF.
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// Without the folder `state`, which gateways otherwise start with for the compiled modules in it.
    pub fn without_state(mut self) -> Self {
        self.warm = false;
        self
    }

    /// Readies the folder for a start.
    pub(crate) fn fill_code_cache(&self) {
        if self.warm {
            code_cache::fill(self.folder.path());
        }
    }

    /// With a line in a table of the configuration.
    pub fn with(mut self, table: &str, line: &str) -> Self {
        let named = self.tables.iter().position(|(name, _)| name == table);
        let at = named.unwrap_or_else(|| {
            self.tables.push((table.into(), Vec::new()));
            self.tables.len() - 1
        });
        self.tables[at].1.push(line.into());
        self
    }

    /// Without a table of the configuration.
    pub fn without(mut self, table: &str) -> Self {
        self.tables.retain(|(name, _)| name != table);
        self
    }

    /// With one more table of an array of tables, such as `[peer]`.
    pub fn with_another(mut self, table: &str, lines: &str) -> Self {
        self.tables.push((table.into(), vec![lines.into()]));
        self
    }

    /// Started by another program, which is given the gateway's command and puts it in its place,
    /// as `env` does.
    pub fn through(mut self, program: &[&str]) -> Self {
        self.through = program.iter().map(ToString::to_string).collect();
        self
    }

    /// Handed a descriptor, as by a service manager: a listening socket, or what should be one.
    pub fn with_descriptor(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.descriptor = Some(descriptor.into());
        self.through(&["sh", "-c", HAND_OVER, "sh"])
    }

    /// What the gateway's program has for its standard input.
    pub(crate) fn input(&self) -> Stdio {
        match &self.descriptor {
            Some(descriptor) => descriptor.try_clone().expect("there are descriptors").into(),
            None => Stdio::piped(),
        }
    }

    /// The command that starts the gateway's program.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut words = self.through.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().expect("there is the program"));
        command.args(words);
        command
    }

    /// Another CSE than the one of the worked example.
    pub fn with_cse(mut self, cse_id: &str, kind: &str) -> Self {
        for (_, lines) in self.tables.iter_mut().filter(|(table, _)| table == "cse") {
            lines.retain(|line| !line.starts_with("cse-id"));
        }
        self.with("cse", &format!("cse-id = \"{cse_id}\"\nkind = \"{kind}\""))
    }

    /// Taking associations at another address.
    pub fn listening_at(mut self, address: &str) -> Self {
        for (_, lines) in self.tables.iter_mut().filter(|(table, _)| table == "listen") {
            lines.retain(|line| !line.starts_with("address"));
        }
        self.with("listen", &format!("address = \"{address}\""))
    }

    /// With metrics and health, at a free port.
    pub fn with_metrics(self) -> Self {
        self.with("metrics", "address = \"127.0.0.1:0\"")
    }

    /// With another CSE behind the gateway, at a port of this machine.
    pub fn upstream(self, port: u16) -> Self {
        self.with("upstream", &format!("url = \"http://127.0.0.1:{port}\""))
    }

    /// With a module that was built for the suites, and its manifest.
    pub fn module(self, name: &str, manifest: &str) -> Self {
        self.install(name, manifest);
        self
    }

    /// With a policy file.
    pub fn file(self, name: &str, text: &str) -> Self {
        self.write(&format!("policies/{name}"), text.as_bytes());
        self
    }

    /// Puts a module, and its manifest before it, into the folder of modules.
    pub fn install(&self, name: &str, manifest: &str) {
        install(self.folder.path(), name, manifest);
    }

    /// Writes a file of the gateway's folder.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        write_private(&self.path(path), bytes);
    }

    /// A path in the gateway's folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The lights' table.
    pub fn table(&self) -> PathBuf {
        self.path("policies/psk-lookup-table.csv")
    }

    /// Writes the configuration and tells where.
    pub fn configuration(&self) -> PathBuf {
        let mut text = String::new();
        for (table, lines) in &self.tables {
            text.push_str(&format!("[{table}]\n{}\n\n", lines.join("\n")));
        }
        self.write("saegis.toml", text.as_bytes());
        self.path("saegis.toml")
    }

    /// Starts the gateway where it must end by itself.
    pub fn run_to_its_end(&self) -> Ran {
        self.fill_code_cache();
        let mut command = self.command(&paths::binary());
        command.args([self.verb, "--config"]).arg(self.configuration());
        command.current_dir(self.folder.path()).env_remove("SAEGIS_LOG");
        to_end_with(&mut command, self.input())
    }
}

/// Writes a file in place. Where there was none, nobody but its owner may read it, as is right for what
/// has keys in it.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("the folder is ours");
}

/// Puts a module that was built for the suites into a gateway's folder. The manifest comes first,
/// and the module whole: a gateway may be watching.
pub fn install(folder: &Path, name: &str, manifest: &str) {
    let modules = folder.join("policies/modules");
    fs::write(modules.join(format!("{name}.toml")), manifest).expect("the folder is ours");
    let aside = modules.join(format!(".{name}.new"));
    copy(&paths::component(name), &aside);
    fs::rename(aside, modules.join(format!("{name}.wasm"))).expect("the folder is ours");
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|e| panic!("{} can't be copied: {e}", from.display()));
}
