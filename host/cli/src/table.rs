//! Formats JSON as lines of text.

use serde_json::Value;

/// Returns the text of a value; `-` for an empty one.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// Formats objects as lines of a table. Each column is as wide as its widest cell. The headings are
/// the keys of the JSON.
pub fn table(rows: Option<&Value>, columns: &[&str]) -> Vec<String> {
    let rows = rows.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let head = columns.iter().map(|c| c.to_uppercase()).collect();
    let mut cells: Vec<Vec<String>> = vec![head];
    for row in rows {
        cells.push(columns.iter().map(|c| row.get(c).map(text).unwrap_or_default()).collect());
    }
    let width = |at: usize| {
        cells.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    cells.iter().map(line).collect()
}
