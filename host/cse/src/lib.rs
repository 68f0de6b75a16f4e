//! The embedded CSE: a small, durable CSE, so that a gateway works without an upstream CSE.
//!
//! It hosts `<CSEBase>`, `<AE>`, `<container>`, `<contentInstance>`, `<flexContainer>`,
//! `<flexContainerInstance>`, `<timeSeries>`, `<timeSeriesInstance>`, `<subscription>`, `<group>`,
//! `<schedule>`, `<request>`, `<pollingChannel>`, `<accessControlPolicy>`, `<remoteCSE>`, `<node>` and `<mgmtObj>`. The virtual
//! resources are `la` and `ol` of a container, a flexContainer and a timeSeries, `fopt` of a group
//! and `pcu` of a polling channel. It announces containers, content instances and flexContainers to
//! its registrar CSE, and hosts those of its registrees. An IN-CSE also hosts the service subscriptions
//! and `<AEAnnc>`. A
//! response of CREATED, UPDATED or DELETED is returned after the commit to disk.
//!
//! [`EmbeddedCse::handle`] takes a request primitive after the security checks, so its From is
//! authenticated. The request passes the steps of TS-0004 clause 7.2.2.2 in their order: release
//! version, parameters, target, privilege, representation, operation. A step that refuses it
//! returns a reason for the originator.
//!
//! The modules are layers, in the order of reading. Each imports only from those before it:
//!
//! - `record`, `attempts`, `awaited_resources`, `channel_requests`, `retries`, `receipts`, `store`, `definitions`, `settings`, `error` and `state`: the stored data, and the
//!   state of the CSE;
//! - `resource`: the resource types, their attributes, and lookups of resources (TS-0004 clause
//!   7.4);
//! - `access`: the originator, its privileges, and the names in resources (TS-0003 clause 7.1);
//! - `request`: the parameters of a request, and its context;
//! - `notification`: subscriptions, and the delivery of notifications and of late results (TS-0004
//!   clause 7.5.1.2);
//! - `operation`: create, retrieve, update, delete, discovery, and the fan-out of a group.
//!
//! The main types are [`EmbeddedCse`] with its [`Settings`], [`RequestBudget`] with its
//! [`Authority`], and [`Handled`] with [`Answer`].
//!
//! The CSE sends nothing. An [`Answer`] has the notifications of a change, which the caller sends
//! after the commit. A subscription whose targets must be verified first is returned as a
//! [`Verification`]:
//!
//! ```
//! # use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
//! # use saegis_cse::{Answer, Authority, Checked, Handled, Notification, EmbeddedCse};
//! # use saegis_cse::RequestBudget;
//! # use std::sync::Arc;
//! # use std::time::{Duration, Instant, SystemTime};
//! /// Sends a notification, if a rule allows its address.
//! # fn send(notification: &Notification) -> Option<ResponsePrimitive> { None }
//! async fn execute(
//!     cse: &EmbeddedCse,
//!     request: &RequestPrimitive,
//!     association: Arc<Authority>,
//! ) -> ResponsePrimitive {
//!     let deadline = Instant::now() + Duration::from_secs(10);
//!     let budget = RequestBudget::new(association, deadline, 50_000);
//!     let mut handled = cse.handle(request, &budget, SystemTime::now());
//!     let answer = loop {
//!         match handled {
//!             Handled::Done(answer) => break answer,
//!             // One of many members of a group is done. Other requests may run here.
//!             Handled::Continue(work) => handled = cse.proceed(*work, SystemTime::now()),
//!             // The request waits for another one. Add a timeout, because this may take long.
//!             Handled::Await(mut awaiting) => {
//!                 awaiting.changed().await;
//!                 handled = cse.handle(awaiting.request(), &budget, SystemTime::now());
//!             }
//!             // An AE polls its channel. Add a timeout, because this may take long.
//!             Handled::Wait(poll) => break poll.await,
//!             // A notification for an AE, whose response goes to the originator.
//!             Handled::Deliver(delivery) => break match send(delivery.notification()) {
//!                 Some(response) => delivery.answered(response),
//!                 None => delivery.unanswered(),
//!             },
//!             Handled::Verify(target) => {
//!                 let Some(response) = send(target.notification()) else {
//!                     break target.unanswered("it did not answer");
//!                 };
//!                 match target.answered(response.rsc) {
//!                     Checked::Next(target) => handled = Handled::Verify(target),
//!                     Checked::Refused(answer) => break answer,
//!                     Checked::Ready(all) => {
//!                         handled = cse.conclude(all, &budget, SystemTime::now());
//!                     }
//!                 }
//!             }
//!         }
//!     };
//!     for notification in &answer.notifications {
//!         // Better in another task: the originator need not wait for it.
//!         let _ = send(notification);
//!     }
//!     answer.response
//! }
//! ```
//!
//! The calls block on the disk: an asynchronous caller runs them on a thread that may block.

mod access;
mod announcing;
mod attempts;
mod awaited_resources;
mod budget;
mod channel_requests;
mod compaction;
mod cse;
mod definitions;
mod error;
mod export;
mod identifiers;
mod import;
mod inspection;
mod notification;
mod operation;
mod operator;
mod receipts;
mod record;
mod registrees;
mod request;
mod resource;
mod retries;
mod settings;
mod state;
mod store;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use announcing::{
    AnnouncementOutcome, AnnouncementStatus, AnnouncementTask, Deletion, Position, Synchronization,
};
pub use budget::{Authority, CancelOnDrop, RequestBudget, StopReason};
pub use channel_requests::ChannelResponse;
pub use compaction::Compaction;
pub use cse::{EmbeddedCse, Handled, OpenError};
pub use definitions::{DefinitionError, Definitions};
pub use import::{Import, ImportReport};
pub use inspection::{InspectedResource, Inspection, InspectionError, compact};
pub use notification::answer::{Answer, ResultNotifications};
pub use notification::asynchronous::{NonBlockingRequest, ResultTargets, is_non_blocking};
pub use notification::awaiting::AwaitingRequest;
pub use notification::delivery::Delivery;
pub use notification::due::DueNotifications;
pub use notification::long_poll::LongPoll;
pub use notification::message::{Destination, NamedBy, Notification};
pub use notification::verification::{Checked, Verification, Verified};
pub use operation::delete::SWEEP_BATCH;
pub use operation::fan_out::Continuation;
pub use operator::{Operator, OperatorError};
pub use receipts::Receipt;
pub use registrees::LearnedAe;
pub use resource::ae_announcement::Announcement;
pub use resource::service_subscription::{AppRule, ServiceSubscription};
pub use settings::{Settings, SettingsError, StorageLimits};
pub use store::StoreError;
