//! Reads imports and exports of a module file, without compiling or running it.

use std::path::Path;

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::data::fault::Fault;
use crate::data::text::printable;
use crate::module::capability::Capability;
use crate::module::contract::PACKAGE;
use crate::module::contract::contract_interface;
use crate::module::hook::Hook;
use crate::module::manifest::{Manifest, load_manifest};

/// Kind of a module file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A component, which a gateway can load.
    Component,
    /// A core module with its contract in a custom section. It can be converted to a component.
    CoreWithContract,
    /// A core module that cannot be converted to a component.
    Core,
}

/// An import, and its requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its full name.
    pub name: String,
    /// The capability that it needs.
    pub needs: Needs,
}

/// Requirement of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// None: types of the contract.
    Nothing,
    /// A capability.
    Capability(Capability),
    /// None: the empty WASI, which every module may import.
    EmptyWasi,
    /// The import is not supported by any gateway.
    Unknown,
}

/// Description of a module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The kind of file.
    pub kind: Kind,
    /// The hooks that it exports.
    pub hooks: Vec<Hook>,
    /// Versions of the contract in its imports and exports; usually one.
    pub contract: Vec<String>,
    /// Its imports.
    pub imports: Vec<Import>,
    /// Initial size of its linear memories, in bytes.
    pub memory: u64,
    /// Reasons why a gateway of this version does not load it; empty if it does.
    pub contract_faults: Vec<String>,
}

/// Checks the first bytes of a WebAssembly file. The error of the parser would list them in Rust syntax.
pub(crate) fn check_magic(bytes: &[u8]) -> Result<(), &'static str> {
    match bytes {
        [] => Err("it is empty"),
        [b'\0', b'a', b's', b'm', ..] => Ok(()),
        _ => Err("it does not start with the magic number of WebAssembly"),
    }
}

/// Returns the fault of a module whose manifest does not request an imported capability.
pub(crate) fn missing_capability(module: &Path, name: &str, needed: Capability) -> String {
    if module.with_extension("toml").exists() {
        format!(
            "imports the capability {needed}, but its manifest {name}.toml does not request it; \
             add it there under `capabilities`"
        )
    } else {
        format!(
            "imports the capability {needed}, but has no manifest; add {name}.toml beside it, with \
             capabilities = [\"{needed}\"]"
        )
    }
}

/// Default page size of a linear memory, in bytes.
const PAGE: u64 = 65_536;

impl Description {
    /// Describes a file.
    ///
    /// # Errors
    /// Fails if the bytes are not WebAssembly.
    pub fn of(bytes: &[u8]) -> Result<Self, String> {
        check_magic(bytes).map_err(|why| format!("is not WebAssembly: {why}"))?;
        let invalid = |e: wasmparser::BinaryReaderError| {
            format!("is not WebAssembly: {}", printable(&e.to_string()))
        };
        // The default features of the engine, which include at least these.
        Validator::new_with_features(WasmFeatures::default())
            .validate_all(bytes)
            .map_err(invalid)?;
        let mut found = Self {
            kind: Kind::Core,
            hooks: Vec::new(),
            contract: Vec::new(),
            imports: Vec::new(),
            memory: 0,
            contract_faults: Vec::new(),
        };
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::Version { encoding, .. } => {
                    depth += 1;
                    if depth == 1 && encoding == Encoding::Component {
                        found.kind = Kind::Component;
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        let memory = memory.map_err(invalid)?;
                        let page = memory.page_size_log2.map_or(PAGE, |log2| 1 << log2.min(16));
                        let bytes = memory.initial.saturating_mul(page);
                        found.memory = found.memory.saturating_add(bytes);
                    }
                }
                Payload::CustomSection(section)
                    if depth == 1
                        && section.name().starts_with("component-type")
                        && found.kind == Kind::Core =>
                {
                    found.kind = Kind::CoreWithContract;
                }
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        found.add_import(import.map_err(invalid)?.name.name);
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        found.add_export(export.map_err(invalid)?.name.name);
                    }
                }
                _ => {}
            }
        }
        if found.kind == Kind::Component && found.hooks.is_empty() {
            let names = Hook::ALL.map(Hook::name).join(", ");
            found
                .contract_faults
                .push(format!("exports no hook of the contract; the hooks are: {names}"));
        }
        Ok(found)
    }

    /// Returns the imported capabilities that the manifest beside the module does not request, each
    /// with its fault; `None` without a manifest.
    ///
    /// # Errors
    /// Fails if the manifest is invalid.
    pub fn missing_capabilities(
        &self,
        module: &Path,
    ) -> Result<Option<Vec<(Capability, String)>>, Vec<Fault>> {
        let manifest = load_manifest(None, &module.with_extension("toml"), None)?;
        let Some((Manifest { capabilities: requested, .. }, _)) = manifest else {
            return Ok(None);
        };
        let name = module.file_stem().unwrap_or_default().to_string_lossy();
        let mut missing: Vec<(Capability, String)> = Vec::new();
        for import in &self.imports {
            if let Needs::Capability(needed) = import.needs
                && !requested.contains(&needed)
                && !missing.iter().any(|(listed, _)| *listed == needed)
            {
                missing.push((needed, missing_capability(module, &name, needed)));
            }
        }
        Ok(Some(missing))
    }

    fn add_import(&mut self, name: &str) {
        let needs = match self.of_contract(name) {
            Some("types") => Needs::Nothing,
            Some(interface) => {
                let found = Capability::from_name(interface).filter(|c| c.wasi().is_none());
                found.map_or(Needs::Unknown, Needs::Capability)
            }
            None if name.starts_with("wasi:") => {
                Capability::of_wasi(name).map_or(Needs::EmptyWasi, Needs::Capability)
            }
            None => Needs::Unknown,
        };
        if needs == Needs::Unknown && contract_interface(name).is_ok() {
            self.contract_faults
                .push(format!("imports {}, which no gateway supports", printable(name)));
        }
        self.imports.push(Import { name: printable(name), needs });
    }

    fn add_export(&mut self, name: &str) {
        if let Some(interface) = self.of_contract(name) {
            self.hooks.extend(Hook::ALL.into_iter().find(|hook| hook.name() == interface));
        }
    }

    /// Returns the interface, if it belongs to a supported version of the contract. Records its
    /// version in any case.
    fn of_contract<'n>(&mut self, name: &'n str) -> Option<&'n str> {
        if let Some((_, version)) = name.strip_prefix(PACKAGE).and_then(|n| n.split_once('@')) {
            let version = printable(version);
            if !self.contract.contains(&version) {
                self.contract.push(version);
            }
        }
        match contract_interface(name) {
            Ok(interface) => interface,
            Err(fault) => {
                let fault = printable(&fault);
                if !self.contract_faults.contains(&fault) {
                    self.contract_faults.push(fault);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_webassembly_file_is_reported() {
        for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\n", b"\0asm\x01\0\0\0\xff"] {
            assert!(Description::of(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn empty_component_has_no_hook() {
        let found = Description::of(b"\0asm\x0d\0\x01\0").unwrap();
        assert_eq!((found.kind, found.memory), (Kind::Component, 0));
        assert_eq!(found.contract_faults.len(), 1);
        let found = Description::of(b"\0asm\x01\0\0\0").unwrap();
        assert_eq!(found.kind, Kind::Core);
    }
}
