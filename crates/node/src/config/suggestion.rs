//! The nearest valid name to one that does not exist.

use super::SECTIONS;
use super::key::Key;

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
    fn a_huge_name_costs_little() {
        assert!(!nearest_key(None, &"x".repeat(1 << 20)).is_empty());
    }
}
