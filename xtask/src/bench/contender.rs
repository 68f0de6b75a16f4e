//! Who is measured, and how each is set up: one core, no resumption, connections to the CSE kept.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::process;

/// The core that servers run on.
pub const SERVER_CORE: &str = "0";
/// The core that the generator and the CSE behind run on.
pub const LOAD_CORE: &str = "1";

/// How long a server may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    Saegis,
    Stunnel,
    GnuTls,
    Nginx,
    NginxPlain,
    Haproxy,
    Envoy,
    /// The CSE behind, by itself.
    Upstream,
}

/// Where everything is.
pub struct Place {
    /// The folder of the run.
    pub work: PathBuf,
    pub saegis: PathBuf,
    pub load: PathBuf,
    pub envoy: PathBuf,
    /// The policy modules that ship, and their manifests.
    pub modules: PathBuf,
    pub upstream: SocketAddr,
}

impl Place {
    /// Where the generator has put credentials.
    pub fn credentials(&self) -> PathBuf {
        self.work.join("credentials")
    }
}

/// A server at work; it ends when dropped.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    /// From the start to where it took connections or, of Saegis, said that it was ready.
    pub took: Duration,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Some leave a worker behind when they are killed, so they are asked first.
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
    /// The process and its children.
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
}

impl Contender {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saegis => "Saegis",
            Self::Stunnel => "stunnel",
            Self::GnuTls => "gnutls-serv (answers itself)",
            Self::Nginx => "nginx",
            Self::NginxPlain => "nginx, no TLS",
            Self::Haproxy => "haproxy",
            Self::Envoy => "Envoy, no filter",
            Self::Upstream => "the CSE behind, no TLS",
        }
    }

    /// What it says of its version.
    pub fn version(self, place: &Place) -> String {
        let (program, argument) = match self {
            Self::Saegis => (place.saegis.clone(), "version"),
            Self::Stunnel => ("stunnel".into(), "-version"),
            Self::GnuTls => ("gnutls-serv".into(), "--version"),
            Self::Nginx | Self::NginxPlain => ("nginx".into(), "-v"),
            Self::Haproxy => ("haproxy".into(), "-v"),
            Self::Envoy => (place.envoy.clone(), "--version"),
            Self::Upstream => return "hyper, of this checkout".into(),
        };
        let output = Command::new(program).arg(argument).stdin(Stdio::null()).output();
        let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let has_digit = |line: &&str| line.chars().any(|c| c.is_ascii_digit());
        text.lines().find(has_digit).unwrap_or("unknown").trim().to_owned()
    }

    /// Starts it on the servers' core, with so many identities.
    pub fn start(self, place: &Place, identities: u64, cores: &str) -> Result<Running> {
        let address: SocketAddr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = place.work.join(format!("{self:?}").to_lowercase());
        fs::create_dir_all(&folder)?;
        let mut words = self.set_up(place, &folder, identities, address)?;
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).arg(words.remove(0)).args(words).current_dir(&folder);
        let log = folder.join("log");
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let start = Instant::now();
        let child = command.spawn().with_context(|| process::line(&command))?;
        let mut running = Running { child, address, took: Duration::ZERO };
        loop {
            let there = match self {
                Self::Saegis => {
                    fs::read_to_string(&log).unwrap_or_default().contains("gateway.ready")
                }
                _ => TcpStream::connect(address).is_ok(),
            };
            running.took = start.elapsed();
            if there {
                return Ok(running);
            }
            if running.took > PATIENCE || running.child.try_wait()?.is_some() {
                let text = fs::read_to_string(&log).unwrap_or_default();
                bail!("{} does not serve: {text}", self.name());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes its configuration, and tells its command line.
    fn set_up(
        self,
        place: &Place,
        folder: &Path,
        identities: u64,
        address: SocketAddr,
    ) -> Result<Vec<String>> {
        let credentials = place.credentials();
        let at = |name: &str| credentials.join(name).display().to_string();
        let (port, upstream) = (address.port(), place.upstream);
        let here = folder.display();
        let config = folder.join("config").display().to_string();
        let put = |text: String| fs::write(folder.join("config"), text);
        Ok(match self {
            Self::Saegis => {
                saegis(place, folder, identities, address)?;
                vec![place.saegis.display().to_string(), "run".into()]
            }
            Self::Stunnel => {
                let secrets = at(&format!("{identities}.psk"));
                put(format!(
                    "foreground = yes\npid =\ndebug = err\nsocket = l:TCP_NODELAY=1\n\
                     socket = r:TCP_NODELAY=1\n[psk]\naccept = {address}\nconnect = {upstream}\n\
                     ciphers = PSK\nsslVersionMax = TLSv1.2\noptions = NO_TICKET\n\
                     sessionCacheSize = 1\nPSKsecrets = {secrets}\n"
                ))?;
                vec!["stunnel".into(), config]
            }
            Self::GnuTls => {
                let priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:\
                    +AES-128-CBC:+AES-128-GCM:-MAC-ALL:+SHA256:+AEAD";
                let words = ["gnutls-serv", "--quiet", "--http", "--nodb", "--noticket"];
                let mut words = words.map(String::from).to_vec();
                words.extend(["--priority".into(), priority.into(), "--port".into()]);
                words.extend([port.to_string(), "--pskpasswd".into()]);
                words.push(at(&format!("{identities}.psk")));
                words
            }
            Self::Nginx | Self::NginxPlain => {
                let tls = format!(
                    "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {};\n\
                     ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off;\n\
                     ssl_session_tickets off; ssl_ecdh_curve X25519:prime256v1;",
                    at("server.pem"),
                    at("server.key"),
                    at("client-ca.pem")
                );
                let with = self == Self::Nginx;
                let (ssl, tls) = if with { (" ssl", tls) } else { ("", String::new()) };
                put(format!(
                    "worker_processes 1; daemon off; pid {here}/pid; error_log stderr;\n\
                     events {{ worker_connections 16384; }}\n\
                     http {{ access_log off; client_body_temp_path {here}/body;\n\
                     proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;\n\
                     uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n\
                     upstream cse {{ server {upstream}; keepalive 64;\n\
                     keepalive_requests 100000000; }}\n\
                     server {{ listen {address}{ssl} backlog=4096; keepalive_requests 100000000;\n\
                     {tls}\nlocation / {{ proxy_pass http://cse; proxy_http_version 1.1;\n\
                     proxy_set_header Connection \"\"; }} }} }}\n"
                ))?;
                vec!["nginx".into(), "-e".into(), "stderr".into(), "-c".into(), config]
            }
            Self::Haproxy => {
                put(format!(
                    "global\n  nbthread 1\n  maxconn 8000\n  tune.ssl.cachesize 0\n\
                     defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  \
                     timeout connect 5s\n  http-reuse always\n\
                     frontend in\n  bind {address} ssl crt {} ca-file {} verify required \
                     no-tls-tickets curves X25519:P-256\n  default_backend out\n\
                     backend out\n  server cse {upstream}\n",
                    at("server-both.pem"),
                    at("client-ca.pem")
                ))?;
                vec!["haproxy".into(), "-f".into(), config]
            }
            Self::Envoy => {
                put(envoy(port, upstream, at))?;
                let words = ["--concurrency", "1", "--log-level", "error", "--config-yaml"];
                let mut all = vec![place.envoy.display().to_string()];
                all.extend(words.map(String::from));
                all.push(fs::read_to_string(folder.join("config"))?);
                all.extend(["--disable-hot-restart".into()]);
                all
            }
            Self::Upstream => {
                let words = ["upstream".into(), "--address".into(), address.to_string()];
                [vec![place.load.display().to_string()], words.to_vec()].concat()
            }
        })
    }
}

/// A gateway with the modules that ship, as in production: the audit trail goes to a file, the log
/// to another, and every limit is on.
fn saegis(place: &Place, folder: &Path, identities: u64, address: SocketAddr) -> Result<()> {
    let policies = folder.join("policies");
    let modules = policies.join("modules");
    fs::create_dir_all(&modules)?;
    for entry in fs::read_dir(&place.modules)? {
        let entry = entry?;
        fs::copy(entry.path(), modules.join(entry.file_name()))?;
    }
    let credentials = place.credentials();
    for name in ["server.pem", "server.key", "client-ca.pem"] {
        fs::copy(credentials.join(name), policies.join(name))?;
    }
    fs::copy(credentials.join(format!("{identities}.csv")), policies.join("psk-lookup-table.csv"))?;
    fs::write(
        policies.join("certificates.toml"),
        "[[own]]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
         [[anchor]]\ncertificate = \"client-ca.pem\"\nflavours = [\"ae-id\"]\n",
    )?;
    fs::write(
        policies.join("service-subscription.toml"),
        "[[node]]\ncse-id = \"mn-cse-123456\"\nrule-links = [\"lights\"]\n[[rule]]\n\
         name = \"lights\"\napplicable-cred-ids = [\"12-AE*-Light@in.provider.com\"]\n\
         allowed-app-ids = [\"Nlight\"]\nallowed-aes = [\"Clight-AE*\"]\n",
    )?;
    let upstream = place.upstream;
    fs::write(
        folder.join("saegis.toml"),
        format!(
            "[cse]\ncse-id = \"mn-cse-123456\"\ncsebase-name = \"cse\"\n\
             service-provider = \"in.provider.com\"\nkind = \"MN-CSE\"\n\
             [listen]\naddress = \"{address}\"\n[upstream]\nurl = \"http://{upstream}\"\n\
             [modules.grants]\n\"*\" = [\"policy-tables\", \"log\", \"clock\", \
             \"service-subscription\"]\n[log]\nformat = \"json\"\n\
             [audit]\nfile = \"state/audit.jsonl\"\n[limits]\nconnections = 12000\n\
             associations-per-credential = 1024\n"
        ),
    )?;
    Ok(())
}

fn envoy(port: u16, upstream: SocketAddr, at: impl Fn(&str) -> String) -> String {
    let (certificate, key, anchor) = (at("server.pem"), at("server.key"), at("client-ca.pem"));
    let upstream = upstream.port();
    let address = |port: u16| {
        format!("{{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}")
    };
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
                   HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    format!(
        r#"{{static_resources: {{
listeners: [{{name: in, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}},
filter_chains: [{{
transport_socket: {{name: tls, typed_config: {{"@type": {tls},
require_client_certificate: true, disable_stateless_session_resumption: true,
disable_stateful_session_resumption: true,
common_tls_context: {{tls_params: {{tls_minimum_protocol_version: TLSv1_2,
tls_maximum_protocol_version: TLSv1_3, ecdh_curves: [X25519, P-256]}},
tls_certificates: [{{certificate_chain: {{filename: "{certificate}"}},
private_key: {{filename: "{key}"}}}}],
validation_context: {{trusted_ca: {{filename: "{anchor}"}}}}}}}}}},
filters: [{{name: http, typed_config: {{"@type": {manager}, stat_prefix: in,
route_config: {{virtual_hosts: [{{name: all, domains: ["*"],
routes: [{{match: {{prefix: /}}, route: {{cluster: cse}}}}]}}]}},
http_filters: [{{name: router, typed_config: {{"@type": {router}}}}}]}}}}]}}]}}],
clusters: [{{name: cse, type: STATIC, load_assignment: {{cluster_name: cse,
endpoints: [{{lb_endpoints: [{{endpoint: {endpoint}}}]}}]}}}}]}}}}
"#,
        endpoint = address(upstream)
    )
}
