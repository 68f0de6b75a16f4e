//! The gateway, run as whoever runs it does.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use crate::client::Credential;
use crate::command_line::{Monitored, curl, saegis};
use crate::log::{Event, Log, Mark};
use crate::paths;
use crate::process::{BOUND, Running};
use crate::setup::{self, Setup};

/// A gateway that runs. It ends with this value at the latest.
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

    /// Where it takes associations.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks where metrics and health are, with curl.
    pub fn monitor(&self, path: &str) -> Monitored {
        let printed = self.printed();
        let (_, rest) = printed.split_once("  metrics     http://").expect("it has metrics");
        let (address, _) = rest.split_once("/metrics").expect("an address");
        curl(&format!("http://{address}{path}"))
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What it printed when it started.
    pub fn printed(&self) -> String {
        self.running.out.text()
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.running.runs()
    }

    /// A path in its folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.setup.path(path)
    }

    /// Writes a file of its folder, in place.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        self.setup.write(path, bytes.as_ref());
    }

    /// Writes a file of its folder as editors do: another file that then takes its place.
    pub fn replace(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        let aside = path.with_extension("new~");
        setup::write_private(&aside, bytes.as_ref());
        fs::rename(aside, path).expect("the folder is ours");
    }

    /// Removes a policy file, and accepts that it is gone.
    pub fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).expect("it is there");
        saegis(&self.path(""), &["reload", "--accept-removals"]).expect(0);
    }

    /// Puts a module that was built for the suites, and its manifest, into the folder of modules.
    pub fn install(&self, name: &str, manifest: &str) {
        setup::install(&self.path(""), name, manifest);
    }

    /// The text of the lights' table.
    pub fn table(&self) -> String {
        fs::read_to_string(self.setup.table()).expect("the table is there")
    }

    /// The text of the lights' table without the row of a credential.
    pub fn table_without(&self, credential: Credential<'_>) -> String {
        let table = self.table();
        let rest: Vec<_> = table.lines().filter(|row| !row.contains(credential.identity)).collect();
        rest.join("\n") + "\n"
    }

    /// Does something to the files of its folder, and waits for the generation that comes of it.
    #[track_caller]
    pub fn in_force_after(&self, change: impl FnOnce(&Self)) -> Event {
        let mark = self.log.mark();
        change(self);
        self.log.wait_after(mark, "generation.in-force")
    }

    /// Does something to the files of its folder, and waits until the gateway refuses what comes
    /// of it, for a reason with these words in it.
    #[track_caller]
    pub fn refused_after(&self, why: &str, change: impl FnOnce(&Self)) -> Event {
        let mark = self.log.mark();
        change(self);
        let fits = |event: &Event| event.message().contains(why);
        let event = self.log.wait_for(mark, "generation.refused", fits);
        let in_force = self.log.all(mark, "generation.in-force", 0);
        assert!(in_force.is_empty(), "{in_force:?}");
        event
    }

    /// Waits for the refusal of a handshake after a place in the log.
    pub fn handshake_refused(&self, mark: Mark) -> Event {
        self.log.wait_after(mark, "handshake.refused")
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// Waits for its end; `None` when the time is up.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        self.running.wait(BOUND)
    }

    /// Ends it as whoever runs it does. Its folder stays.
    pub fn stop(&mut self) {
        self.signal("TERM");
        assert!(self.wait().is_some_and(|status| status.success()), "it ends well");
    }

    /// Starts one that has ended anew in the same folder.
    pub fn start_again(self) -> Self {
        Self::start(self.setup)
    }

    /// Ends it as whoever runs it does, and starts it anew in the same folder.
    pub fn stop_and_start(mut self) -> Self {
        self.stop();
        self.start_again()
    }

    /// Kills it as a power cut would, and starts it anew in the same folder.
    pub fn cut_and_start(mut self) -> Self {
        self.signal("KILL");
        assert!(self.wait().is_some(), "killed");
        Self::start(self.setup)
    }
}

/// The port in what a gateway prints when it starts.
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
