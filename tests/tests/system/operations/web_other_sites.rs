//! Other sites in the same browser: a page on another port of this machine, and a page of another
//! site whose name resolves to this machine. Both have secrets of the session, which they cannot know.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use saegis_tests::{Browser, Gateway, LIGHT1, Tool, wait_until};

use super::web::{associations, with_page};
use super::web_browser::open;

/// A name of another site.
const EVIL: &str = "evil.example";

/// A server with one page for all requests, which it records.
struct Site {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn serve(page: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let recorded = requests.clone();
        std::thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match socket.read(&mut chunk) {
                        Ok(length @ 1..) => request.extend_from_slice(&chunk[..length]),
                        _ => break,
                    }
                }
                recorded.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
                let length = page.len();
                let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{page}");
                let _ = socket.write_all(answer.as_bytes());
            }
        });
        Self { port, requests }
    }
}

/// Returns a script that tries everything with the page of the session at `address`, and then sets
/// `window.found` to what it could read.
fn attack(address: &str, token: &str, id: u64, link: &str) -> String {
    format!(
        "const found = [];
        const note = (what) => (value) => found.push(`${{what}}: ${{value}}`);
        const get = (mode) => fetch('{address}', {{ mode, credentials: 'include' }})
          .then((r) => r.text()).then((text) => text && note(mode)(text), () => 0);
        const body = 'token={token}&id={id}';
        const post = (type) => fetch('{address}end-association', {{
          method: 'POST', mode: 'no-cors', credentials: 'include', headers: {{ 'Content-Type': type }}, body,
        }}).then((r) => r.text()).then((text) => text && note(type)(text), () => 0);
        const load = (name, attributes, parent) => new Promise((done) => {{
          const element = document.createElement(name);
          Object.assign(element, attributes);
          element.onload = () => {{
            const inside = (() => {{ try {{ return element.contentDocument?.body?.innerText; }} catch {{ return 0; }} }})();
            if (name !== 'iframe' && element.rel !== 'prefetch') note(name)('loaded');
            if (inside) note(name)(inside);
            done();
          }};
          element.onerror = done;
          parent.append(element);
        }});
        const events = new Promise((done) => {{
          const source = new EventSource('{address}events', {{ withCredentials: true }});
          source.onopen = () => {{ note('events')('open'); done(); }};
          source.addEventListener('update', (event) => note('events')(event.data));
          source.onerror = () => {{ source.close(); done(); }};
        }});
        const tried = [
          get('cors'), get('no-cors'), events,
          post('application/x-www-form-urlencoded'), post('text/plain'),
          load('img', {{ src: '{address}icon.svg' }}, document.body),
          load('script', {{ src: '{address}page.js' }}, document.body),
          load('iframe', {{ src: '{address}' }}, document.body),
          load('link', {{ rel: 'stylesheet', href: '{address}style.css' }}, document.head),
          load('link', {{ rel: 'prefetch', href: '{link}' }}, document.head),
          fetch('{link}', {{ mode: 'no-cors', credentials: 'include' }}).then(() => 0, () => 0),
        ];
        Promise.all(tried).then(() => {{ window.found = found; }});"
    )
}

/// Lets a site attack the page of a session: by a script, by forms and by a link.
fn attacked_by(browser: &Browser, gateway: &Gateway, name: &str) {
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let [id] = associations(gateway)[..] else { panic!("one association") };
    let address = open(browser, gateway, &[]);
    let token = browser.run("return document.querySelector('[name=token]').value");
    let token = token.as_str().unwrap();
    let link = format!("http://{}{}", gateway.web_address(), gateway.web_link(&[]));
    let forms: String = ["application/x-www-form-urlencoded", "text/plain"]
        .iter()
        .map(|kind| {
            format!(
                "<form method=post action='{address}end-association' enctype='{kind}'>
                <input name=token value='{token}'><input name=id value='{id}'></form>"
            )
        })
        .collect();
    let script = attack(&address, token, id, &link);
    let site = Site::serve(format!("<!DOCTYPE html><body>{forms}<script>{script}</script>"));
    let own = format!("http://{name}:{}/", site.port);
    browser.open(&own);
    let found = browser.wait_for("return window.found ?? null");
    assert_eq!(found, serde_json::json!([]), "the other site reads nothing");
    for change in ["document.forms[0].submit()", "document.forms[1].submit()"] {
        browser.open(&own);
        browser.wait_for("return window.found ?? null");
        browser.run(change);
        refused(browser);
    }
    // A link that another site opens is refused, and not used up.
    browser.open(&own);
    browser.wait_for("return window.found ?? null");
    browser.run(&format!("location.href = '{link}'"));
    refused(browser);
    assert_eq!(associations(gateway), [id]);
    light.assert_served_as("Clight-AE1");
    browser.open(&link);
    browser.wait_until("the link opens a session", |browser| {
        browser.run("return document.title") == "Overview – Saegis /mn-cse-123456"
    });
    assert!(!site.requests.lock().unwrap().is_empty());
}

#[track_caller]
fn refused(browser: &Browser) {
    browser.wait_until("the request is refused", |browser| {
        let text = browser.run("return document.body?.innerText ?? ''").to_string();
        text.contains("This page opens with a link")
    });
}

#[test]
fn page_on_other_port_reads_and_changes_nothing() {
    let (browser, gateway) = (Browser::start(&[]), with_page().start());
    attacked_by(&browser, &gateway, "127.0.0.1");
}

#[test]
fn other_site_in_browser_reads_and_changes_nothing() {
    let (browser, gateway) = (Browser::start(&[EVIL]), with_page().start());
    attacked_by(&browser, &gateway, EVIL);
}

/// A name of the other site becomes one of this machine, so that its pages have the gateway's origin.
#[test]
fn rebound_name_in_browser_gets_nothing() {
    let (browser, gateway) = (Browser::start(&[EVIL]), with_page().start());
    let address = open(&browser, &gateway, &[]);
    let rebound = address.replace("127.0.0.1", EVIL);
    browser.open(&rebound);
    refused(&browser);
    // The page is of the same origin as the address, so it can read the response.
    let read = format!("return fetch('{rebound}events').then((r) => r.text())");
    assert!(browser.run(&read).to_string().contains("This page opens with a link"));
    let link = gateway.web_link(&[]);
    browser.open(&format!("http://{}{link}", gateway.web_address().replace("127.0.0.1", EVIL)));
    refused(&browser);
    browser.open(&format!("http://{}{link}", gateway.web_address()));
    browser.wait_until("the link opens a session", |browser| {
        browser.run("return document.title") == "Overview – Saegis /mn-cse-123456"
    });
}

/// Cookies do not belong to a port. So a server on another port sees whether the browser sends them.
#[test]
fn browser_sends_no_cookie_for_other_site() {
    let (browser, gateway) = (Browser::start(&[EVIL]), with_page().start());
    let address = open(&browser, &gateway, &[]);
    let (_, path) = address.split_once("/s/").unwrap();
    let listening = Site::serve(String::new());
    let target = format!("http://127.0.0.1:{}/s/{path}", listening.port);
    let site = Site::serve(format!(
        "<!DOCTYPE html><body><form method=post action='{target}form'></form><script>
        const post = (name) => fetch('{target}' + name,
          {{ method: 'POST', mode: 'no-cors', credentials: 'include', body: 'x' }});
        post('fetch').finally(() => {{ window.found = 1; }});
        </script>"
    ));
    browser.open(&format!("http://{EVIL}:{}/", site.port));
    browser.wait_for("return window.found ?? null");
    browser.run("document.forms[0].submit()");
    let received = |name: &str| {
        let all = listening.requests.lock().unwrap();
        all.iter().find(|request| request.starts_with(&format!("POST /s/{path}{name} "))).cloned()
    };
    for name in ["fetch", "form"] {
        wait_until("the request has come", || received(name).is_some());
        let request = received(name).unwrap().to_lowercase();
        assert!(!request.contains("cookie:"), "{name}: {request}");
    }
    // The browser has one, and sends it to the page itself.
    browser.open(&address);
    browser.wait_until("the session still works", |browser| {
        browser.run("return document.title") == "Overview – Saegis /mn-cse-123456"
    });
}
