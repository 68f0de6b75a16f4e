//! Ten hostile credentials beside a hundred valid ones, for minutes.
//!
//! `cargo xtask load hostile` runs it with a release build.

mod attack;
mod device;
mod good;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use saegis_tests::{Gateway, Setup, saegis};

use self::attack::{Attack, Target};
use self::device::Device;
use self::good::{DEVICES, Good, traffic};

/// Duration without the hostile credentials, and with them.
const STEADY: Duration = Duration::from_secs(60);
const HOSTILE: Duration = Duration::from_secs(240);

/// Maximum resident memory, in KiB.
const MAX_RESIDENT: u64 = 256 << 10;
/// Maximum ratio of the 99th percentiles with the hostile credentials and without.
const MAX_RATIO: f64 = 2.0;

fn resident(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns whether the health endpoint responds within the usual second of a liveness probe.
fn lives(monitor: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect_timeout(&monitor, Duration::from_secs(1))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(
            format!("GET /healthz HTTP/1.1\r\nHost: {monitor}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn percentile(sorted: &[Duration], of: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction")]
    let at = ((sorted.len() as f64 - 1.0) * of) as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Prints a row, and returns the ratio of the 99th percentiles.
fn compare(name: &str, steady: &[Duration], hostile: &[Duration]) -> f64 {
    let ratio = percentile(hostile, 0.99).as_secs_f64() / percentile(steady, 0.99).as_secs_f64();
    let row = |sorted: &[Duration]| {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|of| percentile(sorted, of));
        format!("{:>6}  p50 {p50:>8.1?}  p99 {p99:>8.1?}  most {most:>8.1?}", sorted.len())
    };
    println!("{name:10} steady  {}", row(steady));
    println!("{name:10} hostile {}  p99 {ratio:.2} times", row(hostile));
    ratio
}

#[test]
#[ignore = "a measurement of minutes; cargo xtask load hostile runs it"]
fn load_hostile_credentials_do_not_slow_others() {
    let rows: String = (0..DEVICES)
        .map(|n| Device::new("good", n))
        .chain(attack::devices())
        .map(|device| device.row())
        .collect();
    let gateway = Setup::new()
        .file("psk-lookup-table.csv", &format!("ae_id,kpsa,kpsa_id\n{rows}"))
        .with("audit", "file = \"state/audit.jsonl\"")
        .with_metrics()
        .start();
    let port = gateway.port();
    let printed = gateway.printed();
    let (_, rest) = printed.split_once("  metrics     http://").unwrap();
    let monitor: SocketAddr = rest.split_once("/metrics").unwrap().0.parse().unwrap();
    let mut good: Vec<_> = (0..DEVICES).map(|n| Good::new(n, port)).collect();
    let steady = traffic(&mut good, port, STEADY);
    let mut most = resident(&gateway);
    let mut probes = (0, 0);
    let attack = Attack::start(Target { port, monitor });
    let beside = thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic(&mut good, port, HOSTILE));
        while !traffic.is_finished() {
            most = most.max(resident(&gateway));
            probes = (probes.0 + 1, probes.1 + usize::from(lives(monitor)));
            thread::sleep(Duration::from_secs(1));
        }
        traffic.join().unwrap()
    });
    print!("{}", attack.end());
    println!("at most {most} KiB resident");
    let ratios = [
        compare("retrieves", &steady.retrieves, &beside.retrieves),
        compare("creates", &steady.creates, &beside.creates),
        compare("connects", &steady.connects, &beside.connects),
    ];
    compare("own waits", &steady.waits, &beside.waits);
    println!("{} of {} probes of liveness were answered", probes.1, probes.0);
    let verified = saegis(&gateway.path(""), &["audit", "verify", "--config", "saegis.toml"]);
    println!("{}", verified.expect(0).out);
    assert_eq!(gateway.monitor("/metrics").value("saegis_log_lines_lost_total"), 0.0);
    assert_eq!(probes.0, probes.1);
    assert!(most < MAX_RESIDENT, "{most} KiB");
    assert!(ratios.iter().all(|ratio| *ratio <= MAX_RATIO), "{ratios:?}");
}
