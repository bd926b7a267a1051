//! The marks in the operations of origins, as pages of a state have them.

use grapevine_core::history::History;
use grapevine_core::origin::Origin;
use grapevine_core::sync::{Page, PageError, Part};
use grapevine_core::version::VersionVector;

use super::{Exchange, decode_rows, encode_rows};

/// Bytes of a mark on a page, about.
const MARK_BYTES: usize = 20;
/// Most origins noted of which the state need not have anything.
const UNTOLD_ORIGINS_MAX: usize = 4096;
/// Most origins looked at for one page of marks.
const HISTORIES_PER_PAGE: usize = 512;

impl Exchange {
    /// Takes note of what the copy had when it read this page. Once it comes last, all that its
    /// state shows is of that.
    pub(super) fn merge_histories(
        &mut self,
        page: &Page,
        version: &VersionVector,
    ) -> Result<Vec<Part>, PageError> {
        let histories: Vec<(Origin, (u64, History))> = decode_rows(page)?;
        if page.after.is_empty() {
            self.shown.clear();
        }
        for (origin, (count, history)) in histories {
            let sound = History::from_marks(history.marks().to_vec(), history.is_cut());
            let Some(history) = sound else {
                let section = page.section;
                return Err(PageError::Rows { section, at: 0 });
            };
            if version.get(origin) > 0 || self.shown.len() < UNTOLD_ORIGINS_MAX {
                self.shown.insert(origin, (count, history));
            }
        }
        Ok(Vec::new())
    }

    /// The marks of the origins after `after`, about `bytes_max` bytes of them, and the last
    /// origin if more follow.
    pub(super) fn shared_histories(
        &self,
        after: Option<Origin>,
        bytes_max: usize,
    ) -> (Option<Vec<u8>>, Vec<u8>) {
        let journal = self.view.collections.journal();
        let mut known = journal.histories(after, HISTORIES_PER_PAGE);
        let mut more = known.len() == HISTORIES_PER_PAGE;
        let mut bytes = 0;
        let fits = known.iter().position(|(_, (_, history))| {
            let full = bytes >= bytes_max;
            bytes += (history.marks().len() + 2) * MARK_BYTES;
            full
        });
        if let Some(fits) = fits {
            known.truncate(fits);
            more = true;
        }
        let last = known.last().filter(|_| more);
        let next = last.map(|(origin, _)| origin.bytes().to_vec());
        (next, encode_rows(&known))
    }
}
