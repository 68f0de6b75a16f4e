//! The hostile credentials, in a process of their own.
//!
//! They stand for other machines and must not take CPU time from the gateway. The process therefore has the
//! scheduling policy `SCHED_IDLE`. The gateway must limit the work that they cause.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use saegis_tests::{Light, Request};
use serde_json::json;

use crate::device::{Device, TIMEOUT, connect_from};
use crate::good::DEVICES;

/// Source addresses of stalled handshakes, and connections from each.
const STALLING_ADDRESSES: u8 = 60;
const STALLED_PER_ADDRESS: usize = 16;

/// Environment variable with the target of the hostile process.
const TARGET: &str = "SAEGIS_HOSTILE_TARGET";

/// Returns the devices with the hostile credentials.
pub fn devices() -> impl Iterator<Item = Device> {
    (0..10_u8).map(|n| Device::new("evil", n).at(Ipv4Addr::new(127, 0, 2, n + 1)))
}

/// The addresses of the gateway.
#[derive(Clone, Copy)]
pub struct Target {
    pub port: u16,
    pub monitor: SocketAddr,
}

/// The process of the hostile credentials.
pub struct Attack(Child);

impl Attack {
    /// Starts the process.
    pub fn start(target: Target) -> Self {
        let child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "attack::hostile_process"])
            .env(TARGET, format!("{} {}", target.port, target.monitor))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Ends the attack, and returns its rates as printed by the process.
    pub fn end(mut self) -> String {
        // The process ends when its standard input does.
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{printed}");
        printed
    }
}

#[test]
#[ignore = "the process that the measurement starts"]
fn hostile_process() {
    let Ok(target) = env::var(TARGET) else { return };
    let (port, monitor) = target.split_once(' ').unwrap();
    let target = Target { port: port.parse().unwrap(), monitor: monitor.parse().unwrap() };
    type Kind = fn(&Hostile);
    let kinds: [(&str, Kind); 10] = [
        ("fan-out", Hostile::fan_out),
        ("pry", Hostile::pry),
        ("discovery by group", Hostile::discover_through_a_group),
        ("forged originator", Hostile::flood_with_refusals),
        ("dangling policies", Hostile::name_what_is_not_there),
        ("break off", Hostile::break_off),
        ("read nothing", Hostile::read_nothing),
        ("stalled handshakes", Hostile::stall),
        ("half requests", Hostile::half_requests),
        ("fill the disk", Hostile::fill_the_disk),
    ];
    let start = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let done: [Arc<Done>; 10] = Default::default();
    thread::scope(|scope| {
        for ((device, (_, kind)), done) in devices().zip(kinds).zip(&done) {
            let hostile = Hostile { device, target, over: over.clone(), done: done.clone() };
            scope.spawn(move || kind(&hostile));
        }
        let _ = io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Relaxed);
    });
    let seconds = start.elapsed().as_secs_f64();
    for ((name, _), done) in kinds.iter().zip(&done) {
        let rate = |count: &AtomicUsize| {
            let count = count.load(Ordering::Relaxed);
            format!("{count:>7}, {:>6.1}/s", f64::from(u32::try_from(count).unwrap()) / seconds)
        };
        let (connections, requests) = (rate(&done.connections), rate(&done.requests));
        println!("{name:20} connections {connections}  requests {requests}");
    }
}

/// A hostile credential. Its responses do not matter, except those that it must never receive.
struct Hostile {
    device: Device,
    target: Target,
    over: Arc<AtomicBool>,
    done: Arc<Done>,
}

/// The number of connections and requests of a hostile credential.
#[derive(Default)]
struct Done {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Hostile {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Repeats an action over successive associations until the time is up.
    fn again_and_again(&self, mut work: impl FnMut(&mut Light) -> std::io::Result<()>) {
        while self.goes_on() {
            let done = self.connect().and_then(|mut light| {
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

    fn connect(&self) -> std::io::Result<Light> {
        self.done.connections.fetch_add(1, Ordering::Relaxed);
        self.device.try_connect(self.target.port)
    }

    fn ask(&self, light: &mut Light, request: &Request) -> std::io::Result<u16> {
        self.done.requests.fetch_add(1, Ordering::Relaxed);
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
        let mut light = self.device.register(self.target.port);
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
        let mut light = self.device.register(self.target.port);
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
        self.device.register(self.target.port);
        let forged = Request::retrieve("/cse/Cgood1").from("Cgood1");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
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
        let mut light = self.device.register(self.target.port);
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
                self.done.requests.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut light) = self.connect() {
                    let _ = light.send(&request.from(stem).bytes());
                }
            }
        }
    }

    /// Requests megabytes over many associations without reading.
    fn read_nothing(&self) {
        let mut light = self.device.register(self.target.port);
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
                if let Ok(mut light) = self.connect() {
                    self.done.requests.fetch_add(1, Ordering::Relaxed);
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
                    self.done.connections.fetch_add(1, Ordering::Relaxed);
                    held.extend(stalled(Ipv4Addr::new(127, 0, 1, address + 1), self.target.port));
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
                self.done.connections.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut socket) = TcpStream::connect_timeout(&self.target.monitor, TIMEOUT) {
                    let _ = socket.write_all(b"GET /metrics HTTP/1.1\r\nHo");
                    held.push(socket);
                }
            }
            self.wait(Duration::from_secs(1));
        }
    }

    /// Writes as much content as possible.
    fn fill_the_disk(&self) {
        let mut light = self.device.register(self.target.port);
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
    let mut stream = connect_from(from, port).ok()?;
    stream.write_all(&[0x16, 3, 1]).ok()?;
    Some(stream)
}
