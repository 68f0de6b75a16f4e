//! Containers and subscriptions behave like simple models, in random sequences of requests.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::testing::{Bench, LIGHT1, agree, subscribe};

const STATE: &str = "/cse/light1/state";

#[derive(Debug, Clone)]
enum Step {
    Put(String),
    Delete(bool),
    Limit(u64, u64),
    Age(u64),
    Pass(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => "[a-z]{0,6}".prop_map(Step::Put),
        2 => any::<bool>().prop_map(Step::Delete),
        1 => (1..6u64, 6..20u64).prop_map(|(n, b)| Step::Limit(n, b)),
        1 => (1..30u64).prop_map(Step::Age),
        2 => (1..20u64).prop_map(Step::Pass),
        1 => Just(Step::Reopen),
    ]
}

/// A container: its contents from the oldest to the latest, each with its times of creation and of its
/// end, and its limits.
struct Model {
    contents: VecDeque<(String, u64, u64)>,
    count: usize,
    bytes: usize,
    age: u64,
}

impl Model {
    fn trim(&mut self) {
        let bytes = |contents: &VecDeque<(String, u64, u64)>| {
            contents.iter().map(|(text, ..)| text.len()).sum::<usize>()
        };
        while self.contents.len() > self.count || bytes(&self.contents) > self.bytes {
            self.contents.pop_front();
        }
    }

    fn put(&mut self, text: String, now: u64) {
        self.contents.push_back((text, now, now.saturating_add(self.age)));
        self.trim();
    }

    /// A shorter age applies to the contents that exist, a longer one to new contents only.
    fn limit_age(&mut self, age: u64, now: u64) {
        self.age = age;
        for (_, created, end) in &mut self.contents {
            *end = (*end).min(*created + age);
        }
        self.expire(now);
    }

    fn expire(&mut self, now: u64) {
        self.contents.retain(|(.., end)| *end > now);
    }
}

fn content(bench: &Bench, edge: &str) -> Option<String> {
    let reply = bench.retrieve(LIGHT1, &format!("{STATE}/{edge}"));
    (reply.code == 2000).then(|| reply.attributes()["con"].as_str().unwrap().into())
}

/// Returns the events in notifications, and the number of notifications.
fn events<'a>(contents: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<Value>> {
    let all = |content: &[u8]| {
        let content: Value = serde_json::from_slice(content).unwrap();
        let con = |sgn: &Value| sgn["nev"]["rep"]["m2m:cin"]["con"].clone();
        match content["m2m:agn"]["m2m:sgn"].as_array() {
            Some(batch) => batch.iter().map(con).collect(),
            None => vec![con(&content["m2m:sgn"])],
        }
    };
    contents.map(all).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn container_keeps_latest_instances(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::with_lights();
        let mut model =
            Model { contents: VecDeque::new(), count: 1000, bytes: 1 << 20, age: u64::MAX };
        for step in steps {
            match step {
                Step::Put(text) => {
                    let reply = bench.instance(LIGHT1, STATE, json!({ "con": text }));
                    prop_assert_eq!(reply.code, 2001);
                    model.put(text, bench.now());
                }
                Step::Delete(latest) => {
                    let edge = if latest { "la" } else { "ol" };
                    let code = bench.delete(LIGHT1, &format!("{STATE}/{edge}")).code;
                    let gone = match latest {
                        true => model.contents.pop_back(),
                        false => model.contents.pop_front(),
                    };
                    prop_assert_eq!(code, if gone.is_some() { 2002 } else { 4004 });
                }
                Step::Limit(mni, mbs) => {
                    let limits = json!({"m2m:cnt": {"mni": mni, "mbs": mbs}});
                    prop_assert_eq!(bench.update(LIGHT1, STATE, limits).code, 2004);
                    model.count = usize::try_from(mni).unwrap();
                    model.bytes = usize::try_from(mbs).unwrap();
                    model.trim();
                }
                Step::Age(mia) => {
                    let limit = json!({"m2m:cnt": {"mia": mia}});
                    prop_assert_eq!(bench.update(LIGHT1, STATE, limit).code, 2004);
                    model.limit_age(mia, bench.now());
                }
                Step::Pass(seconds) => {
                    bench.pass(seconds);
                    model.expire(bench.now());
                }
                Step::Reopen => bench = bench.reopen(),
            }
            let text = |entry: Option<&(String, u64, u64)>| entry.map(|(text, ..)| text.clone());
            prop_assert_eq!(content(&bench, "ol"), text(model.contents.front()));
            prop_assert_eq!(content(&bench, "la"), text(model.contents.back()));
            let state = bench.retrieve(LIGHT1, STATE);
            prop_assert_eq!(&state.attributes()["cni"], &json!(model.contents.len()));
        }
        bench.cse().store().assert_consistent();
    }

    /// Each event is sent once, in order, and not more of them in a window than allowed. After the
    /// time of the policies, none is left.
    #[test]
    fn subscription_sends_each_event_once(
        steps in prop::collection::vec(step(), 1..60),
        number in 1..5u64,
        limit in prop::option::of(1..4u64),
    ) {
        let mut bench = Bench::with_lights();
        let mut sub = json!({"nu": ["http://a.b/"], "enc": {"net": [3]}});
        sub["bn"] = json!({"num": number, "dur": "PT15S"});
        if let Some(limit) = limit {
            sub["rl"] = json!({"mnn": limit, "tww": "PT10S"});
        }
        prop_assert_eq!(agree(&bench, subscribe(&bench, LIGHT1, STATE, sub)).code, 2001);
        let (mut put, mut sent, mut times) = (0_u64, 0_u64, Vec::new());
        let finish = std::iter::repeat_n(Step::Pass(10), 80);
        for step in steps.into_iter().chain(finish) {
            let mut batches = Vec::new();
            match step {
                Step::Put(_) => {
                    let reply = bench.instance(LIGHT1, STATE, json!({ "con": put }));
                    put += 1;
                    batches = events(reply.notifications.iter().map(|n| n.content.as_ref()));
                }
                Step::Pass(seconds) => bench.pass(seconds),
                Step::Reopen => bench = bench.reopen(),
                Step::Delete(_) | Step::Limit(..) | Step::Age(_) => {}
            }
            loop {
                let due = bench.cse().due_notifications(bench.time()).unwrap();
                if due.is_empty() {
                    break;
                }
                let all = due.iter().flat_map(|due| &due.notifications);
                all.clone().for_each(|notification| notification.receipt.settled());
                batches.extend(events(all.map(|n| n.content.as_ref())));
            }
            for batch in batches {
                for event in batch {
                    prop_assert_eq!(event, json!(sent));
                    sent += 1;
                    times.push(bench.now());
                }
            }
        }
        prop_assert_eq!(sent, put);
        if let Some(limit) = limit {
            // Windows follow each other, so at most two of them are in ten seconds.
            for (n, time) in times.iter().enumerate() {
                let within = times[n..].iter().filter(|other| **other < time + 10).count();
                prop_assert!(u64::try_from(within).unwrap() <= 2 * limit);
            }
        }
        bench.cse().store().assert_consistent();
    }
}
