//! One gateway takes the place of another: the listening socket belongs to a service manager, and
//! nobody who connects meanwhile is refused.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use saegis_tests::{BOUND, LIGHT1, LIGHT2, Light, Request, Setup, Tool, wait_until};

#[test]
fn a_restart_refuses_no_connection() {
    const RESTARTS: usize = 5;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut gateway = Setup::new().with_descriptor(listener).start();
    assert_eq!(gateway.port(), port, "it serves where it was told, not where it is configured");
    let mut light = Light::connect(port, LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    light.close();
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Given back, so that it lives until the last of them is served.
    let gateway = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut light = Light::connect(port, LIGHT1).expect("nobody is refused");
                    let own = Request::retrieve("/cse/light1").from("Clight-AE1");
                    light.ask(&own).expect("who is let in is served").expect(200, 2000);
                    light.close();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for restart in 0..RESTARTS {
            let before = served.load(Ordering::Relaxed);
            let what = format!("restart {restart}: somebody is served");
            wait_until(&what, || served.load(Ordering::Relaxed) >= before + 20);
            gateway = gateway.restart();
        }
        over.store(true, Ordering::Relaxed);
        gateway
    });
    drop(gateway);
    assert!(served.load(Ordering::Relaxed) >= RESTARTS * 20);
}

/// The variables of a socket are for the process that they name.
#[test]
fn a_socket_of_somebody_else_is_not_taken() {
    let gateway = Setup::new().started_through(&["env", "LISTEN_PID=1", "LISTEN_FDS=1"]).start();
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
}

#[test]
fn what_is_no_listening_socket_is_refused() {
    let (one, _other) = UnixDatagram::pair().unwrap();
    let ran = Setup::new().with_descriptor(one).run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("can't be listened on"), "{ran:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ran = Setup::new().with_descriptor(connected).run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("can't be listened on"), "{ran:?}");
}

/// What a service manager waits for, so that it starts nothing too early.
#[test]
fn the_service_manager_is_told_of_start_and_end() {
    let setup = Setup::new();
    let path = setup.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let mut gateway = setup.started_through(&["env", &variable]).start();
    let mut told = [0; 64];
    let length = manager.recv(&mut told).unwrap();
    assert_eq!(&told[..length], b"READY=1\n");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    gateway.signal("TERM");
    let length = manager.recv(&mut told).unwrap();
    assert_eq!(&told[..length], b"STOPPING=1\n");
    assert!(gateway.wait().unwrap().success());
}
