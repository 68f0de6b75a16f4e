//! Imports `wasi:keyvalue` and `wasi:config`, implemented on the store and the configuration of the
//! module.

use wasmtime::component::Resource;

use crate::host::bindings::wasi::config;
use crate::host::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use crate::host::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::host::call::Call;
use crate::host::config::Values;
use crate::host::handles::Bucket;
use crate::host::key_value::{Answer, Question};

/// Maximum length of a key, in bytes.
const MAX_KEY: usize = 256;
/// Maximum number of keys of one request.
const MAX_KEYS: usize = 256;
/// Maximum number of handles of a call.
const MAX_BUCKETS: usize = 16;

fn other<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::Other(what.into()))
}

/// Checks the number and the length of the keys.
fn check(question: &Question) -> Result<(), Error> {
    let (number, longest) = match question {
        Question::Get(keys) | Question::Delete(keys) => {
            (keys.len(), keys.iter().map(String::len).max())
        }
        Question::Set(values) => (values.len(), values.iter().map(|(key, _)| key.len()).max()),
        Question::Increment(key, _) => (1, Some(key.len())),
        Question::Keys { .. } => (0, None),
    };
    if number > MAX_KEYS {
        return other(format!("the request has more than {MAX_KEYS} keys"));
    }
    if longest.is_some_and(|length| length > MAX_KEY) {
        return other(format!("a key is longer than {MAX_KEY} bytes"));
    }
    Ok(())
}

impl Call {
    /// Sends a request to the store of the module. In the trial start of a module there is none.
    async fn ask_store(&mut self, question: Question) -> Result<Answer, Error> {
        check(&question)?;
        let Some(store) = self.io().store.clone() else { return Err(Error::AccessDenied) };
        match store.ask(question).await {
            Answer::Failed(why) => other(why),
            answer => Ok(answer),
        }
    }

    async fn get_values(&mut self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        match self.ask_store(Question::Get(keys)).await? {
            Answer::Values(values) => Ok(values),
            _ => other("the store has failed"),
        }
    }

    async fn set_values(&mut self, values: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        self.ask_store(Question::Set(values)).await.map(|_| ())
    }

    async fn delete_values(&mut self, keys: Vec<String>) -> Result<(), Error> {
        self.ask_store(Question::Delete(keys)).await.map(|_| ())
    }
}

type Outcome<T> = wasmtime::Result<Result<T, Error>>;

impl store::Host for Call {
    async fn open(&mut self, identifier: String) -> Outcome<Resource<Bucket>> {
        if !identifier.is_empty() && identifier != "default" {
            return Ok(Err(Error::NoSuchStore));
        }
        if self.buckets >= MAX_BUCKETS {
            return Ok(other(format!("the call has more than {MAX_BUCKETS} handles of the store")));
        }
        self.buckets += 1;
        Ok(Ok(Resource::new_own(0)))
    }
}

impl store::HostBucket for Call {
    async fn get(&mut self, _: Resource<Bucket>, key: String) -> Outcome<Option<Vec<u8>>> {
        Ok(self.get_values(vec![key]).await.map(|mut values| values.pop().flatten()))
    }

    async fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> Outcome<()> {
        Ok(self.set_values(vec![(key, value)]).await)
    }

    async fn delete(&mut self, _: Resource<Bucket>, key: String) -> Outcome<()> {
        Ok(self.delete_values(vec![key]).await)
    }

    async fn exists(&mut self, _: Resource<Bucket>, key: String) -> Outcome<bool> {
        Ok(self.get_values(vec![key]).await.map(|values| values.iter().any(Option::is_some)))
    }

    async fn list_keys(
        &mut self,
        _: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Outcome<KeyResponse> {
        let question = Question::Keys { from: cursor.unwrap_or(0) };
        Ok(match self.ask_store(question).await {
            Ok(Answer::Keys { keys, next }) => Ok(KeyResponse { keys, cursor: next }),
            Ok(_) => other("the store has failed"),
            Err(error) => Err(error),
        })
    }

    async fn drop(&mut self, _: Resource<Bucket>) -> wasmtime::Result<()> {
        self.buckets = self.buckets.saturating_sub(1);
        Ok(())
    }
}

impl atomics::Host for Call {
    async fn increment(&mut self, _: Resource<Bucket>, key: String, delta: u64) -> Outcome<u64> {
        Ok(match self.ask_store(Question::Increment(key, delta)).await {
            Ok(Answer::Number(number)) => Ok(number),
            Ok(_) => other("the store has failed"),
            Err(error) => Err(error),
        })
    }
}

impl batch::Host for Call {
    async fn get_many(
        &mut self,
        _: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Outcome<Vec<Option<(String, Vec<u8>)>>> {
        let values = self.get_values(keys.clone()).await;
        Ok(values.map(|values| {
            let pairs = keys.into_iter().zip(values);
            pairs.map(|(key, value)| Some((key, value?))).collect()
        }))
    }

    async fn set_many(
        &mut self,
        _: Resource<Bucket>,
        values: Vec<(String, Vec<u8>)>,
    ) -> Outcome<()> {
        Ok(self.set_values(values).await)
    }

    async fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Outcome<()> {
        Ok(self.delete_values(keys).await)
    }
}

impl config::store::Host for Call {
    fn get(
        &mut self,
        key: String,
    ) -> wasmtime::Result<Result<Option<String>, config::store::Error>> {
        let values = self.io().config.as_ref();
        let found = values.and_then(|values| values.get(&key));
        Ok(Ok(found.map(Into::into)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, config::store::Error>> {
        let all = self.io().config.iter().flat_map(Values::all);
        Ok(Ok(all.map(|(name, value)| (name.into(), value.into())).collect()))
    }
}
