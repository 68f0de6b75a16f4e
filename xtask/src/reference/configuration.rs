//! Tables of options: names, types, defaults and meanings of the fields that serde reads.

use std::path::Path;

use anyhow::{Context, Result, bail};
use syn::{BinOp, Expr, Lit, Type};

use super::source::{Sources, arguments, fields, kebab, named, number, serde, text};

/// Defaults whose values have their own types. A name that starts with a dot is the end of an
/// option's name.
const DEFAULTS: [(&str, &str); 6] = [
    ("maf.base", "`maf`"),
    ("maf-peer.base", "`maf`"),
    ("listen.address", "`127.0.0.1:8443`"),
    (".suites", "[see below](#cipher-suites)"),
    (".ae-id-taken-rsc", "4117"),
    ("order", "last"),
];

/// Pages that explain a table or an option.
const SEE: [(&str, &str); 9] = [
    ("artifacts", "[Use a registry](../how-to/registry.md)"),
    ("upstream", "[Put it in front of another CSE](../how-to/in-front-of-acme.md)"),
    ("peer", "[Register with an IN-CSE](../how-to/register-with-in-cse.md)"),
    ("maf-peer", "[Run a MAF](../how-to/run-a-maf.md)"),
    ("audit", "[Read the audit trail](../how-to/audit-trail.md)"),
    ("decisions", "[Record and replay decisions](../how-to/record-and-replay.md)"),
    ("metrics", "[Metrics and health](metrics.md)"),
    ("modules.reuse", "[Reused instances](module-capabilities.md#reused-instances)"),
    ("modules.require-signature.keys", "[Sign modules](../how-to/sign-modules.md)"),
];

/// Returns a section for each table of a file, with all of its options.
pub fn tables(sources: &Sources, file: &str, name: &str) -> Result<String> {
    let (file, item) = find(sources, sources.file(file)?, name)?;
    let mut sections = String::new();
    let mut first = String::new();
    for (field, of) in fields(item).filter(|(_, field)| serde(&field.attrs, "skip").is_none()) {
        if !is_table(sources, file, of) {
            add_option(sources, file, item, (&field, of), "", &mut first)?;
        }
    }
    if !first.is_empty() {
        sections += &format!("## Before all tables\n\n{HEADER}{first}\n");
    }
    for (field, of) in fields(item).filter(|(_, field)| serde(&field.attrs, "skip").is_none()) {
        if !is_table(sources, file, of) {
            continue;
        }
        let key = kebab(&field);
        let (form, inner) = form(&of.ty);
        let name = named(inner).context("a table has no type")?;
        let (mark, end) = if form == Form::List { ("[[", "]]") } else { ("[", "]") };
        let rows = table(sources, &file.display().to_string(), &name, &key)?;
        sections += &format!("## `{mark}{key}{end}`\n\n{}\n\n{rows}\n", explained(&key, &of.attrs));
    }
    Ok(sections)
}

/// Header of a table of options.
const HEADER: &str = "| option | type | default | meaning |\n|---|---|---|---|\n";

/// Returns whether an option is a table, whose struct serde reads.
fn is_table(sources: &Sources, file: &Path, of: &syn::Field) -> bool {
    let name = named(form(&of.ty).1).unwrap_or_default();
    sources.structure(file, &name).is_some_and(|(_, item)| reads(&item.attrs))
}

/// Returns the options of one table.
pub fn table(sources: &Sources, file: &str, name: &str, prefix: &str) -> Result<String> {
    let (file, _) = find(sources, sources.file(file)?, name)?;
    let mut rows = String::from(HEADER);
    add(sources, file, name, prefix, &mut rows)?;
    Ok(rows)
}

/// Finds the struct that serde reads for one of this name.
fn find<'a>(
    sources: &'a Sources,
    file: &'a Path,
    name: &str,
) -> Result<(&'a Path, &'a syn::ItemStruct)> {
    let found = sources.structure(file, name);
    let (file, item) = found.with_context(|| format!("no struct {name} for {}", file.display()))?;
    match serde(&item.attrs, "from").flatten() {
        Some(read) => find(sources, file, &read),
        None => Ok((file, item)),
    }
}

#[derive(PartialEq)]
enum Form {
    One,
    Optional,
    List,
    Map,
}

fn add(sources: &Sources, file: &Path, name: &str, prefix: &str, rows: &mut String) -> Result<()> {
    let (file, item) = find(sources, file, name)?;
    for (field, of) in fields(item).filter(|(_, field)| serde(&field.attrs, "skip").is_none()) {
        let renamed = serde(&of.attrs, "rename").flatten();
        let key = renamed.unwrap_or_else(|| kebab(&field));
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let (form, inner) = form(&of.ty);
        let type_name = named(inner).unwrap_or_default();
        if sources.structure(file, &type_name).is_some_and(|(_, item)| reads(&item.attrs)) {
            let key = match form {
                Form::Map => format!("{key}.NAME"),
                Form::List => format!("{key}[]"),
                Form::One | Form::Optional => key,
            };
            add(sources, file, &type_name, &key, rows)?;
            continue;
        }
        add_option(sources, file, item, (&field, of), prefix, rows)?;
    }
    Ok(())
}

/// Adds the row of one option.
fn add_option(
    sources: &Sources,
    file: &Path,
    item: &syn::ItemStruct,
    (field, of): (&str, &syn::Field),
    prefix: &str,
    rows: &mut String,
) -> Result<()> {
    let renamed = serde(&of.attrs, "rename").flatten();
    let key = renamed.unwrap_or_else(|| kebab(field));
    let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
    let (form, inner) = form(&of.ty);
    let default = default(sources, file, item, field, of, &key)
        .with_context(|| format!("the default of {key}"))?;
    let unit = ["milliseconds", "seconds", "bytes"].into_iter().find(|unit| key.ends_with(unit));
    let kind =
        kind(sources, file, inner, &form) + &unit.map_or(String::new(), |u| format!(", {u}"));
    let meaning = explained(&key, &of.attrs).replace('|', "\\|");
    rows.push_str(&format!("| `{key}` | {kind} | {default} | {meaning} |\n"));
    Ok(())
}

/// Returns what a field means, with the page that explains it.
fn explained(key: &str, attributes: &[syn::Attribute]) -> String {
    let see = SEE.iter().find(|(name, _)| *name == key);
    text(attributes) + &see.map_or(String::new(), |(_, link)| format!(" See {link}."))
}

/// Returns whether serde reads the type field by field.
fn reads(attributes: &[syn::Attribute]) -> bool {
    let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    let mut paths = derives.filter_map(|attribute| {
        attribute
            .parse_args_with(
                syn::punctuated::Punctuated::<syn::Path, syn::Token![,]>::parse_terminated,
            )
            .ok()
    });
    paths.any(|paths| {
        paths
            .iter()
            .any(|path| path.segments.last().is_some_and(|last| last.ident == "Deserialize"))
    })
}

/// Divides a type into its form and the type inside.
fn form(ty: &Type) -> (Form, &Type) {
    let inner = arguments(ty);
    match (named(ty).as_deref(), &inner[..]) {
        (Some("Option"), [inner]) => match form(inner) {
            (Form::One, inner) => (Form::Optional, inner),
            other => other,
        },
        (Some("Arc"), [inner]) => form(inner),
        (Some("Vec"), [inner]) => (Form::List, inner),
        (Some("BTreeMap"), [_, inner]) => (Form::Map, inner),
        _ => (Form::One, ty),
    }
}

fn kind(sources: &Sources, file: &Path, ty: &Type, form: &Form) -> String {
    let name = named(ty).unwrap_or_default();
    let plain = match name.as_str() {
        "bool" => "boolean".into(),
        "f64" => "number".into(),
        "u16" | "u32" | "u64" | "usize" | "NonZeroU32" | "Rsc" => "integer".into(),
        "PathBuf" => "path".into(),
        "Vec" => return "table of lists".into(),
        _ => match sources.enumeration(file, &name) {
            Some(item) if *form != Form::List && reads(&item.attrs) => {
                let variants = item.variants.iter().map(|variant| {
                    let renamed = serde(&variant.attrs, "rename").flatten();
                    renamed.unwrap_or_else(|| kebab(&variant.ident.to_string()))
                });
                variants.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
            }
            _ => "string".to_string(),
        },
    };
    match form {
        Form::One | Form::Optional => plain,
        Form::List => format!("list of {plain}s"),
        Form::Map => format!("table of {plain}s"),
    }
}

fn default(
    sources: &Sources,
    file: &Path,
    item: &syn::ItemStruct,
    field: &str,
    of: &syn::Field,
    key: &str,
) -> Result<String> {
    if let Some((_, text)) = DEFAULTS
        .iter()
        .find(|(name, _)| *name == key || name.starts_with('.') && key.ends_with(name))
    {
        return Ok((*text).into());
    }
    let (form, ty) = form(&of.ty);
    let of_type = || {
        let item = sources.enumeration(file, &named(ty)?)?;
        let is_default = |attribute: &syn::Attribute| attribute.path().is_ident("default");
        let variant = item.variants.iter().find(|variant| variant.attrs.iter().any(is_default))?;
        let renamed = serde(&variant.attrs, "rename").flatten();
        Some(format!("`{}`", renamed.unwrap_or_else(|| kebab(&variant.ident.to_string()))))
    };
    let of_form = || match form {
        Form::One if named(ty).as_deref() == Some("bool") => Some("`false`".into()),
        Form::One if named(ty).as_deref() == Some("u64") => Some("0".into()),
        Form::One => of_type(),
        _ => Some("none".to_string()),
    };
    match serde(&of.attrs, "default") {
        Some(Some(function)) => {
            let body = sources.function(file, &function).context("its function is missing")?;
            value(sources, body)
        }
        Some(None) => of_form().context("its type has no default"),
        None if serde(&item.attrs, "default").is_some() => {
            match sources.default_of(file, &item.ident.to_string(), field) {
                // `X::default()` of an enum.
                Some(Expr::Call(_)) if of_type().is_some() => of_form().context("checked above"),
                Some(expr) => value(sources, expr),
                None => of_form().context("its type has no default"),
            }
        }
        None if form == Form::Optional => Ok("none".into()),
        None => Ok("required".into()),
    }
}

/// Returns an expression as a user would write it.
fn value(sources: &Sources, expr: &Expr) -> Result<String> {
    Ok(match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => format!("`{}`", text.value()),
            Lit::Bool(value) => format!("`{}`", value.value),
            Lit::Float(value) => value.base10_digits().into(),
            _ => number(literal)?.to_string(),
        },
        Expr::Binary(binary) => {
            let left: i128 = value(sources, &binary.left)?.parse()?;
            let right: i128 = value(sources, &binary.right)?.parse()?;
            let result = match binary.op {
                BinOp::Shl(_) => left << right,
                BinOp::Mul(_) => left * right,
                BinOp::Add(_) => left + right,
                _ => bail!("an operator that is not known"),
            };
            result.to_string()
        }
        Expr::MethodCall(call) if call.method == "into" => value(sources, &call.receiver)?,
        Expr::Paren(inner) => value(sources, &inner.expr)?,
        Expr::Path(path) if path.path.is_ident("None") => "none".into(),
        // A field of the bounds of a sandbox.
        Expr::Field(access) => {
            let syn::Member::Named(field) = &access.member else { bail!("a field without a name") };
            let limits = sources.file("sandbox/limits.rs")?;
            let expr = sources.default_of(limits, "Limits", &field.to_string());
            value(sources, expr.context("the sandbox has no such bound")?)?
        }
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else { bail!("a call that is not known") };
            let names: Vec<_> =
                function.path.segments.iter().map(|s| s.ident.to_string()).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            match (&names[..], call.args.first()) {
                (["Vec" | "BTreeMap", "new"], None) => "none".into(),
                (["milliseconds"] | ["Duration", "from_millis"], Some(argument)) => {
                    value(sources, argument)?
                }
                (["Duration", "from_secs"], Some(argument)) => {
                    (value(sources, argument)?.parse::<i128>()? * 1000).to_string()
                }
                _ => bail!("a call of {names:?}"),
            }
        }
        _ => bail!("an expression that is not known"),
    })
}
