//! The queue of decisions for the shadow modules, and the bound on their CPU time.
//!
//! Shadows have the lowest priority. One decision is compared at a time, and after each the queue sleeps
//! for as long as that took, so shadows use half of one processor at most. The queue is bounded in number
//! and in bytes; decisions beyond either bound are dropped.

use std::mem::size_of;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::data::decision::{CertificateQuery, KeyRegistration, PskQuery, Registration};
use crate::decision::question::Asked;

use crate::decision::shadow::{Shadow, ShadowJob};
use crate::host::bindings::saegis::policy::types;

/// Decisions that wait for the shadows.
const MAX_QUEUED: usize = 1024;
/// Maximum size of all queued decisions, in bytes: an identity can be tens of kilobytes long.
const MAX_QUEUED_BYTES: usize = 4 << 20;
/// What is owed is paid once it is as much as this: a clock of milliseconds can't count less, and most
/// modules answer in a tenth of one.
const MIN_REST: Duration = Duration::from_millis(5);
/// How often it is told that decisions are dropped.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The queue of decisions for the shadows.
#[derive(Clone)]
pub(crate) struct ShadowQueue {
    sender: mpsc::Sender<QueuedJob>,
    /// A permit for each byte that may wait.
    bytes_left: Arc<Semaphore>,
    /// When it was told the last time that decisions are dropped.
    warned_at: Arc<Mutex<Option<Instant>>>,
}

struct QueuedJob {
    shadows: Arc<[Shadow]>,
    job: ShadowJob,
    _bytes: OwnedSemaphorePermit,
}

impl ShadowQueue {
    /// One that takes nothing.
    pub fn none() -> Self {
        Self::with(mpsc::channel(1).0)
    }

    /// Starts what asks the shadows. It ends with the last generation.
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

    /// Takes a decision, if there is room for it; it waits for nothing.
    pub fn put(&self, shadows: Arc<[Shadow]>, job: ShadowJob) -> Result<(), QueueFull> {
        let bytes = u32::try_from(bytes(&job)).map_err(|_| QueueFull)?;
        let bytes_left =
            self.bytes_left.clone().try_acquire_many_owned(bytes).map_err(|_| QueueFull)?;
        self.sender.try_send(QueuedJob { shadows, job, _bytes: bytes_left }).map_err(|_| QueueFull)
    }

    /// Whether it is to be told, once in a while, that decisions are dropped.
    pub fn should_warn(&self) -> bool {
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL);
        if due {
            *warned_at = Some(Instant::now());
        }
        due
    }
}

/// As many decisions wait as may.
pub(crate) struct QueueFull;

async fn ask(mut waiting: mpsc::Receiver<QueuedJob>) {
    let mut owed = Duration::ZERO;
    while let Some(QueuedJob { shadows, job, _bytes }) = waiting.recv().await {
        let began = Instant::now();
        // A task of its own: whatever became of it, the next one is compared.
        let compared = tokio::spawn(async move {
            for shadow in shadows.iter().filter(|shadow| shadow.concerns(job.asked.hook())) {
                shadow.compare(&job).await;
            }
        });
        // It can't be cancelled, and if it could, there would be nothing to do about it.
        let _ = compared.await;
        owed += began.elapsed();
        if owed >= MIN_REST {
            tokio::time::sleep(owed).await;
            owed = Duration::ZERO;
        }
    }
}

/// Returns the memory that a queued decision holds alone.
fn bytes(job: &ShadowJob) -> usize {
    let asked = match &job.asked {
        Asked::Lookup(PskQuery { psk_identity, server_name, .. }) => {
            psk_identity.len() + optional(server_name)
        }
        Asked::Mapping(CertificateQuery { credential_id, server_name, .. }) => {
            credential_id.to_string().len() + optional(server_name)
        }
        Asked::Originator(association, primitive) => {
            let names = primitive.named_originators.iter();
            let names: usize = names.map(|named| named.attribute.len() + named.value.len()).sum();
            of_association(association) + primitive.to.len() + optional(&primitive.from) + names
        }
        Asked::Registration(association, Registration { from, app_id, .. }) => {
            of_association(association) + app_id.len() + optional(from)
        }
        Asked::KeyRegistration(association, KeyRegistration { targets, .. }) => {
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
