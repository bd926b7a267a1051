//! Rare branches: what a run must meet now and then to be worth its time.

use serde::Serialize;

/// Something that happens seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// A restart after a kill.
    Kill,
    /// A restart after a power cut.
    PowerCut,
    /// The power went while a restart was under way.
    CutInRecovery,
    /// Recovery cut a torn tail off the log.
    TornTail,
    /// Recovery replayed operations.
    Replay,
    /// A filter had grown by a layer since the last snapshot when the process ended.
    LayerReplayed,
    /// A filter had been dropped since the last snapshot when the process ended.
    DropReplayed,
    /// The process ended within a snapshot: files newer than the manifest.
    SnapshotAhead,
    /// A merge adopted layers.
    Adopted,
    /// A merge went into layers that were there.
    MergedInPlace,
    /// A filter was imported.
    Imported,
    /// A merge or import had not been snapshotted when the process ended.
    TransferReplayed,
    /// The node turned read-only.
    ReadOnly,
    /// The disk was full.
    DiskFull,
    /// A fixed-size filter was full.
    FilterFull,
    /// The memory bound refused.
    OverMemory,
    /// A hidden filter was shown again.
    Shown,
    /// A filter was read back from its files.
    PagedIn,
    /// Files of dropped filters were removed.
    Reclaimed,
    /// A restart came between a drop and the removal of the files.
    ReclaimAfterRestart,
    /// The log began another segment.
    SegmentBegun,
    /// The power cut took back operations that were never synced.
    RolledBack,
    /// Rot was found: the directory did not open.
    RotRefused,
    /// Rot was found: a filter is damaged.
    RotDamaged,
    /// Rot hit bytes that nothing depends on.
    RotHarmless,
    /// Some nodes no longer heard the others.
    Partition,
    /// One node was no longer heard by another.
    OneWayCut,
    /// A node was taken back to a backup, under a new origin.
    RestoredOld,
    /// A node came.
    Joined,
    /// A node left.
    Left,
    /// A node's clock jumped ahead by an hour, as after a sleep.
    ClockJump,
    /// A node's clock was set back by an hour.
    ClockSetBack,
    /// A node's clock was wrong, by minutes to a year, while rows had a time to live.
    ClockWrong,
    /// A node whose clock was off refused to make a row with a time to live.
    LeaseRefused,
    /// A comparison met a copy that seemed to lack rows.
    RowsUnseen,
    /// A row that a copy seemed to lack was written again.
    RowsWrittenAgain,
    /// A directory was set back to an earlier copy.
    SetBack,
    /// A copy of a directory ran beside it.
    RunTwice,
    /// The directories of two machines were swapped.
    Swapped,
    /// Two nodes found that they have other operations of an origin.
    HistoriesPart,
    /// A directory was made anew, for its history was not the group's.
    MadeAnew,
    /// What a node says of itself changed.
    MemberChanged,
    /// A node that had left is back.
    MemberBack,
    /// A node left to come back.
    LeftForAWhile,
    /// An operator declared that a node which is gone has left.
    MemberRemoved,
    /// A node found that another does not belong to its group.
    PeerRefused,
    /// A message was lost.
    MessageLost,
    /// A message came twice.
    MessageTwice,
    /// A peer did not acknowledge: operations were sent again.
    Rewound,
    /// A peer was asked for another's operations.
    Repaired,
    /// Operations waited for another one.
    Parked,
    /// An operation waited for bits.
    ParkedForParts,
    /// A snapshot was taken from a peer.
    SnapshotTaken,
    /// The whole state was compared with a peer's.
    Scrubbed,
    /// A snapshot went on with another peer.
    SnapshotMoved,
    /// Keys of filters that are kept in memory were compared with a peer's.
    KeptFetched,
    /// A snapshot was given up.
    SnapshotAbandoned,
    /// Bits that an operation waited for were fetched.
    PartsFetched,
    /// A peer had less than it said before.
    PeerLowered,
    /// Rights were asked for.
    RightsAsked,
    /// A filter grew by a layer.
    LayerOpened,
    /// Two nodes opened layers of one index.
    LayersApart,
    /// Filters of one name made apart stood together.
    NamesUnited,
    /// A file was merged into a filter of the group.
    Merged,
    /// A row of a table was deleted.
    RowDeleted,
    /// A table's rows were merged from a file.
    RowsMerged,
    /// A table was dropped.
    TableDropped,
    /// One that was made after a drop was dropped too.
    TableDroppedAgain,
    /// Rows that are gone were removed.
    RowsRemoved,
    /// A file of a layer was damaged.
    LayerDamaged,
    /// A damaged filter got its bits from the others.
    LayerHealed,
    /// A node's file of rows was damaged.
    RowsDamaged,
    /// After a start on such a file rows were missing, since its log did not have all of them.
    RowsLacking,
    /// The rows of a node whose file was damaged are whole again.
    RowsHealed,
    /// A node that had a filter which did not fit its memory got room for it.
    BoundRaised,
    /// A snapshot was cut short.
    SnapshotCutShort,
}

impl Branch {
    /// Those of seeds with one node.
    pub const OF_ONE: [Branch; 25] = [
        Branch::Kill,
        Branch::PowerCut,
        Branch::CutInRecovery,
        Branch::TornTail,
        Branch::Replay,
        Branch::LayerReplayed,
        Branch::DropReplayed,
        Branch::SnapshotAhead,
        Branch::Adopted,
        Branch::MergedInPlace,
        Branch::Imported,
        Branch::TransferReplayed,
        Branch::ReadOnly,
        Branch::DiskFull,
        Branch::FilterFull,
        Branch::OverMemory,
        Branch::Shown,
        Branch::PagedIn,
        Branch::Reclaimed,
        Branch::ReclaimAfterRestart,
        Branch::SegmentBegun,
        Branch::RolledBack,
        Branch::RotRefused,
        Branch::RotDamaged,
        Branch::RotHarmless,
    ];

    /// Those of seeds with many nodes.
    pub const OF_MANY: [Branch; 56] = [
        Branch::Kill,
        Branch::PowerCut,
        Branch::FilterFull,
        Branch::Imported,
        Branch::Partition,
        Branch::OneWayCut,
        Branch::RestoredOld,
        Branch::Joined,
        Branch::Left,
        Branch::ClockJump,
        Branch::ClockSetBack,
        Branch::SetBack,
        Branch::RunTwice,
        Branch::Swapped,
        Branch::HistoriesPart,
        Branch::MadeAnew,
        Branch::MemberChanged,
        Branch::MemberBack,
        Branch::LeftForAWhile,
        Branch::MemberRemoved,
        Branch::PeerRefused,
        Branch::MessageLost,
        Branch::MessageTwice,
        Branch::Rewound,
        Branch::Repaired,
        Branch::Parked,
        Branch::ParkedForParts,
        Branch::SnapshotTaken,
        Branch::Scrubbed,
        Branch::SnapshotMoved,
        Branch::KeptFetched,
        Branch::SnapshotAbandoned,
        Branch::PartsFetched,
        Branch::PeerLowered,
        Branch::RightsAsked,
        Branch::LayerOpened,
        Branch::LayersApart,
        Branch::NamesUnited,
        Branch::Merged,
        Branch::RowDeleted,
        Branch::RowsMerged,
        Branch::TableDropped,
        Branch::TableDroppedAgain,
        Branch::RowsRemoved,
        Branch::ClockWrong,
        Branch::LeaseRefused,
        Branch::RowsUnseen,
        Branch::RowsWrittenAgain,
        Branch::LayerDamaged,
        Branch::RowsDamaged,
        Branch::RowsLacking,
        Branch::RowsHealed,
        Branch::LayerHealed,
        Branch::OverMemory,
        Branch::BoundRaised,
        Branch::SnapshotCutShort,
    ];
}
