//! The pictures of the web page in the book, which `cargo xtask screenshots` takes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use saegis_tests::{Browser, Credential, Light, Request, Setup, output_of, wait_until};

use super::web::with_page;
use super::web_browser::{live, open, pages};

/// Number of devices.
const DEVICES: usize = 24;
/// Speed of the gateway's clock. An hour of charts takes two minutes.
pub(super) const FASTER: u32 = 30;
/// Duration of the traffic.
const TRAFFIC: Duration = Duration::from_secs(125);

fn key(number: usize) -> String {
    format!("5a{number:030x}")
}

fn identity(number: usize) -> String {
    format!("lamp-{number}@in.provider.com")
}

fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("book").join(format!("web-page-{name}.png"))
}

/// Runs the gateway with a faster clock. The program `faketime` would not end with the test.
pub(super) fn with_faster_clock(setup: Setup) -> Setup {
    let found = output_of("sh", &["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]).expect(0);
    let library = format!("LD_PRELOAD={}", found.out.trim());
    setup.started_through(&["env", &library, &format!("FAKETIME=+0 x{FASTER}")])
}

/// Sends requests of one device until the end, slower and faster by turns.
fn traffic(port: u16, number: usize, over: &AtomicBool) {
    let (identity, key) = (identity(number), key(number));
    let credential = Credential { identity: &identity, key: &key };
    let mut light = Light::connect(port, credential).unwrap();
    let own = format!("Clamp-{number}");
    let name = format!("lamp{number}");
    light.ask(&Request::create_ae(&name).from(&own)).unwrap().expect(201, 2001);
    for turn in 0_usize.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let path = if (turn + number).is_multiple_of(29) { "/cse/none" } else { "/cse" };
        light.ask(&Request::retrieve(path).from(&own)).unwrap();
        let wave = (turn / 40 + number) % 5;
        thread::sleep(Duration::from_millis(60 + 60 * wave as u64));
        if number < 4 && turn.is_multiple_of(17) {
            light = Light::connect(port, credential).unwrap();
        }
    }
}

#[test]
#[ignore = "pictures for the book; cargo xtask screenshots runs it"]
fn pictures_of_pages_are_taken() {
    let rows = (0..DEVICES).map(|n| format!("Clamp-{n},{},{}\n", key(n), identity(n)));
    let table = "ae_id,kpsa,kpsa_id\n".to_string() + &rows.collect::<String>();
    let gateway = with_faster_clock(with_page().file("psk-lookup-table.csv", &table)).start();
    let (port, over) = (gateway.port(), AtomicBool::new(false));
    let browser = Browser::start(&[]);
    let session = gateway.open_web(&["--view"]);
    thread::scope(|scope| {
        for number in 0..DEVICES {
            let over = &over;
            scope.spawn(move || traffic(port, number, over));
        }
        let (refused, own) = (identity(99), identity(3));
        let unknown = Credential { identity: &refused, key: &key(0) };
        let wrong = Credential { identity: &own, key: &key(99) };
        let start = std::time::Instant::now();
        while start.elapsed() < TRAFFIC {
            for credential in [unknown, wrong] {
                assert!(Light::connect(port, credential).is_err());
            }
            thread::sleep(Duration::from_secs(5));
        }
        wait_until("refusals are shown", || session.page(&gateway, "refusals").contains("lamp-99"));
        let address = open(&browser, &gateway, &[]);
        for (page, name) in pages(&browser) {
            browser.display((1000, 760), "light");
            browser.open(&format!("{address}{page}"));
            live(&browser);
            browser.screenshot(&picture(&name));
        }
        over.store(true, Ordering::Relaxed);
    });
    let address = open(&browser, &gateway, &[]);
    gateway.refused_after("kpsa", |gateway| {
        gateway.replace("policies/psk-lookup-table.csv", table.replacen(",5a", ",5g", 1));
    });
    browser.display((1000, 760), "dark");
    browser.open(&address);
    live(&browser);
    browser.screenshot(&picture("refused-policy"));
}
