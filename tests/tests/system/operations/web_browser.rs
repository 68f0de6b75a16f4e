//! The web page in Chromium: what an operator sees, and what another site in the same browser can do.
//!
//! Without chromedriver, these tests are skipped and say so.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use saegis_tests::{Browser, Credential, Gateway, LIGHT1, Tool, wait_until};
use serde_json::{Value, json};

use super::web::{associations, with_page};
use super::web_hostile::HOSTILE;

/// Starts the browser. Returns `None` if it is not installed.
fn browser() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        eprintln!("skipped: chromedriver is not installed (Debian: chromium-driver)");
    }
    browser
}

/// Opens the page with a link, and waits until it is live. Returns its address.
#[track_caller]
fn open(browser: &Browser, gateway: &Gateway, arguments: &[&str]) -> String {
    let link = gateway.web_link(arguments);
    browser.open(&format!("http://{}{link}", gateway.web_address()));
    live(browser);
    browser.run("return location.href").as_str().unwrap().to_string()
}

#[track_caller]
fn live(browser: &Browser) {
    wait_until("the page is live", || {
        browser.run("return document.getElementById('live')?.textContent") == "live"
    });
}

/// Returns the texts whose contrast with their background is lower than WCAG AA demands.
const LOW_CONTRAST: &str = "
const parts = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = (color) => {
  const [r, g, b] = parts(color).slice(0, 3).map((value) => {
    const c = value / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if ((parts(color)[3] ?? 1) > 0) return color;
  }
  return 'rgb(255, 255, 255)';
};
const low = [];
for (const element of document.body.querySelectorAll('*')) {
  const text = [...element.childNodes].filter((node) => node.nodeType === 3)
    .map((node) => node.textContent.trim()).join('');
  if (!text || !element.getClientRects().length) continue;
  const [a, b] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(`${text}: ${ratio.toFixed(2)}`);
}
return low;";

#[test]
fn browser_shows_texts_of_devices_as_text() {
    let Some(browser) = browser() else { return };
    let gateway = with_page().start();
    for identity in HOSTILE {
        Tool::OpenSsl.refused(gateway.port(), Credential { identity, ..LIGHT1 });
    }
    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let address = open(&browser, &gateway, &[]);
    let text = || browser.run("return document.body.innerText").as_str().unwrap().to_string();
    wait_until("all refusals are shown", || {
        browser.open(&address);
        text().matches("Handshake refused").count() == HOSTILE.len()
    });
    let shown = text();
    for words in [
        "in force: generation 1",
        "<script>document.title='owned'</script>@x.example",
        "\"><img src=x onerror=document.title='owned'>",
        "a\\u{202e}b\\u{200b}c\\u{1b}[2J\\u{a}<b>d",
        "{{7*7}}${7*7}'\"&lt;",
        "saegis device add NAME",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(browser.run("return document.title"), "Overview – Saegis /mn-cse-123456");
    let foreign =
        "return document.querySelectorAll('main script, main img, main b, [style]').length";
    assert_eq!(browser.run(foreign), 0);
    for page in ["", "refusals", "associations", "policy"] {
        for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
            let metrics = json!({
                "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false,
            });
            browser.devtools("Emulation.setDeviceMetricsOverride", &metrics);
            let media =
                json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
            browser.devtools("Emulation.setEmulatedMedia", &media);
            browser.open(&format!("{address}{page}"));
            live(&browser);
            let wide = browser.run("return document.documentElement.scrollWidth");
            assert!(
                wide.as_u64().is_some_and(|wide| wide <= width),
                "{page} at {width} px: {wide}"
            );
            let low = browser.run(LOW_CONTRAST);
            assert_eq!(low, json!([]), "{page} in the scheme {scheme}");
        }
    }
    // Nothing that the policy of the content forbids was tried.
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn browser_follows_changes_and_ends_association() {
    let Some(browser) = browser() else { return };
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let address = open(&browser, &gateway, &[]);
    let state = "return document.querySelector('[data-state-of=policy]').dataset.state";
    assert_eq!(browser.run(state), "good");
    gateway.refused_after("kpsa", |gateway| {
        gateway.replace("policies/psk-lookup-table.csv", "ae_id,kpsa,kpsa_id\nCx,0g,x@y.z\n");
    });
    wait_until("the open page shows the fault", || {
        let faults = browser.run("return document.getElementById('faults').innerText");
        browser.run(state) == "bad" && faults.to_string().contains("psk-lookup-table.csv:2:4")
    });
    browser.open(&format!("{address}associations"));
    let end = "window.confirm = () => true; document.querySelector('td button').click();";
    browser.run(end);
    light.ended();
    wait_until("the result is shown", || {
        let notice = browser.run("return document.querySelector('.notice')?.innerText");
        notice == "The association ends."
    });
    assert_eq!(browser.console(), [""; 0]);
}

/// Serves a page of another site of this machine, whose cookies are those of the same host.
fn serve(page: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let length = page.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}");
            let _ =
                socket.write_all(format!("{head}\r\nConnection: close\r\n\r\n{page}").as_bytes());
        }
    });
    port
}

/// The other site has the address and the token of the session, which it cannot know.
#[test]
fn other_site_in_browser_reads_and_changes_nothing() {
    let Some(browser) = browser() else { return };
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let [id] = associations(&gateway)[..] else { panic!("one association") };
    let address = open(&browser, &gateway, &[]);
    let token = browser.run("return document.querySelector('[name=token]').value");
    let token = token.as_str().unwrap();
    let page = format!(
        "<!DOCTYPE html><iframe src='{address}'></iframe>
        <form id=f method=post action='{address}end-association'>
        <input name=token value='{token}'><input name=id value='{id}'></form>
        <script>
        const found = [];
        const note = (what) => (value) => found.push(`${{what}}: ${{value}}`);
        const body = new URLSearchParams({{ token: '{token}', id: '{id}' }});
        const get = (mode) => fetch('{address}', {{ mode, credentials: 'include' }})
          .then((r) => r.text()).then(note(mode), () => found.push(mode));
        const post = fetch('{address}end-association',
          {{ method: 'POST', mode: 'no-cors', credentials: 'include', body }}).then(() => 0, () => 0);
        const image = new Promise((done) => {{
          const image = new Image();
          image.onload = () => {{ note('image')(1); done(); }};
          image.onerror = done;
          image.src = '{address}icon.svg';
        }});
        Promise.all([get('cors'), get('no-cors'), post, image]).then(() => {{ window.found = found; }});
        </script>"
    );
    browser.open(&format!("http://127.0.0.1:{}/", serve(page)));
    let mut found = Value::Null;
    wait_until("the other site has tried everything", || {
        found = browser.run("return window.found ?? null");
        !found.is_null()
    });
    let mut found: Vec<_> =
        found.as_array().unwrap().iter().map(|of| of.as_str().unwrap().to_string()).collect();
    found.sort();
    // A response of the mode no-cors has no readable content.
    assert!(found.contains(&"cors".to_string()), "{found:?}");
    assert!(
        found.iter().all(|of| of == "cors" || of == "no-cors" || of == "no-cors: "),
        "{found:?}"
    );
    let framed =
        "try { return document.querySelector('iframe').contentDocument?.body?.innerText ?? null }
        catch { return null }";
    assert!(browser.run(framed).is_null());
    browser.run("document.getElementById('f').submit()");
    wait_until("the form is refused", || {
        let text = browser.run("return document.body.innerText").to_string();
        text.contains("This page opens with a link")
    });
    assert_eq!(associations(&gateway), [id]);
    light.assert_served_as("Clight-AE1");
}
