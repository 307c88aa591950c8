//! The metrics in OpenMetrics' text format. Each is documented in docs/operating.md; a test holds
//! the two against each other.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use lendfile::{Cut, Method, RefusedRequest};
use lendfile_core::{statistics, statistics::NOT_LENT};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::{Inner, Metrics};

/// What the page says it is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// The page.
    pub(super) fn page(&self) -> String {
        let mut registry = Registry::with_prefix("lendfile");
        registry.register_collector(Box::new(self.clone()));
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("writing to a String");
        page
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.0.encode_connections(&mut page)?;
        self.0.encode_requests(&mut page)?;
        encode_library(&mut page)
    }
}

impl Inner {
    fn encode_connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let connections = &self.connections;
        page.gauge(
            "connections_open",
            "Connections open now",
            connections.open(),
        )?;
        page.counter(
            "connections_accepted",
            "Connections accepted",
            connections.accepted(),
        )?;
        page.counter(
            "connections_refused",
            "Connections closed at once because their address had its share",
            connections.refused(),
        )?;
        page.counters(
            "connections_cut",
            "Connections closed because a time limit was reached",
            None,
            Cut::ALL
                .iter()
                .map(|&cut| ([("limit", cut.name())], connections.cut(cut))),
        )
    }

    fn encode_requests(&self, page: &mut Page<'_>) -> fmt::Result {
        let codes: Vec<(String, u64)> = self
            .requests
            .iter()
            .map(|count| count.load(Relaxed))
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(code, count)| match code {
                0 => ("none".to_owned(), count),
                _ => (code.to_string(), count),
            })
            .collect();
        page.counters(
            "requests",
            "Requests whose exchange has ended, by status",
            None,
            codes
                .iter()
                .map(|(code, count)| ([("code", code.as_str())], *count)),
        )?;
        page.counters(
            "requests_refused",
            "Requests over HTTP/1 that the HTTP library refused before they were any",
            None,
            RefusedRequest::ALL.iter().map(|&reason| {
                let count = self.connections.refused_requests(reason);
                ([("reason", reason.name())], count)
            }),
        )?;
        let by_method = |tls: usize, method: Method| {
            let labels = [("method", method.name()), ("tls", ["no", "yes"][tls])];
            (labels, self.body_bytes[tls][method as usize].load(Relaxed))
        };
        page.counters(
            "response_body",
            "Bytes of responses' bodies sent, by the way they went",
            Some(Unit::Bytes),
            Method::ALL
                .iter()
                .copied()
                .filter(|method| *method != Method::Auto)
                .flat_map(|method| [by_method(0, method), by_method(1, method)])
                // Through TLS there is only one way.
                .filter(|([(_, method), (_, tls)], _)| *tls == "no" || *method == "copy"),
        )?;
        let cache = self.site.cache_use();
        page.counters(
            "file_cache_lookups",
            "Requests for which the file cache had the answer, or had not",
            None,
            [
                ([("result", "hit")], cache.hits),
                ([("result", "miss")], cache.misses),
            ],
        )?;
        let aborted = self.aborted.load(Relaxed);
        page.counter(
            "responses_aborted",
            "Exchanges that ended before all of the response was sent",
            aborted,
        )?;
        let dropped = self.log.as_ref().map_or(0, lendfile::AccessLog::dropped);
        page.counter(
            "access_log_dropped_lines",
            "Lines of the access log that were lost",
            dropped,
        )
    }
}

/// What the library counts for the whole process.
fn encode_library(page: &mut Page<'_>) -> fmt::Result {
    let counted = statistics();
    let mut fallbacks = vec![
        ("method_refused", counted.downgrades),
        ("no_pipe", counted.pipes_refused),
    ];
    // An empty body falls back to nothing.
    fallbacks.extend(NOT_LENT.iter().filter(|(reason, _)| *reason != "empty"));
    page.counters(
        "fallbacks",
        "Files sent by a lower way than wanted, by the reason",
        None,
        fallbacks
            .into_iter()
            .map(|(reason, count)| ([("reason", reason)], count)),
    )?;
    page.counter(
        "cold_waits",
        "Waits, without blocking, for pages that were not in the page cache",
        counted.cold_waits,
    )?;
    page.counter(
        "pages_fetched",
        "Windows read by a helper thread",
        counted.pages_fetched,
    )?;
    page.counter(
        "stalls",
        "Calls that must not block and took so long that they probably did",
        counted.stalls,
    )?;
    page.counter(
        "missing_pages",
        "Pages of files that were gone when they were read",
        lendfile_core::lent::poisonings(),
    )?;
    page.gauges(
        "pipes",
        "Pipes there are now",
        [
            (
                [("state", "used")],
                counted.pipes_open.saturating_sub(counted.pipes_pooled),
            ),
            ([("state", "pooled")], counted.pipes_pooled),
        ],
    )
}

/// Writes one metric after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut family =
            self.0
                .encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in values {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}
