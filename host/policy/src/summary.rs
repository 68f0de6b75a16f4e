//! Content of a generation, as text.

use saegis_onem2m::timestamp;

use crate::Generation;

/// Returns the content of a generation, one line per item.
#[must_use]
pub fn policy(generation: &Generation) -> Vec<String> {
    let mut lines = vec![format!("  generation  {}", generation.number)];
    for module in generation.modules() {
        let hooks = join(module.hooks.iter().map(|h| h.name()));
        let capabilities = match module.capabilities.as_slice() {
            [] => "no capabilities".into(),
            some => format!("may use {}", join(some.iter().map(|c| c.name()))),
        };
        let signed = module.signed.map(|s| format!("; signed by {}", s.by)).unwrap_or_default();
        let from = module.source.map(|from| format!("; from {from}")).unwrap_or_default();
        lines.push(format!("  module      {}: {hooks}; {capabilities}{signed}{from}", module.name));
    }
    for shadow in generation.shadows() {
        let replaces = shadow.replaces.map(|name| format!(" of {name}")).unwrap_or_default();
        let what = match shadow.faults.first() {
            Some(fault) => format!("not loaded: {fault}"),
            None => join(shadow.hooks.iter().map(|h| h.name())),
        };
        lines.push(format!("  shadow      {}{replaces}: {what}", shadow.name));
    }
    for name in generation.replaced() {
        lines.push(format!("  kept        {name}"));
    }
    for table in generation.tables() {
        let unread = if table.read_by.is_empty() { "; no module reads it" } else { "" };
        lines.push(format!("  table       {}: {}{unread}", table.name, rows(table.rows)));
    }
    if let Some(certificates) = generation.certificates() {
        for own in &certificates.own {
            let until = timestamp::format(own.not_after());
            lines.push(format!("  certificate {own}, until {until}"));
        }
        let trust = &certificates.trust;
        let (anchors, keys) = (trust.anchors().len(), trust.pinned_keys());
        lines.push(format!("  trust       {anchors} anchors, {keys} pinned keys"));
    }
    if let Some(rules) = generation.rules() {
        lines.push(format!("  rules       {rules} of the service subscription for this CSE"));
    }
    if let Some(roles) = generation.roles() {
        lines.push(format!("  roles       {roles} with their holders"));
    }
    if let Some((issuers, revoked)) = generation.token_issuers() {
        lines.push(format!("  tokens      {issuers} issuers, {revoked} revoked tokens"));
    }
    lines
}

/// Returns the content of a generation in one line.
#[must_use]
pub fn contents(generation: &Generation) -> String {
    let modules = join(generation.modules().iter().map(|m| m.name.as_str()));
    let tables = generation.tables();
    let tables = tables.iter().map(|t| format!("{} ({})", t.name, rows(t.rows)));
    let tables: Vec<_> = tables.collect();
    format!("modules {modules}; tables {}", join(tables.iter().map(String::as_str)))
}

/// Formats a number of rows.
#[must_use]
pub fn rows(count: usize) -> String {
    if count == 1 { "1 row".into() } else { format!("{count} rows") }
}

fn join<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = items.collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}
