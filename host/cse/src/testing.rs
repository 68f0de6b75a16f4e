//! A CSE for tests, with a manual clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use saegis_onem2m::http::read_query;
use saegis_onem2m::id::CseId;
use saegis_onem2m::parameter::{Parameter, Parameters};
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use serde_json::{Value, json};

use crate::budget::RequestBudget;
use crate::notification::retry;
use crate::record::{Seconds, seconds};
use crate::settings::Settings;
use crate::store::{Snapshot, StoreError, Writer};
use crate::{Answer, Checked, EmbeddedCse, Handled, Notification, OpenError, Verified};

/// 2026-11-24, 09:30:00.
pub(crate) const NOW: Seconds = 1_795_512_600;

/// Number of steps of a request.
pub(crate) const STEPS: u64 = 20_000;

pub(crate) const LIGHT1: &str = "Clight-AE1";
pub(crate) const LIGHT2: &str = "Clight-AE2";

/// Returns a request of release 3. The part of the path after a `?` is the query string.
pub(crate) fn request(
    operation: Operation,
    path: &str,
    from: Option<&str>,
    content: Option<Value>,
) -> RequestPrimitive {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    RequestPrimitive {
        operation,
        to: Target::from_path(path).unwrap(),
        from: from.map(Into::into),
        request_id: "r1".into(),
        release: Some("3".into()),
        resource_type: None,
        content: content.map(|c| Content::parse(c.to_string().into()).unwrap()),
        options: read_query(query).unwrap(),
        parameters: Default::default(),
        source_address: None,
        credential: None,
        roles: Vec::new(),
        tokens: Vec::new(),
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) json: Value,
    pub(crate) response: ResponsePrimitive,
    pub(crate) notifications: Vec<Notification>,
}

impl Reply {
    pub(crate) fn of(answer: Answer) -> Self {
        let Answer { response, notifications } = answer;
        // Tests that repeat notifications take them from the answer itself.
        notifications.iter().for_each(|notification| notification.receipt.settled());
        let json =
            response.content.as_ref().map_or(Value::Null, |c| serde_json::from_slice(c).unwrap());
        Self { code: response.rsc.code(), json, response, notifications }
    }

    /// Returns the destinations and contents of the notifications.
    pub(crate) fn told(&self) -> Vec<(String, Value)> {
        let told = |n: &Notification| {
            let content: Value = serde_json::from_slice(&n.content).unwrap();
            (n.to.to_string(), content["m2m:sgn"].clone())
        };
        self.notifications.iter().map(told).collect()
    }

    /// Returns the attributes of the only resource in the response.
    pub(crate) fn attributes(&self) -> &Value {
        self.json.as_object().and_then(|o| o.values().next()).unwrap_or(&Value::Null)
    }

    /// Returns the reason of a refusal.
    pub(crate) fn why(&self) -> &str {
        self.json["m2m:dbg"].as_str().unwrap_or_default()
    }

    /// Returns the addresses that a discovery found.
    pub(crate) fn found(&self) -> Vec<&str> {
        self.json["m2m:uril"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect()
    }
}

/// Requests a subscription.
pub(crate) fn subscribe(bench: &Bench, from: &str, path: &str, attributes: Value) -> Handled {
    let content = json!({ "m2m:sub": attributes });
    let mut request = request(Operation::Create, path, Some(from), Some(content));
    request.resource_type = Some(23);
    bench.handle(&request)
}

/// Lets all targets agree.
pub(crate) fn agree(bench: &Bench, mut handled: Handled) -> Reply {
    loop {
        match handled {
            Handled::Done(answer) => return Reply::of(answer),
            Handled::Wait(poll) => panic!("it waits: {poll:?}"),
            Handled::Deliver(delivery) => panic!("it is passed on: {delivery:?}"),
            Handled::Continue(work) => panic!("it is not done: {work:?}"),
            Handled::Await(awaiting) => panic!("it waits: {awaiting:?}"),
            Handled::Verify(target) => match target.answered(Rsc::Ok) {
                Checked::Next(next) => handled = Handled::Verify(next),
                Checked::Ready(all) => return bench.conclude(all),
                Checked::Refused(answer) => return Reply::of(answer),
            },
        }
    }
}

pub(crate) struct Bench {
    cse: EmbeddedCse,
    directory: tempfile::TempDir,
    now: SystemTime,
}

pub(crate) fn settings() -> Settings {
    Settings {
        service_provider: Some("in.provider.com".into()),
        ..Settings::new(CseId::parse("mn-cse-123456").unwrap(), "cse")
    }
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::at(tempfile::tempdir().unwrap(), settings)
    }

    /// Opens the store in a directory.
    pub(crate) fn at(directory: tempfile::TempDir, settings: Settings) -> Self {
        let cse = EmbeddedCse::open(&directory.path().join("store"), settings).unwrap();
        Self { cse, directory, now: UNIX_EPOCH + Duration::from_secs(NOW) }
    }

    /// Returns a CSE with two registered lights, each with a container `state`.
    pub(crate) fn with_lights() -> Self {
        Self::lights(settings())
    }

    pub(crate) fn lights(settings: Settings) -> Self {
        let bench = Self::new(settings);
        for (stem, name) in [(LIGHT1, "light1"), (LIGHT2, "light2")] {
            assert_eq!(bench.register(stem, name).code, 2001);
            let reply = bench.container(stem, &format!("/cse/{name}"), json!({"rn": "state"}));
            assert_eq!(reply.code, 2001);
        }
        bench
    }

    /// Closes and reopens the store.
    pub(crate) fn reopen(self) -> Self {
        let settings = self.cse.settings().clone();
        self.reopen_as(settings).unwrap()
    }

    pub(crate) fn reopen_as(self, settings: Settings) -> Result<Self, OpenError> {
        let Self { cse, directory, now } = self;
        while retry::settle(cse.state()).unwrap() {}
        drop(cse);
        let cse = EmbeddedCse::open(&directory.path().join("store"), settings)?;
        Ok(Self { cse, directory, now })
    }

    /// Closes and reopens the store with known registrants.
    pub(crate) fn reopen_knowing(self, registrant: &dyn Fn(&str) -> Option<String>) -> Self {
        let Self { cse, directory, now } = self;
        let settings = cse.settings().clone();
        drop(cse);
        let path = directory.path().join("store");
        let cse = EmbeddedCse::open_knowing(&path, settings, registrant).unwrap();
        Self { cse, directory, now }
    }

    /// Returns the path of the store.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Closes the store, and returns its path.
    pub(crate) fn stop(self) -> (tempfile::TempDir, PathBuf) {
        let path = self.path();
        let Self { cse, directory, .. } = self;
        drop(cse);
        (directory, path)
    }

    pub(crate) fn now(&self) -> Seconds {
        seconds(self.now)
    }

    pub(crate) fn time(&self) -> SystemTime {
        self.now
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Returns the budget of a request.
    pub(crate) fn budget(&self) -> RequestBudget {
        let deadline = Instant::now() + Duration::from_secs(600);
        RequestBudget::new(Arc::default(), deadline, STEPS)
    }

    pub(crate) fn settings(&self) -> &Settings {
        self.cse.settings()
    }

    pub(crate) fn cse(&self) -> &EmbeddedCse {
        &self.cse
    }

    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        self.cse.store().snapshot(&RequestBudget::unlimited()).unwrap()
    }

    /// Puts instances of one byte into a container, directly into the store, because separate
    /// commits would take too long.
    pub(crate) fn fill(&self, from: &str, container: &str, count: u64) {
        let reply = self.instance(from, container, json!({"con": 0}));
        let first = reply.attributes()["ri"].as_str().unwrap();
        let fill = |writer: &mut Writer<'_>| {
            let mut instance = writer.read().get(first)?.unwrap();
            let parent = instance.parent.clone().unwrap();
            let mut container = writer.read().get(&parent)?.unwrap();
            let totals = container.instances.as_mut().unwrap();
            totals.count += count - 1;
            totals.bytes += count - 1;
            writer.put(&container)?;
            for n in 1..count {
                instance.ri = format!("{first}-{n}");
                instance.name.clone_from(&instance.ri);
                instance.sequence = n;
                writer.put(&instance)?;
            }
            Ok::<_, StoreError>(())
        };
        self.cse.store().write(&RequestBudget::unlimited(), fill).unwrap();
    }

    /// Takes the notifications that are due, which all arrive.
    pub(crate) fn take_due(&self) -> Vec<Notification> {
        let due = self.cse.due_notifications(self.now).unwrap();
        let all: Vec<_> = due.into_iter().flat_map(|due| due.notifications).collect();
        all.iter().for_each(|notification| notification.receipt.settled());
        all
    }

    pub(crate) fn sweep(&self) -> usize {
        self.cse.sweep(self.now).unwrap()
    }

    pub(crate) fn send(&self, request: &RequestPrimitive) -> Reply {
        match self.handle(request) {
            Handled::Done(answer) => Reply::of(answer),
            other => panic!("it is not answered yet: {other:?}"),
        }
    }

    pub(crate) fn handle(&self, request: &RequestPrimitive) -> Handled {
        self.finish(self.cse.handle(request, &self.budget(), self.now))
    }

    fn finish(&self, mut handled: Handled) -> Handled {
        while let Handled::Continue(work) = handled {
            handled = self.cse.proceed(*work, self.now);
        }
        handled
    }

    pub(crate) fn conclude(&self, verified: Verified) -> Reply {
        Reply::of(match self.finish(self.cse.conclude(verified, &self.budget(), self.now)) {
            Handled::Done(answer) => answer,
            other => panic!("it is not answered yet: {other:?}"),
        })
    }

    pub(crate) fn create(&self, from: Option<&str>, path: &str, ty: u16, content: Value) -> Reply {
        let mut request = request(Operation::Create, path, from, Some(content));
        request.resource_type = Some(ty);
        self.send(&request)
    }

    pub(crate) fn register(&self, from: &str, name: &str) -> Reply {
        let ae = json!({"m2m:ae": {"rn": name, "api": "Nlight", "rr": false, "srv": ["3"]}});
        self.create(Some(from), "/cse", 2, ae)
    }

    pub(crate) fn container(&self, from: &str, path: &str, attributes: Value) -> Reply {
        self.create(Some(from), path, 3, json!({ "m2m:cnt": attributes }))
    }

    pub(crate) fn instance(&self, from: &str, path: &str, attributes: Value) -> Reply {
        self.create(Some(from), path, 4, json!({ "m2m:cin": attributes }))
    }

    pub(crate) fn retrieve(&self, from: &str, path: &str) -> Reply {
        self.send(&request(Operation::Retrieve, path, Some(from), None))
    }

    pub(crate) fn update(&self, from: &str, path: &str, content: Value) -> Reply {
        self.send(&request(Operation::Update, path, Some(from), Some(content)))
    }

    pub(crate) fn delete(&self, from: &str, path: &str) -> Reply {
        self.send(&request(Operation::Delete, path, Some(from), None))
    }
}

/// Returns parameters as a list.
pub(crate) fn listed(parameters: &Parameters) -> Vec<(Parameter, String)> {
    parameters.iter().map(|(parameter, value)| (parameter, value.to_owned())).collect()
}
