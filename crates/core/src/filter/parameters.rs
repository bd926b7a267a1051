//! What a filter is asked to be, and how its error budget is shared out over layers.

use serde::{Deserialize, Serialize};

use super::geometry::{Geometry, GeometryError};
use crate::origin::Origin;
use crate::significant::Significant;

/// Share of the error budget that the first layer gets: a filter that was sized right should
/// cost hardly more than a fixed one (1.1 % of memory at 1e-4).
const FIRST_LAYER_SHARE: f64 = 0.9;
/// Later layers share the rest in this ratio: layer i (from 1) gets rest·(1-r)·r^(i-1).
pub const LATER_LAYER_RATIO: f64 = 0.6;
/// Most layers at one index chain; at growth 2 that is far beyond any memory.
pub const LAYER_INDEX_MAX: u32 = 48;
/// Smallest error a filter can promise: below it collisions of the 128-bit hash would show.
pub const ERROR_MIN: f64 = 1e-15;
/// Largest growth factor.
pub const GROWTH_MAX: u32 = 32_768;

/// How a filter goes on when its first layer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Growth {
    /// It does not: inserts of new keys are refused.
    Fixed,
    /// Each layer is this many times as large as the one before it (at least 1).
    By(u32),
}

/// The parameters of a scalable filter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Keys that the first layer holds.
    pub capacity: u64,
    /// Bound on the false-positive rate over all layers together.
    pub error: f64,
    /// What happens when the capacity is reached.
    pub growth: Growth,
}

/// The name of a layer: its place in the chain and who opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerId {
    /// Place in the chain, 0 for the first.
    pub index: u32,
    /// The origin that opened it and was given its rights.
    pub creator: Origin,
}

/// A layer as the catalogue knows it. The shape is written down, not derived again, so that no
/// copy depends on another's floating-point arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerShape {
    /// Its name.
    pub id: LayerId,
    /// Keys it may take.
    pub capacity: u64,
    /// Its share of the error budget.
    pub error: f64,
    /// Its bits.
    pub geometry: Geometry,
}

/// Why parameters make no filter.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ParametersError {
    /// The error bound is out of range.
    #[error("error rate {} is not between {ERROR_MIN:e} and 1 (exclusive)", Significant(*.0))]
    Error(f64),
    /// A layer of this capacity and error cannot be shaped.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The growth factor is out of range.
    #[error("growth {0} is not between 1 and {GROWTH_MAX}")]
    Growth(u32),
    /// The filter has as many layers as a filter can have.
    #[error("layer {0} is past the last possible one, {LAYER_INDEX_MAX}")]
    TooManyLayers(u32),
}

impl Parameters {
    /// Checks the ranges by shaping the first layer.
    pub fn validate(&self) -> Result<(), ParametersError> {
        if let Growth::By(factor) = self.growth
            && !(1..=GROWTH_MAX).contains(&factor)
        {
            return Err(ParametersError::Growth(factor));
        }
        if !(ERROR_MIN..1.0).contains(&self.error) {
            return Err(ParametersError::Error(self.error));
        }
        let (capacity, error) = self.share(0, 1)?;
        Geometry::for_capacity(capacity, error)?;
        Ok(())
    }

    /// The layer that `creator` would open at `index`, in a group of `members`. Members that are
    /// cut apart may each open one at the same index, so from index 1 on its share of the error
    /// budget is divided among them; the first layer is opened once, with the filter.
    pub fn layer(
        &self,
        index: u32,
        creator: Origin,
        members: u32,
    ) -> Result<LayerShape, ParametersError> {
        let (capacity, error) = self.share(index, members)?;
        let geometry = Geometry::for_capacity(capacity, error)?;
        Ok(LayerShape {
            id: LayerId { index, creator },
            capacity,
            error,
            geometry,
        })
    }

    fn share(&self, index: u32, members: u32) -> Result<(u64, f64), ParametersError> {
        let factor = match self.growth {
            Growth::Fixed if index == 0 => return Ok((self.capacity, self.error)),
            Growth::Fixed => return Err(ParametersError::TooManyLayers(index)),
            Growth::By(_) if index > LAYER_INDEX_MAX => {
                return Err(ParametersError::TooManyLayers(index));
            }
            Growth::By(factor) => factor,
        };
        let capacity = self
            .capacity
            .saturating_mul(u64::from(factor).saturating_pow(index));
        let share = match index {
            0 => FIRST_LAYER_SHARE,
            _ => {
                let later = (1.0 - FIRST_LAYER_SHARE) * (1.0 - LATER_LAYER_RATIO);
                later * LATER_LAYER_RATIO.powi(index as i32 - 1) / f64::from(members.max(1))
            }
        };
        Ok((capacity, self.error * share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Origin = Origin::new([1; 16]);

    #[test]
    fn the_shares_of_all_layers_stay_under_the_bound() {
        let parameters = Parameters {
            capacity: 1000,
            error: 1e-3,
            growth: Growth::By(1),
        };
        for members in [1, 3, 50] {
            let sum: f64 = (0..=LAYER_INDEX_MAX)
                .map(|index| {
                    let creators = if index == 0 { 1.0 } else { f64::from(members) };
                    parameters.layer(index, ME, members).unwrap().error * creators
                })
                .sum();
            assert!(sum <= 1e-3 * (1.0 + 1e-9), "{members}: {sum}");
        }
    }

    #[test]
    fn first_layer_stays_within_six_percent_of_the_classic_size() {
        for error in [1e-3, 1e-4] {
            let parameters = Parameters {
                capacity: 1_000_000,
                error,
                growth: Growth::By(4),
            };
            let layer = parameters.layer(0, ME, 1).unwrap();
            let bits = (layer.geometry.bytes() * 8) as f64 / 1e6;
            assert!(
                bits <= 1.06 * std::f64::consts::LOG2_E * error.recip().log2(),
                "{error}: {bits} bits per key"
            );
        }
    }

    #[test]
    fn a_fixed_filter_has_one_layer_and_bad_parameters_are_named() {
        let fixed = Parameters {
            capacity: 10,
            error: 0.01,
            growth: Growth::Fixed,
        };
        assert_eq!(fixed.layer(0, ME, 1).unwrap().capacity, 10);
        assert_eq!(
            fixed.layer(1, ME, 1),
            Err(ParametersError::TooManyLayers(1))
        );
        let grown = Parameters {
            growth: Growth::By(0),
            ..fixed
        };
        assert_eq!(grown.validate(), Err(ParametersError::Growth(0)));
        let none = Parameters {
            capacity: 0,
            ..fixed
        };
        assert!(none.layer(0, ME, 1).is_err());
    }
}
