//! ACME, a CSE that this project did not write, run as its users run it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{BOUND, Request, Response, Running, acme_program};
use tempfile::TempDir;

/// Its configuration as the CSE of a home, and as that of the infrastructure; the port is filled in.
const CONFIGURATION: &str = include_str!("acme.ini");
const IN_CSE: &str = include_str!("in-cse.ini");

/// Who may do everything there.
pub const ADMINISTRATOR: &str = "CAdmin";

/// An ACME that runs. It ends with this value at the latest.
pub struct Acme {
    running: Running,
    port: u16,
    cse_id: String,
    _folder: TempDir,
}

impl Acme {
    /// Starts it and waits until it serves.
    pub fn start() -> Self {
        Self::insist(free_port, CONFIGURATION)
    }

    /// Starts it at a port at which it was before.
    pub fn start_at(port: u16) -> Self {
        Self::insist(|| port, CONFIGURATION)
    }

    /// Starts it as the IN-CSE.
    pub fn start_in_cse() -> Self {
        Self::insist(free_port, IN_CSE)
    }

    /// Starts it as the IN-CSE with other values in some lines of its configuration.
    pub fn start_in_cse_with(lines: &[(&str, &str)]) -> Self {
        let mut configuration = IN_CSE.to_string();
        for (from, to) in lines {
            assert!(configuration.contains(from), "{from}");
            configuration = configuration.replace(from, to);
        }
        Self::insist(free_port, &configuration)
    }

    /// Starts it as the IN-CSE at a port at which it was before.
    pub fn start_in_cse_at(port: u16) -> Self {
        Self::insist(|| port, IN_CSE)
    }

    /// It gives up by itself where its own start takes more than a few seconds, as on a machine
    /// that has much else to do, or where somebody else has taken the port meanwhile.
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

    /// Starts it once; an error is what it said.
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

    /// Where its HTTP binding is.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks it directly, as anyone could who reaches it without a gateway.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        request.send_in_plaintext(self.port)
    }

    /// Its resources, as a drawing of their tree.
    pub fn tree(&self) -> String {
        let page = self.ask(&Request::retrieve("/__structure__/text"));
        assert_eq!(page.status(), 200, "{page:?}");
        page.text()
    }

    /// A resource, whatever its access control says.
    pub fn resource(&self, path: &str) -> serde_json::Value {
        self.ask(&Request::retrieve(&self.at(path)).from(ADMINISTRATOR)).expect(200, 2000).json()
    }

    /// The SP-relative address of a resource, as a path.
    pub fn at(&self, path: &str) -> String {
        format!("/~/{}/{path}", self.cse_id)
    }

    /// Ends it as a power cut would, and tells where it was.
    pub fn cut(mut self) -> u16 {
        self.running.signal("KILL");
        assert!(self.running.wait(BOUND).is_some(), "killed");
        self.port
    }
}

/// Its HTTP server has a thread of its own, and may be a moment later than what ACME says.
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

/// Without `--headless` among its arguments, for then it would not say what is wrong with its
/// configuration; and without an environment, for that would be part of it.
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
        // It looks for its own host's name, and is not to wait for a server that is not there.
        .env("RES_OPTIONS", "timeout:1 attempts:1");
    command
}

/// A port at which nobody listens. It is below those that the system gives to connections, so that
/// nobody has it when ACME comes back to it, and each test's process starts at another.
fn free_port() -> u16 {
    let apart = std::process::id() % 1000;
    let first = 12_000 + u16::try_from(apart).expect("below 1000") * 16;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..first + 16).find(free).expect("one of sixteen ports is free")
}
