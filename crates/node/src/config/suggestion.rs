//! The nearest valid name to one that does not exist.

use super::SECTIONS;
use super::key::Key;
use super::surroundings::{OTHER_VARIABLES, PREFIX};

/// How much of a wrong name is compared, in characters; the distance costs their product.
const COMPARED_CHARACTERS_MAX: usize = 64;

fn distance(wrong: &str, known: &str) -> usize {
    let wrong: String = wrong.chars().take(COMPARED_CHARACTERS_MAX).collect();
    strsim::damerau_levenshtein(&wrong.to_lowercase().replace('-', "_"), known)
}

/// The section whose name is nearest to `wrong`.
pub(crate) fn nearest_section(wrong: &str) -> &'static str {
    let nearest = SECTIONS
        .iter()
        .min_by_key(|section| distance(wrong, section.name));
    nearest.map_or("", |section| section.name)
}

/// The key nearest to `wrong`. A key of that very name wins wherever it is, then the nearest
/// name in `section` (in all of them when there is no such section).
pub(crate) fn nearest_key(section: Option<&str>, wrong: &str) -> &'static str {
    let near = |key: &&Key| {
        let far = distance(wrong, key.name);
        (
            far != 0,
            section.is_some_and(|section| section != key.section),
            far,
        )
    };
    let nearest = SECTIONS
        .iter()
        .flat_map(|section| section.keys)
        .min_by_key(near);
    nearest.map_or("", |key| key.full_name)
}

/// The variable nearest to one called `GRAPEVINE_` and `rest`. One that differs in its underscores
/// alone goes first, then one whose key is so called, whatever its section.
pub(crate) fn nearest_variable(rest: &str) -> String {
    let wrong: String = rest.chars().take(COMPARED_CHARACTERS_MAX).collect();
    let wrong = wrong.to_lowercase().replace("__", "_");
    let wrong = wrong.trim_matches('_');
    let far = |whole: &str, key: &str| match wrong {
        _ if wrong == whole => 0,
        _ if wrong == key => 1,
        _ if wrong.len() >= 3 && (whole.starts_with(wrong) || key.starts_with(wrong)) => 2,
        _ => 2 + distance(wrong, whole).min(distance(wrong, key) + 1),
    };
    let others = OTHER_VARIABLES.iter().map(|name| {
        let whole = name.trim_start_matches(PREFIX).to_lowercase();
        (far(&whole, &whole), (*name).to_owned())
    });
    let keys = SECTIONS.iter().flat_map(|section| section.keys);
    let keys = keys.map(|key| {
        let whole = format!("{}_{}", key.section, key.name);
        (far(&whole, key.name), key.variable())
    });
    let nearest = others.chain(keys).min_by_key(|(far, _)| *far);
    nearest.map_or_else(String::new, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(nearest_section("limit"), "limits");
        assert_eq!(nearest_section("Bloom"), "bloomd");
        assert_eq!(nearest_key(Some("bloomd"), "tpc"), "bloomd.tcp");
        assert_eq!(nearest_key(Some("node"), "data-dir"), "node.data_dir");
        assert_eq!(
            nearest_key(Some("limits"), "idle_time"),
            "limits.idle_timeout"
        );
        assert_eq!(nearest_key(Some("node"), "capacity"), "filters.capacity");
        assert_eq!(nearest_key(None, "tokenfile"), "http.token_file");
    }

    #[test]
    fn the_nearest_variable_is_found() {
        for (wrong, nearest) in [
            ("BLOOMD_TCP", "GRAPEVINE_BLOOMD__TCP"),
            ("bloomd__tcp", "GRAPEVINE_BLOOMD__TCP"),
            ("BLOOMD___TCP", "GRAPEVINE_BLOOMD__TCP"),
            ("NODE_NAME", "GRAPEVINE_NODE__NAME"),
            ("DATA_DIR", "GRAPEVINE_NODE__DATA_DIR"),
            ("LOG", "GRAPEVINE_NODE__LOG"),
            ("NODES", "GRAPEVINE_NODE"),
            ("TOKEN", "GRAPEVINE_TOKEN_FILE"),
            ("HTPP_LISTEN", "GRAPEVINE_HTTP__LISTEN"),
        ] {
            assert_eq!(nearest_variable(wrong), nearest, "{wrong}");
        }
        assert!(!nearest_variable(&"X".repeat(1 << 20)).is_empty());
    }

    #[test]
    fn a_huge_name_costs_little() {
        assert!(!nearest_key(None, &"x".repeat(1 << 20)).is_empty());
    }
}
