//! A line of a table for display, without keys.
//!
//! The line has a fault, so its cells need not be those that the header promises. Every cell that could
//! have a key is masked.

use super::column::{KNOWN, Kind};

/// Text in place of a cell that could have a key.
const MASK: &str = "[hidden]";

/// Returns a line of a table with a header line. `text` is that of the file up to the line. Returns
/// `None` if the line is not text.
pub fn masked_line(text: &[u8], line: &[u8]) -> Option<String> {
    let header = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let header = header.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(header);
    let is_header = text.len() < header.len() + 1;
    let line = std::str::from_utf8(line).ok()?.trim_end_matches(['\r', '\n']);
    let cells: Vec<_> = line.split(',').collect();
    if is_header {
        // Without a header, the first line may have keys.
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        let is_known = |cell: &str| KNOWN.iter().any(|column| column.name == cell.trim());
        let shown = line.split(',').map(|cell| if is_known(cell) { cell } else { MASK });
        return Some(shown.collect::<Vec<_>>().join(","));
    }
    let names: Vec<_> = header.split(|&byte| byte == b',').collect();
    let kind = |name: &[u8]| {
        let found = KNOWN.into_iter().find(|c| c.name.as_bytes() == name.trim_ascii());
        found.map(|column| column.kind)
    };
    // A quoted cell may have commas and lines, so the cells are not known then.
    let has_quotes = line.contains('"') || text.contains(&b'"');
    if has_quotes || names.len() != cells.len() {
        return Some(vec![MASK; cells.len()].join(","));
    }
    let shown = names.iter().zip(cells).map(|(name, cell)| match kind(name) {
        None | Some(Kind::Key) => MASK,
        Some(_) if looks_like_key(cell) => MASK,
        Some(_) => cell,
    });
    Some(shown.collect::<Vec<_>>().join(","))
}

/// Returns whether a cell could be a key in another column than its own.
pub fn looks_like_key(cell: &str) -> bool {
    let cell = cell.trim();
    let digits = cell.bytes().filter(u8::is_ascii_hexdigit).count();
    cell.len() >= 8 && !cell.contains(['@', '.', '/']) && digits * 10 >= cell.len() * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "ae_id,kpsa,kpsa_id,comment\n";
    const KEY: &str = "1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d";

    fn line(before: &str, line: &str) -> String {
        masked_line(before.as_bytes(), line.as_bytes()).unwrap()
    }

    #[test]
    fn key_cell_is_masked() {
        let shown = line(HEADER, &format!("Clight,{KEY}x,a@b.example,hall\r"));
        assert_eq!(shown, "Clight,[hidden],a@b.example,hall");
    }

    #[test]
    fn key_outside_its_column_is_masked() {
        for (before, text) in [
            (HEADER, format!("Clight,a@b.example,{KEY},hall")),
            (HEADER, format!("Clight,x,{KEY},a@b.example,hall")),
            (HEADER, format!("{KEY},a@b.example")),
            (HEADER, format!("Clight;{KEY};a@b.example;hall")),
            (HEADER, format!("\"Clight,\",{KEY},x,y")),
            ("ae_id,kpsa,kpsa_id,comment\nCa,\"0", format!("a,{KEY},b,c")),
            ("ae_id,kpas,kpsa_id,comment\n", format!("Clight,{KEY},a@b.example,hall")),
            ("", format!("Clight,{KEY},a@b.example,hall")),
            ("", format!("{KEY} Clight")),
        ] {
            let shown = line(before, &text);
            assert!(!shown.contains(KEY.get(..8).unwrap()), "{before}{text}: {shown}");
        }
    }

    #[test]
    fn header_is_shown_as_far_as_known() {
        assert_eq!(line("", "ae_id,kpsa ,secret"), "ae_id,kpsa ,[hidden]");
        assert!(masked_line(HEADER.as_bytes(), b"a,\xff,b,c").is_none());
    }
}
