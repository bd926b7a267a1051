//! Lists: on a terminal in columns under headers, elsewhere a line each with tabs between the fields.

use std::io::{self, IsTerminal, Write};

use crate::http::name;

/// Rows that are aligned together; a longer list goes on with at least the same widths.
const ROWS_TOGETHER_MAX: usize = 1000;
/// What stands between two columns.
const GAP: &str = "  ";

/// A column, by its header.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Words: aligned at the left.
    Words(&'static str),
    /// Numbers: aligned at the right.
    Numbers(&'static str),
}

impl Column {
    fn header(self) -> &'static str {
        match self {
            Column::Words(header) | Column::Numbers(header) => header,
        }
    }
}

/// A list that is being written. It ends with [`Listing::end`].
pub(super) struct Listing<W> {
    output: W,
    columns: Vec<Column>,
    /// Rows that wait to be aligned; none when this is for a pipe.
    waiting: Option<Vec<Vec<String>>>,
    widths: Vec<usize>,
    empty: bool,
}

impl<W: Write> Listing<W> {
    /// A list on standard output, which `output` is.
    pub(super) fn new(output: W, columns: &[Column]) -> Self {
        Self::to(output, columns, io::stdout().is_terminal())
    }

    /// A list for a terminal, or for a pipe. A header of nothing leaves the whole line of headers
    /// out.
    fn to(output: W, columns: &[Column], terminal: bool) -> Self {
        let mut waiting = terminal.then(Vec::new);
        let headers = columns.iter().map(|column| column.header());
        if let Some(waiting) = &mut waiting
            && headers.clone().any(|header| !header.is_empty())
        {
            waiting.push(headers.map(str::to_owned).collect());
        }
        Listing {
            output,
            columns: columns.to_vec(),
            waiting,
            widths: vec![0; columns.len()],
            empty: true,
        }
    }

    /// Adds a row. There may be fields behind the last column.
    pub(super) fn row<F: AsRef<[u8]>>(&mut self, fields: &[F]) -> io::Result<()> {
        self.empty = false;
        let Some(waiting) = &mut self.waiting else {
            for (place, field) in fields.iter().enumerate() {
                if place > 0 {
                    self.output.write_all(b"\t")?;
                }
                self.output.write_all(field.as_ref())?;
            }
            return self.output.write_all(b"\n");
        };
        // Nothing in a name steers the terminal.
        let shown = |field: &F| name::display(field.as_ref()).replace(char::is_control, "\u{fffd}");
        waiting.push(fields.iter().map(shown).collect());
        if waiting.len() >= ROWS_TOGETHER_MAX {
            self.align()?;
        }
        Ok(())
    }

    /// Writes what waits. On a terminal a list without rows is what `none` says instead.
    pub(super) fn end(mut self, none: &str) -> io::Result<()> {
        if self.empty && self.waiting.is_some() && !none.is_empty() {
            self.waiting = None;
            writeln!(self.output, "{none}")?;
        }
        self.align()?;
        self.output.flush()
    }

    fn align(&mut self) -> io::Result<()> {
        let rows = self
            .waiting
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        for (place, width) in self.widths.iter_mut().enumerate() {
            let lengths = rows.iter().filter_map(|row| row.get(place));
            let longest = lengths.map(|field| field.chars().count()).max();
            *width = longest.unwrap_or(0).max(*width);
        }
        for row in rows {
            let mut line = String::new();
            for (place, field) in row.iter().enumerate() {
                if place > 0 {
                    line.push_str(GAP);
                }
                let width = self.widths.get(place).copied().unwrap_or(0);
                match self.columns.get(place) {
                    Some(Column::Numbers(_)) => line.push_str(&format!("{field:>width$}")),
                    _ => line.push_str(&format!("{field:<width$}")),
                }
            }
            writeln!(self.output, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [Column::Words("NAME"), Column::Numbers("KEYS")];

    fn listed(terminal: bool, rows: &[&[&[u8]]]) -> io::Result<String> {
        let mut written = Vec::new();
        let mut list = Listing::to(&mut written, &COLUMNS, terminal);
        for row in rows {
            list.row(row)?;
        }
        list.end("no filters yet")?;
        Ok(String::from_utf8_lossy(&written).into_owned())
    }

    #[test]
    fn a_terminal_gets_columns_under_headers() -> io::Result<()> {
        let shown = listed(
            true,
            &[
                &[b"a", b"1"],
                &["größer".as_bytes(), b"12345", b"damaged"],
                &[b"\x1b[2J", b"7"],
            ],
        )?;
        assert_eq!(
            shown,
            "NAME     KEYS\n\
             a           1\n\
             größer  12345  damaged\n\
             \u{fffd}[2J        7\n"
        );
        assert_eq!(listed(true, &[])?, "no filters yet\n");
        Ok(())
    }

    #[test]
    fn a_pipe_gets_fields_as_they_are() -> io::Result<()> {
        let plain = listed(false, &[&[b"a", b"1"], &[b"\x1b", b"12345", b"damaged"]])?;
        assert_eq!(plain, "a\t1\n\x1b\t12345\tdamaged\n");
        assert_eq!(listed(false, &[])?, "");
        Ok(())
    }

    #[test]
    fn a_long_list_is_not_kept() -> io::Result<()> {
        let mut written = Vec::new();
        let mut list = Listing::to(&mut written, &COLUMNS, true);
        for number in 0..3 * ROWS_TOGETHER_MAX {
            list.row(&["x".to_owned(), number.to_string()])?;
            assert!(list.waiting.as_ref().map_or(0, Vec::len) < ROWS_TOGETHER_MAX);
        }
        list.end("")?;
        let lines = String::from_utf8_lossy(&written).lines().count();
        assert_eq!(lines, 3 * ROWS_TOGETHER_MAX + 1);
        Ok(())
    }
}
