//! The table that is printed, and the middle of several rounds.

use std::fmt;

/// Lines of what was measured and what came of it, in order.
#[derive(Default)]
pub(crate) struct Table(Vec<(String, String)>);

impl Table {
    /// Adds a line, and shows it at once on standard error: a run takes minutes.
    pub(crate) fn add(&mut self, what: &str, figure: String) {
        eprintln!("  {what}: {figure}");
        self.0.push((what.to_owned(), figure));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.0.iter().map(|(what, _)| what.chars().count());
        let width = lengths.max().unwrap_or(0);
        for (what, figure) in &self.0 {
            writeln!(out, "{what:width$}  {figure}")?;
        }
        Ok(())
    }
}

/// The middle one; of an even number the lower of the two. 0 of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

/// The smallest figure that is not below the given share of them. 0 of none.
pub(crate) fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(place.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// Middle, 99th of a hundred and largest of some times.
pub(crate) fn spread(figures: &[f64], unit: &str) -> String {
    format!(
        "p50 {:.2}, p99 {:.2}, max {:.2} {unit}",
        quantile(figures, 0.5),
        quantile(figures, 0.99),
        quantile(figures, 1.0)
    )
}

/// All rounds' figures and the middle one.
pub(crate) fn rounds(figures: &[f64], decimals: usize, unit: &str) -> String {
    let all: Vec<String> = figures.iter().map(|f| format!("{f:.decimals$}")).collect();
    let middle = median(figures);
    format!("{middle:.decimals$} {unit} ({})", all.join(", "))
}
