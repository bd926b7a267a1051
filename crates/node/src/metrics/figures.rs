//! Metrics whose values are read when they are asked for.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Writes metrics of one or many values.
pub(super) struct Figures<'a>(DescriptorEncoder<'a>);

impl<'a> Figures<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Figures(encoder)
    }

    pub(super) fn gauge<N>(&mut self, name: &str, help: &str, value: N) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
    {
        self.one(name, help, &ConstGauge::new(value))
    }

    pub(super) fn counter<N>(&mut self, name: &str, help: &str, value: N) -> fmt::Result
    where
        ConstCounter<N>: EncodeMetric,
    {
        self.one(name, help, &ConstCounter::new(value))
    }

    fn one(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let kind = metric.metric_type();
        metric.encode(self.0.encode_descriptor(name, help, None, kind)?)
    }

    pub(super) fn gauges<'l, N>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'l String, N)>,
    ) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
    {
        let values = values.map(|(value, n)| ([(label, value.as_str())], ConstGauge::new(n)));
        self.family(name, help, values)
    }

    /// The same where more than one label tells the values apart.
    pub(super) fn gauges_of<N>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (impl EncodeLabelSet, N)>,
    ) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
    {
        self.family(name, help, values.map(|(l, n)| (l, ConstGauge::new(n))))
    }

    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'l String, u64)>,
    ) -> fmt::Result {
        let values = values.map(|(value, n)| ([(label, value.as_str())], ConstCounter::new(n)));
        self.family(name, help, values)
    }

    fn family<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, M)>,
    ) -> fmt::Result {
        let mut values = values.peekable();
        let Some(kind) = values.peek().map(|(_, metric)| metric.metric_type()) else {
            return Ok(());
        };
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, metric) in values {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
