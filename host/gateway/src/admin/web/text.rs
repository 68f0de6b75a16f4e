//! Text on the pages that comes from outside: from devices, modules, files and other CSEs.

use std::borrow::Cow;
use std::time::SystemTime;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use maud::{Markup, html};
use saegis_onem2m::timestamp;
use saegis_policy::needs_escape;

/// Maximum number of marks that are drawn over one character. Languages need up to three.
const MAX_MARKS: usize = 3;

fn hides(c: char, category: GeneralCategory) -> bool {
    needs_escape(c)
        || (c != ' ' && category == GeneralCategory::SpaceSeparator)
        || matches!(
            category,
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::PrivateUse
                | GeneralCategory::Unassigned
        )
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        // A Braille pattern without dots.
        || c == '\u{2800}'
}

/// Returns whether a character is invisible, looks like a space, or changes the text around it.
pub fn is_hidden(c: char) -> bool {
    hides(c, CodePointMapData::<GeneralCategory>::new().get(c))
}

/// Returns a text whose hidden characters are written as escapes. Marks are escaped if they have no
/// character to stand on, or if there are too many for one.
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.into();
    }
    let categories = CodePointMapData::<GeneralCategory>::new();
    let (mut shown, mut marks) = (String::with_capacity(text.len() + 16), MAX_MARKS);
    for c in text.chars() {
        let category = categories.get(c);
        let is_mark =
            matches!(category, GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark);
        marks = if is_mark { marks.saturating_add(1) } else { 0 };
        if hides(c, category) || marks > MAX_MARKS {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
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

/// Returns a duration in microseconds for readers.
pub fn duration(microseconds: f64) -> String {
    match microseconds {
        us if us < 999.5 => format!("{us:.0} µs"),
        us if us < 9_995.0 => format!("{:.2} ms", us / 1e3),
        us if us < 999_500.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
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
    fn durations_are_readable() {
        let texts = [3.0, 999.9, 1234.0, 56_789.0, 2_500_000.0].map(duration);
        assert_eq!(texts, ["3 µs", "1.00 ms", "1.23 ms", "57 ms", "2.5 s"]);
    }

    #[test]
    fn hidden_characters_are_shown_as_escapes() {
        assert_eq!(visible("Lampe für 灯 ضوء"), "Lampe für 灯 ضوء");
        assert_eq!(visible("a\u{202e}b\u{200b}\u{7}\n"), "a\\u{202e}b\\u{200b}\\u{7}\\u{a}");
        assert_eq!(visible("\u{e0041}\u{feff}"), "\\u{e0041}\\u{feff}");
        for hidden in [
            '\u{ad}',
            '\u{34f}',
            '\u{115f}',
            '\u{17b4}',
            '\u{180b}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{a0}',
            '\u{2003}',
            '\u{3000}',
            '\u{1d173}',
            '\u{e000}',
            '\u{378}',
            '\u{fff9}',
        ] {
            assert_eq!(visible(&format!("a{hidden}b")), format!("a{}b", hidden.escape_unicode()));
        }
    }

    #[test]
    fn marks_do_not_leave_their_character() {
        for words in ["café", "cafe\u{301}", "tie\u{302}\u{301}ng", "กำลัง", "שָׁלוֹם", "नमस्ते"]
        {
            assert_eq!(visible(words), words);
        }
        let many = format!("a{}b", "\u{301}".repeat(60));
        let kept = "\u{301}".repeat(MAX_MARKS);
        assert_eq!(visible(&many), format!("a{kept}{}b", "\\u{301}".repeat(60 - MAX_MARKS)));
        assert_eq!(visible("\u{301}a"), "\\u{301}a");
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
