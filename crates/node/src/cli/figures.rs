//! Numbers on the command line, in the forms that people type and read.

use grapevine_core::significant::Significant;
use serde_json::Value;

use crate::config::ErrorRate;

/// Reads the error rate of a filter, as the configuration does.
pub(super) fn error_rate(text: &str) -> Result<f64, String> {
    ErrorRate::parse(text).ok_or_else(|| format!("it takes {}", ErrorRate::takes()))
}

/// A number for people: without the noise of binary fractions.
pub(super) fn plain(number: &Value) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(number) => Significant(number).to_string(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_filter_can_promise_is_refused() {
        for text in [
            "nan", "NaN", "inf", "-inf", "0", "1", "1.5", "-1", "1e-16", "", "x",
        ] {
            assert!(error_rate(text).is_err(), "{text}");
        }
        assert_eq!(error_rate("1e-4"), Ok(1e-4));
        assert_eq!(error_rate("0.5"), Ok(0.5));
    }

    #[test]
    fn numbers_are_shown_without_noise() {
        let noisy = 0.9 * 0.001;
        assert_eq!(plain(&serde_json::json!(noisy)), "0.0009");
        assert_eq!(plain(&serde_json::json!(17)), "17");
        assert_eq!(plain(&Value::Null), "null");
    }
}
