//! Prometheus's plain text format, version 0.0.4, made from the OpenMetrics text as that is
//! written: one registry serves both.
//!
//! The plain format names a counter with its `_total` and an info metric with its `_info` also in
//! the `HELP` and `TYPE` lines, knows neither `UNIT` nor `EOF`, and writes samples as OpenMetrics
//! does, the escapes of labels included. No metric here has exemplars or `_created`, which the
//! plain format does not know.

use std::fmt;

/// Takes OpenMetrics text in pieces and keeps it as plain text.
#[derive(Debug, Default)]
pub(super) struct PlainText {
    text: String,
    /// A line whose end has not come yet.
    line: String,
    /// Name and help of the metric whose type comes next.
    help: Option<(String, String)>,
}

impl PlainText {
    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        self.end_line();
        self.text
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.translate(&line);
        // Its memory serves the next line.
        self.line = line;
        self.line.clear();
    }

    fn translate(&mut self, line: &str) {
        let Some(comment) = line.strip_prefix("# ") else {
            if !line.is_empty() {
                self.push(&[line]);
            }
            return;
        };
        let (keyword, rest) = comment.split_once(' ').unwrap_or((comment, ""));
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match keyword {
            "HELP" => self.help = Some((name.to_owned(), rest.to_owned())),
            "TYPE" => self.describe(name, rest),
            // UNIT and EOF.
            _ => {}
        }
    }

    fn describe(&mut self, name: &str, kind: &str) {
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            other => ("", other),
        };
        if let Some((named, help)) = self.help.take()
            && named == name
        {
            self.push(&["# HELP ", name, suffix, " ", &help]);
        }
        self.push(&["# TYPE ", name, suffix, " ", kind]);
    }

    fn push(&mut self, parts: &[&str]) {
        self.text.extend(parts.iter().copied());
        self.text.push('\n');
    }
}

impl fmt::Write for PlainText {
    fn write_str(&mut self, mut piece: &str) -> fmt::Result {
        while let Some((end, rest)) = piece.split_once('\n') {
            self.line.push_str(end);
            self.end_line();
            piece = rest;
        }
        self.line.push_str(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn open_metrics_become_plain_ones_however_they_are_cut() -> fmt::Result {
        let open = "# HELP a_bytes Counted.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
                    a_bytes_total{name=\"# TYPE x counter\\n \\\" \\\\\"} 3\n\
                    # HELP g How much\n# TYPE g gauge\ng -1.5\n\
                    # HELP b_build What\n# TYPE b_build info\nb_build_info{version=\"1\"} 1\n\
                    # HELP h_seconds Long\n# TYPE h_seconds histogram\nh_seconds_sum 0.5\n\
                    h_seconds_count 1\nh_seconds_bucket{le=\"+Inf\"} 1\n\
                    # HELP u Odd\n# TYPE u unknown\nu 1\n# EOF\n";
        let plain = "# HELP a_bytes_total Counted.\n# TYPE a_bytes_total counter\n\
                     a_bytes_total{name=\"# TYPE x counter\\n \\\" \\\\\"} 3\n\
                     # HELP g How much\n# TYPE g gauge\ng -1.5\n\
                     # HELP b_build_info What\n# TYPE b_build_info gauge\n\
                     b_build_info{version=\"1\"} 1\n\
                     # HELP h_seconds Long\n# TYPE h_seconds histogram\nh_seconds_sum 0.5\n\
                     h_seconds_count 1\nh_seconds_bucket{le=\"+Inf\"} 1\n\
                     # HELP u Odd\n# TYPE u untyped\nu 1\n";
        for size in [1, 7, open.len()] {
            let mut text = PlainText::default();
            for piece in open.as_bytes().chunks(size) {
                text.write_str(std::str::from_utf8(piece).map_err(|_| fmt::Error)?)?;
            }
            assert_eq!(text.finish(), plain, "in pieces of {size} bytes");
        }
        Ok(())
    }
}
