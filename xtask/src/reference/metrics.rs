//! The table of registered metrics.

use anyhow::{Context, Result};
use syn::{
    Expr, ExprMethodCall, Type,
    visit::{self, Visit},
};

use super::source::{Sources, arguments, fields, literal, named};

/// Returns the table of metrics: name, type, labels, help.
pub fn table(sources: &Sources) -> Result<String> {
    let file = sources.file("telemetry/metrics.rs")?;
    let mut calls = Calls(Vec::new());
    sources.functions(file).for_each(|function| calls.visit_impl_item_fn(function));
    let mut rows = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for call in &calls.0 {
        let mut arguments = call.args.iter();
        let name = arguments.next().and_then(literal).context("a metric without a name")?;
        let help = arguments.next().and_then(literal).context("a metric without a help text")?;
        let unit = if call.method == "register_with_unit" { "_seconds" } else { "" };
        let metric = call.args.last().and_then(|expr| field(sources, file, expr));
        let (kind, labels) = metric.unwrap_or(("info".into(), vec!["version".into()]));
        let end = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        rows += &format!("| `saegis_{name}{unit}{end}` | {kind} | {labels} | {help} |\n");
    }
    Ok(rows)
}

/// Returns the type of a metric that a field holds, and its labels.
fn field(sources: &Sources, file: &std::path::Path, expr: &Expr) -> Option<(String, Vec<String>)> {
    let Expr::MethodCall(clone) = expr else { return None };
    let Expr::Field(access) = &*clone.receiver else { return None };
    let syn::Member::Named(name) = &access.member else { return None };
    let structs = ["Metrics", "Calls"].into_iter().filter_map(|name| sources.structure(file, name));
    let ty = structs.flat_map(|(_, item)| fields(item)).find(|(field, _)| name == field)?.1;
    let inner: Vec<&Type> = arguments(&ty.ty);
    let [labels, metric, ..] = &inner[..] else {
        return Some((named(&ty.ty)?.to_lowercase(), Vec::new()));
    };
    let (_, labels) = sources.structure(file, &named(labels)?)?;
    Some((named(metric)?.to_lowercase(), fields(labels).map(|(name, _)| name).collect()))
}

struct Calls<'a>(Vec<&'a ExprMethodCall>);

impl<'a> Visit<'a> for Calls<'a> {
    fn visit_expr_method_call(&mut self, call: &'a ExprMethodCall) {
        let registers = call.method == "register" || call.method == "register_with_unit";
        if registers && !call.args.is_empty() {
            self.0.push(call);
        }
        visit::visit_expr_method_call(self, call);
    }
}
