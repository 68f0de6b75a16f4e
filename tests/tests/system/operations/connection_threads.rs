//! Threads that accept and serve connections.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Reply, Request, Setup, Upstream, wait_until};

/// Returns the number of times that each thread for connections has waited.
fn waits(gateway: &Gateway) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.id())).unwrap();
    let of = |task: fs::DirEntry| {
        // Another thread may have ended since. Threads for connections do not.
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name}: {status}")).trim().to_owned()
        };
        let name = field("Name:");
        let waits = field("voluntary_ctxt_switches:").parse().unwrap();
        name.starts_with("connections-").then_some((name, waits))
    };
    tasks.flatten().filter_map(of).collect()
}

fn serve_on_all_threads(setup: Setup) {
    let gateway = setup.start();
    let before = waits(&gateway);
    let processors = thread::available_parallelism().unwrap().get();
    assert_eq!(before.len(), processors, "{before:?}");
    // The kernel distributes them at random.
    wait_until("each thread serves a connection", || {
        for _ in 0..8 {
            Light::connect(gateway.port(), LIGHT1).expect("a connection").close();
        }
        let after = waits(&gateway);
        before.iter().all(|(thread, waits)| after[thread] > *waits)
    });
}

#[test]
fn connections_are_spread_over_threads() {
    serve_on_all_threads(Setup::new());
}

#[test]
fn connections_of_passed_socket_are_spread_over_threads() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    serve_on_all_threads(Setup::new().with_descriptor(listener));
}

#[test]
fn address_in_use_is_refused() {
    let gateway = Setup::new().start();
    let address = format!("127.0.0.1:{}", gateway.port());
    let ran = Setup::new().listening_at(&address).run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("cannot bind listen.address"), "{ran:?}");
}

/// A thread with busy connections serves its other ones.
#[test]
fn busy_connections_do_not_starve_others() {
    let upstream = Upstream::start(Reply::answer(200, 2000, "{\"m2m:cnt\":{}}"));
    let gateway = Setup::new().upstream(upstream.port()).start();
    let port = gateway.port();
    let processors = thread::available_parallelism().unwrap().get();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 * processors {
            scope.spawn(|| {
                let mut busy = Light::connect(port, LIGHT1).expect("a connection");
                let own = Request::retrieve("/cse/x").from("Clight-AE1");
                while !is_over.load(Ordering::Relaxed) {
                    busy.ask(&own).expect("it is served").expect(200, 2000);
                }
            });
        }
        for _ in 0..4 * processors {
            let mut other = Light::connect(port, LIGHT2).expect("a connection");
            for _ in 0..5 {
                let own = Request::retrieve("/cse/x").from("Clight-AE2");
                other.ask(&own).expect("it is served").expect(200, 2000);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
