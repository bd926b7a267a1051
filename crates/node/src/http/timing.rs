//! Which route a request takes, for the time that it takes.

use std::collections::HashMap;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;

use super::routes;

/// What is counted together: requests that no route takes.
const OTHER: (&str, &str) = ("other", "other");

/// Method and route of each histogram, in their order.
pub(crate) fn route_labels() -> Vec<(&'static str, &'static str)> {
    let routes = routes::table();
    let labels = routes.iter().map(|route| (word(&route.method), route.path));
    labels.chain([OTHER]).collect()
}

/// Finds the histogram of a request.
pub(super) struct Places {
    /// For each route, its methods with the places of their histograms.
    routes: HashMap<&'static str, Vec<(&'static str, usize)>>,
    other: usize,
}

impl Places {
    pub(super) fn new() -> Self {
        let labels = route_labels();
        let mut routes: HashMap<_, Vec<_>> = HashMap::new();
        for (place, (method, route)) in labels.iter().enumerate() {
            routes.entry(*route).or_default().push((*method, place));
        }
        Places {
            routes,
            other: labels.len() - 1,
        }
    }

    /// The place of the histogram among those of [`route_labels`].
    pub(super) fn of(&self, request: &Request) -> usize {
        let matched = request.extensions().get::<MatchedPath>();
        let methods = matched.and_then(|path| self.routes.get(path.as_str()));
        let method = word(request.method());
        let mut places = methods.into_iter().flatten();
        places
            .find(|(name, _)| *name == method)
            .map_or(self.other, |(_, place)| *place)
    }
}

/// The label of a method. HEAD is answered by what answers GET.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => OTHER.0,
    }
}
