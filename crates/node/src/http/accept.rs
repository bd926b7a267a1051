//! Which of the two texts of metrics a request asks for (RFC 9110, section 12.5.1).

use axum::http::{HeaderMap, header};

use crate::metrics::Format;

/// Versions of OpenMetrics whose readers can read what is written here.
const OPEN_VERSIONS: [&str; 3] = ["", "0.0.1", "1.0.0"];
/// Versions of the plain text, likewise.
const PLAIN_VERSIONS: [&str; 2] = ["", "0.0.4"];

/// The format to answer in: OpenMetrics where the client names it and prefers nothing to it, else
/// the plain text, which everything reads.
pub(super) fn format(headers: &HeaderMap) -> Format {
    let values = headers.get_all(header::ACCEPT).iter();
    let text: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let text = text.join(",");
    let ranges: Vec<Range<'_>> = text.split(',').filter_map(Range::parse).collect();
    let open = wish(&ranges, "application/openmetrics-text", &OPEN_VERSIONS);
    // The most specific range that covers it counts.
    let plain = wish(&ranges, "text/plain", &PLAIN_VERSIONS)
        .or_else(|| wish(&ranges, "text/*", &[""]))
        .or_else(|| wish(&ranges, "*/*", &[""]));
    if open.is_some_and(|open| open > 0 && open >= plain.unwrap_or(0)) {
        Format::OpenMetrics
    } else {
        Format::Plain
    }
}

/// How much a type is wanted, in thousandths; none when no range names it in such a version.
fn wish(ranges: &[Range<'_>], media_type: &str, versions: &[&str]) -> Option<u16> {
    let fits = |range: &&Range<'_>| {
        range.media_type.eq_ignore_ascii_case(media_type) && versions.contains(&range.version)
    };
    ranges.iter().filter(fits).map(|range| range.quality).max()
}

/// An element of `Accept`.
struct Range<'h> {
    media_type: &'h str,
    version: &'h str,
    quality: u16,
}

impl<'h> Range<'h> {
    /// None where a weight is no number of 0 to 1: what is meant is not known.
    fn parse(element: &'h str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let mut range = Range {
            media_type: parts.next()?,
            version: "",
            quality: 1000,
        };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("q") {
                range.quality = thousandths(value)?;
            } else if name.trim().eq_ignore_ascii_case("version") {
                range.version = value;
            }
        }
        Some(range)
    }
}

fn thousandths(weight: &str) -> Option<u16> {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let is_number = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction: u16 = format!("{fraction:0<3}")
        .parse()
        .ok()
        .filter(|_| is_number)?;
    match whole {
        "0" => Some(fraction),
        "1" => (fraction == 0).then_some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn asked(values: &[&'static str]) -> Format {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        format(&headers)
    }

    #[test]
    fn open_metrics_are_for_those_who_ask_for_them() {
        for values in [
            &["application/openmetrics-text"][..],
            &["Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"],
            &["text/html, application/openmetrics-text;q=0.5, */*;q=0.1"],
            &["text/plain;q=0.5", "application/openmetrics-text;q=0.50"],
            // Two releases of Prometheus.
            &["application/openmetrics-text;version=1.0.0,\
               application/openmetrics-text;version=0.0.1;q=0.75,\
               text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
               application/openmetrics-text;version=0.0.1;q=0.5,\
               text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
               text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ],
        ] {
            assert_eq!(asked(values), Format::OpenMetrics, "{values:?}");
        }
    }

    #[test]
    fn everybody_else_gets_the_plain_text() {
        for values in [
            &[][..],
            &["*/*"],
            &["text/plain"],
            &["application/json"],
            &["application/*"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;q=0.2, text/plain;q=0.3"],
            &["application/openmetrics-text;q=0.2, text/*;q=0.3"],
            &["application/openmetrics-text;q=0.2, */*"],
            &["application/openmetrics-text;version=2.0.0"],
            &["application/openmetrics-text;q=much"],
            &["application/openmetrics-text;q=1.001"],
            &["application/openmetrics-text-like"],
            &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"],
            &[";;;=,,"],
        ] {
            assert_eq!(asked(values), Format::Plain, "{values:?}");
        }
    }
}
