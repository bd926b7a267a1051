//! temporary
pub struct LegacyHashes;
impl LegacyHashes {
    pub fn of(_: &[u8]) -> Self {
        LegacyHashes
    }
}
pub struct BloomdLayer;
impl BloomdLayer {
    pub fn contains(&self, _: &LegacyHashes) -> bool {
        false
    }
    pub fn count(&self) -> u64 {
        0
    }
    pub fn capacity(&self) -> u64 {
        0
    }
    pub fn bytes(&self) -> u64 {
        0
    }
    pub fn false_positive_rate(&self) -> f64 {
        0.0
    }
}
