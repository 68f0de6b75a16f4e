//! Measures the cost of concurrent lookups that wait.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use saegis_onem2m::id::CseId;
use saegis_policy::{
    Capability, Changes, ConfigValues, Generation, Grants, Limits, Lookup, OutgoingHttp, Policy,
    PskQuery, Settings, Stores,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

/// Delay of the server.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts a server that responds to each request after a delay.
async fn server() -> u16 {
    // All requests come at once. Connections beyond the backlog would be retried after a second.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4096).unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut chunk = [0; 1024];
                let _ = socket.read(&mut chunk).await;
                tokio::time::sleep(PAUSE).await;
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            });
        }
    });
    port
}

async fn policy(folder: &std::path::Path, port: u16) -> Policy {
    let components = PathBuf::from(std::env::var_os("SAEGIS_COMPONENTS").unwrap());
    let copy = |name: &str, manifest: &str| {
        let file = format!("{name}.wasm");
        std::fs::copy(components.join(&file), folder.join(file)).unwrap();
        std::fs::write(folder.join(format!("{name}.toml")), manifest).unwrap();
    };
    let asks = "capabilities = [\"outgoing-http\", \"key-value\", \"config\"]";
    copy("io-probe", asks);
    copy("originator-check", "");
    let http = OutgoingHttp {
        hosts: vec![format!("http://127.0.0.1:{port}").parse().unwrap()],
        request_bytes: 1000,
        response_bytes: 1000,
        time: Duration::from_secs(9),
        concurrent: 2000,
        ca: None,
    };
    let all = vec![Capability::OutgoingHttp, Capability::KeyValue, Capability::Config];
    let name = || "io-probe".to_string();
    let settings = Settings {
        policies: folder.into(),
        modules: folder.into(),
        code_cache: None,
        required: Vec::new(),
        required_files: Vec::new(),
        signatures: None,
        artifacts: None,
        cse: CseId::parse("mn-cse").unwrap(),
        subscription_file: false,
        service_provider: None,
        registrars: Vec::new(),
        in_cse: None,
        known_cses: Vec::new(),
        maf_keys: None,
        is_maf: false,
        distributes_keys: false,
        limits: Limits { waiting_calls: 2048, ..Limits::default() },
        grants: Grants {
            module: [(name(), all)].into(),
            outgoing_http: [(name(), http)].into(),
            key_value: [(name(), 1000)].into(),
            config: [(name(), ConfigValues::default())].into(),
            ..Grants::default()
        },
        stores: Arc::new(Stores::in_memory()),
        observer: None,
        recorder: None,
        changes: Changes::default(),
        allow_readable_tables: false,
        configuration: None,
    };
    Policy::open(settings).await.unwrap()
}

/// Returns the duration of concurrent lookups.
async fn took(generation: &Arc<Generation>, port: u16, times: usize) -> Duration {
    let begin = Instant::now();
    let mut calls = JoinSet::new();
    for nth in 0..times {
        let generation = generation.clone();
        // One address has only a share of the slots.
        let peer = std::net::Ipv4Addr::from_bits(0x7f00_0001 + u32::try_from(nth).unwrap()).into();
        calls.spawn(async move {
            let query = PskQuery {
                psk_identity: format!("probe|get|http://127.0.0.1:{port}/"),
                server_name: None,
                peer,
            };
            match generation.lookup(&query).await {
                Lookup::Refused(refusal) => assert_eq!(refusal.reason, "status 200, 0 bytes"),
                Lookup::Failed { fault, .. } => panic!("{fault}"),
                Lookup::Found(_) | Lookup::Unclaimed => panic!("the probe refuses"),
            }
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    begin.elapsed()
}

/// Returns the processor time of all threads of this process so far.
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |path: PathBuf| -> Option<u64> {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(threads.filter_map(|thread| of(thread.path())).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; cargo xtask load runs it"]
async fn load_a_thousand_lookups_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let port = server().await;
    let generation = policy(folder.path(), port).await.current();
    for times in [1, 10, 100, 1000, 1000, 1000] {
        let before = processor_time();
        let took = took(&generation, port, times).await;
        let used = processor_time().saturating_sub(before);
        println!(
            "{times:>5} concurrent lookups that wait {PAUSE:?} each: {took:.1?}; {used:.1?} of \
             processor time, the server's included"
        );
    }
}
