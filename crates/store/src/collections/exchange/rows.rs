//! Tables, as pages of a state have them.

use grapevine_core::sync::{Page, PageError, Part, Source};

use super::{Exchange, KEPT_MAX, SECTION_FLOORS, SECTION_KNOWLEDGE, SECTION_ROWS, origin};
use crate::tables::TakeOverError;

impl Exchange {
    pub(super) fn merge_tables(
        &mut self,
        page: &Page,
        source: Source<'_>,
    ) -> Result<Vec<Part>, PageError> {
        let section = page.section;
        let malformed = PageError::Rows { section, at: 0 };
        let tables = &self.view.collections.tables;
        let next = page.next.as_deref();
        let merged = match section {
            SECTION_ROWS => {
                let kept = tables.take_over_rows(&page.after, next, &page.bytes, source);
                kept.map(|kept| {
                    let room = KEPT_MAX.saturating_sub(self.kept.len());
                    self.kept.extend(kept.into_iter().take(room));
                })
            }
            SECTION_KNOWLEDGE => {
                let after = origin(&page.after).ok_or(malformed)?;
                let up_to = next.map_or(Some(None), origin).ok_or(malformed)?;
                tables.take_over_knowledge(after, up_to, &page.bytes, source)
            }
            SECTION_FLOORS => tables.take_over_floors(&page.bytes),
            _ => tables.take_over_tables(&page.bytes),
        };
        match merged {
            Ok(()) => {
                match section {
                    SECTION_ROWS if next.is_none() => tables.gathered_rows(),
                    SECTION_FLOORS if next.is_none() => tables.gathered_floors(),
                    _ => {}
                }
                Ok(Vec::new())
            }
            Err(TakeOverError::Malformed) => Err(malformed),
            Err(TakeOverError::ReadOnly(error)) => {
                self.view.note(&error);
                Err(PageError::Room)
            }
        }
    }

    /// The page of one of the sections of tables after a key. Where rows are missing there is none, so
    /// that nobody takes for removed what is absent here.
    pub(super) fn page_of_tables(
        &mut self,
        section: u8,
        after: &[u8],
        bytes_max: usize,
    ) -> Option<(Option<Vec<u8>>, Vec<u8>)> {
        let tables = &self.view.collections.tables;
        if let Some(reason) = tables.damage() {
            let what = format_args!("rows are missing here and not shown to peers: {reason}");
            self.view.note(&what);
            return None;
        }
        let piece = match section {
            SECTION_ROWS => {
                let rows = tables.shared_rows(after, bytes_max);
                rows.map_err(|error| self.view.note(&error)).ok()?
            }
            SECTION_KNOWLEDGE => tables.shared_knowledge(origin(after)?, bytes_max),
            SECTION_FLOORS => tables.shared_floors(after, bytes_max),
            _ => tables.shared_tables(after, bytes_max),
        };
        self.view.show(Ok(piece)).ok()
    }
}
