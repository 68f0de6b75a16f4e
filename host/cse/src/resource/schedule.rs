//! `<schedule>`: the times at which a subscription may notify (TS-0004 clause 7.4.9).

use saegis_onem2m::schedule::ScheduleEntry;
use serde_json::Value;

use crate::record::Attributes;
use crate::resource::schema::AttributeError;

/// Attribute with the entries (`scheduleElement`).
const ELEMENT: &str = "se";

/// Maximum number of entries.
const MAX_ENTRIES: usize = 8;

/// Returns the entries of a schedule.
///
/// # Errors
/// Returns an error if the attribute is invalid.
pub(crate) fn entries(attributes: &Attributes) -> Result<Vec<ScheduleEntry>, AttributeError> {
    let wrong = |why: &str| AttributeError::value(ELEMENT, why);
    let members = attributes.get(ELEMENT).and_then(Value::as_object);
    let list = match members.map(|members| (members.len(), members.get("sce"))) {
        Some((1, Some(Value::Array(list)))) => list,
        _ => return Err(wrong("must be an object with a list of entries, sce")),
    };
    if !(1..=MAX_ENTRIES).contains(&list.len()) {
        return Err(wrong("must have 1 to 8 entries in sce"));
    }
    list.iter()
        .map(|entry| {
            let text = entry.as_str().ok_or_else(|| wrong("must have texts in sce"))?;
            ScheduleEntry::parse(text).map_err(|why| wrong(&format!("has an entry that {why}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_are_checked() {
        let read = |se: Value| entries(json!({ "se": se }).as_object().unwrap());
        assert_eq!(read(json!({"sce": ["* * 8-20 * * * *", "* * * * * 0 *"]})).unwrap().len(), 2);
        for bad in [
            json!(null),
            json!([]),
            json!("* * * * * * *"),
            json!({"sce": []}),
            json!({"sce": "* * * * * * *"}),
            json!({"sce": [1]}),
            json!({"sce": ["* * * * * *"]}),
            json!({"sce": ["* * 24 * * * *"]}),
            json!({"sce": ["* * * * * * *"], "x": 1}),
            json!({"sce": vec!["* * * * * * *"; MAX_ENTRIES + 1]}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
