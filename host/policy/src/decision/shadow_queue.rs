//! The queue of decisions for the shadow modules, and the bound on their CPU time.
//!
//! Shadows have the lowest priority. Decisions are compared one at a time, and after each the queue
//! sleeps for as long as the comparison took. So shadows use at most half of one processor. The
//! queue is bounded in number and in bytes; decisions beyond either limit are dropped.

use std::mem::size_of;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::data::decision::{CertificateQuery, KeyRegistration, PskQuery, Registration};
use crate::decision::question::RuntimeQuestion;

use crate::decision::shadow::{Shadow, ShadowJob};
use crate::host::bindings::saegis::policy::types;

/// Maximum number of queued decisions.
const MAX_QUEUED: usize = 1024;
/// Maximum size of all queued decisions, in bytes: an identity can be tens of kilobytes long.
const MAX_QUEUED_BYTES: usize = 4 << 20;
/// Minimum sleep; shorter ones are accumulated. A timer has a resolution of milliseconds, and most
/// modules respond in a tenth of one.
const MIN_REST: Duration = Duration::from_millis(5);
/// Interval between warnings about dropped decisions.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Queue of decisions for the shadows.
#[derive(Clone)]
pub(crate) struct ShadowQueue {
    sender: mpsc::Sender<QueuedJob>,
    /// A permit for each byte that may be queued.
    bytes_left: Arc<Semaphore>,
    /// Time of the last warning.
    warned_at: Arc<Mutex<Option<Instant>>>,
}

struct QueuedJob {
    shadows: Arc<[Shadow]>,
    job: ShadowJob,
    _bytes: OwnedSemaphorePermit,
}

impl ShadowQueue {
    /// Creates a queue that accepts no decision.
    pub fn none() -> Self {
        Self::with(mpsc::channel(1).0)
    }

    /// Starts the task that calls the shadows. It ends with the last generation.
    pub fn start() -> Self {
        let (sender, waiting) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(ask(waiting));
        Self::with(sender)
    }

    fn with(sender: mpsc::Sender<QueuedJob>) -> Self {
        Self {
            sender,
            bytes_left: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
            warned_at: Arc::default(),
        }
    }

    /// Adds a decision if there is room, without waiting.
    pub fn put(&self, shadows: Arc<[Shadow]>, job: ShadowJob) -> Result<(), QueueFull> {
        let bytes = u32::try_from(bytes(&job)).map_err(|_| QueueFull)?;
        let bytes_left =
            self.bytes_left.clone().try_acquire_many_owned(bytes).map_err(|_| QueueFull)?;
        self.sender.try_send(QueuedJob { shadows, job, _bytes: bytes_left }).map_err(|_| QueueFull)
    }

    /// Returns whether a warning about dropped decisions is due.
    pub fn should_warn(&self) -> bool {
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL);
        if due {
            *warned_at = Some(Instant::now());
        }
        due
    }
}

/// The queue is full.
pub(crate) struct QueueFull;

async fn ask(mut waiting: mpsc::Receiver<QueuedJob>) {
    let mut owed = Duration::ZERO;
    while let Some(QueuedJob { shadows, job, _bytes }) = waiting.recv().await {
        let began = Instant::now();
        // A separate task: if it panics, the queue continues.
        let compared = tokio::spawn(async move {
            for shadow in shadows.iter().filter(|shadow| shadow.concerns(job.asked.hook())) {
                shadow.compare(&job).await;
            }
        });
        // The task is not canceled, and its result does not matter.
        let _ = compared.await;
        owed += began.elapsed();
        if owed >= MIN_REST {
            tokio::time::sleep(owed).await;
            owed = Duration::ZERO;
        }
    }
}

/// Returns the memory that only the queued decision uses.
fn bytes(job: &ShadowJob) -> usize {
    let asked = match &job.asked {
        RuntimeQuestion::Lookup(PskQuery { psk_identity, server_name, .. }) => {
            psk_identity.len() + optional(server_name)
        }
        RuntimeQuestion::Mapping(CertificateQuery { credential_id, server_name, .. }) => {
            credential_id.to_string().len() + optional(server_name)
        }
        RuntimeQuestion::Originator(association, primitive) => {
            let names = primitive.named_originators.iter();
            let names: usize = names.map(|named| named.attribute.len() + named.value.len()).sum();
            of_association(association) + primitive.to.len() + optional(&primitive.from) + names
        }
        RuntimeQuestion::Registration(association, Registration { from, app_id, .. }) => {
            of_association(association) + app_id.len() + optional(from)
        }
        RuntimeQuestion::KeyRegistration(association, KeyRegistration { targets, .. }) => {
            let targets: usize = targets.iter().map(|target| target.to_string().len()).sum();
            of_association(association) + targets
        }
    };
    size_of::<QueuedJob>() + asked + job.answer.to_string().len()
}

fn of_association(association: &types::Association) -> usize {
    let entity = match &association.entity {
        types::Entity::NotYetKnown => 0,
        types::Entity::Ae(name) | types::Entity::Cse(name) | types::Entity::MafClient(name) => {
            name.len()
        }
        types::Entity::Aes(names) => names.iter().map(String::len).sum(),
    };
    let provider = optional(&association.service_provider);
    entity + association.credential_id.len() + association.peer.len() + provider
}

fn optional(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}
