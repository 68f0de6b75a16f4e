//! Types of the gateway's crates, parsed from their sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use syn::{
    Attribute, Expr, ExprLit, Field, Item, ItemEnum, ItemStruct, Lit, Meta, punctuated::Punctuated,
};

/// Folders and files of the sources.
const READ: [&str; 7] = [
    "host/gateway/src/config",
    "host/gateway/src/telemetry/metrics.rs",
    "host/onem2m/src/cse.rs",
    "host/client/src/credential.rs",
    "host/policy/src/module/manifest.rs",
    "host/policy/src/sandbox/limits.rs",
    "host/policy/src/module/capability.rs",
];

/// Parsed files, each with its path.
pub struct Sources(Vec<(PathBuf, syn::File)>);

impl Sources {
    /// Reads the sources.
    pub fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for name in READ {
            let path = root.join(name);
            if path.is_dir() {
                for entry in fs::read_dir(path)? {
                    files.push(entry?.path());
                }
            } else {
                files.push(path);
            }
        }
        files.sort();
        let parse = |path: PathBuf| {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let file = syn::parse_file(&text).with_context(|| path.display().to_string())?;
            Ok((path, file))
        };
        Ok(Self(files.into_iter().map(parse).collect::<Result<_>>()?))
    }

    /// Returns the file that ends in this path.
    pub fn file(&self, end: &str) -> Result<&Path> {
        let found = self.0.iter().find(|(path, _)| path.ends_with(end));
        found.map(|(path, _)| &**path).with_context(|| format!("{end} is not read"))
    }

    /// Returns the items of a file, and after them those of all others.
    fn items<'a>(&'a self, file: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Item)> {
        let own = self.0.iter().filter(move |(path, _)| path == file);
        let others = self.0.iter().filter(move |(path, _)| path != file);
        own.chain(others)
            .flat_map(|(path, file)| file.items.iter().map(move |item| (&**path, item)))
    }

    /// Finds a struct by the name that a file has for it.
    pub fn structure<'a>(
        &'a self,
        file: &'a Path,
        name: &str,
    ) -> Option<(&'a Path, &'a ItemStruct)> {
        self.items(file).find_map(|(path, item)| match item {
            Item::Struct(item) if item.ident == name => Some((path, item)),
            _ => None,
        })
    }

    /// Finds an enum by the name that a file has for it.
    pub fn enumeration<'a>(&'a self, file: &'a Path, name: &str) -> Option<&'a ItemEnum> {
        self.items(file).find_map(|(_, item)| match item {
            Item::Enum(item) if item.ident == name => Some(item),
            _ => None,
        })
    }

    /// Returns the last expression of a function of a file.
    pub fn function<'a>(&'a self, file: &'a Path, name: &str) -> Option<&'a Expr> {
        self.items(file).find_map(|(_, item)| match item {
            Item::Fn(item) if item.sig.ident == name => last(&item.block),
            _ => None,
        })
    }

    /// Returns an expression of `impl Default` for a type: that of a field.
    pub fn default_of<'a>(&'a self, file: &'a Path, name: &str, field: &str) -> Option<&'a Expr> {
        let implementation = self.items(file).find_map(|(_, item)| match item {
            Item::Impl(item) if named(&item.self_ty).as_deref() == Some(name) => {
                let (_, of, _) = item.trait_.as_ref()?;
                of.is_ident("Default").then_some(item)
            }
            _ => None,
        })?;
        let function = implementation.items.iter().find_map(|item| match item {
            syn::ImplItem::Fn(item) => last(&item.block),
            _ => None,
        })?;
        let Expr::Struct(literal) = function else { return None };
        let found = literal.fields.iter().find(|value| match &value.member {
            syn::Member::Named(member) => member == field,
            syn::Member::Unnamed(_) => false,
        });
        found.map(|value| &value.expr)
    }

    /// Returns the methods of a file.
    pub fn functions<'a>(&'a self, file: &'a Path) -> impl Iterator<Item = &'a syn::ImplItemFn> {
        let items = self.0.iter().filter(move |(path, _)| path == file).flat_map(|(_, f)| &f.items);
        items
            .filter_map(|item| if let Item::Impl(item) = item { Some(item) } else { None })
            .flat_map(|item| {
                item.items.iter().filter_map(|item| match item {
                    syn::ImplItem::Fn(item) => Some(item),
                    _ => None,
                })
            })
    }
}

fn last(block: &syn::Block) -> Option<&Expr> {
    match block.stmts.last()? {
        syn::Stmt::Expr(expr, _) => Some(expr),
        _ => None,
    }
}

/// Returns the last name of a type's path.
pub fn named(ty: &syn::Type) -> Option<String> {
    let syn::Type::Path(path) = ty else { return None };
    Some(path.path.segments.last()?.ident.to_string())
}

/// Returns the arguments of a generic type.
pub fn arguments(ty: &syn::Type) -> Vec<&syn::Type> {
    let syn::Type::Path(path) = ty else { return Vec::new() };
    let Some(segment) = path.path.segments.last() else { return Vec::new() };
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        syn::GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// Returns a documentation comment as one line.
pub fn text(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => literal(&pair.value),
        _ => None,
    });
    lines
        .map(|line| line.trim().to_string())
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns the text of a literal.
pub fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// Returns an option of an attribute `serde(…)`: nothing, or its value if it has one.
pub fn serde(attributes: &[Attribute], option: &str) -> Option<Option<String>> {
    let of_serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let all = of_serde.filter_map(|attribute| {
        attribute.parse_args_with(Punctuated::<Meta, syn::Token![,]>::parse_terminated).ok()
    });
    all.flatten().find(|meta| meta.path().is_ident(option)).map(|meta| match meta {
        Meta::NameValue(pair) => literal(&pair.value),
        _ => None,
    })
}

/// Returns the named fields of a struct.
pub fn fields(item: &ItemStruct) -> impl Iterator<Item = (String, &Field)> {
    item.fields.iter().filter_map(|field| Some((field.ident.as_ref()?.to_string(), field)))
}

/// Returns a name in the form of the files.
pub fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.extend(c.to_lowercase().map(|c| if c == '_' { '-' } else { c }));
    }
    kebab
}

/// Returns the text of a number with a unit suffix or underscores.
pub fn number(expr: &ExprLit) -> Result<i128> {
    match &expr.lit {
        Lit::Int(int) => Ok(int.base10_parse()?),
        _ => bail!("not an integer"),
    }
}
