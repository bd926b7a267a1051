//! How long things take: histograms that cost two additions, however many things took as long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Upper bounds of the buckets, in nanoseconds, two for each power of ten: a value read from the
/// buckets is right to within a factor of about three.
const BOUNDS: [u64; 14] = [
    3_000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
    10_000_000_000,
];
/// Nanoseconds for each unit of a sum. With a hundred thousand things under way at any time, it
/// takes half a year until a sum of 64 bits begins anew.
const SUM_UNIT: u64 = 100;
const SECOND: f64 = 1e9;

/// One histogram.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In [`SUM_UNIT`]s.
    sum: AtomicU64,
}

impl Latency {
    /// Counts `count` things, each of which took `elapsed`.
    #[inline]
    pub fn record(&self, elapsed: Duration, count: u64) {
        let each = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < each);
        self.buckets[bucket].fetch_add(count, Relaxed);
        let all = each.saturating_mul(count).saturating_add(SUM_UNIT / 2);
        self.sum.fetch_add(all / SUM_UNIT, Relaxed);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "bounds are exact; of a sum a float keeps fifteen digits"
    )]
    fn encode(&self, encoder: &mut MetricEncoder) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / SECOND);
        let bounds = bounds.chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // From the same reading: the last bucket and the count have to agree.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sum.load(Relaxed) as f64 * (SUM_UNIT as f64 / SECOND);
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// Labels with their values.
type Labels = Vec<(&'static str, &'static str)>;

/// Histograms of one name, told apart by labels of which there is a fixed set: what clients send
/// is no label. Copies share the histograms.
#[derive(Clone, Debug)]
pub struct Latencies {
    series: Arc<[(Labels, Latency)]>,
    /// Only those that have counted something are shown.
    only_used: bool,
}

impl Latencies {
    /// A histogram for each of `values` of a label.
    #[must_use]
    pub fn by(label: &'static str, values: &[&'static str]) -> Self {
        Self::of(values.iter().map(|value| vec![(label, *value)]), false)
    }

    /// A histogram for each of many sets of labels, shown from its first use on.
    #[must_use]
    pub fn by_many(labels: impl IntoIterator<Item = Labels>) -> Self {
        Self::of(labels, true)
    }

    /// One histogram without a label.
    #[must_use]
    pub fn single() -> Self {
        Self::of([Vec::new()], false)
    }

    fn of(labels: impl IntoIterator<Item = Labels>, only_used: bool) -> Self {
        let series = labels
            .into_iter()
            .map(|labels| (labels, Latency::default()));
        Latencies {
            series: series.collect(),
            only_used,
        }
    }

    /// The histogram at that place of the list that they were made from.
    #[must_use]
    pub fn at(&self, index: usize) -> &Latency {
        &self.series[index].1
    }
}

impl EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        for (labels, latency) in self.series.iter() {
            if self.only_used && latency.count() == 0 {
                continue;
            }
            if labels.is_empty() {
                latency.encode(&mut encoder)?;
            } else {
                latency.encode(&mut encoder.encode_family(labels)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }

    fn is_empty(&self) -> bool {
        self.only_used && self.series.iter().all(|(_, latency)| latency.count() == 0)
    }
}

/// Things of a few kinds that are under way together, such as the lines of a buffer: they have
/// taken equally long when they are done.
#[derive(Clone, Debug)]
pub(crate) struct Tally<const KINDS: usize> {
    counts: [u64; KINDS],
}

impl<const KINDS: usize> Default for Tally<KINDS> {
    fn default() -> Self {
        Tally { counts: [0; KINDS] }
    }
}

impl<const KINDS: usize> Tally<KINDS> {
    /// `count` more of that kind.
    #[inline]
    pub(crate) fn add(&mut self, kind: usize, count: u64) {
        self.counts[kind] += count;
    }

    /// They are done: since `began`. The clock is read only if there were any.
    pub(crate) fn done(&mut self, began: Instant, latencies: &Latencies) {
        if self.counts.iter().all(|count| *count == 0) {
            return;
        }
        let elapsed = began.elapsed();
        for (kind, count) in self.counts.iter_mut().enumerate() {
            if *count > 0 {
                latencies.at(kind).record(elapsed, *count);
                *count = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn text(latencies: &Latencies) -> String {
        let mut registry = Registry::default();
        registry.register("x_seconds", "How long", latencies.clone());
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        text
    }

    #[test]
    fn each_duration_is_in_the_buckets_from_its_bound_on() {
        let latencies = Latencies::by("command", &["a", "b"]);
        let record = |nanoseconds, count| {
            let elapsed = Duration::from_nanos(nanoseconds);
            latencies.at(1).record(elapsed, count);
        };
        record(0, 1);
        record(10_000, 2);
        record(10_001, 4);
        record(20_000_000_000, 8);
        let text = text(&latencies);
        for line in [
            "# TYPE x_seconds histogram",
            "x_seconds_count{command=\"a\"} 0",
            "x_seconds_count{command=\"b\"} 15",
            "x_seconds_bucket{le=\"0.000003\",command=\"b\"} 1",
            "x_seconds_bucket{le=\"0.00001\",command=\"b\"} 3",
            "x_seconds_bucket{le=\"0.00003\",command=\"b\"} 7",
            "x_seconds_bucket{le=\"10.0\",command=\"b\"} 7",
            "x_seconds_bucket{le=\"+Inf\",command=\"b\"} 15",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}: {text}");
        }
        let sum = text
            .lines()
            .find_map(|line| line.strip_prefix("x_seconds_sum{command=\"b\"} "));
        let sum: f64 = sum.and_then(|sum| sum.parse().ok()).expect("a sum");
        assert!((sum - 160.000_06).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn those_of_many_labels_are_shown_once_they_are_used() {
        let routes = ["/a", "/b"].map(|route| vec![("method", "GET"), ("route", route)]);
        let latencies = Latencies::by_many(routes);
        assert_eq!(text(&latencies), "# EOF\n");
        latencies.at(1).record(Duration::from_millis(1), 1);
        let text = text(&latencies);
        assert!(text.contains("x_seconds_count{method=\"GET\",route=\"/b\"} 1\n"));
        assert!(!text.contains("/a"), "{text}");
    }

    #[test]
    fn what_is_done_together_is_counted_by_kind_and_once() {
        let latencies = Latencies::by("command", &["a", "b", "c"]);
        let mut tally = Tally::<3>::default();
        tally.add(0, 2);
        tally.add(2, 1);
        tally.add(0, 3);
        let began = Instant::now();
        tally.done(began, &latencies);
        tally.done(began, &latencies);
        let counts = [0, 1, 2].map(|kind| latencies.at(kind).count());
        assert_eq!(counts, [5, 0, 1]);
    }
}
