//! Memory of connections that have gone, given back to the system.
//!
//! glibc keeps whatever lies beneath something that still lives: after 3,000 connections had come and
//! gone, 37 MiB stayed where 2.4 had been before and 0.2 were in use. Trimmed, it is 2.4 again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lendfile::Connections;
use lendfile_core::heap;
use tokio::sync::Notify;

/// Between two looks. A crowd that comes and goes within it is not noticed.
const LOOK: Duration = Duration::from_secs(2);

/// Connections, of 12 to 28 KiB each, that are too few to matter.
const FEW: u64 = 16;

/// Watches for as long as it is polled. Tells `ebb` each time, for [`renew_caches`].
pub(super) async fn give_back(connections: Connections, ebb: Arc<Notify>) {
    let (mut most, mut ebbing) = (0, false);
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let open = connections.open();
        most = most.max(open);
        // Once more when it is over: the last few went after the look before.
        let was_ebbing = std::mem::replace(&mut ebbing, has_ebbed(most, open));
        if ebbing || was_ebbing {
            let begun = Instant::now();
            // What the threads let go of now is given back the next time.
            ebb.notify_waiters();
            heap::trim();
            most = open;
            // Whoever allocates meanwhile may wait for it: for one part of the time in fifty at most.
            looks.reset_after(LOOK.max(begun.elapsed() * 50));
        }
    }
}

/// Has the thread that polls it let go of blocks that hold pages of connections that have gone.
pub(super) async fn renew_caches(ebb: Arc<Notify>) {
    loop {
        ebb.notified().await;
        heap::renew_thread_cache();
    }
}

/// Whether so many of the connections have gone that their memory is worth the search for it.
fn has_ebbed(most: u64, open: u64) -> bool {
    most - open >= FEW.max(most / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_many_and_sixteen_of_few_are_worth_it() {
        for (most, open, ebbed) in [
            (0, 0, false),
            (20, 5, false),
            (20, 4, true),
            (10_000, 7501, false),
            (10_000, 7500, true),
        ] {
            assert_eq!(has_ebbed(most, open), ebbed, "{open} of {most}");
        }
    }
}
