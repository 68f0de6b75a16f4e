//! Whether the gateway is well: the first lines of each page.

use saegis_policy::DiskState;

use super::context::Context;
use super::text;
use crate::backend::Reachability;

/// State of a part of the gateway.
pub struct Item {
    /// Its key in updates.
    pub key: &'static str,
    /// Its name.
    pub label: &'static str,
    /// Whether it is well.
    pub is_good: bool,
    /// The state in words.
    pub text: String,
}

impl Item {
    /// Returns the name of its state.
    pub fn state(&self) -> &'static str {
        if self.is_good { "good" } else { "bad" }
    }
}

/// State of the gateway.
pub struct Health {
    /// The parts. The first one is the policy.
    pub items: Vec<Item>,
    /// Faults of the policy on disk.
    pub faults: Vec<String>,
}

/// Returns the state of the gateway. It is cheap, because it is computed for each update.
pub fn of(context: &Context) -> Health {
    let (policy, faults) = policy(context);
    let mut items = vec![policy, cse(context)];
    items.extend(peers(context));
    items.push(configuration(context));
    Health { items, faults }
}

fn policy(context: &Context) -> (Item, Vec<String>) {
    let policy = &context.commands.gateway.policy;
    let number = policy.current().number;
    let in_force = text::time(context.history.in_force_since(number));
    let state = policy.disk_state();
    let is_good = state.behind().is_none();
    let (text, faults) = match &state {
        DiskState::Loading { since } if !is_good => (
            format!("being loaded since {}; generation {number} is in force", text::time(*since)),
            Vec::new(),
        ),
        DiskState::InForce | DiskState::Loading { .. } => {
            (format!("in force: generation {number}, since {in_force}"), Vec::new())
        }
        DiskState::Refused { since, faults } => (
            format!("refused since {}; generation {number} stays in force", text::time(*since)),
            faults.0.iter().map(ToString::to_string).collect(),
        ),
    };
    (Item { key: "policy", label: "Policy on disk", is_good, text }, faults)
}

fn cse(context: &Context) -> Item {
    let backend = &context.commands.gateway.backend;
    let (is_good, text) = match backend.reachability() {
        Some(Reachability::Down { since, why }) => {
            (false, format!("cannot be reached since {}: {why}", text::time(since)))
        }
        Some(state) => (true, state.to_string()),
        None if backend.store_fails() => (false, "its store cannot be read or written".into()),
        None => (true, "embedded, its store works".into()),
    };
    Item { key: "cse", label: "CSE", is_good, text }
}

fn peers(context: &Context) -> Option<Item> {
    let peers = context.commands.peers().peers;
    if peers.is_empty() {
        return None;
    }
    let count = |state: &str| peers.iter().filter(|peer| peer.registration == state).count();
    let failed = peers.iter().filter(|peer| peer.registration == "failed");
    let failed: Vec<_> =
        failed.map(|peer| format!("not registered with {}", peer.cse_id)).collect();
    let text = match failed.is_empty() {
        true => format!("{}, registered with {}", peers.len(), count("registered")),
        false => failed.join("; "),
    };
    Some(Item { key: "peers", label: "Peer CSEs", is_good: failed.is_empty(), text })
}

fn configuration(context: &Context) -> Item {
    let changed = context.commands.gateway.policy.configuration_changed();
    let (is_good, text) = match changed {
        None => (true, "in force".into()),
        Some(since) => (false, format!("changed at {}; restart to apply it", text::time(since))),
    };
    Item { key: "configuration", label: "Configuration", is_good, text }
}
