//! Ten hostile credentials beside a hundred valid ones, for minutes.
//!
//! `cargo xtask load hostile` runs it with a release build. The hostile threads have the lowest
//! priority, because they stand for other machines and must not take CPU time from the gateway. The
//! gateway must limit the work that they cause.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{Credential, Gateway, Light, Request, Setup, saegis};
use serde_json::json;

/// Number of well-behaved devices, and of the threads that run them.
const DEVICES: usize = 100;
const THREADS: usize = 4;
/// Interval between two requests of a device.
const PERIOD: Duration = Duration::from_secs(1);
/// One in this many requests creates a content instance, and one in this many uses a new
/// association.
const ONE_CREATES: usize = 5;
const ONE_CONNECTS: usize = 10;

/// Duration without the hostile credentials, and with them.
const STEADY: Duration = Duration::from_secs(60);
const HOSTILE: Duration = Duration::from_secs(240);

/// Maximum resident memory, in KiB.
const MAX_RESIDENT: u64 = 256 << 10;
/// Maximum ratio of the 99th percentiles with the hostile credentials and without.
const MAX_RATIO: f64 = 2.0;

/// Source addresses of stalled handshakes, and connections from each.
const STALLING_ADDRESSES: u8 = 60;
const STALLED_PER_ADDRESS: usize = 16;

/// Timeout for a response to a well-behaved device.
const ANSWER: Duration = Duration::from_secs(20);

struct Device {
    identity: String,
    key: String,
    stem: String,
}

impl Device {
    fn new(prefix: &str, n: usize) -> Self {
        let number = n + if prefix == "good" { 1 } else { 1000 };
        Self {
            identity: format!("{prefix}{n}@in.provider.com"),
            key: format!("c0ffee{number:026x}"),
            stem: format!("C{prefix}{n}"),
        }
    }

    fn credential(&self) -> Credential<'_> {
        Credential { identity: &self.identity, key: &self.key }
    }

    fn row(&self) -> String {
        format!("{},{},{}\n", self.stem, self.key, self.identity)
    }

    fn own(&self) -> String {
        format!("/cse/{}", self.stem)
    }

    fn try_connect(&self, port: u16) -> std::io::Result<Light> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Light::over(TcpStream::connect_timeout(&address, ANSWER)?, self.credential(), ANSWER)
    }

    fn register(&self, port: u16) -> Light {
        let mut light = self.try_connect(port).unwrap();
        light.ask(&Request::create_ae(&self.stem).from(&self.stem)).unwrap().expect(201, 2001);
        light
    }
}

/// A well-behaved device, whose responses must arrive and be correct.
struct Good {
    device: Device,
    light: Light,
}

#[derive(Default)]
struct Latencies {
    retrieves: Vec<Duration>,
    creates: Vec<Duration>,
    connects: Vec<Duration>,
}

impl Good {
    fn new(n: usize, port: u16) -> Self {
        let device = Device::new("good", n);
        let mut light = device.register(port);
        let container = Request::create_container(&device.own(), "data").from(&device.stem);
        light.ask(&container).unwrap().expect(201, 2001);
        Self { device, light }
    }

    fn turn(&mut self, n: usize, port: u16, latencies: &mut Latencies) {
        let start = Instant::now();
        if n.is_multiple_of(ONE_CONNECTS) {
            self.light = self.device.try_connect(port).unwrap();
            self.retrieve();
            latencies.connects.push(start.elapsed());
        } else if n.is_multiple_of(ONE_CREATES) {
            let container = format!("{}/data", self.device.own());
            let instance = Request::create_instance(&container, "on").from(&self.device.stem);
            self.light.ask(&instance).unwrap().expect(201, 2001);
            latencies.creates.push(start.elapsed());
        } else {
            self.retrieve();
            latencies.retrieves.push(start.elapsed());
        }
    }

    fn retrieve(&mut self) {
        let own = Request::retrieve(&self.device.own()).from(&self.device.stem);
        self.light.ask(&own).unwrap().expect(200, 2000);
    }
}

/// Runs the requests of all well-behaved devices for this time, and returns the latencies.
fn good_traffic(good: &mut [Good], port: u16, time: Duration) -> Latencies {
    let all = Mutex::new(Latencies::default());
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for part in good.chunks_mut(DEVICES.div_ceil(THREADS)) {
            let all = &all;
            scope.spawn(move || {
                let mut own = Latencies::default();
                let step = PERIOD / u32::try_from(part.len()).unwrap();
                let mut due = Instant::now();
                let mut round = 0;
                while Instant::now() < end {
                    for (n, good) in part.iter_mut().enumerate() {
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        good.turn(round + n, port, &mut own);
                        due += step;
                    }
                    round += 1;
                }
                let mut all = all.lock().unwrap();
                all.retrieves.append(&mut own.retrieves);
                all.creates.append(&mut own.creates);
                all.connects.append(&mut own.connects);
            });
        }
    });
    let mut all = all.into_inner().unwrap();
    for latencies in [&mut all.retrieves, &mut all.creates, &mut all.connects] {
        latencies.sort_unstable();
    }
    all
}

/// A hostile credential. Its responses do not matter, except those that it must never receive.
struct Hostile<'a> {
    device: Device,
    port: u16,
    monitor: SocketAddr,
    over: &'a AtomicBool,
    requests: &'a AtomicUsize,
}

impl Hostile<'_> {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Repeats an action over successive associations until the time is up.
    fn again_and_again(&self, mut work: impl FnMut(&mut Light) -> std::io::Result<()>) {
        while self.goes_on() {
            let done = self.device.try_connect(self.port).and_then(|mut light| {
                while self.goes_on() {
                    work(&mut light)?;
                }
                Ok(())
            });
            if done.is_err() {
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn ask(&self, light: &mut Light, request: &Request) -> std::io::Result<u16> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let response = light.exchange(request)?;
        Ok(response.rsc().unwrap_or_default())
    }

    /// Creates `count` containers with these attributes below the AE.
    fn containers(&self, light: &mut Light, count: usize, attributes: &serde_json::Value) {
        for n in 0..count {
            let mut all = attributes.clone();
            all["rn"] = json!(format!("c{n}"));
            let content = json!({ "m2m:cnt": all });
            let request = Request::create(&self.device.own(), 3, &content).from(&self.device.stem);
            let _ = self.ask(light, &request);
        }
    }

    fn group(&self, light: &mut Light, members: &[String]) {
        let content = json!({ "m2m:grp": { "rn": "g", "mnm": members.len(), "mid": members } });
        let request = Request::create(&self.device.own(), 9, &content).from(&self.device.stem);
        let _ = self.ask(light, &request);
    }

    /// A request that writes 60 KB to each of 64 containers.
    fn fan_out(&self) {
        let mut light = self.device.register(self.port);
        self.containers(&mut light, 64, &json!({}));
        let own = &self.device.own()[1..];
        let members: Vec<_> = (0..64).map(|n| format!("{own}/c{n}")).collect();
        self.group(&mut light, &members);
        let fopt = format!("{}/g/fopt", self.device.own());
        let instance = Request::create_instance(&fopt, &"x".repeat(60_000)).from(&self.device.stem);
        self.again_and_again(|light| self.ask(light, &instance).map(drop));
    }

    /// Retrieves resources of others, and deregisters and registers again.
    fn pry(&self) {
        let (mut n, stem) = (0, &self.device.stem);
        self.again_and_again(|light| {
            n += 1;
            self.ask(light, &Request::create_ae(stem).from(stem))?;
            for of in ["", "/data", "/data/la"] {
                let path = format!("/cse/Cgood{}{of}", n % DEVICES);
                let rsc = self.ask(light, &Request::retrieve(&path).from(stem))?;
                assert_ne!(rsc, 2000, "{stem} retrieved {path}");
            }
            self.ask(light, &Request::delete(&self.device.own()).from(stem)).map(drop)
        });
    }

    /// Discovers through a group with many spellings of the same ancestors.
    fn discover_through_a_group(&self) {
        let mut light = self.device.register(self.port);
        self.containers(&mut light, 1_000, &json!({}));
        let own = &self.device.own()[1..];
        let members: Vec<_> = (0..64)
            .map(|n| if n % 2 == 0 { own.to_string() } else { format!("{own}/c{n}") })
            .collect();
        self.group(&mut light, &members);
        let path = format!("{}/g/fopt?fu=1&ty=3&arp=../../../../../..", self.device.own());
        let discovery = Request::retrieve(&path).from(&self.device.stem);
        self.again_and_again(|light| self.ask(light, &discovery).map(drop));
    }

    /// Sends requests with another originator over four associations.
    fn flood_with_refusals(&self) {
        self.device.register(self.port);
        let forged = Request::retrieve("/cse/Cgood1").from("Cgood1");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    lowest_priority();
                    self.again_and_again(|light| {
                        let rsc = self.ask(light, &forged)?;
                        assert_ne!(rsc, 2000, "an impersonating request succeeded");
                        Ok(())
                    });
                });
            }
        });
    }

    /// Creates containers with dangling policies, and discovers all resources.
    fn name_what_is_not_there(&self) {
        let mut light = self.device.register(self.port);
        let policies: Vec<_> = (0..16).map(|n| format!("cse/nobody{n}")).collect();
        self.containers(&mut light, 80, &json!({ "acpi": policies }));
        let all = Request::retrieve("/cse?fu=1").from(&self.device.stem);
        self.again_and_again(|light| self.ask(light, &all).map(drop));
    }

    /// Disconnects during registrations and deletions.
    fn break_off(&self) {
        let stem = &self.device.stem;
        while self.goes_on() {
            for request in [Request::create_ae(stem), Request::delete(&self.device.own())] {
                self.requests.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut light) = self.device.try_connect(self.port) {
                    let _ = light.send(&request.from(stem).bytes());
                }
            }
        }
    }

    /// Requests megabytes over many associations without reading.
    fn read_nothing(&self) {
        let mut light = self.device.register(self.port);
        let data = Request::create_container(&self.device.own(), "big").from(&self.device.stem);
        let _ = self.ask(&mut light, &data);
        let instance =
            Request::create_instance(&format!("{}/big", self.device.own()), &"x".repeat(60_000));
        for _ in 0..60 {
            let _ = self.ask(&mut light, &instance.clone().from(&self.device.stem));
        }
        let all =
            Request::retrieve(&format!("{}/big?rcn=4", self.device.own())).from(&self.device.stem);
        while self.goes_on() {
            let mut held = Vec::new();
            for _ in 0..63 {
                if let Ok(mut light) = self.device.try_connect(self.port) {
                    self.requests.fetch_add(1, Ordering::Relaxed);
                    let _ = light.send(&all.bytes());
                    held.push(light);
                }
            }
            self.wait(Duration::from_secs(20));
        }
    }

    /// Starts handshakes from many addresses without completing them.
    fn stall(&self) {
        while self.goes_on() {
            let mut held = Vec::new();
            for address in 0..STALLING_ADDRESSES {
                for _ in 0..STALLED_PER_ADDRESS {
                    held.extend(stalled(Ipv4Addr::new(127, 0, 1, address + 1), self.port));
                }
            }
            self.wait(Duration::from_secs(1));
        }
    }

    /// Sends incomplete requests to the metrics listener.
    fn half_requests(&self) {
        while self.goes_on() {
            let mut held = Vec::new();
            for _ in 0..40 {
                if let Ok(mut socket) = TcpStream::connect_timeout(&self.monitor, ANSWER) {
                    let _ = socket.write_all(b"GET /metrics HTTP/1.1\r\nHo");
                    held.push(socket);
                }
            }
            self.wait(Duration::from_secs(1));
        }
    }

    /// Writes as much content as possible.
    fn fill_the_disk(&self) {
        let mut light = self.device.register(self.port);
        self.containers(&mut light, 300, &json!({}));
        let mut n = 0;
        let text = "x".repeat(60_000);
        self.again_and_again(|light| {
            n += 1;
            let path = format!("{}/c{}", self.device.own(), n % 300);
            self.ask(light, &Request::create_instance(&path, &text).from(&self.device.stem))
                .map(drop)
        });
    }

    fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        while self.goes_on() && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Returns a connection from an address on which three bytes were sent.
fn stalled(from: Ipv4Addr, port: u16) -> Option<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    bind(&socket, &SocketAddrV4::new(from, 0)).ok()?;
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&[0x16, 3, 1]).ok()?;
    Some(stream)
}

/// Sets the scheduling policy of this thread to idle, so that any other thread preempts it.
fn lowest_priority() {
    let thread = rustix::thread::gettid();
    let _ = rustix::process::setpriority_process(Some(thread), 19);
    let id = thread.as_raw_nonzero().to_string();
    // Without the command, the low priority must suffice.
    let _ = Command::new("chrt").args(["--idle", "--pid", "0", &id]).status();
}

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
    let hostile: Vec<_> = (0..10).map(|n| Device::new("evil", n)).collect();
    let good_rows: String = (0..DEVICES).map(|n| Device::new("good", n).row()).collect();
    let rows: String = hostile.iter().map(Device::row).collect();
    let gateway = Setup::new()
        .file("psk-lookup-table.csv", &format!("ae_id,kpsa,kpsa_id\n{good_rows}{rows}"))
        .with("audit", "file = \"state/audit.jsonl\"")
        .with_metrics()
        .start();
    let port = gateway.port();
    let printed = gateway.printed();
    let (_, rest) = printed.split_once("  metrics     http://").unwrap();
    let monitor: SocketAddr = rest.split_once("/metrics").unwrap().0.parse().unwrap();
    let mut good: Vec<_> = (0..DEVICES).map(|n| Good::new(n, port)).collect();
    let steady = good_traffic(&mut good, port, STEADY);
    let (over, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut most = resident(&gateway);
    let mut probes = (0, 0);
    let beside = thread::scope(|scope| {
        let kinds = [
            Hostile::fan_out,
            Hostile::pry,
            Hostile::discover_through_a_group,
            Hostile::flood_with_refusals,
            Hostile::name_what_is_not_there,
            Hostile::break_off,
            Hostile::read_nothing,
            Hostile::stall,
            Hostile::half_requests,
            Hostile::fill_the_disk,
        ];
        for (device, kind) in hostile.into_iter().zip(kinds) {
            let hostile = Hostile { device, port, monitor, over: &over, requests: &requests };
            scope.spawn(move || {
                lowest_priority();
                kind(&hostile);
            });
        }
        let traffic = scope.spawn(|| good_traffic(&mut good, port, HOSTILE));
        while !traffic.is_finished() {
            most = most.max(resident(&gateway));
            probes = (probes.0 + 1, probes.1 + usize::from(lives(monitor)));
            thread::sleep(Duration::from_secs(1));
        }
        over.store(true, Ordering::Relaxed);
        traffic.join().unwrap()
    });
    println!("{} hostile requests, at most {most} KiB resident", requests.load(Ordering::Relaxed));
    let ratios = [
        compare("retrieves", &steady.retrieves, &beside.retrieves),
        compare("creates", &steady.creates, &beside.creates),
        compare("connects", &steady.connects, &beside.connects),
    ];
    println!("{} of {} probes of liveness were answered", probes.1, probes.0);
    let verified = saegis(&gateway.path(""), &["audit", "verify", "--config", "saegis.toml"]);
    println!("{}", verified.expect(0).out);
    assert_eq!(gateway.monitor("/metrics").value("saegis_log_lines_lost_total"), 0.0);
    assert_eq!(probes.0, probes.1);
    assert!(most < MAX_RESIDENT, "{most} KiB");
    assert!(ratios.iter().all(|ratio| *ratio <= MAX_RATIO), "{ratios:?}");
}
