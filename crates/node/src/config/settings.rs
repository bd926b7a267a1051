//! The declared table of sections and keys, and the typed [`Config`] that comes from it.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use super::address::{Address, Listener};
use super::gossip::{Gossip, GossipRound, LinkTable};
use super::key::{Default, Key, Section};
use super::kind::{
    Choice, ErrorRate, Integer, Label, LogFilter, LogFormat, Memory, MemoryLimit, Size, SyncMode,
    Text, Time, TimeOrOff, Truth,
};
use super::layers::Reader;
use super::list::List;
use super::origin::Origin;
use super::place::{DIRECTORY_OR_OFF, Directory, Listen, Remote, SECRET_FILE};
use super::show::Entry;
use super::surroundings::Surroundings;
use crate::gateway::hbbp::{KEY_DIRECTORY, KEY_DIRECTORY_VARIABLE};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Makes the table and the types from one declaration, so that they cannot disagree.
macro_rules! sections {
    ($(
        $(#[doc = $about:literal])+
        $section:ident: $Section:ident {
            $( $(#[doc = $help:literal])+ $key:ident: $type:ty = $kind:expr, $default:expr; )+
        }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug)]
            pub struct $Section { $( $(#[doc = $help])+ pub $key: $type, )+ }
        )+

        /// Every section and key there is, in the order they are shown.
        pub static SECTIONS: &[Section] = &[$(
            Section {
                name: stringify!($section),
                about: concat!($($about),+),
                keys: &[$(
                    Key {
                        section: stringify!($section),
                        name: stringify!($key),
                        full_name: concat!(stringify!($section), ".", stringify!($key)),
                        shape: &$kind,
                        default: $default,
                        help: concat!($($help),+),
                    },
                )+],
            },
        )+];

        /// The whole configuration, read and checked.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( $(#[doc = $about])+ pub $section: $Section, )+
            pub(super) entries: Vec<Entry>,
        }

        impl Config {
            /// Reads every key, going on past mistakes; nothing when there was one.
            pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
                $(
                    let $section = {
                        $(
                            let $key: Option<$type> = reader.read(
                                concat!(stringify!($section), ".", stringify!($key)),
                                &$kind,
                                $default,
                            );
                        )+
                        move || Some($Section { $($key: $key?,)+ })
                    };
                )+
                Some(Self { $($section: $section()?,)+ entries: reader.take_entries() })
            }
        }
    };
}

sections! {
    /// What this node is called, where it keeps its state and how it logs.
    node: Node {
        /// The node's name in listings and logs.
        name: String = Text { bytes_max: 255 },
            Default::Found(host_name, "the host name");
        /// The directory that holds everything the node keeps; one process at a time.
        data_dir: PathBuf = Directory,
            Default::Found(data_dir, "`$XDG_DATA_HOME/grapevine`, else `~/.local/share/grapevine`");
        /// What is logged to standard error: a level, or a filter by module in the syntax of
        /// `RUST_LOG`, which overrides this key when it is set.
        log: String = LogFilter, Default::Text("info");
        /// The form of log lines: `text` for people, `json` for programs.
        log_format: LogFormat = Choice::<LogFormat>(PhantomData), Default::Text("text");
    }

    /// How an acknowledged write is kept. Every mode survives the end of the process.
    durability: Durability {
        /// When the log is synced to the disk: `os` leaves it to the operating system,
        /// `interval` syncs every `durability.interval`, `always` syncs before each reply.
        sync: SyncMode = Choice::<SyncMode>(PhantomData), Default::Text("interval");
        /// The time between syncs with `sync = "interval"`: what a power cut may cost.
        interval: Duration = Time { min: Duration::from_millis(1), max: HOUR },
            Default::Text("1s");
    }

    /// Bounds on what clients and peers may take.
    limits: Limits {
        /// The memory that the node may take: a size, or a share of the machine's memory (of its
        /// control group's, when that is less). An eighth is for pages of the file of rows (at
        /// most 1 GiB), an eighth for rows that are not in it yet (128 MiB), a 32nd for the last
        /// changes of tables (64 MiB), an eighth for replies that wait (256 MiB), a 16th for
        /// requests that have not ended (128 MiB); the rest is for the bits of filters. What the
        /// program itself and each connection take comes on top: about 64 MiB, and up to 224 KiB
        /// for a client that does not read.
        memory: MemoryLimit = Memory { bytes_min: 16 * MIB }, Default::Text("75%");
        /// Open connections per gateway; more are refused. Fewer are allowed where the system's
        /// limit of open files is low (about 3/8 of it): the start says so.
        connections: usize = Integer::<usize>::between(1, 1_000_000), Default::Text("4096");
        /// The longest line of a line protocol, and the longest key over HTTP; a longer one is
        /// refused. What has come of a long one is kept in memory until its end, but for a `bulk`
        /// or `multi` of bloomd's clients, which is executed as it arrives.
        line: usize = Size::<usize>::between(KIB, GIB), Default::Text("16MiB");
        /// Replies that may wait for one connection; beyond that its requests wait too.
        output: usize = Size::<usize>::between(64 * KIB, 4 * GIB), Default::Text("16MiB");
        /// A client that takes nothing for this long while replies wait for it is disconnected. So
        /// is one of bloomd's that sends nothing for this long in the middle of a long line.
        write_timeout: Duration = Time { min: SECOND, max: HOUR }, Default::Text("30s");
        /// A connection that is silent for this long is closed.
        idle_timeout: Option<Duration> = TimeOrOff(Time { min: SECOND, max: YEAR }),
            Default::Text("off");
        /// Wall clocks of members that differ by more than this, and by more than the measurement may
        /// be wrong, are reported. A node whose clock differs so from those of more than half of the
        /// members that it hears makes no rows with a time to live until they agree.
        clock_drift: Duration = Time { min: Duration::from_millis(100), max: DAY },
            Default::Text("5s");
    }

    /// The group of nodes that share state.
    group: Group {
        /// The group's name; nodes of differently named groups do not talk to each other.
        name: String = Label { bytes_max: 64 }, Default::Text("default");
        /// Where the other members connect.
        listen: Listener = Listen, Default::Text("127.0.0.1:8676");
        /// The addresses at which others reach this node, where they are not those it listens on.
        advertise: Vec<Address> = List(Remote), Default::Text("");
        /// Members to contact at the start; one that answers is enough.
        join: Vec<Address> = List(Remote), Default::Text("");
        /// The file with the group's secret. Without it only loopback peers are accepted.
        secret_file: Option<PathBuf> = SECRET_FILE, Default::Text("off");
        /// Find members on the local network by multicast DNS.
        discover: bool = Truth, Default::Text("false");
        /// Log kept for members that are away; one that missed more is sent the state itself.
        log_keep: u64 = Size::<u64>::between(MIB, TIB), Default::Text("1GiB");
    }

    /// What a new filter is like when its creator does not say, and how filters are kept.
    filters: Filters {
        /// Keys the first layer of a new filter has room for.
        capacity: u64 = Integer::<u64>::between(1, 1_000_000_000_000), Default::Text("100000");
        /// The chance that a key which was never set is reported as seen.
        error: f64 = ErrorRate, Default::Text("0.0001");
        /// How many times larger each further layer of a filter is.
        growth: u32 = Integer::<u32>::between(2, 16), Default::Text("4");
        /// A filter that nobody uses for this long is taken out of memory until it is used again.
        idle_unload: Option<Duration> = TimeOrOff(Time { min: SECOND, max: YEAR }),
            Default::Text("1h");
        /// Bytes of log after which a snapshot is taken in the background; a restart reads at
        /// most about this much. About twice as much is kept, for the snapshot before.
        checkpoint_log: u64 = Size::<u64>::between(MIB, TIB), Default::Text("64MiB");
    }

    /// The gateway for clients of bloomd. Its protocol knows no authentication.
    bloomd: Bloomd {
        /// Where bloomd's clients connect.
        tcp: Listener = Listen, Default::Text("127.0.0.1:8673");
        /// Where bloomd's UDP clients send.
        udp: Listener = Listen, Default::Text("127.0.0.1:8674");
        /// Serve bloomd without authentication on a non-loopback address. Without it such an
        /// address is refused.
        open: bool = Truth, Default::Text("false");
    }

    /// The gateway for clients and peers of rmbd. Its protocol knows no authentication.
    rmbd: Rmbd {
        /// Where rmbd's clients and peers send; replies and syncs leave from there.
        udp: Listener = Listen, Default::Text("127.0.0.1:8000");
        /// Rows of 400 bits. Peers and clients that are to share the filter need the same number;
        /// the original has 5.
        rows: u16 = Integer::<u16>::between(1, 163), Default::Text("5");
        /// The pause between two rounds in which all rows are sent to all peers.
        sync_delay: Duration = Time { min: Duration::from_millis(10), max: HOUR },
            Default::Text("500ms");
        /// Peers that are sent all rows every round, whether they answer or not.
        peers: Vec<Address> = List(Remote), Default::Text("");
        /// Ask these peers to send their rows to this node while they take its rows and send
        /// none: after a restart of either side.
        announce: bool = Truth, Default::Text("true");
        /// Serve rmbd without authentication on a non-loopback address. Without it such an
        /// address is refused.
        open: bool = Truth, Default::Text("false");
    }

    /// The gateway for HBBP, which speaks to everybody on a link. Off until an interface is named.
    hbbp: Hbbp {
        /// The interfaces to listen on. One that is not there is waited for.
        interfaces: Vec<String> = List(Label { bytes_max: 15 }), Default::Text("");
        /// The UDP port of all listeners on the link.
        port: u16 = Integer::<u16>::between(1, 65_535), Default::Text("4950");
        /// The tables that are received from links (p2ptbl). Others are not, whoever sends them.
        tables: Vec<String> = List(LinkTable), Default::Text("");
        /// The tables that are told to links (p2ptbl): each change at once, and a random part of
        /// the table of at most `size` bytes, packed, every so often.
        gossip: Vec<GossipRound> = List(Gossip), Default::Text("");
        /// The directory with the key files: one directory for each key, and `default`.
        key_dir: PathBuf = Directory,
            Default::Found(hbbp_keys, "`$HBBP_KEYDIR`, else `/etc/hbbp/keys`");
        /// The directory of the programs that packets run, each named as the key it is for.
        /// Without keys anybody on the link can run them.
        handlers: Option<PathBuf> = DIRECTORY_OR_OFF, Default::Text("off");
    }

    /// The console, the HTTP API and the metrics.
    http: Http {
        /// Where HTTP is served.
        listen: Listener = Listen, Default::Text("127.0.0.1:8675");
        /// The file with the token that HTTP requests must carry. Needed off loopback.
        token_file: Option<PathBuf> = SECRET_FILE, Default::Text("off");
        /// The file with a token that reads `/metrics` and nothing else. Once it is set, `/metrics`
        /// wants it or the one of `http.token_file`.
        metrics_token_file: Option<PathBuf> = SECRET_FILE, Default::Text("off");
    }
}

fn host_name(surroundings: &Surroundings) -> Option<String> {
    Some(
        surroundings
            .host_name
            .clone()
            .unwrap_or_else(|| "grapevine".to_owned()),
    )
}

fn hbbp_keys(surroundings: &Surroundings) -> Option<String> {
    let named = surroundings
        .variables
        .get(OsStr::new(KEY_DIRECTORY_VARIABLE));
    let named = named.filter(|named| !named.is_empty()).cloned();
    let found = named.unwrap_or_else(|| KEY_DIRECTORY.into());
    found.into_string().ok()
}

fn data_dir(surroundings: &Surroundings) -> Option<String> {
    surroundings
        .default_data_dir()?
        .into_os_string()
        .into_string()
        .ok()
}

impl Config {
    /// Where the value of `key` (`section.key`) came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.origin)
    }

    /// Every listener, in the order of the table.
    #[must_use]
    pub fn listeners(&self) -> [&Listener; 5] {
        [
            &self.group.listen,
            &self.bloomd.tcp,
            &self.bloomd.udp,
            &self.rmbd.udp,
            &self.http.listen,
        ]
    }
}
