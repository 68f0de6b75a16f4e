//! ACME, a CSE from another project, started as its users start it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{BOUND, Request, Response, Running, acme_program};
use tempfile::TempDir;

/// Its configurations as an MN-CSE, as an IN-CSE and as a registree of another CSE, with a placeholder
/// for the port.
const CONFIGURATION: &str = include_str!("acme.ini");
const IN_CSE: &str = include_str!("in-cse.ini");
const REGISTREE: &str = include_str!("registree.ini");

/// The administrator of ACME.
pub const ADMINISTRATOR: &str = "CAdmin";

/// A running ACME. Dropping the value kills it.
pub struct Acme {
    running: Running,
    port: u16,
    cse_id: String,
    _folder: TempDir,
}

impl Acme {
    /// Starts ACME and waits until it serves.
    pub fn start() -> Self {
        Self::insist(free_port, CONFIGURATION)
    }

    /// Starts ACME as a client of the MQTT server at a port, too.
    pub fn start_with_mqtt(port: u16) -> Self {
        let server = format!("[mqtt]\nenable=true\naddress=127.0.0.1\nport={port}\n");
        Self::insist(free_port, &format!("{CONFIGURATION}\n{server}"))
    }

    /// Starts ACME as a registree of the IN-CSE at a URL, over the binding of its scheme.
    pub fn start_registree(url: &str, binding: &str) -> Self {
        let configuration = REGISTREE.replace("@REGISTRAR@", url);
        Self::insist(free_port, &format!("{configuration}\n{binding}"))
    }

    /// Starts ACME again at an earlier port.
    pub fn start_at(port: u16) -> Self {
        Self::insist(|| port, CONFIGURATION)
    }

    /// Starts ACME as the IN-CSE.
    pub fn start_in_cse() -> Self {
        Self::insist(free_port, IN_CSE)
    }

    /// Starts ACME as the IN-CSE with changed lines of its configuration.
    pub fn start_in_cse_with(lines: &[(&str, &str)]) -> Self {
        let mut configuration = IN_CSE.to_string();
        for (from, to) in lines {
            assert!(configuration.contains(from), "{from}");
            configuration = configuration.replace(from, to);
        }
        Self::insist(free_port, &configuration)
    }

    /// Starts ACME as the IN-CSE again at an earlier port.
    pub fn start_in_cse_at(port: u16) -> Self {
        Self::insist(|| port, IN_CSE)
    }

    /// Starts ACME repeatedly. It exits if its own start takes more than a few seconds, as on a
    /// busy machine, or if the port is taken.
    fn insist(port: impl Fn() -> u16, configuration: &str) -> Self {
        let mut said = String::new();
        for _ in 0..3 {
            match Self::try_start(port(), configuration) {
                Ok(acme) => return acme,
                Err(why) => said = why,
            }
        }
        panic!("ACME does not start:\n{said}");
    }

    /// Starts ACME once. The error is its output.
    fn try_start(port: u16, configuration: &str) -> Result<Self, String> {
        let folder = TempDir::with_prefix("saegis-acme-").expect("a temporary folder");
        let cse_id = configuration.lines().find_map(|line| line.strip_prefix("cseID="));
        let cse_id = cse_id.expect("it has a CSE-ID").to_string();
        let configuration = configuration.replace("@PORT@", &port.to_string());
        fs::write(folder.path().join("acme.ini"), configuration).expect("the folder is ours");
        let running = Running::start(&mut command(&folder));
        let started = running.out.wait(BOUND, |bytes, ended| {
            let started = String::from_utf8_lossy(bytes).contains("CSE started");
            (started || ended).then_some(started)
        });
        if started == Some(true) && listens(port) {
            Ok(Self { running, port, cse_id, _folder: folder })
        } else {
            Err(format!("{}{}", running.out.text(), running.err.text()))
        }
    }

    /// Returns the port of the HTTP binding.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a request directly, as any client without a gateway could.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        request.send_in_plaintext(self.port)
    }

    /// Returns the resource tree as text.
    pub fn tree(&self) -> String {
        let page = self.ask(&Request::retrieve("/__structure__/text"));
        assert_eq!(page.status(), 200, "{page:?}");
        page.text()
    }

    /// Retrieves a resource as the administrator.
    pub fn resource(&self, path: &str) -> serde_json::Value {
        self.ask(&Request::retrieve(&self.at(path)).from(ADMINISTRATOR)).expect(200, 2000).json()
    }

    /// Returns the SP-relative address of a resource as a path.
    pub fn at(&self, path: &str) -> String {
        format!("/~/{}/{path}", self.cse_id)
    }

    /// Kills ACME, and returns its port.
    pub fn kill(mut self) -> u16 {
        self.running.signal("KILL");
        assert!(self.running.wait(BOUND).is_some(), "killed");
        self.port
    }
}

/// Returns whether the HTTP server listens. It may start after ACME has reported that it runs.
fn listens(port: u16) -> bool {
    let deadline = Instant::now() + BOUND;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Returns the command that starts ACME. `--headless` is omitted, because it suppresses
/// configuration errors. The environment is cleared, because ACME reads it as configuration.
fn command(folder: &TempDir) -> Command {
    let mut command = Command::new(acme_program());
    command
        .args(["--config", "acme.ini", "--base-directory"])
        .arg(folder.path())
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PYTHONUTF8", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // ACME resolves its own host name, and must not wait for an unreachable name server.
        .env("RES_OPTIONS", "timeout:1 attempts:1");
    command
}

/// Returns an unused port below the ephemeral range, so that it stays free for a restart. The
/// process ID selects the first candidate.
fn free_port() -> u16 {
    let apart = std::process::id() % 1000;
    let first = 12_000 + u16::try_from(apart).expect("below 1000") * 16;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..first + 16).find(free).expect("one of sixteen ports is free")
}
