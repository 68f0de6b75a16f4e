//! Edits the rules of the service subscription: one rule for each device that `saegis device` permits.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use saegis_onem2m::id::CseId;
use saegis_onem2m::wildcard::fits;
use saegis_policy::{Fault, Faults, Subscription, read_file};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use super::error::DeviceError;

/// The file of the rules, as text.
pub struct Rules {
    file: PathBuf,
    cse: CseId,
    document: DocumentMut,
    subscription: Subscription,
    /// Names of the rules.
    names: HashSet<String>,
}

impl Rules {
    /// Reads the file, of at most `limit` bytes. Returns `None` if there is none.
    ///
    /// # Errors
    /// Fails if it cannot be read or is invalid.
    pub fn open(file: &Path, cse: &CseId, limit: u64) -> Result<Option<Self>, Faults> {
        if !file.exists() {
            return Ok(None);
        }
        let bytes = read_file(file, limit).map_err(|fault| Faults(vec![fault]))?;
        let text = saegis_policy::decode(file, &bytes).map_err(|fault| Faults(vec![fault]))?;
        let subscription = Subscription::parse(file, text, cse).map_err(Faults)?;
        let document = text
            .parse::<DocumentMut>()
            .map_err(|e| Faults(vec![Fault::of(file, e.message().to_string())]))?;
        for name in ["node", "rule"] {
            if document.get(name).is_some_and(|item| !item.is_array_of_tables()) {
                let what = format!("has {name} as an inline list; write it as [[{name}]]");
                return Err(Faults(vec![Fault::of(file, what)]));
            }
        }
        let names = HashSet::new();
        let mut rules = Self { file: file.into(), cse: cse.clone(), document, subscription, names };
        rules.names = rules.tables("rule").iter().filter_map(name_of).map(Into::into).collect();
        Ok(Some(rules))
    }

    /// Returns the name of a rule that permits a registration.
    pub fn permits(&self, kpsa_id: &str, app_id: &str, ae_id: &str) -> Option<String> {
        let found = self.subscription.find(&credential_id(kpsa_id), app_id, Some(ae_id));
        found.ok()?.first().map(|rule| rule.name.clone())
    }

    /// Adds a credential to the rule of a device, and creates the rule and its link if needed.
    ///
    /// # Errors
    /// Fails if the operator has a rule with that name.
    pub fn permit(
        &mut self,
        device: &str,
        kpsa_id: &str,
        app_id: &str,
        ae_id: &str,
    ) -> Result<(), DeviceError> {
        let name = rule_of(device);
        if !self.permit_also(device, kpsa_id) {
            if self.names.contains(&name) {
                let what = format!(
                    "the rule {name} exists and is not that of the device {device}; rename the rule \
                     or the device"
                );
                return Err(DeviceError::Argument(what));
            }
            let mut rule = Table::new();
            rule.insert("name", value(&name));
            add_to(&mut rule, "applicable-cred-ids", &credential_id(kpsa_id));
            add_to(&mut rule, "allowed-app-ids", app_id);
            add_to(&mut rule, "allowed-aes", ae_id);
            rule.decor_mut().set_prefix("\n");
            self.tables("rule").push(rule);
            self.names.insert(name.clone());
        }
        let cse = self.cse.clone();
        let nodes = self.tables("node");
        let own = |node: &Table| {
            let id = node.get("cse-id").and_then(Item::as_str);
            id.and_then(|id| CseId::parse(id).ok()).is_some_and(|id| id == cse)
        };
        if !nodes.iter().any(own) {
            let mut node = Table::new();
            node.insert("cse-id", value(cse.bare()));
            nodes.push(node);
        }
        if let Some(node) = nodes.iter_mut().find(|node| own(node)) {
            add_to(node, "rule-links", &name);
        }
        Ok(())
    }

    /// Adds a further credential to the rule of a device. Returns whether there is such a rule.
    pub fn permit_also(&mut self, device: &str, kpsa_id: &str) -> bool {
        let rule = self.rule(device);
        rule.map(|rule| add_to(rule, "applicable-cred-ids", &credential_id(kpsa_id))).is_some()
    }

    /// Removes the rule of a device and its links. Other rules stay.
    pub fn remove(&mut self, device: &str) {
        if self.rule(device).is_none() {
            return;
        }
        let name = rule_of(device);
        self.names.remove(&name);
        self.tables("rule").retain(|rule| name_of(rule) != Some(&name));
        for node in self.tables("node").iter_mut() {
            if let Some(links) = node.get_mut("rule-links").and_then(Item::as_array_mut) {
                links.retain(|link| link.as_str() != Some(&name));
            }
        }
    }

    /// Returns the App-ID of the rule of a device, or else that of another rule for it.
    pub fn app_id(&mut self, device: &str, kpsa_id: &str, ae_id: &str) -> Option<String> {
        if let Some(rule) = self.rule(device) {
            return Some(texts(rule, "allowed-app-ids").next()?.into());
        }
        let credential = credential_id(kpsa_id);
        let has = |rule: &Table, key, text: &str| texts(rule, key).any(|entry| fits(entry, text));
        let rule = self.tables("rule").iter().find(|rule| {
            has(rule, "applicable-cred-ids", &credential) && has(rule, "allowed-aes", ae_id)
        });
        let id = texts(rule?, "allowed-app-ids").find(|id| !id.contains('*'))?;
        Some(id.into())
    }

    /// Returns the text, after a check that it is valid.
    ///
    /// # Errors
    /// Returns the faults of the file.
    pub fn text(&self) -> Result<String, Faults> {
        let text = self.document.to_string();
        Subscription::parse(&self.file, &text, &self.cse).map_err(Faults)?;
        Ok(text)
    }

    /// Returns the rule that `saegis device` made for a device: it has a name of its own, and permits the
    /// AE-ID of the device only.
    fn rule(&mut self, device: &str) -> Option<&mut Table> {
        let name = rule_of(device);
        if !self.names.contains(&name) {
            return None;
        }
        let ae_id = format!("C{device}");
        let rule = self.tables("rule").iter_mut().find(|rule| name_of(rule) == Some(&name))?;
        texts(rule, "allowed-aes").eq([ae_id.as_str()]).then_some(rule)
    }

    #[expect(clippy::expect_used, reason = "it was checked when the file was read")]
    fn tables(&mut self, name: &str) -> &mut ArrayOfTables {
        let item = self.document.entry(name).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        item.as_array_of_tables_mut().expect("it is an array of tables")
    }
}

/// Returns the name of the rule of a device. The prefix distinguishes it from rules of the operator.
fn rule_of(device: &str) -> String {
    format!("device-{device}")
}

fn name_of(rule: &Table) -> Option<&str> {
    rule.get("name").and_then(Item::as_str)
}

/// Returns the texts of a list.
fn texts<'t>(rule: &'t Table, key: &str) -> impl Iterator<Item = &'t str> {
    let list = rule.get(key).and_then(Item::as_array);
    list.into_iter().flatten().filter_map(|entry| entry.as_str())
}

fn credential_id(kpsa_id: &str) -> String {
    format!("12-{kpsa_id}")
}

/// Adds a text to a list, if it is not in it.
fn add_to(table: &mut Table, key: &str, text: &str) {
    let list = table.entry(key).or_insert(value(Array::new()));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|entry| entry.as_str() == Some(text))
    {
        list.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Ours.\n[[node]]\ncse-id = \"mn\" # this one\nrule-links = [\"lights\"]\n\n\
        [[rule]]\nname = \"lights\"\napplicable-cred-ids = [\"12-l*\"]\n\
        allowed-app-ids = [\"Nlight\"]\nallowed-aes = [\"C*\"]\n";

    #[test]
    fn rule_of_a_device_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("service-subscription.toml");
        let cse = CseId::parse("mn").unwrap();
        assert!(Rules::open(&file, &cse, 4096).unwrap().is_none());
        std::fs::write(&file, TEXT).unwrap();
        let mut rules = Rules::open(&file, &cse, 4096).unwrap().unwrap();
        assert_eq!(rules.permits("l1@e.com", "Nlight", "Cl1").as_deref(), Some("lights"));
        assert_eq!(rules.permits("p@e.com", "Nlight", "Cp"), None);
        rules.permit("p", "p@e.com", "Nphone", "Cp").unwrap();
        rules.permit("p", "p-2@e.com", "Nphone", "Cp").unwrap();
        std::fs::write(&file, rules.text().unwrap()).unwrap();
        let mut rules = Rules::open(&file, &cse, 4096).unwrap().unwrap();
        for id in ["p@e.com", "p-2@e.com"] {
            assert_eq!(rules.permits(id, "Nphone", "Cp").as_deref(), Some("device-p"));
        }
        assert_eq!(rules.app_id("p", "p@e.com", "Cp").as_deref(), Some("Nphone"));
        assert!(
            rules.text().unwrap().starts_with("# Ours.\n[[node]]\ncse-id = \"mn\" # this one\n")
        );
        let app_id = rules.app_id("other", "l7@e.com", "Cl7");
        assert_eq!(app_id.as_deref(), Some("Nlight"));
        rules.remove("p");
        assert_eq!(rules.text().unwrap(), TEXT);
    }

    #[test]
    fn rules_of_the_operator_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("service-subscription.toml");
        // A device has the name of a rule, and a rule the name of that of a device.
        let (_, rule) = TEXT.split_once("\n[[rule]]").unwrap();
        let text = format!("{TEXT}\n[[rule]]{}", rule.replace("lights", "device-lamp"));
        std::fs::write(&file, &text).unwrap();
        let cse = CseId::parse("mn").unwrap();
        let mut rules = Rules::open(&file, &cse, 4096).unwrap().unwrap();
        rules.permit("lamp", "lamp@e.com", "Nphone", "Clamp").unwrap_err();
        for device in ["lamp", "lights"] {
            assert!(!rules.permit_also(device, "other@e.com"));
            rules.remove(device);
        }
        assert_eq!(rules.text().unwrap(), text);
        rules.permit("lights", "lights@e.com", "Nphone", "Clights").unwrap();
        rules.remove("lights");
        assert_eq!(rules.text().unwrap(), text);
    }
}
