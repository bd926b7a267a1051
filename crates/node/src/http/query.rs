//! Query parameters. Their values are bytes, so names of any bytes can be given.

use super::error::ApiError;

/// The parameters of a request that a route knows, by place in its list.
#[derive(Debug)]
pub(super) struct Query<const N: usize>([Option<Vec<u8>>; N]);

impl<const N: usize> Query<N> {
    /// Reads a query; a parameter that is not among `known` is refused. Of one given twice the
    /// last counts.
    pub(super) fn read(query: Option<&str>, known: [&str; N]) -> Result<Self, ApiError> {
        let mut found = [const { None }; N];
        let pairs = query.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = known.iter().position(|known| *known == name);
            let Some(place) = place else {
                return Err(ApiError::Parameter(name.to_owned()));
            };
            // Forms write a space as a plus sign, and a plus sign as %2B.
            let spaced = value.replace('+', " ");
            let value = super::name::decode(&spaced).ok_or(ApiError::NameEncoding)?;
            found[place] = Some(value);
        }
        Ok(Query(found))
    }

    /// The value of the parameter at that place.
    pub(super) fn get(&self, place: usize) -> Option<&[u8]> {
        self.0[place].as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bytes_and_unknown_names_are_refused() {
        let read = |text| Query::read(Some(text), ["prefix", "limit"]);
        let query = read("prefix=%FF%2B+a&limit=3&").expect("known parameters");
        assert_eq!(query.get(0), Some(&b"\xff+ a"[..]));
        assert_eq!(query.get(1), Some(&b"3"[..]));
        assert!(matches!(read("prefx=a"), Err(ApiError::Parameter(name)) if name == "prefx"));
        assert!(matches!(read("prefix=%f"), Err(ApiError::NameEncoding)));
        assert_eq!(read("").expect("nothing").get(0), None);
    }
}
