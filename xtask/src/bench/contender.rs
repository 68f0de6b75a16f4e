//! The contenders: names, versions, start and end.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::behind::{Behind, behind_as};
use crate::process;

/// File with the address for the CSE of an MQTT server.
pub const CSE_ADDRESS: &str = "cse-address";
/// Core of the server.
pub const SERVER_CORE: &str = "0";

/// Timeout for the start of a server.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    Saegis,
    /// A build with native decisions, which shows the cost of the sandboxes.
    SaegisWithoutWasm,
    /// With reused instances, which an operator may allow, to show the cost of fresh ones.
    SaegisReusing,
    /// The same requests over WebSocket.
    SaegisWebSocket,
    /// Requests over MQTT.
    SaegisMqtt,
    /// Requests over CoAP and DTLS.
    SaegisCoap,
    /// The same, with the handshake of the project's own engine.
    SaegisCoapNative,
    /// A build of another commit.
    SaegisBefore,
    /// A proxy with the same TLS engines, without checks and logs.
    Floor,
    Stunnel,
    GnuTls,
    Nginx,
    NginxPlain,
    /// An MQTT server that compares topics with the psk_identity. The CSE is its client.
    Mosquitto,
    /// A CoAP server over DTLS, which responds itself.
    LibCoap,
    Haproxy,
    Envoy,
    /// Envoy with a proxy-wasm filter that checks originators.
    EnvoyFilter,
    /// Envoy with the filter and with session resumption.
    EnvoyResuming,
    /// The CSE behind the contenders, directly.
    Upstream,
}

/// Paths of the benchmark.
pub struct Place {
    /// Folder of the run.
    pub work: PathBuf,
    pub saegis: PathBuf,
    pub without_wasm: PathBuf,
    /// The build of another commit, and its policy modules.
    pub before: PathBuf,
    /// See [`Place::before`].
    pub modules_before: PathBuf,
    pub load: PathBuf,
    pub envoy: PathBuf,
    /// Envoy's filter.
    pub filter: PathBuf,
    /// The shipped policy modules and their manifests.
    pub modules: PathBuf,
    pub upstream: SocketAddr,
    /// Cores of the server in a round.
    pub server_cores: &'static str,
}

impl Place {
    /// Returns the folder of the credentials.
    pub fn credentials(&self) -> PathBuf {
        self.work.join("credentials")
    }
}

/// A running server. Dropping the value ends it.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    /// The CSE behind an MQTT server that a CSE connects to.
    cse: Option<Behind>,
    /// Time from the start until the server accepted connections or, for Saegis, logged that it was
    /// ready.
    pub took: Duration,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Some servers leave a worker behind when they are killed, so they receive SIGTERM first.
        for pid in self.family() {
            process::succeeds(Command::new("kill").arg(pid.to_string()));
        }
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(5) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Returns the process and its children.
    pub fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            let Some(pid) = pid else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            if parent.and_then(|p| p.parse().ok()) == Some(self.child.id()) {
                family.push(pid);
            }
        }
        family
    }

    /// Returns the resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let of = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib =
                line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            kib.unwrap_or_default() * 1024
        };
        self.family().iter().map(of).sum()
    }
}

impl Contender {
    /// Returns the name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saegis => "Saegis",
            Self::SaegisWithoutWasm => "Saegis without WASM",
            Self::SaegisReusing => "Saegis, instances reused",
            Self::SaegisWebSocket => "Saegis, WebSocket",
            Self::SaegisMqtt => "Saegis, MQTT",
            Self::SaegisCoap => "Saegis, CoAP",
            Self::SaegisCoapNative => "Saegis, CoAP, psk-engine native",
            Self::SaegisBefore => "Saegis before",
            Self::Floor => "the floor: engines, no checks",
            Self::Stunnel => "stunnel",
            Self::GnuTls => "gnutls-serv (answers itself)",
            Self::Nginx => "nginx",
            Self::NginxPlain => "nginx, no TLS",
            Self::Mosquitto => "mosquitto, ACL of topics",
            Self::LibCoap => "libcoap (answers itself)",
            Self::Haproxy => "haproxy",
            Self::Envoy => "Envoy, no filter",
            Self::EnvoyFilter => "Envoy, filter",
            Self::EnvoyResuming => "Envoy, filter, tickets",
            Self::Upstream => "the CSE behind, no TLS",
        }
    }

    /// Returns whether the contender is a build of Saegis.
    pub fn is_saegis(self) -> bool {
        matches!(
            self,
            Self::Saegis
                | Self::SaegisWithoutWasm
                | Self::SaegisReusing
                | Self::SaegisWebSocket
                | Self::SaegisMqtt
                | Self::SaegisCoap
                | Self::SaegisCoapNative
                | Self::SaegisBefore
        )
    }

    /// Returns whether the contender refuses a request with another originator.
    pub fn checks_originators(self) -> bool {
        self.is_saegis() || matches!(self, Self::EnvoyFilter | Self::EnvoyResuming)
    }

    /// Returns the arguments of the generator for the contender.
    pub fn load_arguments(self) -> &'static [&'static str] {
        match self {
            Self::SaegisWebSocket => &["--binding", "websocket"],
            Self::SaegisMqtt => &["--binding", "mqtt"],
            Self::SaegisCoap | Self::SaegisCoapNative => &["--binding", "coap"],
            Self::LibCoap => &["--binding", "coap", "--expected", "status"],
            Self::Mosquitto => &["--binding", "mqtt", "--ae-ids"],
            Self::GnuTls => &["--expected", "status"],
            _ => &[],
        }
    }

    /// Returns the version that the program prints.
    pub fn version(self, place: &Place) -> String {
        let (program, argument) = match self {
            Self::Saegis
            | Self::SaegisReusing
            | Self::SaegisWebSocket
            | Self::SaegisMqtt
            | Self::SaegisCoap
            | Self::SaegisCoapNative => (place.saegis.clone(), "version"),
            Self::SaegisWithoutWasm => (place.without_wasm.clone(), "version"),
            Self::SaegisBefore => (place.before.clone(), "version"),
            Self::Stunnel => ("stunnel".into(), "-version"),
            Self::GnuTls => ("gnutls-serv".into(), "--version"),
            Self::Nginx | Self::NginxPlain => ("nginx".into(), "-v"),
            Self::Mosquitto => ("mosquitto".into(), "-h"),
            Self::LibCoap => ("coap-server-openssl".into(), "-?"),
            Self::Haproxy => ("haproxy".into(), "-v"),
            Self::Envoy | Self::EnvoyFilter | Self::EnvoyResuming => {
                (place.envoy.clone(), "--version")
            }
            Self::Upstream | Self::Floor => return "of this checkout".into(),
        };
        let output = Command::new(program).arg(argument).stdin(Stdio::null()).output();
        let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let has_digit = |line: &&str| line.chars().any(|c| c.is_ascii_digit());
        let line = text.lines().find(has_digit).unwrap_or("unknown").trim();
        // Envoy prints its path before the version.
        line.rsplit("  version: ").next().unwrap_or(line).to_owned()
    }

    /// Returns the folder of the contender's files.
    pub fn folder(self, place: &Place) -> PathBuf {
        place.work.join(format!("{self:?}").to_lowercase())
    }

    /// Starts the contender on these cores with this many identities.
    pub fn start(self, place: &Place, identities: u64, cores: &str) -> Result<Running> {
        let address: SocketAddr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = self.folder(place);
        fs::create_dir_all(&folder)?;
        let mut words = self.set_up(place, &folder, identities, address)?;
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).arg(words.remove(0)).args(words).current_dir(&folder);
        let log = folder.join("log");
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let start = Instant::now();
        let child = command.spawn().with_context(|| process::line(&command))?;
        let mut running = Running { child, address, cse: None, took: Duration::ZERO };
        loop {
            let there = if self.is_saegis() {
                fs::read_to_string(&log).unwrap_or_default().contains("gateway.ready")
            } else {
                // nginx listens before its worker, whose CPU time is measured, exists.
                let worker = matches!(self, Self::Nginx | Self::NginxPlain);
                TcpStream::connect(address).is_ok() && (!worker || running.family().len() > 1)
            };
            running.took = start.elapsed();
            if there {
                if self == Self::Mosquitto {
                    let broker = fs::read_to_string(folder.join(CSE_ADDRESS))?;
                    let arguments = ["mqtt-cse", "--address", &broker];
                    running.cse = Some(behind_as(&place.load, &arguments)?.0);
                }
                return Ok(running);
            }
            if running.took > START_TIMEOUT || running.child.try_wait()?.is_some() {
                let text = fs::read_to_string(&log).unwrap_or_default();
                bail!("{} does not serve: {text}", self.name());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
