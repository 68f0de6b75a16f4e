//! Replacement of a gateway. The service manager owns the listening socket, so that no connection
//! is refused meanwhile.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use saegis_tests::{BOUND, LIGHT1, LIGHT2, Light, Request, Setup, Tool, wait_until};

#[test]
fn restart_refuses_no_connection() {
    const RESTARTS: usize = 5;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut gateway = Setup::new().with_descriptor(listener).start();
    assert_eq!(gateway.port(), port, "the gateway uses the passed socket");
    let mut light = Light::connect(port, LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    light.close();
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Returned to keep the gateway running until the last client is served.
    let gateway = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut light =
                        Light::connect(port, LIGHT1).expect("the connection is accepted");
                    let own = Request::retrieve("/cse/light1").from("Clight-AE1");
                    light.ask(&own).expect("the request is served").expect(200, 2000);
                    light.close();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for restart in 0..RESTARTS {
            let before = served.load(Ordering::Relaxed);
            let what = format!("restart {restart}: a client is served");
            wait_until(&what, || served.load(Ordering::Relaxed) >= before + 20);
            gateway = gateway.restart();
        }
        stop.store(true, Ordering::Relaxed);
        gateway
    });
    drop(gateway);
    assert!(served.load(Ordering::Relaxed) >= RESTARTS * 20);
}

/// The socket variables apply only to the process that they name.
#[test]
fn socket_of_other_process_is_not_used() {
    let gateway = Setup::new().started_through(&["env", "LISTEN_PID=1", "LISTEN_FDS=1"]).start();
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
}

#[test]
fn invalid_descriptor_is_refused() {
    let (one, _other) = UnixDatagram::pair().unwrap();
    let ran = Setup::new().with_descriptor(one).run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("cannot bind listen.address"), "{ran:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ran = Setup::new().with_descriptor(connected).run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("cannot bind listen.address"), "{ran:?}");
}

/// The gateway binds the socket of CoAP itself.
#[test]
fn udp_socket_is_refused() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ran = Setup::new().with_coap().with_descriptor(socket).run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("cannot bind listen.address"), "{ran:?}");
}

/// The service manager waits for these messages before it starts other units.
#[test]
fn service_manager_is_notified_of_start_and_end() {
    let setup = Setup::new();
    let path = setup.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let mut gateway = setup.started_through(&["env", &variable]).start();
    let mut message = [0; 64];
    let length = manager.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1\n");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    gateway.signal("TERM");
    let length = manager.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"STOPPING=1\n");
    assert!(gateway.wait().unwrap().success());
}
