//! The file of rows is read bit by bit while the node runs, since no start reads all of it.

use std::time::{Duration, Instant};

use super::Engine;

/// How long a piece of the file of rows is read each time.
const SCRUB_PIECE: Duration = Duration::from_millis(50);
/// How long after the file of rows was read to its end that begins again.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl Engine {
    /// Reads on in the file of rows, which was read to its end at `ended`, and says if it is found damaged,
    /// by whom ever.
    pub(super) fn scrub_rows(&self, ended: &mut Option<Instant>) {
        if ended.is_none_or(|ended| ended.elapsed() >= SCRUB_EVERY) {
            let begun = Instant::now();
            let read_on = || begun.elapsed() < SCRUB_PIECE && !self.is_stopping();
            match self.tables().scrub(&read_on) {
                Ok(true) => *ended = Some(Instant::now()),
                Ok(false) => *ended = None,
                Err(error) => self.complain("scrubbing the rows of tables", &error),
            }
        }
        if let Some(lost) = self.tables().take_lost() {
            let kept = lost.set_aside.as_deref();
            let kept = kept.map_or_else(String::new, |kept| format!(", kept as {kept}"));
            tracing::error!(
                "{}{kept}; tables answer with an error until their rows have come from another \
                 member. A node without other members gets them from its log when it is restarted, as \
                 far as the log has them",
                lost.reason
            );
        }
    }
}
