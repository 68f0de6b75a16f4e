//! A UDP relay that loses, repeats and reorders datagrams.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Faults that datagrams meet, in percent.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Lost datagrams.
    pub lost: u64,
    /// Datagrams that arrive twice.
    pub repeated: u64,
    /// Datagrams that arrive behind the next one.
    pub late: u64,
}

/// The relay between one client and a local port, until it is dropped.
pub struct LossyRelay {
    port: u16,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl LossyRelay {
    /// Starts a relay to a local port. The faults of each direction follow from `seed`.
    pub fn start(to: u16, faults: Faults, seed: u64) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let back = crate::coap::socket(to);
        let port = front.local_addr().expect("it is bound").port();
        let stop = Arc::new(AtomicBool::new(false));
        let client = Arc::new(std::sync::Mutex::new(None));
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("it is set");
        }
        let copy = |socket: &UdpSocket| socket.try_clone().expect("a descriptor is free");
        let there = Direction { faults, random: seed, held: None, stop: stop.clone() };
        let back_again =
            Direction { faults, random: seed ^ 0x5555, held: None, stop: stop.clone() };
        let (from, to, known) = (copy(&front), copy(&back), client.clone());
        let first = thread::spawn(move || {
            there.run(&from, |datagram, sender| {
                *known.lock().expect("it does not panic") = Some(sender);
                let _ = to.send(datagram);
            });
        });
        let second = thread::spawn(move || {
            back_again.run(&back, |datagram, _| {
                let client = *client.lock().expect("it does not panic");
                if let Some(client) = client {
                    let _ = front.send_to(datagram, client);
                }
            });
        });
        Self { port, stop, threads: vec![first, second] }
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for LossyRelay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Direction {
    faults: Faults,
    random: u64,
    held: Option<(Vec<u8>, SocketAddr)>,
    stop: Arc<AtomicBool>,
}

impl Direction {
    fn run(mut self, from: &UdpSocket, mut forward: impl FnMut(&[u8], SocketAddr)) {
        let mut buffer = vec![0; 1 << 16];
        while !self.stop.load(Ordering::Relaxed) {
            match from.recv_from(&mut buffer) {
                Ok((length, sender)) => self.pass(&buffer[..length], sender, &mut forward),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if let Some((datagram, sender)) = self.held.take() {
                        forward(&datagram, sender);
                    }
                }
                // The other end may not be bound at the moment.
                Err(_) => {}
            }
        }
    }

    fn pass(
        &mut self,
        datagram: &[u8],
        sender: SocketAddr,
        forward: &mut impl FnMut(&[u8], SocketAddr),
    ) {
        if self.happens(self.faults.lost) {
            return;
        }
        if self.held.is_none() && self.happens(self.faults.late) {
            self.held = Some((datagram.to_vec(), sender));
            return;
        }
        forward(datagram, sender);
        if self.happens(self.faults.repeated) {
            forward(datagram, sender);
        }
        if let Some((datagram, sender)) = self.held.take() {
            forward(&datagram, sender);
        }
    }

    /// Draws from xorshift64.
    fn happens(&mut self, percent: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < percent
    }
}
