//! Nothing is answered before what it vouches for may be acknowledged.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use grapevine::config::{Durability, SyncMode};
use grapevine::engine::{Engine, FilterDefaults};
use grapevine::gateway::rmbd::{DurableBitmap, Settled, SharedBitmap};
use grapevine_core::bitmap::{Bitmap, FirstRows, ROW_BITS, ROWS_MAX};
use grapevine_core::catalogue::Storage;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::wire::rmbd::{ACK, encode_add, encode_has, encode_sync};
use grapevine_store::collections::Collections;
use grapevine_store::disk::{Operation, SimulatedDisk};
use grapevine_store::filters::{FilterError, Options};
use grapevine_store::log::LogConfig;
use tokio::sync::watch;

use crate::gateway::{Client, Served};
use crate::harness::wait_for;

/// A bitmap whose log can be held up, and can fail.
struct Logged {
    bitmap: Bitmap,
    /// Positions before this one may be acknowledged.
    settled: watch::Sender<u64>,
    position: AtomicUsize,
    waiting: AtomicUsize,
    read_only: AtomicBool,
}

impl Logged {
    fn new() -> Arc<Logged> {
        Arc::new(Logged {
            bitmap: Bitmap::new(5).expect("five rows"),
            settled: watch::Sender::new(0),
            position: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            read_only: AtomicBool::new(false),
        })
    }
}

impl SharedBitmap for Logged {
    fn bitmap(&self) -> FirstRows<'_> {
        self.bitmap.whole()
    }

    fn set(&self, bits: &[u16]) -> Result<u64, FilterError> {
        if !bits.is_empty() {
            if self.read_only.load(SeqCst) {
                return Err(FilterError::ReadOnly("a test".into()));
            }
            for bit in bits {
                assert_eq!(self.bitmap.set(*bit), Ok(true), "only new bits are logged");
            }
            self.position.fetch_add(1, SeqCst);
        }
        Ok(self.position.load(SeqCst) as u64)
    }

    fn settle(&self, position: u64) -> Settled<'_> {
        Box::pin(async move {
            self.waiting.fetch_add(1, SeqCst);
            let mut settled = self.settled.subscribe();
            let reached = settled.wait_for(|settled| *settled >= position).await;
            reached.map(drop).map_err(|_| FilterError::NotFound)
        })
    }
}

fn assert_silent(client: &Client) {
    client.socket.set_nonblocking(true).expect("it can be set");
    let answer = client.socket.recv(&mut [0; 512]);
    assert_eq!(
        answer.map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    client.socket.set_nonblocking(false).expect("it can be set");
}

#[test]
fn a_reply_waits_until_the_insert_it_vouches_for_is_settled() {
    let logged = Logged::new();
    let served = Served::over(Arc::clone(&logged), "127.0.0.1:0", &[]);
    let client = Client::of(served.address);
    client.send(&encode_add(b"key"));
    client.send(&encode_has(b"key"));
    wait_for("it to be logged", || {
        (logged.waiting.load(SeqCst) > 0 && logged.bitmap.count() == 5).then_some(())
    });
    assert_silent(&client);
    // What comes meanwhile is one batch, and one operation of the log.
    let before = logged.position.load(SeqCst);
    for index in 0..20_u8 {
        client.send(&encode_add(&[index, index]));
    }
    client.send(&encode_sync(0, &[true; ROW_BITS]));
    logged.settled.send_replace(before as u64);
    assert_eq!(
        client.receive()[..],
        grapevine_core::wire::rmbd::encode_has_reply(b"key", true)
    );
    wait_for("the rest to be logged", || {
        (logged.bitmap.count() > 400).then_some(())
    });
    assert_silent(&client);
    assert!(logged.position.load(SeqCst) <= before + 2);
    logged.settled.send_replace(u64::MAX);
    assert_eq!(client.receive(), ACK);
    served.stop();
}

#[test]
fn without_writes_questions_are_answered_from_what_is_there() {
    let logged = Logged::new();
    logged.settled.send_replace(u64::MAX);
    let served = Served::over(Arc::clone(&logged), "127.0.0.1:0", &[]);
    let client = Client::of(served.address);
    client.add(b"before");
    assert!(client.has(b"before"));
    logged.read_only.store(true, SeqCst);
    client.add(b"after");
    client.send(&encode_sync(1, &[true; ROW_BITS]));
    assert!(!client.has(b"after"), "the row is not acknowledged either");
    assert!(client.has(b"before"));
    client.send(&encode_sync(1, &[false; ROW_BITS]));
    assert_eq!(client.receive(), ACK, "nothing new, so nothing to keep");
    assert!(served.metrics.failures.get() > 0);
    served.stop();
}

#[test]
fn what_was_sent_before_the_stop_is_answered() {
    let logged = Logged::new();
    logged.settled.send_replace(u64::MAX);
    let served = Served::over(Arc::clone(&logged), "127.0.0.1:0", &[]);
    let client = Client::of(served.address);
    for index in 0..50_u8 {
        client.send(&encode_has(&[index]));
    }
    served.stop();
    for index in 0..50_u8 {
        assert_eq!(client.receive()[..2], [1, index]);
    }
}

/// A node's engine over a simulated disk.
fn engine(disk: &SimulatedDisk) -> Arc<Engine> {
    let options = Options {
        log: LogConfig::default(),
        memory: 1 << 20,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    };
    let opened = Collections::open(Arc::new(disk.clone()), options, Arc::new(|| [7; 16]));
    let defaults = FilterDefaults {
        parameters: Parameters {
            capacity: 100,
            error: 0.01,
            growth: Growth::By(2),
        },
        storage: Storage::Durable,
    };
    let durability = Durability {
        sync: SyncMode::Interval,
        interval: Duration::from_secs(1),
    };
    Engine::new(opened.expect("it opens").0, defaults, durability)
}

#[test]
fn a_node_that_could_not_write_vouches_for_what_it_kept_and_nothing_else() {
    let disk = SimulatedDisk::new();
    let engine = engine(&disk);
    let bitmap = Arc::new(DurableBitmap::new(Arc::clone(&engine), 5).expect("five rows"));
    let served = Served::over(bitmap, "127.0.0.1:0", &[]);
    let client = Client::of(served.address);
    client.add(b"before");
    client.send(&encode_sync(0, &[true; ROW_BITS]));
    assert_eq!(client.receive(), ACK);
    disk.fail_next(Operation::Write, 0, ErrorKind::StorageFull);
    client.add(b"after");
    for _ in 0..3 {
        client.send(&encode_sync(1, &[true; ROW_BITS]));
        assert!(!client.has(b"after"), "the row is not acknowledged either");
    }
    assert!(client.has(b"before"));
    client.send(&encode_sync(0, &[true; ROW_BITS]));
    assert_eq!(client.receive(), ACK, "that row was kept");
    let shown = served.bits();
    served.stop();
    drop(engine);
    disk.kill();
    let again = self::engine(&disk);
    let kept: Vec<u16> = again.collections().bitmap().bits().iter().collect();
    assert_eq!(shown, kept);
    assert!(DurableBitmap::new(Arc::clone(&again), ROWS_MAX).is_ok());
    assert!(DurableBitmap::new(again, ROWS_MAX + 1).is_err());
}
