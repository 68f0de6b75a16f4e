//! The traffic of the well-behaved devices, and its latencies.

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{Light, Request};

use crate::device::Device;

/// Number of well-behaved devices, and of the threads that run them.
pub const DEVICES: usize = 100;
const THREADS: usize = 4;
/// Interval between two requests of a device.
const PERIOD: Duration = Duration::from_secs(1);
/// One in this many requests creates a content instance, and one in this many uses a new
/// association.
const ONE_CREATES: usize = 5;
const ONE_CONNECTS: usize = 10;

/// A well-behaved device, whose responses must arrive and be correct.
pub struct Good {
    device: Device,
    light: Light,
}

/// The latencies of each kind of request, and the time that the client itself waited for a processor.
#[derive(Default)]
pub struct Latencies {
    pub retrieves: Vec<Duration>,
    pub creates: Vec<Duration>,
    pub connects: Vec<Duration>,
    pub waits: Vec<Duration>,
}

impl Good {
    pub fn new(n: usize, port: u16) -> Self {
        let device = Device::new("good", n);
        let mut light = device.register(port);
        let container = Request::create_container(&device.own(), "data").from(&device.stem);
        light.ask(&container).unwrap().expect(201, 2001);
        Self { device, light }
    }

    fn turn(&mut self, n: usize, port: u16, latencies: &mut Latencies) {
        let (start, waited) = (Instant::now(), run_delay());
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
        latencies.waits.push(run_delay().saturating_sub(waited));
    }

    fn retrieve(&mut self) {
        let own = Request::retrieve(&self.device.own()).from(&self.device.stem);
        self.light.ask(&own).unwrap().expect(200, 2000);
    }
}

/// Runs the requests of all well-behaved devices for this time, and returns the latencies.
pub fn traffic(good: &mut [Good], port: u16, time: Duration) -> Latencies {
    let all = Mutex::new(Latencies::default());
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for part in good.chunks_mut(DEVICES.div_ceil(THREADS)) {
            let all = &all;
            scope.spawn(move || {
                realtime_priority();
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
                all.waits.append(&mut own.waits);
            });
        }
    });
    let mut all = all.into_inner().unwrap();
    for latencies in [&mut all.retrieves, &mut all.creates, &mut all.connects, &mut all.waits] {
        latencies.sort_unstable();
    }
    all
}

/// Returns the time that this thread was ready to run without running.
fn run_delay() -> Duration {
    let read = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let delay = read.split_whitespace().nth(1).and_then(|delay| delay.parse().ok());
    Duration::from_nanos(delay.unwrap_or_default())
}

/// Gives this thread a realtime priority, because devices do not share processors with the gateway.
fn realtime_priority() {
    let id = rustix::thread::gettid().as_raw_nonzero().to_string();
    // Without the permission, the devices wait for processors as the gateway does.
    let _ = Command::new("chrt").args(["--fifo", "--pid", "1", &id]).output();
}
