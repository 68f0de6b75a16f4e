//! The cost of an open page, and the time of pages, with many associations and a large table.

use std::fs;
use std::io::Read as _;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{Credential, Gateway, Light, WebSession, read_until};

use super::web::with_page;
use super::web_screenshots::{FASTER, with_faster_clock};

const ASSOCIATIONS: usize = 10_000;
const ROWS: usize = 100_000;
/// Threads that connect.
const THREADS: usize = 8;
/// Time until the charts have a whole hour, with the faster clock.
const AN_HOUR: Duration = Duration::from_secs(125);
/// Rounds without and with an open page, and the duration of each measurement.
const ROUNDS: u32 = 2;
const OPEN: Duration = Duration::from_secs(10);
/// Number of requests for each page.
const REQUESTS: usize = 20;
/// Maximum share of a core, and maximum memory, of an open page.
const MAX_SHARE: f64 = 0.001;
const MAX_KIB: u64 = 1024;
/// Maximum median time of a page.
const MAX_TIME: Duration = Duration::from_secs(1);

fn key(number: usize) -> String {
    format!("7c{number:030x}")
}

fn identity(number: usize) -> String {
    format!("lamp{number}@in.provider.com")
}

fn table() -> String {
    let row = |n| format!("Clamp{n},{},{},20991231T235959\n", key(n), identity(n));
    "ae_id,kpsa,kpsa_id,expires\n".to_string() + &(0..ROWS).map(row).collect::<String>()
}

fn connect(port: u16, number: usize) -> Light {
    let (identity, key) = (identity(number), key(number));
    Light::connect(port, Credential { identity: &identity, key: &key }).unwrap()
}

/// Returns the processor time of the gateway, in clock ticks of 10 ms.
fn ticks(gateway: &Gateway) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.id())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<_> = fields.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn resident_kib(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let (_, rest) = status.split_once("VmRSS:").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// Returns the processor time during the measurement in ticks, and the resident memory at its end.
fn measure(gateway: &Gateway) -> (u64, u64) {
    let before = ticks(gateway);
    thread::sleep(OPEN);
    (ticks(gateway) - before, resident_kib(gateway))
}

/// Returns the share of a core, by the gateway's clock, and the memory that an open page needs.
fn open_page(gateway: &Gateway, session: &WebSession) -> (f64, u64) {
    let (mut without, mut with, mut memory) = (0, 0, Vec::new());
    for _ in 0..ROUNDS {
        let before = measure(gateway);
        let mut stream = session.updates();
        read_until(&mut stream, "event: update");
        let mut read = stream.try_clone().unwrap();
        let reading = thread::spawn(move || {
            let mut all = String::new();
            let _ = read.read_to_string(&mut all);
            all.matches("event: update").count()
        });
        let open = measure(gateway);
        stream.shutdown(Shutdown::Both).unwrap();
        let updates = reading.join().unwrap();
        assert!(updates > 5, "the stream is live: {updates}");
        (without, with) = (without + before.0, with + open.0);
        memory.push(open.1.saturating_sub(before.1));
    }
    memory.sort_unstable();
    let seconds = (OPEN * ROUNDS * FASTER).as_secs_f64() * 100.0;
    let [without, with] = [without, with].map(|ticks| ticks as f64 / seconds);
    let (share, kib) = (with - without, memory[memory.len() / 2]);
    println!(
        "an open page needs {:.4} % of a core (from {:.4} to {:.4} %), and {kib} KiB",
        share * 100.0,
        without * 100.0,
        with * 100.0
    );
    (share, kib)
}

/// Returns the median time of a page.
fn time(gateway: &Gateway, session: &WebSession, name: &str, page: &str, words: &str) -> Duration {
    let mut times: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let start = Instant::now();
            let text = session.page(gateway, page);
            let took = start.elapsed();
            assert!(text.contains(words), "{page}: {words}: {text}");
            took
        })
        .collect();
    times.sort();
    let (median, most) = (times[REQUESTS / 2], times[REQUESTS - 1]);
    println!("{name:28} median {median:>8.1?}, at most {most:>8.1?}");
    median
}

#[test]
#[ignore = "a measurement of minutes; cargo xtask load web runs it"]
fn load_of_web_page_with_many_associations() {
    // Each association has a descriptor here and one in the gateway (ulimit -n 12000).
    let gateway = with_page()
        .file("psk-lookup-table.csv", &table())
        .with("limits", "connections = 12000\nidle-seconds = 3600")
        .start();
    let (port, next) = (gateway.port(), AtomicUsize::new(0));
    let start = Instant::now();
    let lights: Vec<_> = thread::scope(|scope| {
        let connecting = || {
            let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
            let numbers = numbers.take_while(|number| *number < ASSOCIATIONS);
            numbers.map(|number| connect(port, number)).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(connecting)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    println!("{} associations after {:.0?}", lights.len(), start.elapsed());
    let session = gateway.open_web(&[]);
    let all = format!("{ASSOCIATIONS} of {ASSOCIATIONS} associations");
    let last = ASSOCIATIONS / 50;
    let middle = format!("associations?page={}", last / 2);
    let of_last = format!("associations?page={}", last - 1);
    let one = format!("1 of {ASSOCIATIONS} associations");
    let pages = [
        ("associations, first", "associations", all.as_str()),
        ("associations, middle", &middle, &all),
        ("associations, last", &of_last, &all),
        ("associations, one found", "associations?q=LAMP9876%40", &one),
        ("associations, all found", "associations?q=lamp", &all),
        ("overview", "", "The last hour"),
        ("policy", "policy", "psk-lookup-table"),
    ];
    let times = pages.map(|(name, page, words)| time(&gateway, &session, name, page, words));
    assert!(times.iter().all(|time| *time <= MAX_TIME), "{times:?}");
}

#[test]
#[ignore = "a measurement of minutes; cargo xtask load web runs it"]
fn load_of_open_web_page() {
    // Without associations, whose own load varies by more than this. No update visits them.
    let gateway = with_faster_clock(with_page().file("psk-lookup-table.csv", &table())).start();
    thread::sleep(AN_HOUR);
    let session = gateway.open_web(&[]);
    let (share, kib) = open_page(&gateway, &session);
    assert!(share <= MAX_SHARE, "{share}");
    assert!(kib <= MAX_KIB, "{kib} KiB");
}
