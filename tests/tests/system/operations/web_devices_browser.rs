//! Devices on the web page in Chromium: a key is added, used and lost, and hostile texts stay text.

use saegis_tests::{Browser, Credential, LIGHT1, Tool, wait_until};
use serde_json::json;

use super::web::with_page;
use super::web_browser::{LOW_CONTRAST, live, open};
use super::web_devices::{encoded, hostile_rules, hostile_table};
use super::web_hostile::HOSTILE;

#[test]
fn browser_adds_and_revokes_refused_device() {
    let browser = Browser::start(&[]);
    let gateway = with_page().start();
    let lamp = "lamp@in.provider.com";
    Tool::OpenSsl.refused(gateway.port(), Credential { identity: lamp, ..LIGHT1 });
    let address = open(&browser, &gateway, &[]);
    let text = |selector: &str| {
        let script = format!("return document.querySelector('{selector}')?.innerText ?? ''");
        browser.run(&script).as_str().unwrap().to_string()
    };
    let form = "a[href^=\"add-device?identity=\"]";
    wait_until("the refusal is shown", || {
        browser.open(&format!("{address}refusals"));
        text(form) == "This device is not in the table: add it"
    });
    browser.run(&format!("document.querySelector('{form}').click()"));
    wait_until("the form is shown", || {
        browser.run("return document.getElementById('name')?.value ?? ''") == "lamp"
    });
    browser.run("document.querySelector('form.fields button').click()");
    wait_until("the key is shown", || text("#kpsa").len() == 32);
    let credential = Credential { identity: lamp, key: &text("#kpsa") };
    let mut client = Tool::OpenSsl.connect(gateway.port(), credential);
    // The page is not kept: going back and forth does not show the key again.
    browser.run("document.querySelector('main a[href^=\"device?id=\"]').click()");
    wait_until("the device is shown", || text("main h2") == "lamp");
    assert!(!text("body").contains(credential.key));
    browser.run("history.back()");
    wait_until("the browser has left the device", || text("main h2") != "lamp");
    assert!(!text("body").contains(credential.key), "{}", text("body"));

    browser.open(&format!("{address}device?id={}", encoded(lamp)));
    let confirmed = "window.confirm = (question) => { window.name = question; return true; };";
    let revoke = "document.querySelector('form[action=revoke-device] button').click();";
    browser.run(&format!("{confirmed}{revoke}"));
    client.ended();
    wait_until("the result is shown", || text(".notice").starts_with("Revoked lamp@"));
    let question = browser.run("return window.name");
    assert_eq!(question, "Revoke all keys of lamp, and end its associations?");
    Tool::OpenSsl.refused(gateway.port(), credential);
}

#[test]
fn browser_shows_texts_of_policy_as_text() {
    let browser = Browser::start(&[]);
    let gateway = with_page()
        .module("app-rules", "capabilities = [\"service-subscription\"]")
        .file("service-subscription.toml", &hostile_rules())
        .start();
    let address = open(&browser, &gateway, &[]);
    let device = format!("device?id={}", encoded(LIGHT1.identity));
    browser.open(&format!("{address}{device}"));
    let shown = browser.run("return document.querySelector('main').innerText").to_string();
    assert!(shown.contains("<img src=x onerror=document.title='owned'>"), "{shown}");
    let mut pages = vec!["devices".to_string(), "add-device".into(), device];
    for text in HOSTILE {
        pages.push(format!("add-device?identity={}", encoded(text)));
        pages.push(format!("devices?q={}", encoded(text)));
        pages.push(format!("device?id={}", encoded(text)));
    }
    for page in &pages {
        for (width, scheme) in [(360, "light"), (1280, "dark")] {
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
            assert_eq!(browser.run(LOW_CONTRAST), json!([]), "{page} in the scheme {scheme}");
        }
        assert_eq!(browser.run("return document.title"), "Devices – Saegis /mn-cse-123456");
        let foreign =
            "return document.querySelectorAll('main script, main img, main b, [style]').length";
        assert_eq!(browser.run(foreign), 0, "{page}");
    }
    // The fields of the form have the text, with hidden characters as escapes.
    browser.open(&format!("{address}add-device?identity={}", encoded(HOSTILE[2])));
    let name = browser.run("return document.getElementById('name').value");
    assert_eq!(name, "a\\u{202e}b\\u{200b}c\\u{1b}[2J\\u{a}<b>d");
    gateway.refused_after("ae_id", |gateway| {
        gateway.replace("policies/psk-lookup-table.csv", hostile_table());
    });
    browser.open(&format!("{address}devices"));
    let shown = browser.run("return document.querySelector('main').innerText").to_string();
    assert!(shown.contains("ae_id has '<' at character 1"), "{shown}");
    assert_eq!(browser.console(), [""; 0]);
}
