//! The comparison of an exported resource with the CSE into which it is imported.
//!
//! The names in the resource must have the same holders as at the export. An address that starts with
//! a resource-ID is rewritten if the resource has another one here, because an import assigns new ones.

use saegis_onem2m::target::Target;
use serde_json::Value;

use crate::access::names;
use crate::error::quoted;
use crate::export::{Denoted, Holder, Holders, LINKS};
use crate::record::{Attributes, Record, Seconds};
use crate::resource::access_rules::{PRIVILEGES, SELF_PRIVILEGES};
use crate::resource::links;
use crate::resource::registrant;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// An exported resource, compared with the present CSE.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Reason why the resource cannot be restored.
    pub(super) mismatch: Option<String>,
    /// Resources that it names and that do not exist yet.
    pub(super) missing: Vec<Missing>,
    /// Whether an address without rights denotes nothing yet.
    pub(super) has_dangling_link: bool,
    /// Attributes, with the present addresses.
    pub(super) attributes: Attributes,
}

/// A resource that does not exist.
#[derive(Debug)]
pub(super) struct Missing {
    /// Attribute that names it; `None` for the parent.
    pub(super) attribute: Option<String>,
    /// Address, as the exported resource has it.
    pub(super) address: String,
    /// Structured address.
    pub(super) path: String,
}

impl Missing {
    pub(super) fn reason(&self) -> String {
        format!("{} does not exist here", quoted(&self.address))
    }
}

/// The meaning of an address here.
enum Meaning {
    /// It denotes the same resource as at the export.
    Same,
    /// The resource has this address now.
    Moved(String),
    /// There is no such resource.
    Missing,
    /// It denotes a resource of another holder.
    Other,
}

/// The CSE into which a resource is imported.
#[derive(Clone, Copy)]
pub(super) struct Present<'a> {
    pub(super) read: &'a dyn Read,
    pub(super) settings: &'a Settings,
    pub(super) now: Seconds,
}

impl Present<'_> {
    /// Returns the holder of a resource here.
    pub(super) fn holder(&self, record: &Record) -> Result<Holder, StoreError> {
        Holder::of(self.read, self.settings, record, self.now)
    }

    fn resolve(&self, address: &str) -> Result<Option<Record>, StoreError> {
        links::resolve(self.read, self.settings, address, self.now)
    }

    /// Compares the attributes of an exported resource below `parent`.
    pub(super) fn compare(
        &self,
        parent: &str,
        holders: &Holders,
        attributes: &Attributes,
    ) -> Result<Comparison, StoreError> {
        let mut found = Comparison { attributes: attributes.clone(), ..Comparison::default() };
        match self.resolve(parent)? {
            None => found.missing.push(Missing {
                attribute: None,
                address: parent.into(),
                path: parent.into(),
            }),
            Some(present) if holders.parent.as_ref() != Some(&self.holder(&present)?) => {
                found.mismatch = Some(other(parent, false));
            }
            Some(_) => {}
        }
        for (attribute, addresses) in &holders.addresses {
            for (address, former) in addresses {
                let meaning = match former {
                    None => match names::denoted(
                        self.read,
                        self.settings,
                        attribute,
                        address,
                        self.now,
                    )? {
                        None => continue,
                        Some(_) => Meaning::Other,
                    },
                    Some(former) => {
                        let denoted = |text: &str| {
                            let (read, settings) = (self.read, self.settings);
                            names::denoted(read, settings, attribute, text, self.now)
                        };
                        self.meaning(address, former, &denoted)?
                    }
                };
                match (meaning, former) {
                    (Meaning::Moved(new), _) => {
                        rewrite(&mut found.attributes, attribute, address, &new);
                    }
                    (Meaning::Missing, Some(former)) => found.missing.push(Missing {
                        attribute: Some(attribute.clone()),
                        address: address.clone(),
                        path: former.path.clone(),
                    }),
                    (Meaning::Other | Meaning::Missing, _) => {
                        found.mismatch = Some(other(address, former.is_none()));
                    }
                    (Meaning::Same, _) => {}
                }
            }
        }
        for (stem, former) in &holders.aes {
            let present = registrant::registrant(self.read, stem, self.now)?;
            // An AE that is not registered has no rights. The name would be the next one's.
            if *former != present {
                found.mismatch = Some(other(stem, former.is_none()));
            }
        }
        if let Some(why) = self.compare_subscriber(holders)? {
            found.mismatch = Some(why);
        }
        self.follow_links(holders, &mut found)?;
        Ok(found)
    }

    /// Returns what an address denotes here that denoted `former` at the export.
    fn meaning(
        &self,
        address: &str,
        former: &Denoted,
        denoted: &dyn Fn(&str) -> Result<Option<Record>, StoreError>,
    ) -> Result<Meaning, StoreError> {
        if let Some(present) = denoted(address)? {
            return Ok(match self.holder(&present)? == former.holder {
                true => Meaning::Same,
                false => Meaning::Other,
            });
        }
        let Some((prefix, below)) = self.around_resource_id(address) else {
            return Ok(Meaning::Missing);
        };
        let Some(present) = self.resolve(&former.path)? else { return Ok(Meaning::Missing) };
        if self.holder(&present)? != former.holder {
            return Ok(Meaning::Other);
        }
        let new = format!("{prefix}{}{below}", present.ri);
        Ok(match denoted(&new)? {
            Some(found) if found.ri == present.ri => Meaning::Moved(new),
            _ => Meaning::Missing,
        })
    }

    /// Returns the text before the resource-ID in an address of this CSE, and the virtual resource
    /// after it. Returns `None` for a structured address.
    fn around_resource_id<'t>(&self, address: &'t str) -> Option<(&'t str, &'static str)> {
        let target = Target::from_address(address).ok()?;
        let mut segments = target.resource.split('/');
        let first = segments.next()?;
        if first == "-" || first == self.settings.csebase_name {
            return None;
        }
        let below = match segments.next_back() {
            Some("la") => "/la",
            Some("ol") => "/ol",
            _ => "",
        };
        Some((address.strip_suffix(target.resource.as_str())?, below))
    }

    /// Returns the reason why the originator that named the targets of a subscription is another one
    /// here.
    fn compare_subscriber(&self, holders: &Holders) -> Result<Option<String>, StoreError> {
        let Some(former) = &holders.subscriber else { return Ok(None) };
        let present = registrant::creator(self.read, self.settings, &former.id, self.now)?;
        // Only this CSE, and an originator of another service provider, have no registration.
        let needs_none =
            former.id.starts_with("//") || former.id == self.settings.cse_id.to_string();
        let is_same = present == *former && (present.registrant.is_some() || needs_none);
        Ok((!is_same).then(|| other(&former.id, false)))
    }

    /// Rewrites the addresses from which no rights follow. Those without a resource stay.
    fn follow_links(&self, holders: &Holders, found: &mut Comparison) -> Result<(), StoreError> {
        for (address, former) in &holders.links {
            match self.meaning(address, former, &|text| self.resolve(text))? {
                Meaning::Same | Meaning::Other => {}
                Meaning::Missing => found.has_dangling_link = true,
                Meaning::Moved(new) => {
                    for attribute in LINKS {
                        rewrite(&mut found.attributes, attribute, address, &new);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Replaces an address in an attribute.
fn rewrite(attributes: &mut Attributes, attribute: &str, old: &str, new: &str) {
    let is_policy = attribute == PRIVILEGES || attribute == SELF_PRIVILEGES;
    let Some(value) = attributes.get_mut(attribute) else { return };
    let replace = |value: &mut Value| match value {
        Value::Array(list) => {
            list.iter_mut().filter(|entry| *entry == old).for_each(|entry| *entry = new.into());
        }
        value if value == old => *value = new.into(),
        _ => {}
    };
    if is_policy {
        let rules = value.get_mut("acr").and_then(Value::as_array_mut).into_iter().flatten();
        rules.filter_map(|rule| rule.get_mut("acor")).for_each(replace);
    } else {
        replace(value);
    }
}

pub(super) fn other(name: &str, was_free: bool) -> String {
    let name = quoted(name);
    match was_free {
        true => format!("{name} had no holder at the export, and has one here"),
        false => format!("{name} has another holder here than at the export"),
    }
}
