//! The description against the table of routes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{pages, routes};

#[test]
fn every_route_is_described_and_nothing_else() -> Result<(), serde_json::Error> {
    let description: Value = serde_json::from_str(pages::OPENAPI)?;
    let described: BTreeSet<(String, String)> = description["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(path, methods)| {
            let methods = methods
                .as_object()
                .into_iter()
                .flat_map(|methods| methods.keys());
            methods
                .filter(|key| *key != "parameters")
                .map(|method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let served: BTreeSet<(String, String)> = routes::table()
        .iter()
        .map(|route| (route.path.to_owned(), route.method.to_string()))
        .collect();
    assert_eq!(described, served);
    Ok(())
}

#[test]
fn references_of_the_description_lead_somewhere() -> Result<(), serde_json::Error> {
    fn check(value: &Value, root: &Value) -> usize {
        match value {
            Value::Object(members) => members
                .iter()
                .map(|(key, inner)| match (key.as_str(), inner) {
                    ("$ref", Value::String(to)) => {
                        let pointer = to.trim_start_matches('#');
                        assert!(root.pointer(pointer).is_some(), "{to}");
                        1
                    }
                    _ => check(inner, root),
                })
                .sum(),
            Value::Array(items) => items.iter().map(|inner| check(inner, root)).sum(),
            _ => 0,
        }
    }
    let description: Value = serde_json::from_str(pages::OPENAPI)?;
    assert!(check(&description, &description) > 20);
    Ok(())
}
