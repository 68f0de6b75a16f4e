//! The task of one connection, which gives way to others while its credential uses much of the processors.
//!
//! A connection is polled on the threads of the gateway's runtime or, while its credential is heavy, on
//! threads with a low priority. All else that it uses, such as sockets and timers, stays with the
//! gateway's runtime.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use saegis_onem2m::id::CredentialId;
use tokio::runtime::Handle;

use crate::usage::{Usage, thread_time};

/// The processor time of one connection, which is charged to its credential.
#[derive(Debug)]
pub struct Account {
    usage: Arc<Usage>,
    credential: OnceLock<CredentialId>,
    /// Nanoseconds that were used before the credential was known.
    uncharged: AtomicU64,
}

impl Account {
    /// The account of a connection whose credential is not known yet.
    pub fn new(usage: Arc<Usage>) -> Arc<Self> {
        Arc::new(Self { usage, credential: OnceLock::new(), uncharged: AtomicU64::new(0) })
    }

    /// Charges the credential that the peer has proved from now on, and what was used before.
    pub fn belongs_to(&self, credential: &CredentialId) {
        if self.credential.set(credential.clone()).is_ok() {
            let before = self.uncharged.swap(0, Ordering::Relaxed);
            self.usage.charge(credential, Duration::from_nanos(before));
        }
    }

    fn charge(&self, used: Duration) {
        match self.credential.get() {
            Some(credential) => self.usage.charge(credential, used),
            None => {
                let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
                self.uncharged.fetch_add(used, Ordering::Relaxed);
            }
        }
    }

    fn is_heavy(&self) -> bool {
        self.credential.get().is_some_and(|credential| self.usage.is_heavy(credential))
    }
}

/// The runtimes on whose threads connections are polled.
#[derive(Debug, Clone)]
pub struct Runtimes {
    /// The gateway's.
    pub usual: Handle,
    /// That with a low priority.
    pub low: Handle,
}

impl Runtimes {
    /// Spawns the task of a connection.
    pub fn spawn(&self, account: Arc<Account>, work: impl Future<Output = ()> + Send + 'static) {
        let runtimes = self.clone();
        ConnectionTask { runtimes, account, gives_way: false, work: Box::pin(work) }.spawn();
    }
}

struct ConnectionTask {
    runtimes: Runtimes,
    account: Arc<Account>,
    gives_way: bool,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl ConnectionTask {
    fn spawn(mut self) {
        self.gives_way = self.account.is_heavy();
        let runtime = if self.gives_way { &self.runtimes.low } else { &self.runtimes.usual };
        let runtime = runtime.clone();
        runtime.spawn(async move {
            let has_ended = std::future::poll_fn(|cx| self.poll(cx)).await;
            if !has_ended {
                self.spawn();
            }
        });
    }

    /// Polls the connection. Returns whether it has ended; if not, it is to be polled by other threads.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.account.is_heavy() != self.gives_way {
            return Poll::Ready(false);
        }
        let _context = self.runtimes.usual.enter();
        let start = thread_time();
        let polled = self.work.as_mut().poll(cx);
        self.account.charge(thread_time().saturating_sub(start));
        polled.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::low_priority::{LowPriority, Niceness};

    #[tokio::test]
    async fn connection_gives_way_while_its_credential_is_heavy() {
        let low = LowPriority::for_futures("test", 1, Niceness::Lowest);
        let runtimes = Runtimes { usual: Handle::current(), low: low.handle() };
        let usage = Arc::<Usage>::default();
        let account = Account::new(usage.clone());
        let (ask, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<_>>();
        let niceness = || getpriority_process(None).unwrap();
        let usual = niceness();
        runtimes.spawn(account.clone(), async move {
            while let Some(answer) = asked.recv().await {
                // Neither a timer nor a task of its own has a low priority.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let spawned = tokio::spawn(async move { niceness() }).await.unwrap();
                let _ = answer.send((niceness(), spawned));
            }
        });
        let polled = || async {
            let (answer, answered) = oneshot::channel();
            ask.send(answer).unwrap();
            answered.await.unwrap()
        };
        assert_eq!(polled().await, (usual, usual));
        let lamp = CredentialId::parse("12-lamp@b.c").unwrap();
        usage.charge(&lamp, Duration::from_secs(600));
        assert_eq!(polled().await, (usual, usual), "the peer has not proved the credential yet");
        account.belongs_to(&lamp);
        let (polling, spawned) = polled().await;
        assert!(polling > usual && spawned == usual);
    }

    #[test]
    fn processor_time_is_charged_to_the_proved_credential() {
        let usage = Arc::<Usage>::default();
        let account = Account::new(usage.clone());
        let lamp = CredentialId::parse("12-lamp@b.c").unwrap();
        account.charge(Duration::from_secs(300));
        assert!(!account.is_heavy() && !usage.is_heavy(&lamp));
        account.belongs_to(&lamp);
        assert!(account.is_heavy());
        account.belongs_to(&CredentialId::parse("12-other@b.c").unwrap());
        assert!(account.is_heavy(), "the first credential remains");
    }
}
