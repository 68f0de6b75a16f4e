//! The web page in Chromium: what an operator sees. The pictures go to `tmp/screenshots` in the target
//! folder.

use std::path::{Path, PathBuf};

use saegis_tests::{Browser, Credential, Gateway, LIGHT1, Tool};
use serde_json::json;

use super::web::with_page;
use super::web_hostile::HOSTILE;
use super::web_policy::{HOSTILE_FROM, HOSTILE_MODULE, with_hostile_policy};

/// Opens the page with a link, and waits until it is live. Returns its address.
#[track_caller]
pub(super) fn open(browser: &Browser, gateway: &Gateway, arguments: &[&str]) -> String {
    browser.open(&gateway.web_link(arguments));
    live(browser);
    browser.run("return location.href").as_str().unwrap().to_string()
}

#[track_caller]
pub(super) fn live(browser: &Browser) {
    browser.wait_until("the page is live", |browser| {
        browser.run("return document.getElementById('live')?.textContent") == "live"
    });
}

/// Returns the file of a picture.
pub(super) fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots").join(format!("{name}.png"))
}

/// Returns the paths of the pages of the navigation, each with a name.
pub(super) fn pages(browser: &Browser) -> Vec<(String, String)> {
    let links = "return [...document.querySelectorAll('nav[aria-label=Pages] a')]
        .map((link) => [link.getAttribute('href'), link.textContent.toLowerCase()])";
    let links = browser.run(links);
    let text = |of: &serde_json::Value| of.as_str().unwrap().to_string();
    let links = links.as_array().unwrap().iter();
    let links: Vec<_> = links.map(|of| (text(&of[0]), text(&of[1]).replace(' ', "-"))).collect();
    assert!(links.len() >= 4, "{links:?}");
    links
}

/// Returns the texts whose contrast with their background is lower than WCAG AA demands.
pub(super) const LOW_CONTRAST: &str = "
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
    let browser = Browser::start(&[]);
    let gateway = with_page().start();
    for identity in HOSTILE {
        Tool::OpenSsl.refused(gateway.port(), Credential { identity, ..LIGHT1 });
    }
    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let address = open(&browser, &gateway, &[]);
    let text = || browser.run("return document.body.innerText").as_str().unwrap().to_string();
    browser.wait_until("all refusals are shown", |browser| {
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
    for (page, name) in pages(&browser) {
        for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
            browser.display((width, 800), scheme);
            browser.open(&format!("{address}{page}"));
            live(&browser);
            browser.screenshot(&picture(&format!("{name}-{width}-{scheme}")));
            let wide = browser.run("return document.documentElement.scrollWidth");
            let fits = wide.as_u64().is_some_and(|wide| wide <= width);
            assert!(fits, "{page} at {width} px: {wide}");
            let low = browser.run(LOW_CONTRAST);
            assert_eq!(low, json!([]), "{page} in the scheme {scheme}");
        }
    }
    // A text of a device has a frame, and a long one stays in it.
    let framed =
        "const data = document.querySelector('main .data'); const of = getComputedStyle(data);
        return [of.borderTopStyle, of.overflowX];";
    browser.open(&format!("{address}associations"));
    assert_eq!(browser.run(framed), json!(["solid", "hidden"]));
    // Nothing that the policy of the content forbids was tried.
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn browser_follows_changes_and_ends_association() {
    let browser = Browser::start(&[]);
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let address = open(&browser, &gateway, &[]);
    let state = "return document.querySelector('[data-state-of=policy]').dataset.state";
    assert_eq!(browser.run(state), "good");
    gateway.refused_after("kpsa", |gateway| {
        gateway.replace("policies/psk-lookup-table.csv", "ae_id,kpsa,kpsa_id\nCx,0g,x@y.z\n");
    });
    browser.wait_until("the open page shows the fault", |browser| {
        let faults = browser.run("return document.getElementById('faults').innerText");
        browser.run(state) == "bad" && faults.to_string().contains("psk-lookup-table.csv:2:4")
    });
    browser.screenshot(&picture("refused-policy"));
    browser.open(&format!("{address}associations"));
    let end = "window.confirm = () => true; document.querySelector('td button').click();";
    browser.run(end);
    light.ended();
    browser.wait_until("the result is shown", |browser| {
        let notice = browser.run("return document.querySelector('.notice')?.innerText");
        notice == "The association ends."
    });
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn browser_shows_hostile_policy_as_text() {
    let browser = Browser::start(&[]);
    let gateway = with_hostile_policy();
    let address = open(&browser, &gateway, &[]);
    browser.open(&format!("{address}policy"));
    let shown = browser.run("return document.body.innerText").as_str().unwrap().to_string();
    for words in [HOSTILE_MODULE, HOSTILE_FROM, "Promote", "The last disagreements"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let foreign = "return document.querySelectorAll('main script, main img, main b').length";
    assert_eq!(browser.run(foreign), 0);
    assert_eq!(browser.run("return document.title"), "Policy – Saegis /mn-cse-123456");
    assert_eq!(browser.run(LOW_CONTRAST), json!([]));
    assert_eq!(browser.console(), [""; 0]);
}
