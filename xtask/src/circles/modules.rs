//! The modules of a crate, their imports, and the modules that define the imported names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::tokens::{Token, tokens};

/// A module: a file or an inline block.
#[derive(Default)]
struct Module {
    file: PathBuf,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    imports: Vec<Import>,
    /// Paths outside of `use`, such as `super::name()`.
    paths: Vec<Vec<String>>,
    /// Names that the module defines.
    items: BTreeSet<String>,
    /// Number of occurrences of each word outside of `use`.
    words: BTreeMap<String, usize>,
}

/// A name imported by `use`.
struct Import {
    path: Vec<String>,
    /// The local name, or `*` for a glob import.
    name: String,
    /// Whether other modules can import it from here.
    public: bool,
}

/// The modules of a crate without tests.
pub struct Crate {
    modules: Vec<Module>,
}

/// Imports among the files of a crate: for each file, the imported files with the imported names.
pub type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// Maximum length of a chain of `pub use`.
const MAX_HOPS: usize = 16;

impl Crate {
    /// Reads a crate from its root file.
    pub fn read(root: &Path) -> Result<Self> {
        let mut read = Self { modules: Vec::new() };
        let folder = root.parent().context("a file is in a folder")?;
        read.file(root, folder, None)?;
        Ok(read)
    }

    /// Reads the file of a module. Its children are in `folder`.
    fn file(&mut self, file: &Path, folder: &Path, parent: Option<usize>) -> Result<usize> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let module = self.modules.len();
        self.modules.push(Module { file: file.into(), parent, ..Module::default() });
        let tokens = tokens(&text);
        self.body(&tokens, module, folder)?;
        Ok(module)
    }

    /// Reads the content of a module.
    fn body(&mut self, tokens: &[Token], module: usize, folder: &Path) -> Result<()> {
        let (mut at, mut public) = (0, false);
        while at < tokens.len() {
            let next = tokens.get(at + 1);
            match &tokens[at] {
                Token::Mark('#') => {
                    let end = end_of_attribute(tokens, at);
                    let attribute = &tokens[at..end];
                    // A module with a `path` attribute has its file outside of the crate, or is a
                    // test.
                    let skipped =
                        is_for_tests(attribute) || attribute.iter().any(|token| token.is("path"));
                    at = if skipped { end_of_item(tokens, end) } else { end };
                    continue;
                }
                Token::Word(word) if word == "pub" => {
                    public = true;
                    at += 1;
                    // pub(crate)
                    if tokens.get(at) == Some(&Token::Mark('(')) {
                        at = end_of_group(tokens, at);
                    }
                    continue;
                }
                Token::Word(word) if word == "mod" => {
                    if let (Some(Token::Word(name)), Some(after)) = (next, tokens.get(at + 2)) {
                        at = self.child(tokens, at + 2, after, name, module, folder)?;
                        public = false;
                        continue;
                    }
                }
                Token::Word(word) if word == "use" => {
                    let end = end_of_item(tokens, at);
                    self.tree(&tokens[at + 1..end - 1], &[], module, public);
                    (at, public) = (end, false);
                    continue;
                }
                Token::Word(word) => {
                    if DEFINING.contains(&word.as_str())
                        && let Some(Token::Word(name)) = next
                    {
                        self.modules[module].items.insert(name.clone());
                    }
                    let path = path(&tokens[at..]);
                    let own = &mut self.modules[module];
                    for word in &path {
                        *own.words.entry(word.clone()).or_default() += 1;
                    }
                    at += path.len() * 2 - 1;
                    if path.len() > 1 {
                        own.paths.push(path);
                    }
                    public = false;
                    continue;
                }
                _ => {}
            }
            public = false;
            at += 1;
        }
        Ok(())
    }

    /// Reads a module declaration. Returns the end of the declaration.
    fn child(
        &mut self,
        tokens: &[Token],
        at: usize,
        after: &Token,
        name: &str,
        parent: usize,
        folder: &Path,
    ) -> Result<usize> {
        let inner = folder.join(name);
        match after {
            Token::Mark(';') => {
                let candidates = [folder.join(format!("{name}.rs")), inner.join("mod.rs")];
                let Some(file) = candidates.iter().find(|file| file.is_file()) else {
                    bail!("missing file of the module {}", inner.display());
                };
                let child = self.file(file, &inner, Some(parent))?;
                self.modules[parent].children.insert(name.into(), child);
                Ok(at + 1)
            }
            Token::Mark('{') => {
                let end = end_of_group(tokens, at);
                let child = self.modules.len();
                let file = self.modules[parent].file.clone();
                self.modules.push(Module { file, parent: Some(parent), ..Module::default() });
                self.modules[parent].children.insert(name.into(), child);
                self.body(&tokens[at + 1..end - 1], child, &inner)?;
                Ok(end)
            }
            _ => Ok(at),
        }
    }

    /// Reads a tree of imports, such as `super::{a, b::{self, C as D}}`.
    fn tree(&mut self, tokens: &[Token], before: &[String], module: usize, public: bool) {
        let mut path = before.to_vec();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                Token::Word(word) if word == "as" => {
                    let name = tokens.get(at + 1);
                    if let Some(Token::Word(name)) = name {
                        self.import(path, name.clone(), module, public);
                    }
                    return;
                }
                Token::Word(word) => path.push(word.clone()),
                Token::Mark('*') => return self.import(path, "*".into(), module, public),
                Token::Mark('{') => {
                    let end = end_of_group(tokens, at);
                    for part in parts(&tokens[at + 1..end - 1]) {
                        self.tree(part, &path, module, public);
                    }
                    return;
                }
                _ => {}
            }
            at += 1;
        }
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        if let Some(name) = path.last().cloned() {
            self.import(path, name, module, public);
        }
    }

    fn import(&mut self, path: Vec<String>, name: String, module: usize, public: bool) {
        self.modules[module].imports.push(Import { path, name, public });
    }

    /// Finds the module that defines a path as seen from a module. `None` means another crate.
    fn resolve(&self, module: usize, path: &[String], hops: usize) -> Option<usize> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => 0,
            "self" => module,
            "super" => self.modules[module].parent?,
            name => return self.member(module, name, rest, hops, false),
        };
        while rest.first().is_some_and(|segment| segment == "super") {
            at = self.modules[at].parent?;
            rest = &rest[1..];
        }
        match rest.split_first() {
            None => Some(at),
            Some((name, rest)) => self.member(at, name, rest, hops, true),
        }
    }

    /// Resolves a name in a module. An unknown name belongs to the module itself if it must exist.
    fn member(
        &self,
        module: usize,
        name: &str,
        rest: &[String],
        hops: usize,
        must: bool,
    ) -> Option<usize> {
        let own = &self.modules[module];
        if hops > MAX_HOPS {
            return None;
        }
        if let Some(&child) = own.children.get(name) {
            return match rest.split_first() {
                None => Some(child),
                Some((name, rest)) => self.member(child, name, rest, hops, true),
            };
        }
        if own.items.contains(name) {
            return Some(module);
        }
        for import in own.imports.iter().filter(|import| import.name == name) {
            // `use rest;` of another crate names itself.
            if import.path.first().is_some_and(|first| first == name) {
                continue;
            }
            let path = [import.path.as_slice(), rest].concat();
            if let Some(found) = self.resolve(module, &path, hops + 1) {
                return Some(found);
            }
        }
        for import in own.imports.iter().filter(|import| import.name == "*") {
            let Some(other) = self.resolve(module, &import.path, hops + 1) else { continue };
            if other != module && self.has(other, name) {
                return self.member(other, name, rest, hops + 1, true);
            }
        }
        must.then_some(module)
    }

    fn has(&self, module: usize, name: &str) -> bool {
        let module = &self.modules[module];
        module.items.contains(name)
            || module.children.contains_key(name)
            || module.imports.iter().any(|import| import.name == name)
    }

    /// Lists the imports of each file. A `pub use` of an unused name does not count, because it is
    /// not a dependency.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (at, module) in self.modules.iter().enumerate() {
            let used = |import: &&Import| {
                !import.public || import.name == "*" || module.words.contains_key(&import.name)
            };
            let imported = module.imports.iter().filter(used).map(|import| &import.path);
            for path in imported.chain(&module.paths) {
                let Some(target) = self.resolve(at, path, 0) else { continue };
                let target = &self.modules[target].file;
                if *target != module.file {
                    let what = imports.entry(module.file.clone()).or_default();
                    what.entry(target.clone()).or_default().insert(path.join("::"));
                }
            }
        }
        imports
    }
}

/// Keywords before a name that a module defines.
const DEFINING: [&str; 9] =
    ["fn", "struct", "enum", "trait", "type", "const", "static", "union", "macro_rules"];

/// Returns the path at the start of some tokens, with at least one word.
fn path(tokens: &[Token]) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = 0;
    while let Some(Token::Word(word)) = tokens.get(at) {
        path.push(word.clone());
        if tokens.get(at + 1) != Some(&Token::PathSeparator) {
            break;
        }
        at += 2;
    }
    path
}

/// Splits at the commas outside of braces.
fn parts(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut found, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth = depth.saturating_sub(1),
            Token::Mark(',') if depth == 0 => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[start..]);
    found.retain(|part| !part.is_empty());
    found
}

/// Returns the end of the bracketed group that starts here, after the closing bracket.
fn end_of_group(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Returns the end of `#[…]` or `#![…]`.
fn end_of_attribute(tokens: &[Token], at: usize) -> usize {
    let open = tokens.iter().skip(at).take(3).position(|token| *token == Token::Mark('['));
    open.map_or(at + 1, |open| end_of_group(tokens, at + open))
}

/// Returns the end of the item that starts here: a semicolon or a block.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let is_use = tokens[at..].iter().take(6).any(|token| token.is("use"));
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Mark(';') => return at + 1,
            Token::Mark('{') if !is_use => return end_of_group(tokens, at),
            Token::Mark('(' | '[' | '{') => at = end_of_group(tokens, at),
            // The end of the enclosing item, such as a field's type.
            Token::Mark('}' | ',') => return at,
            _ => at += 1,
        }
    }
    tokens.len()
}

fn is_for_tests(attribute: &[Token]) -> bool {
    let has = |word| attribute.iter().any(|token| token.is(word));
    has("cfg") && has("test") && !has("not")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the imports of a crate with these files, as `from → to`.
    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let name = |path: &Path| path.strip_prefix(folder.path()).unwrap().display().to_string();
        let imports = Crate::read(&folder.path().join("lib.rs")).unwrap().imports();
        let pairs = imports.iter().flat_map(|(from, to)| to.keys().map(move |to| (from, to)));
        pairs.map(|(from, to)| format!("{} → {}", name(from), name(to))).collect()
    }

    #[test]
    fn import_resolves_to_defining_file() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b; pub use a::Thing;"),
            ("a.rs", "mod inner; pub use inner::Deep; pub struct Thing;"),
            ("a/inner.rs", "use std::fmt; pub struct Deep; // crate::b"),
            ("b.rs", "use crate::Thing; fn f() { crate::a::Deep; \"super::a\"; }"),
        ]);
        assert_eq!(found, ["b.rs → a/inner.rs", "b.rs → a.rs"]);
    }

    #[test]
    fn used_reexport_is_import() {
        let found = imports(&[
            ("lib.rs", "mod a; pub use a::{Thing, other as Other}; fn f(_: Thing) {}"),
            ("a.rs", "pub struct Thing; pub struct other;"),
        ]);
        assert_eq!(found, ["lib.rs → a.rs"]);
    }

    #[test]
    fn tests_do_not_count_and_blocks_belong_to_their_file() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod tests;"),
            ("a.rs", "mod block { use super::super::b::B; }\n#[cfg(test)] mod t { use crate::b; }"),
            (
                "b.rs",
                "pub struct B;\n#[cfg(test)]\nuse crate::a;\n#[cfg(test)] mod t { use super::*; }",
            ),
        ]);
        assert_eq!(found, ["a.rs → b.rs"]);
    }

    #[test]
    fn glob_import_resolves_to_module_items() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "pub use crate::b::*;"),
            ("b.rs", "pub fn run() {}"),
            ("c.rs", "fn f() { crate::a::run(); }"),
        ]);
        assert_eq!(found, ["a.rs → b.rs", "c.rs → b.rs"]);
    }
}
