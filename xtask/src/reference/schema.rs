//! JSON Schemas for editors, from the tables of options.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// Returns the schema of a file with these tables of options, as the reference page has them.
pub fn of(title: &str, tables: &str) -> Result<String> {
    let mut root = object("");
    let mut table = None;
    for line in tables.lines() {
        if let Some(heading) = line.strip_prefix("## `[") {
            let is_list = heading.starts_with('[');
            let name = heading.trim_matches(['[', ']', '`']).to_string();
            table = Some((name, is_list));
        } else if let Some((name, is_list)) = table.take_if(|_| is_text(line)) {
            let of_table = object(line);
            let of_table =
                if is_list { json!({ "type": "array", "items": of_table }) } else { of_table };
            properties(&mut root)?.insert(name, of_table);
        } else if let Some(row) = line.strip_prefix("| `") {
            option(&mut root, row).with_context(|| line.to_string())?;
        }
    }
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
    });
    let (Value::Object(schema), Value::Object(mut root)) = (&mut schema, root) else {
        bail!("a schema is an object")
    };
    schema.append(&mut root);
    Ok(serde_json::to_string_pretty(schema)? + "\n")
}

fn is_text(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['|', '#'])
}

fn object(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {},
        "additionalProperties": false,
    })
}

/// Returns the properties of an object, or of the objects in a list.
fn properties(schema: &mut Value) -> Result<&mut Map<String, Value>> {
    let inner = if schema.get("items").is_some() { &mut schema["items"] } else { schema };
    inner.get_mut("properties").and_then(Value::as_object_mut).context("not an object")
}

/// Adds a row of a table: `` a.b` | type | default | meaning |``.
fn option(root: &mut Value, row: &str) -> Result<()> {
    let cells: Vec<_> = row.split(" | ").collect();
    let [key, kind, default, meaning @ ..] = &cells[..] else { bail!("a row has four cells") };
    let key = key.strip_suffix('`').context("an option is code")?;
    let meaning = meaning.join(" | ");
    let meaning = meaning.trim_end_matches('|').trim().replace("\\|", "|");
    let mut path: Vec<_> = key.split('.').collect();
    let last = path.pop().context("an option has a name")?;
    let mut at = root;
    for part in path {
        // `NAME` is any name: of a module, or of a value.
        if part == "NAME" {
            let any = &mut at["additionalProperties"];
            if !any.is_object() {
                *any = object("");
            }
            at = any;
            continue;
        }
        let name = part.trim_end_matches("[]");
        let all = properties(at)?;
        at = all.entry(name).or_insert_with(|| {
            if part.ends_with("[]") {
                json!({ "type": "array", "items": object("") })
            } else {
                object("")
            }
        });
    }
    let mut schema = of_kind(kind)?;
    let entries = schema.as_object_mut().context("a type is an object")?;
    entries.insert("description".into(), meaning.into());
    match *default {
        "required" => {
            let inner = if at.get("items").is_some() { &mut at["items"] } else { &mut *at };
            let required = &mut inner["required"];
            if required.is_null() {
                *required = json!([]);
            }
            required.as_array_mut().context("a list")?.push(last.into());
        }
        other => {
            if let Some(default) = default_of(other, &schema) {
                let entries = schema.as_object_mut().context("a type is an object")?;
                entries.insert("default".into(), default);
            }
        }
    }
    properties(at)?.insert(last.into(), schema);
    Ok(())
}

/// Returns the schema of a type, without its unit.
fn of_kind(kind: &str) -> Result<Value> {
    let kind = kind.split(", ").next().unwrap_or_default();
    if kind.starts_with('`') {
        let words: Vec<_> = kind.split(" or ").map(|word| word.trim_matches('`')).collect();
        return Ok(json!({ "enum": words }));
    }
    let one = |name: &str| match name.trim_end_matches('s') {
        "boolean" => Ok(json!({ "type": "boolean" })),
        "integer" => Ok(json!({ "type": "integer" })),
        "number" => Ok(json!({ "type": "number" })),
        "string" | "path" => Ok(json!({ "type": "string" })),
        _ => bail!("unknown type {name:?}"),
    };
    if let Some(inner) = kind.strip_prefix("list of ") {
        return Ok(json!({ "type": "array", "items": one(inner)? }));
    }
    if kind == "table of lists" {
        let list = json!({ "type": "array", "items": { "type": "string" } });
        return Ok(json!({ "type": "object", "additionalProperties": list }));
    }
    if let Some(inner) = kind.strip_prefix("table of ") {
        return Ok(json!({ "type": "object", "additionalProperties": one(inner)? }));
    }
    one(kind)
}

/// Returns a default that can be written in the file.
fn default_of(text: &str, schema: &Value) -> Option<Value> {
    let text = text.trim_matches('`');
    match schema.get("type").and_then(Value::as_str) {
        Some("integer") => text.parse::<i64>().ok().map(Value::from),
        Some("number") => text.parse::<f64>().ok().map(Value::from),
        Some("boolean") => text.parse::<bool>().ok().map(Value::from),
        Some("string") | None if text != "none" && !text.starts_with('[') => Some(text.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_nested_objects() {
        let tables = "## `[cse]`\n\nThis CSE.\n\n| option | type | default | meaning |\n|---|---|---|---|\n\
            | `cse.cse-id` | string | required | CSE-ID. |\n| `cse.quota.bytes` | integer, bytes | 7 | Size. |\n\
            | `cse.kind` | `IN-CSE` or `MN-CSE` | `MN-CSE` | Type. |\n\n## `[[peer]]`\n\nOther CSEs.\n\n\
            | `peer.address` | string | required | Address. |\n| `modules.config.NAME.values` | table of strings | none | By name. |\n";
        let tables = tables.replace("## `[[peer]]`", "## `[modules]`\n\nModules.\n\n## `[[peer]]`");
        let schema: Value = serde_json::from_str(&of("t", &tables).unwrap()).unwrap();
        let properties = &schema["properties"];
        assert_eq!(properties["cse"]["required"], json!(["cse-id"]));
        assert_eq!(properties["cse"]["properties"]["quota"]["properties"]["bytes"]["default"], 7);
        assert_eq!(properties["cse"]["properties"]["kind"]["default"], "MN-CSE");
        assert_eq!(properties["peer"]["items"]["required"], json!(["address"]));
        let any = &properties["modules"]["properties"]["config"]["additionalProperties"];
        assert_eq!(any["properties"]["values"]["additionalProperties"]["type"], "string");
    }
}
