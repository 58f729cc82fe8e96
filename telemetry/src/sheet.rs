//! Figures that are computed when somebody asks: a thin layer over the
//! library's encoder, so that a collector reads like a list.

use std::fmt::{Debug, Error};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Takes figures one after the other. The first failure ends it: the writer is
/// a string, so there is none.
pub struct Sheet<'a> {
    encoder: DescriptorEncoder<'a>,
    done: Result<(), Error>,
}

impl Sheet<'_> {
    /// One value that may fall.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) {
        let gauge = ConstGauge::new(value);
        self.put(
            name,
            help,
            |encoder| gauge.encode(encoder),
            MetricType::Gauge,
        );
    }

    /// One value for each word of a label.
    pub fn gauges<W: AsRef<str>, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (W, V)>,
    ) {
        let all = |mut encoder: prometheus_client::encoding::MetricEncoder<'_>| {
            for (word, value) in values {
                let labels = [(label, word.as_ref())];
                ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
            }
            Ok(())
        };
        self.put(name, help, all, MetricType::Gauge);
    }

    /// One value that only grows. `_total` is added to the name.
    pub fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) {
        let counter = ConstCounter::new(value);
        self.put(
            name,
            help,
            |encoder| counter.encode(encoder),
            MetricType::Counter,
        );
    }

    fn put(
        &mut self,
        name: &str,
        help: &str,
        encode: impl FnOnce(prometheus_client::encoding::MetricEncoder<'_>) -> Result<(), Error>,
        kind: MetricType,
    ) {
        if self.done.is_ok() {
            let encoder = self.encoder.encode_descriptor(name, help, None, kind);
            self.done = encoder.and_then(encode);
        }
    }
}

/// Something that fills a sheet at each scrape.
pub struct Figures<F>(F);

/// Makes a collector of a function.
pub fn figures<F>(fill: F) -> Box<dyn Collector>
where
    F: Fn(&mut Sheet<'_>) + Send + Sync + 'static,
{
    Box::new(Figures(fill))
}

impl<F> Debug for Figures<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Figures")
    }
}

impl<F: Fn(&mut Sheet<'_>) + Send + Sync + 'static> Collector for Figures<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut sheet = Sheet {
            encoder,
            done: Ok(()),
        };
        (self.0)(&mut sheet);
        sheet.done
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn each_form_is_written_as_prometheus_reads_it() {
        let mut registry = Registry::default();
        registry.register_collector(figures(|sheet| {
            sheet.gauge("a_bytes", "One", 7_u64);
            sheet.gauges("b", "Two", "state", [("on", 1_i64), ("off", 0)]);
            sheet.counter("c", "Three", 2_u64);
        }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string");
        assert_eq!(
            text,
            "# HELP a_bytes One\n# TYPE a_bytes gauge\na_bytes 7\n\
             # HELP b Two\n# TYPE b gauge\nb{state=\"on\"} 1\nb{state=\"off\"} 0\n\
             # HELP c Three\n# TYPE c counter\nc_total 2\n# EOF\n"
        );
    }
}
