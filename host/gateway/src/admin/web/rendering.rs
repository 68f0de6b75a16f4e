//! Rendering of pages: at low priority and a few at a time, because some visit all rows of large tables,
//! and a browser can request them without end.

use std::future::Future;

use hyper::{Response, StatusCode};
use tokio::sync::Semaphore;

use super::guard::{Body, plain};
use crate::low_priority::LowPriority;

/// Maximum number of pages that are rendered at a time. Others wait.
const MAX_CONCURRENT: usize = 2;

/// Threads that render pages.
pub struct Rendering {
    threads: LowPriority,
    permits: Semaphore,
}

impl Default for Rendering {
    fn default() -> Self {
        let threads = LowPriority::for_futures("saegis-web");
        Self { threads, permits: Semaphore::new(MAX_CONCURRENT) }
    }
}

impl Rendering {
    /// Renders a page. Its blocking work also runs at low priority.
    pub async fn run(
        &self,
        page: impl Future<Output = Response<Body>> + Send + 'static,
    ) -> Response<Body> {
        let _permit = self.permits.acquire().await;
        let rendered = self.threads.handle().spawn(page).await;
        // It cannot panic; if it did, the gateway would go on.
        rendered.unwrap_or_else(|_| {
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered\n")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn few_pages_are_rendered_at_a_time() {
        let (rendering, active) = (Rendering::default(), Arc::new(AtomicUsize::new(0)));
        let page = || {
            let active = active.clone();
            async move {
                let now = active.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
                active.fetch_sub(1, Ordering::SeqCst);
                let is_within = now <= MAX_CONCURRENT;
                plain(if is_within { StatusCode::OK } else { StatusCode::CONFLICT }, "")
            }
        };
        let all = futures_util::future::join_all((0..20).map(|_| rendering.run(page()))).await;
        assert!(all.iter().all(|response| response.status() == StatusCode::OK));
        let niceness = rendering.run(async {
            let nice = rustix::process::getpriority_process(None).unwrap_or_default();
            plain(if nice > 0 { StatusCode::OK } else { StatusCode::CONFLICT }, "")
        });
        assert_eq!(niceness.await.status(), StatusCode::OK);
        let failed = rendering.run(async { panic!("a page that cannot be rendered") }).await;
        assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
