//! Configuration of each contender: one core, no resumption, persistent connections to the CSE.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use anyhow::Result;

use super::contender::{CSE_ADDRESS, Contender, Place};

/// File with the key of the first identity, as text.
const LIBCOAP_KEY: &str = "first.key";

impl Contender {
    /// Returns a description of the configuration for the report.
    pub fn settings(self) -> &'static str {
        match self {
            Self::Saegis => {
                "modules that ship, a sandbox for each decision; every limit on; audit trail and \
                 log written to files"
            }
            Self::SaegisWithoutWasm => {
                "the same, but psk-table and originator-check decide natively; never shipped"
            }
            Self::SaegisReusing => {
                "as it ships, but instances of psk-table and originator-check make 1,000 calls each"
            }
            Self::SaegisWebSocket | Self::SaegisMqtt | Self::SaegisCoap | Self::SaegisBefore => {
                "as Saegis"
            }
            Self::SaegisCoapNative => "as Saegis, with coap.psk-engine = \"native\"",
            Self::Floor => "one thread; connections to the CSE kept; no log",
            Self::Stunnel => "TCP_NODELAY, no tickets, a cache of one session; logs errors",
            Self::GnuTls => "no cache, no tickets; answers itself",
            Self::Nginx | Self::NginxPlain => {
                "1 worker, 64 connections to the CSE kept; no cache, no tickets, no access log"
            }
            Self::Mosquitto => {
                "psk_file, ACL with patterns of topics; the content is not checked; nothing on disk; \
                 logs errors"
            }
            Self::LibCoap => "coap-server-openssl; answers itself",
            Self::Haproxy => {
                "1 thread, connections to the CSE kept (http-reuse always); no cache, no tickets, \
                 no log"
            }
            Self::Envoy => {
                "1 worker, connections to the CSE kept; no resumption, no request IDs, no access log"
            }
            Self::EnvoyFilter => {
                "the same, with a proxy-wasm filter in Rust in V8: X-M2M-Origin against the \
                 certificate's URI SAN"
            }
            Self::EnvoyResuming => "the same, and sessions of TLS 1.3 are resumed by tickets",
            Self::Upstream => "one thread",
        }
    }

    /// Writes the configuration, and returns the command line.
    pub fn set_up(
        self,
        place: &Place,
        folder: &Path,
        identities: u64,
        address: SocketAddr,
    ) -> Result<Vec<String>> {
        let credentials = place.credentials();
        let at = |name: &str| credentials.join(name).display().to_string();
        let (port, upstream) = (address.port(), place.upstream);
        let config = folder.join("config").display().to_string();
        let put = |text: String| fs::write(folder.join("config"), text);
        Ok(match self {
            Self::Saegis
            | Self::SaegisReusing
            | Self::SaegisWithoutWasm
            | Self::SaegisWebSocket
            | Self::SaegisMqtt
            | Self::SaegisCoap
            | Self::SaegisCoapNative
            | Self::SaegisBefore => {
                saegis(self, place, folder, identities, address)?;
                let program = match self {
                    Self::SaegisWithoutWasm => &place.without_wasm,
                    Self::SaegisBefore => &place.before,
                    _ => &place.saegis,
                };
                vec![program.display().to_string(), "run".into()]
            }
            Self::Floor => {
                let mut all = vec![place.load.display().to_string(), "floor".into()];
                all.extend(["--address".into(), address.to_string()]);
                all.extend(["--upstream".into(), upstream.to_string()]);
                all.extend(["--folder".into(), credentials.display().to_string()]);
                all.extend(["--identities".into(), identities.to_string()]);
                all
            }
            Self::Stunnel => {
                put(stunnel(address, upstream, &at(&format!("{identities}.psk"))))?;
                vec!["stunnel".into(), config]
            }
            Self::GnuTls => gnutls(port, at(&format!("{identities}.psk"))),
            Self::Nginx | Self::NginxPlain => {
                put(nginx(self == Self::Nginx, folder, address, upstream, at))?;
                vec!["nginx".into(), "-e".into(), "stderr".into(), "-c".into(), config]
            }
            Self::Mosquitto => {
                put(mosquitto(folder, address, &at(&format!("{identities}.ae.psk")))?)?;
                ["mosquitto", "-c", &config].map(String::from).to_vec()
            }
            Self::LibCoap => {
                let key = fs::read_to_string(credentials.join(LIBCOAP_KEY))?;
                libcoap(port, &key, at(&format!("{identities}.coap.psk")))
            }
            Self::Haproxy => {
                put(haproxy(address, upstream, at))?;
                vec!["haproxy".into(), "-f".into(), config]
            }
            Self::Envoy | Self::EnvoyFilter | Self::EnvoyResuming => {
                let filter = (self != Self::Envoy).then_some(place.filter.as_path());
                let resumes = self == Self::EnvoyResuming;
                put(envoy(port, upstream, filter, resumes, at))?;
                let words = ["--concurrency", "1", "--log-level", "error", "--config-yaml"];
                let mut all = vec![place.envoy.display().to_string()];
                all.extend(words.map(String::from));
                all.push(fs::read_to_string(folder.join("config"))?);
                all.extend(["--disable-hot-restart".into()]);
                all
            }
            Self::Upstream => {
                let load = place.load.display().to_string();
                vec![load, "upstream".into(), "--address".into(), address.to_string()]
            }
        })
    }
}

/// Returns the command line of libcoap's server, which needs a key for unknown identities too.
fn libcoap(port: u16, key: &str, keys: String) -> Vec<String> {
    // It accepts DTLS at the next port.
    let port = (port - 1).to_string();
    let words = ["coap-server-openssl", "-A", "127.0.0.1", "-p", &port, "-k", key, "-i"];
    words.map(String::from).into_iter().chain([keys]).collect()
}

/// Returns the command line of GnuTLS's server.
fn gnutls(port: u16, secrets: String) -> Vec<String> {
    let priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:\
        +AES-128-CBC:+AES-128-GCM:-MAC-ALL:+SHA256:+AEAD";
    let words = ["gnutls-serv", "--quiet", "--http", "--nodb", "--noticket"];
    let mut words = words.map(String::from).to_vec();
    words.extend(["--priority".into(), priority.into(), "--port".into()]);
    words.extend([port.to_string(), "--pskpasswd".into(), secrets]);
    words
}

/// Returns the configuration of stunnel.
fn stunnel(address: SocketAddr, upstream: SocketAddr, secrets: &str) -> String {
    format!(
        "foreground = yes\npid =\ndebug = err\nsocket = l:TCP_NODELAY=1\n\
         socket = r:TCP_NODELAY=1\n[psk]\naccept = {address}\nconnect = {upstream}\n\
         ciphers = PSK\nsslVersionMax = TLSv1.2\noptions = NO_TICKET\n\
         sessionCacheSize = 1\nPSKsecrets = {secrets}\n"
    )
}

/// Returns the configuration of nginx.
fn nginx(
    with_tls: bool,
    folder: &Path,
    address: SocketAddr,
    upstream: SocketAddr,
    at: impl Fn(&str) -> String,
) -> String {
    let here = folder.display();
    let tls = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {};\n\
         ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off;\n\
         ssl_session_tickets off; ssl_ecdh_curve X25519:prime256v1;",
        at("server.pem"),
        at("server.key"),
        at("client-ca.pem")
    );
    let (ssl, tls) = if with_tls { (" ssl", tls) } else { ("", String::new()) };
    format!(
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
    )
}

/// Returns the configuration of mosquitto: a listener for devices, and one for the CSE.
fn mosquitto(folder: &Path, address: SocketAddr, keys: &str) -> Result<String> {
    let cse = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    fs::write(folder.join(CSE_ADDRESS), cse.to_string())?;
    let acl = folder.join("acl");
    fs::write(
        &acl,
        "pattern write /oneM2M/req/%u/+/+\npattern read /oneM2M/resp/%u/+/+\n\
         pattern read /oneM2M/req/+/%u/+\npattern write /oneM2M/resp/+/%u/+\n",
    )?;
    let (acl, device, cse) = (acl.display(), address.port(), cse.port());
    Ok(format!(
        "user root\nper_listener_settings true\nlog_type error\nset_tcp_nodelay true\n\
         max_inflight_messages 100\nlistener {device} 127.0.0.1\npsk_hint bench\n\
         psk_file {keys}\nuse_identity_as_username true\nallow_anonymous false\n\
         tls_version tlsv1.2\nciphers PSK-AES128-CBC-SHA256\nacl_file {acl}\n\
         listener {cse} 127.0.0.1\nallow_anonymous true\n"
    ))
}

/// Returns the configuration of haproxy.
fn haproxy(address: SocketAddr, upstream: SocketAddr, at: impl Fn(&str) -> String) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 8000\n  tune.ssl.cachesize 0\n\
         defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  \
         timeout connect 5s\n  http-reuse always\n\
         frontend in\n  bind {address} ssl crt {} ca-file {} verify required \
         no-tls-tickets curves X25519:P-256\n  default_backend out\n\
         backend out\n  server cse {upstream}\n",
        at("server-both.pem"),
        at("client-ca.pem")
    )
}

/// Configures a gateway with the shipped modules as in production: the audit log and the log go to
/// files, and every limit is on.
fn saegis(
    contender: Contender,
    place: &Place,
    folder: &Path,
    identities: u64,
    address: SocketAddr,
) -> Result<()> {
    let policies = folder.join("policies");
    let modules = policies.join("modules");
    fs::create_dir_all(&modules)?;
    let before = contender == Contender::SaegisBefore;
    for entry in fs::read_dir(if before { &place.modules_before } else { &place.modules })? {
        let entry = entry?;
        fs::copy(entry.path(), modules.join(entry.file_name()))?;
    }
    let mut reuse = String::new();
    if contender == Contender::SaegisReusing {
        reuse.push_str("[modules.reuse]\n");
        for name in ["psk-table", "originator-check"] {
            let manifest = modules.join(format!("{name}.toml"));
            let text = fs::read_to_string(&manifest)?;
            fs::write(manifest, format!("{text}reuse = 1000\n"))?;
            reuse.push_str(&format!("{name} = 1000\n"));
        }
    }
    let credentials = place.credentials();
    for name in ["server.pem", "server.key", "client-ca.pem"] {
        fs::copy(credentials.join(name), policies.join(name))?;
    }
    let table = policies.join("psk-lookup-table.csv");
    // Removed first, because after reloads it may be a link to the file that is copied.
    if table.exists() {
        fs::remove_file(&table)?;
    }
    fs::copy(credentials.join(format!("{identities}.csv")), table)?;
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
    // The generator connects to the address of the contender.
    let listeners = match contender {
        Contender::SaegisMqtt => {
            format!("[listen]\naddress = \"127.0.0.1:0\"\n[mqtt]\nlisten = \"{address}\"\n")
        }
        Contender::SaegisCoap => {
            format!("[listen]\naddress = \"127.0.0.1:0\"\n[coap]\nlisten = \"{address}\"\n")
        }
        Contender::SaegisCoapNative => format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n[coap]\nlisten = \"{address}\"\n\
             psk-engine = \"native\"\n"
        ),
        _ => format!("[listen]\naddress = \"{address}\"\n"),
    };
    fs::write(
        folder.join("saegis.toml"),
        format!(
            "[cse]\ncse-id = \"mn-cse-123456\"\ncsebase-name = \"cse\"\n\
             service-provider = \"in.provider.com\"\nkind = \"MN-CSE\"\n\
             {listeners}[upstream]\nurl = \"http://{upstream}\"\n\
             [modules.grants]\n\"*\" = [\"policy-tables\", \"log\", \"clock\", \
             \"service-subscription\"]\n{reuse}[log]\nformat = \"json\"\n\
             [audit]\nfile = \"state/audit.jsonl\"\n[limits]\nconnections = 12000\n\
             associations-per-credential = 1024\n"
        ),
    )?;
    Ok(())
}

fn envoy(
    port: u16,
    upstream: SocketAddr,
    filter: Option<&Path>,
    resumes: bool,
    at: impl Fn(&str) -> String,
) -> String {
    let (certificate, key, anchor) = (at("server.pem"), at("server.key"), at("client-ca.pem"));
    let upstream = upstream.port();
    let address = |port: u16| {
        format!("{{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}")
    };
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
                   HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let wasm = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
    let filter = filter.map_or_else(String::new, |file| {
        format!(
            r#"{{name: originators, typed_config: {{"@type": {wasm}, config: {{vm_config: {{
runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: "{}"}}}}}}}}}}}}, "#,
            file.display()
        )
    });
    format!(
        r#"{{static_resources: {{
listeners: [{{name: in, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}},
filter_chains: [{{
transport_socket: {{name: tls, typed_config: {{"@type": {tls},
require_client_certificate: true, disable_stateless_session_resumption: {full},
disable_stateful_session_resumption: true,
common_tls_context: {{tls_params: {{tls_minimum_protocol_version: TLSv1_2,
tls_maximum_protocol_version: TLSv1_3, ecdh_curves: [X25519, P-256]}},
tls_certificates: [{{certificate_chain: {{filename: "{certificate}"}},
private_key: {{filename: "{key}"}}}}],
validation_context: {{trusted_ca: {{filename: "{anchor}"}}}}}}}}}},
filters: [{{name: http, typed_config: {{"@type": {manager}, stat_prefix: in, generate_request_id: false,
route_config: {{virtual_hosts: [{{name: all, domains: ["*"],
routes: [{{match: {{prefix: /}}, route: {{cluster: cse}}}}]}}]}},
http_filters: [{filter}{{name: router, typed_config: {{"@type": {router}}}}}]}}}}]}}]}}],
clusters: [{{name: cse, type: STATIC, load_assignment: {{cluster_name: cse,
endpoints: [{{lb_endpoints: [{{endpoint: {endpoint}}}]}}]}}}}]}}}}
"#,
        endpoint = address(upstream),
        full = !resumes,
    )
}
