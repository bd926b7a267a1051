//! What commands check that are no node, and values in the forms that people type.

use super::*;

#[test]
fn a_command_for_a_node_checks_what_it_was_given_and_no_more() -> Done {
    let home = tempfile::tempdir()?;
    fs::write(home.path().join("grapevine.toml"), "[nonsense]\n")?;
    let machine = machine_with(&[("GRAPEVINE_NODE__DATA_DIR", &home.path().to_string_lossy())]);
    Config::check_given(&GlobalOptions::default(), &machine)?;
    assert_eq!(
        mistakes(Config::load_in(&GlobalOptions::default(), &machine)).len(),
        1
    );
    // Neither a home directory nor the protection of an address is its matter.
    let nowhere = Surroundings::default();
    Config::check_given(&set(&["http.listen=0.0.0.0:80"]), &nowhere)?;
    let refused = |options: &GlobalOptions| {
        let refused = Config::check_given(options, &nowhere);
        refused
            .err()
            .map(|errors| (errors.are_typed(), errors.0.len()))
    };
    assert_eq!(
        refused(&set(&["limits.lime=1", "limits.line=x"])),
        Some((true, 2))
    );
    let absent = GlobalOptions {
        config: Some(home.path().join("absent.toml")),
        ..GlobalOptions::default()
    };
    assert_eq!(refused(&absent), Some((false, 1)));
    Ok(())
}

#[test]
fn counts_and_error_rates_are_taken_as_the_command_line_takes_them() -> Done {
    let options = set(&[
        "filters.capacity=1.5M",
        "limits.connections=1e3",
        "filters.error=0.5",
    ]);
    let config = Config::load_in(&options, &machine())?;
    assert_eq!(config.filters.capacity, 1_500_000);
    assert_eq!(config.limits.connections, 1000);
    assert_eq!(config.filters.error, 0.5);
    for wrong in ["nan", "inf", "-inf", "0", "1", "1e-16", "-0.1"] {
        let found = mistakes(Config::load_in(
            &set(&[&format!("filters.error={wrong}")]),
            &machine(),
        ));
        assert_eq!(found.len(), 1, "{wrong}");
    }
    Ok(())
}
