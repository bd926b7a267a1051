//! Bounds of the core in one place. Those that a user may move are configuration keys instead.

/// Longest name of a collection, in bytes (bloomd's bound).
pub const NAME_BYTES_MAX: usize = 200;
/// Largest body of an operation on rows, in bytes: a row with all the layers it can have.
pub const OPERATION_BODY_BYTES_MAX: usize = 256 << 10;
/// Largest body of the operation that says which version was taken over, in bytes: of all origins
/// that are followed. It is for one node alone, so no message carries it.
pub const ADOPTED_VERSION_BYTES_MAX: usize = 3 << 20;
/// Layers of one filter, over all creators, from which on no more are opened.
pub const LAYERS_PER_FILTER_MAX: usize = 1024;
/// Longest key of a table's row, in bytes.
pub const TABLE_KEY_BYTES_MAX: usize = 1024;
/// Most bytes of all values of a table's row together, with the tabs between them.
pub const TABLE_VALUES_BYTES_MAX: usize = 64 << 10;
/// Most rows in one operation on a table.
pub const ROWS_PER_OPERATION_MAX: usize = 8192;
