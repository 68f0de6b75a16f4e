//! Text on the pages that comes from outside: from devices, modules, files and other CSEs.

use std::borrow::Cow;
use std::time::SystemTime;

use maud::{Markup, html};
use saegis_onem2m::timestamp;
use saegis_policy::needs_escape;

/// Returns whether a character is invisible or changes the text around it.
fn is_hidden(c: char) -> bool {
    needs_escape(c)
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{feff}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Returns a text whose hidden characters are written as escapes.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown.into()
}

/// Returns a text from outside as an element of its own direction.
pub fn data(text: &str) -> Markup {
    html! { bdi class="data" { (visible(text)) } }
}

/// Returns a time for readers.
pub fn time(at: SystemTime) -> String {
    readable(&timestamp::format(at))
}

/// Returns the time now for readers.
pub fn now() -> String {
    time(SystemTime::now())
}

/// Returns a timestamp of oneM2M for readers.
pub fn readable(timestamp: &str) -> String {
    let part = |from: usize, to: usize| timestamp.get(from..to);
    let parts = (part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15));
    match parts {
        (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) => {
            format!("{year}-{month}-{day} {hour}:{minute}:{second} UTC")
        }
        _ => timestamp.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(readable("20261130T222931"), "2026-11-30 22:29:31 UTC");
        assert_eq!(readable("20261130T222931,123456"), "2026-11-30 22:29:31 UTC");
        assert_eq!(readable("now"), "now");
    }

    #[test]
    fn hidden_characters_are_shown_as_escapes() {
        assert_eq!(visible("Lampe für 灯 ضوء"), "Lampe für 灯 ضوء");
        assert_eq!(visible("a\u{202e}b\u{200b}\u{7}\n"), "a\\u{202e}b\\u{200b}\\u{7}\\u{a}");
        assert_eq!(visible("\u{e0041}\u{feff}"), "\\u{e0041}\\u{feff}");
    }

    #[test]
    fn markup_of_devices_is_text() {
        let shown = data("<script>alert(1)</script>\"'&").into_string();
        assert_eq!(
            shown,
            "<bdi class=\"data\">&lt;script&gt;alert(1)&lt;/script&gt;&quot;'&amp;</bdi>"
        );
    }
}
