//! Random sequences of connects, registrations, deregistrations, policy changes and restarts,
//! compared with a simple model. A credential can never act as an AE of another, and is never
//! locked out of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use saegis_tests::{Credential, Gateway, Light, Request, Setup};

/// Number of credentials whose rows name an AE-ID, and number of all credentials.
const NAMED: usize = 2;
const CREDENTIALS: usize = 5;
/// Number of requested AE-IDs. The first ones are those of the rows.
const STEMS: usize = 5;
const SLOTS: usize = 4;
const TABLE: &str = "policies/psk-lookup-table.csv";

fn stem(n: usize) -> String {
    format!("Cae{n}")
}

#[derive(Debug, Clone)]
enum Step {
    Connect {
        slot: usize,
        credential: usize,
    },
    Close {
        slot: usize,
    },
    /// Registers with that AE-ID, or requests an assigned one.
    Register {
        slot: usize,
        stem: Option<usize>,
    },
    Deregister {
        slot: usize,
    },
    Speak {
        slot: usize,
        stem: usize,
    },
    /// Removes a row or adds it again.
    Toggle {
        credential: usize,
    },
    Restart {
        kill: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (slot, credential, stem) = (0..SLOTS, 0..CREDENTIALS, 0..STEMS);
    prop_oneof![
        4 => (slot.clone(), credential.clone())
            .prop_map(|(slot, credential)| Step::Connect { slot, credential }),
        1 => slot.clone().prop_map(|slot| Step::Close { slot }),
        5 => (slot.clone(), prop::option::weighted(0.8, stem.clone()))
            .prop_map(|(slot, stem)| Step::Register { slot, stem }),
        2 => slot.clone().prop_map(|slot| Step::Deregister { slot }),
        4 => (slot, stem).prop_map(|(slot, stem)| Step::Speak { slot, stem }),
        1 => credential.prop_map(|credential| Step::Toggle { credential }),
        1 => any::<bool>().prop_map(|kill| Step::Restart { kill }),
    ]
}

/// A connection with its credential and its entity.
struct Connected {
    light: Light,
    credential: usize,
    entity: Option<String>,
}

/// The gateway and the expected state.
struct Model {
    gateway: Option<Gateway>,
    slots: BTreeMap<usize, Connected>,
    rows: BTreeSet<usize>,
    /// The AE-IDs assigned to credentials without one in their row.
    bound: BTreeMap<usize, String>,
    /// Registered AE-IDs, with the credentials that registered them.
    registered: BTreeMap<String, usize>,
    /// A counter that makes resource names and tables unique.
    count: usize,
}

impl Model {
    fn new() -> Self {
        let rows = (0..CREDENTIALS).collect();
        let gateway = Setup::new()
            .file("psk-lookup-table.csv", &table(&rows, 0))
            .with("limits", "failed-handshakes-per-minute = 1000000")
            .start();
        Self {
            gateway: Some(gateway),
            slots: BTreeMap::new(),
            rows,
            bound: BTreeMap::new(),
            registered: BTreeMap::new(),
            count: 0,
        }
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    /// Returns whether a row names the AE-ID.
    fn is_in_table(&self, stem: &str) -> bool {
        self.rows.iter().any(|&n| n < NAMED && stem == self::stem(n))
    }

    fn connect(&mut self, slot: usize, credential: usize) {
        self.close(slot);
        let (identity, key) = credential_of(credential);
        let own = Credential { identity: &identity, key: &key };
        let connected = Light::connect(self.gateway().port(), own);
        if !self.rows.contains(&credential) {
            assert!(connected.is_err(), "{identity} has no row");
            return;
        }
        let entity = if credential < NAMED {
            let own = stem(credential);
            // The AE-ID of a row takes precedence over an assigned one.
            if let Some(holder) = self.holder(&own) {
                self.bound.remove(&holder);
            }
            Some(own)
        } else {
            let bound = self.bound.get(&credential).cloned();
            match bound {
                Some(stem) if self.is_in_table(&stem) => {
                    self.bound.remove(&credential);
                    None
                }
                bound => bound,
            }
        };
        let light = connected.unwrap();
        self.slots.insert(slot, Connected { light, credential, entity });
    }

    fn holder(&self, stem: &str) -> Option<usize> {
        self.bound.iter().find(|(_, own)| *own == stem).map(|(holder, _)| *holder)
    }

    /// Returns whether the AE with this AE-ID is that of the credential. One that got its AE-ID by
    /// registering is another AE than that of a credential whose row names the AE-ID.
    fn is_registered_for(&self, credential: usize, stem: &str) -> bool {
        let registrant = self.registered.get(stem);
        registrant.is_some_and(|&by| credential >= NAMED || by < NAMED)
    }

    fn close(&mut self, slot: usize) {
        let Some(connected) = self.slots.remove(&slot) else { return };
        let mark = self.gateway().log().mark();
        connected.light.close();
        self.gateway().log().wait_after(mark, "association.ended");
    }

    /// Asserts that the gateway ends the matching connections.
    fn expect_ended(&mut self, fits: impl Fn(&usize, &Connected) -> bool) {
        for (_, mut connected) in self.slots.extract_if(.., |slot, c| fits(slot, c)) {
            connected.light.ended().unwrap();
        }
    }

    fn register(&mut self, slot: usize, wanted: Option<usize>) {
        self.count += 1;
        let name = format!("ae-{}", self.count);
        let from = wanted.map_or("C".into(), stem);
        let Some(connected) = self.slots.get_mut(&slot) else { return };
        let response = connected.light.ask(&Request::create_ae(&name).from(&from)).unwrap();
        let got = response.rsc().unwrap();
        let (credential, entity) = (connected.credential, connected.entity.clone());
        let is_named = credential < NAMED;
        let taken = |stem: &str| {
            self.is_in_table(stem) || self.holder(stem).is_some_and(|holder| holder != credential)
        };
        let expected = match (&entity, wanted) {
            (Some(_), None) if is_named => 4106,
            (Some(_), None) => 4117,
            (Some(own), Some(_)) if *own != from => 4106,
            (None, None) if self.bound.contains_key(&credential) => 4117,
            (None, None) => 2001,
            (_, Some(_)) if !is_named && taken(&from) => 4117,
            (_, Some(_))
                if !is_named && self.bound.get(&credential).is_some_and(|own| *own != from) =>
            {
                4117
            }
            (_, Some(_)) if self.is_registered_for(credential, &from) => 4117,
            (_, Some(_)) => 2001,
        };
        assert_eq!(got, expected, "{credential} as {entity:?} registers {from}: {response:?}");
        if got != 2001 {
            return;
        }
        let given = response.json()["m2m:ae"]["aei"].as_str().unwrap().to_string();
        assert!(wanted.is_none() || given == from);
        self.registered.insert(given.clone(), credential);
        if !is_named {
            self.bound.insert(credential, given.clone());
            for connected in self.slots.values_mut().filter(|c| c.credential == credential) {
                connected.entity.get_or_insert_with(|| given.clone());
            }
        }
    }

    fn deregister(&mut self, slot: usize) {
        let Some(connected) = self.slots.get_mut(&slot) else { return };
        let Some(own) = connected.entity.clone() else { return };
        let credential = connected.credential;
        let delete = Request::delete(&format!("/{own}")).from(&own);
        let response = connected.light.ask(&delete).unwrap();
        let expected = match self.registered.contains_key(&own) {
            true if self.is_registered_for(credential, &own) => 2002,
            true => 4103,
            false => 4004,
        };
        assert_eq!(response.rsc(), Some(expected), "{response:?}");
        if expected == 2002 {
            self.registered.remove(&own);
        }
        if expected == 2002 && self.bound.get(&credential) == Some(&own) {
            self.bound.remove(&credential);
            // The association has no AE-ID any more, and ends.
            let mut connected = self.slots.remove(&slot).unwrap();
            let own = Request::retrieve("/cse/nothing").from(&own);
            assert_eq!(connected.light.ask(&own).unwrap().rsc(), Some(4106));
            connected.light.ended().unwrap();
            self.expect_ended(|other, c| {
                *other != slot && c.credential == credential && c.entity.is_some()
            });
        }
    }

    fn speak(&mut self, slot: usize, stem: usize) {
        let stem = self::stem(stem);
        let Some(connected) = self.slots.get_mut(&slot) else { return };
        let request = Request::retrieve("/cse/nothing").from(&stem);
        let response = connected.light.ask(&request).unwrap();
        let is_it = connected.entity.as_ref() == Some(&stem);
        let expected = if is_it { 4004 } else { 4106 };
        let who = (connected.credential, &connected.entity);
        assert_eq!(response.rsc(), Some(expected), "{who:?} speaks as {stem}: {response:?}");
    }

    fn toggle(&mut self, credential: usize) {
        if !self.rows.remove(&credential) {
            self.rows.insert(credential);
        }
        self.count += 1;
        let table = table(&self.rows, self.count);
        self.gateway().in_force_after(|g| g.replace(TABLE, &table));
        let (rows, in_table) = (self.rows.clone(), |stem: &str| self.is_in_table(stem));
        let lost: BTreeSet<usize> = self
            .slots
            .iter()
            .filter(|(_, c)| {
                !rows.contains(&c.credential)
                    || c.credential >= NAMED && c.entity.as_deref().is_some_and(in_table)
            })
            .map(|(slot, _)| *slot)
            .collect();
        self.expect_ended(|slot, _| lost.contains(slot));
    }

    fn restart(&mut self, kill: bool) {
        let gateway = self.gateway.take().unwrap();
        self.slots.clear();
        self.gateway = Some(if kill { gateway.kill_and_restart() } else { gateway.restart() });
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Connect { slot, credential } => self.connect(slot, credential),
            Step::Close { slot } => self.close(slot),
            Step::Register { slot, stem } => self.register(slot, stem),
            Step::Deregister { slot } => self.deregister(slot),
            Step::Speak { slot, stem } => self.speak(slot, stem),
            Step::Toggle { credential } => self.toggle(credential),
            Step::Restart { kill } => self.restart(kill),
        }
        // After each step, every association acts as its own entity only.
        let slots: Vec<_> = self.slots.keys().copied().collect();
        for slot in slots {
            for stem in 0..STEMS {
                self.speak(slot, stem);
            }
        }
    }
}

fn credential_of(n: usize) -> (String, String) {
    (format!("credential{n}@in.provider.com"), format!("1a{n:030x}"))
}

fn table(rows: &BTreeSet<usize>, count: usize) -> String {
    let mut table = format!("ae_id,kpsa,kpsa_id\n# {count}\n");
    for &n in rows {
        let (identity, key) = credential_of(n);
        let name = if n < NAMED { stem(n) } else { String::new() };
        writeln!(table, "{name},{key},{identity}").unwrap();
    }
    table
}

#[test]
fn identities_match_model_in_random_sequences() {
    let config = Config {
        cases: 24,
        // Each attempt starts a gateway, which takes time.
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let sequences = prop::collection::vec(step(), 20..60);
    let run = |steps: Vec<Step>| {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.apply(step));
        Ok(())
    };
    if let Err(failure) = TestRunner::new(config).run(&sequences, run) {
        panic!("{failure}");
    }
}
