//! Bounds of synchronisation and its times. Everything that a peer can drive is here.

use crate::limits::{NAME_BYTES_MAX, TABLE_KEY_BYTES_MAX};

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Longest operation (kind and body), in bytes.
pub const OPERATION_BYTES_MAX: usize = 300 * 1024;
/// Largest number that an operation may have: sums of a few cannot overflow.
pub const SEQUENCE_MAX: u64 = 1 << 62;
/// Bytes of operations gathered into one message; one operation may be longer.
pub const BATCH_BYTES: usize = 64 * 1024;
/// Most operations in one message.
pub const OPERATIONS_PER_MESSAGE_MAX: usize = 16 * 1024;
/// Most entries of one report.
pub const REPORT_ENTRIES_MAX: usize = 512;
/// Most origins of which a peer is told in one period that their histories part.
pub const HISTORIES_TOLD_MAX: usize = 64;
/// Most origins asked for in one message.
pub const WANT_ENTRIES_MAX: usize = 512;
/// Longest key at which a page of a snapshot begins or ends, in bytes: a table's longest name, a
/// tab, and the longest key of a row.
pub const KEY_BYTES_MAX: usize = NAME_BYTES_MAX + 1 + TABLE_KEY_BYTES_MAX;
/// Bytes of rows asked for in one page.
pub const PAGE_BYTES: usize = 256 * 1024;
/// Most bits' names that one page may bring: to be compared before the next page is asked for.
pub const PARTS_MAX: usize = 16 * 1024;
/// Lines in one block of a layer: 64 KiB.
pub const BLOCK_LINES: usize = 1024;
/// Most fingerprints in one message.
pub const BLOCK_HASHES_MAX: usize = 256;
/// Bytes of a foreign layer's file asked for in one message.
pub const BLOB_BYTES: usize = 256 * 1024;

/// Most peers of one machine; more connections are passed over.
pub const PEERS_MAX: usize = 1024;
/// Most origins that a peer may report, and that are followed here.
pub const ORIGINS_MAX: usize = 65_536;
/// Most origins that are followed, or asked for, though they are neither a member's nor a connected
/// peer's: those of members that left, or were restored. A member that makes origins up does not
/// get further than this.
pub const STRANGERS_MAX: usize = 4096;
/// Bytes of operations in flight to one peer, unless it wants fewer.
pub const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Most messages of operations in flight to one peer.
pub const FLIGHT_BATCHES_MAX: usize = 4096;
/// Most reads of the log for one peer before others have their turn.
pub const READS_PER_TURN: usize = 128;
/// Bytes of operations kept for one peer because they wait for others.
pub const PARKED_BYTES_PER_PEER: usize = 4 * 1024 * 1024;
/// Bytes of operations kept for all peers together because they wait for others.
pub const PARKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most origins of which operations wait.
pub const PARKED_ORIGINS_MAX: usize = 1024;
/// Most origins that a peer is asked for at one time, and that are read for one peer.
pub const REPAIR_ORIGINS_MAX: usize = 4096;
/// Most origins of which a peer is owed an acknowledgement; of more it hears in a report.
pub const OWED_ORIGINS_MAX: usize = 4096;
/// Most ranges of a peer's report noted until all origins are covered.
pub const RANGES_MAX: usize = 256;
/// Most requests of a snapshot without an answer.
pub const REQUESTS_MAX: usize = 32;
/// Most layers and files compared at a time.
pub const PARTS_ACTIVE_MAX: usize = 8;
/// Most times that one block is compared: more differences can only come from changes made
/// meanwhile, which travel as operations.
pub const BLOCK_ROUNDS_MAX: u32 = 8;
/// Bytes of snapshot served to one peer in [`SERVE_PERIOD_MS`]; what is asked beyond is not
/// answered, and asked again.
pub const SERVED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most filters whose shortage is looked at.
pub const SHORTAGES_MAX: usize = 1024;

/// Time for which reports from a peer's session before the present one are taken as late.
pub const RETIRED_MS: u64 = 10_000;
/// Age up to which operations in flight are on their way, whatever the receiver asks for.
pub const ON_THE_WAY_MS: u64 = 500;
/// Time between two reports to a peer, in milliseconds; more where there are many peers.
pub const REPORT_MS: u64 = 1000;
/// Most periodic reports in [`REPORT_MS`] once peers know each other: of more peers each is told
/// the less often, since any one that has what it lacks is enough to tell it so.
pub const REPORTS_PER_PERIOD_MAX: usize = 64;
/// Least time between two complete reports that a peer asked for.
pub const REPORT_SPACING_MS: u64 = 200;
/// Longest time that an acknowledgement is put off to gather more.
pub const ACKNOWLEDGE_MS: u64 = 10;
/// Time without progress after which something is sent or asked for again.
pub const RETRY_MS: u64 = 2000;
/// Times that operations are asked for every [`RETRY_MS`]; then it is twice as long each time, up
/// to [`UNDELIVERED_DOUBLINGS_MAX`] times: nobody may have them.
pub const PROMPT_TRIES: u32 = 4;
/// See [`PROMPT_TRIES`].
pub const UNDELIVERED_DOUBLINGS_MAX: u32 = 7;
/// Time without progress after which operations of a connected origin are asked of others.
pub const PATIENCE_MS: u64 = 1000;
/// Time between two looks for what is lacking.
pub const REPAIR_MS: u64 = 100;
/// Time for which a peer that did not deliver is asked only if nobody else can be.
pub const DISTRUST_MS: u64 = 10_000;
/// Time without an answer after which a snapshot is taken from another peer.
pub const STALL_MS: u64 = 6000;
/// Time without an answer from anybody after which a snapshot is given up.
pub const ABANDON_MS: u64 = 20_000;
/// Time between two comparisons of the whole state with a peer's. Operations bring copies
/// together; this brings together what was left of operations that nobody has any more.
pub const SCRUB_MS: u64 = 600_000;
/// Time to the first comparison that is wanted because something is damaged, in milliseconds; it
/// doubles while that does not help.
pub const WANTED_MS: u64 = 5000;
/// Time for which an operation waits, before it is forgotten if no peer has it any more, or comes
/// with a snapshot if no peer has the one that it waits for.
pub const AWAITED_MS: u64 = 15_000;
/// Time for which no snapshot is begun after one that was not taken over, in milliseconds.
pub const REFUSED_MS: u64 = 10_000;
/// See [`SERVED_BYTES_MAX`].
pub const SERVE_PERIOD_MS: u64 = 100;
/// Time between two questions to a peer for its wall clock.
pub const CLOCK_MS: u64 = 60_000;
/// A peer whose clock differs is asked so many times as often: that it is right again shows soon.
pub const CLOCK_OFTEN: u64 = 12;
/// Times [`CLOCK_MS`] for which an answer about a clock counts.
pub const CLOCK_INTERVALS: u64 = 4;
/// Answers about a peer's clock that are kept.
pub const CLOCK_ANSWERS_MAX: usize = 4;
/// What reading clocks in whole milliseconds adds to the uncertainty of an answer.
pub const CLOCK_GRAIN_MS: u64 = 2;
/// By how much the clocks of two machines go apart while an answer counts, at most.
pub const CLOCK_SKEW_MS: u64 = 250;
/// A wall clock that moves by more than this against the monotonic one was set.
pub const CLOCK_STEP_MS: u64 = 500;
/// The largest difference between two clocks that is told: what JSON's readers can count.
pub const CLOCK_OFFSET_MAX_MS: i64 = 1 << 53;
/// Difference from which on clocks are told to differ, unless set.
pub const DRIFT_MS: u64 = 5000;
/// Least time between two questions for rights of one filter.
pub const ASK_MS: u64 = 1000;
