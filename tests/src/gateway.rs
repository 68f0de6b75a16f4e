//! A running gateway.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use crate::client::Credential;
use crate::command_line::{Monitored, curl, saegis};
use crate::log::{Event, Log, Mark};
use crate::paths;
use crate::process::{BOUND, Running};
use crate::setup::{self, Setup};

/// A gateway process. Dropping the value kills it.
pub struct Gateway {
    running: Running,
    port: u16,
    log: Log,
    setup: Setup,
}

impl Setup {
    /// Starts the gateway and waits until it is ready.
    pub fn start(self) -> Gateway {
        Gateway::start(self)
    }

    /// Starts the gateway with a log that goes to a file.
    pub fn start_with_log_in(self, file: File) -> Gateway {
        Gateway::start_with_log_in(self, file)
    }
}

impl Gateway {
    /// Starts a gateway and waits until it is ready.
    fn start(setup: Setup) -> Self {
        let mut command = Self::command(&setup);
        let running = Running::start_between(&mut command, setup.input(), Stdio::piped());
        let log = Log::new(running.err.clone());
        log.wait("gateway.ready");
        Self { port: port(&running), running, log, setup }
    }

    /// Starts a gateway whose log goes to a file.
    fn start_with_log_in(setup: Setup, file: File) -> Self {
        let running = Running::start_with(&mut Self::command(&setup), file);
        let log = Log::new(running.err.clone());
        Self { port: port(&running), running, log, setup }
    }

    fn command(setup: &Setup) -> Command {
        setup.fill_code_cache();
        let mut command = setup.command(&paths::binary());
        command
            .args([setup.verb(), "--config"])
            .arg(setup.configuration())
            .env_remove("SAEGIS_LOG");
        command
    }

    /// Returns the port of the TLS listener.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port of the MQTT listener.
    pub fn mqtt_port(&self) -> u16 {
        self.port_after("  MQTT        ")
    }

    /// Returns the port of the CoAP socket.
    pub fn coap_port(&self) -> u16 {
        self.port_after("  CoAP        ")
    }

    /// Returns the port that the gateway prints behind these words.
    fn port_after(&self, words: &str) -> u16 {
        let printed = self.printed();
        let (_, rest) = printed.split_once(words).expect("it has such a listener");
        let (address, _) = rest.split_once(',').expect("an address");
        address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
    }

    /// Fetches a path of the metrics listener with curl.
    pub fn monitor(&self, path: &str) -> Monitored {
        let printed = self.printed();
        let (_, rest) = printed.split_once("  metrics     http://").expect("it has metrics");
        let (address, _) = rest.split_once("/metrics").expect("an address");
        curl(&format!("http://{address}{path}"))
    }

    /// Returns the address of the web page, without a scheme.
    pub fn web_address(&self) -> String {
        let printed = self.printed();
        let (_, rest) = printed.split_once("  web page    http://").expect("it has a web page");
        rest.split_once(';').expect("an address").0.into()
    }

    /// Returns the log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the standard output.
    pub fn printed(&self) -> String {
        self.running.out.text()
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Returns whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.running.runs()
    }

    /// Returns a path in the gateway's folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.setup.path(path)
    }

    /// Writes a file of the gateway's folder in place.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        self.setup.write(path, bytes.as_ref());
    }

    /// Replaces a file of the gateway's folder by a rename, as editors do.
    pub fn replace(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        let temporary = path.with_extension("new~");
        setup::write_private(&temporary, bytes.as_ref());
        fs::rename(temporary, path).expect("the folder is ours");
    }

    /// Removes a policy file, accepts the removal, and waits until the new generation is in force.
    #[track_caller]
    pub fn remove(&self, path: &str) -> Event {
        let mark = self.log.mark();
        fs::remove_file(self.path(path)).expect("it is there");
        saegis(&self.path(""), &["reload", "--accept-removals"]).expect(0);
        self.log.wait_after(mark, "generation.in-force")
    }

    /// Installs a test module and its manifest.
    pub fn install(&self, name: &str, manifest: &str) {
        setup::install(&self.path(""), name, manifest);
    }

    /// Returns the text of the pre-shared key table.
    pub fn table(&self) -> String {
        fs::read_to_string(self.setup.table()).expect("the table is there")
    }

    /// Returns the text of the pre-shared key table without the row of a credential.
    pub fn table_without(&self, credential: Credential<'_>) -> String {
        let table = self.table();
        let rest: Vec<_> = table.lines().filter(|row| !row.contains(credential.identity)).collect();
        rest.join("\n") + "\n"
    }

    /// Changes files of the gateway's folder, and waits until the new generation is in force.
    #[track_caller]
    pub fn in_force_after(&self, change: impl FnOnce(&Self)) -> Event {
        let mark = self.log.mark();
        self.change_at_once(change);
        self.log.wait_after(mark, "generation.in-force")
    }

    /// Changes files of the gateway's folder, and waits until the gateway refuses them. The reason
    /// contains these words.
    #[track_caller]
    pub fn refused_after(&self, why: &str, change: impl FnOnce(&Self)) -> Event {
        let mark = self.log.mark();
        self.change_at_once(change);
        let fits = |event: &Event| event.message().contains(why);
        let event = self.log.wait_for(mark, "generation.refused", fits);
        let in_force = self.log.all(mark, "generation.in-force", 0);
        assert!(in_force.is_empty(), "{in_force:?}");
        event
    }

    /// Changes files while the gateway is stopped by a signal. Otherwise it could load some of the changes
    /// as a generation of their own, because a busy machine can pause this thread between two of them.
    #[track_caller]
    fn change_at_once(&self, change: impl FnOnce(&Self)) {
        self.signal("STOP");
        change(self);
        self.signal("CONT");
    }

    /// Waits for the refusal of a handshake after a mark.
    pub fn handshake_refused(&self, mark: Mark) -> Event {
        self.log.wait_after(mark, "handshake.refused")
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// Waits for the exit. Returns `None` after the time limit.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        self.running.wait(BOUND)
    }

    /// Ends the gateway with SIGTERM. Its folder remains.
    pub fn stop(&mut self) {
        self.signal("TERM");
        assert!(self.wait().is_some_and(|status| status.success()), "it ends well");
    }

    /// Starts a stopped gateway again in the same folder.
    pub fn start_in_same_folder(self) -> Self {
        Self::start(self.setup)
    }

    /// Ends the gateway with SIGTERM, and starts it again in the same folder.
    pub fn restart(mut self) -> Self {
        self.stop();
        self.start_in_same_folder()
    }

    /// Kills the gateway as a power cut would, and starts it again in the same folder.
    pub fn kill_and_restart(mut self) -> Self {
        self.signal("KILL");
        assert!(self.wait().is_some(), "killed");
        Self::start(self.setup)
    }
}

/// Returns the port that a gateway prints when it starts.
fn port(running: &Running) -> u16 {
    let port = running.out.wait(BOUND, |bytes, ended| {
        let text = String::from_utf8_lossy(bytes);
        let number = || {
            let (_, rest) = text.split_once("\n  TLS         ")?;
            let (address, _) = rest.split_once('\n')?;
            address.rsplit_once(':')?.1.parse().ok()
        };
        let found = number();
        if found.is_none() && !ended { None } else { Some(found) }
    });
    port.flatten()
        .unwrap_or_else(|| panic!("no port in:\n{}\n{}", running.out.text(), running.err.text()))
}
