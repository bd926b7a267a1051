//! Measures the group's transport on loopback: `transport carry quic|tcp BYTES SECONDS` for frames
//! from one node to another, `transport idle NODES SECONDS` for a mesh that has nothing to say.
//! All nodes are in this process, so its CPU time is that of both ends.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grapevine_net::{
    Carriers, Event, Events, Handle, KEY_BYTES, Key, Keyring, NodeKey, SendError, Settings, start,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Units of CPU time in `/proc/self/stat`, a constant of Linux's interface.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["carry", "quic", bytes, seconds] => carry(Carriers::QUIC, bytes, seconds).await,
        ["carry", "tcp", bytes, seconds] => carry(Carriers::TCP, bytes, seconds).await,
        ["idle", nodes, seconds] => idle(nodes.parse()?, seconds.parse()?).await,
        _ => Err(
            "usage: transport carry quic|tcp BYTES SECONDS | transport idle NODES SECONDS".into(),
        ),
    }
}

async fn node(number: u8, carriers: Carriers) -> Outcome<(Handle, Events)> {
    let settings = Settings {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        discover: false,
        keyring: Keyring::new(Key::new("measured", [7; KEY_BYTES])?),
        greeting: Bytes::new(),
        carriers,
    };
    Ok(start(settings, &NodeKey::from_bytes([number; 32])).await?)
}

async fn carry(carriers: Carriers, bytes: &str, seconds: &str) -> Outcome {
    let (size, time): (usize, u64) = (bytes.parse()?, seconds.parse()?);
    let (a, mut from_a) = node(1, carriers).await?;
    let (b, mut from_b) = node(2, carriers).await?;
    a.dial(b.addresses()[0].into()).await?;
    let session = loop {
        if let Some(Event::Admitted(admitted)) = from_a.next().await {
            break admitted.session;
        }
    };
    let received = tokio::spawn(async move {
        let mut frames = 0u64;
        while let Some(event) = from_b.next().await {
            match event {
                Event::Frame { .. } => frames += 1,
                Event::Closed { .. } => break,
                _ => {}
            }
        }
        frames
    });
    let frame = Bytes::from(vec![42; size]);
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    let end = begun + Duration::from_secs(time);
    while Instant::now() < end {
        match a.send(&b.local(), session, frame.clone()) {
            Ok(()) => {}
            Err(SendError::Full) => {
                while !matches!(from_a.next().await, Some(Event::Writable { .. }) | None) {}
            }
            Err(error) => return Err(error.into()),
        }
    }
    a.stop().await;
    let (frames, elapsed) = (received.await?, begun.elapsed().as_secs_f64());
    let cpu = cpu_seconds()? - cpu;
    println!(
        "{size} bytes: {:.0} frames/s, {:.0} MB/s, {:.2} us of CPU a frame (both ends)",
        frames as f64 / elapsed,
        frames as f64 * size as f64 / elapsed / 1e6,
        cpu * 1e6 / frames as f64
    );
    Ok(())
}

async fn idle(count: u8, seconds: u64) -> Outcome {
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(node(number, Carriers::BOTH).await?);
    }
    let before = resident_bytes()?;
    for (number, (handle, _)) in nodes.iter().enumerate() {
        for (other, _) in &nodes[number + 1..] {
            handle.dial(other.addresses()[0].into()).await?;
        }
    }
    for (_, events) in &mut nodes {
        let mut admitted = 0;
        while admitted < usize::from(count) - 1 {
            if let Some(Event::Admitted(_)) = events.next().await {
                admitted += 1;
            }
        }
    }
    let ends = f64::from(count) * (f64::from(count) - 1.0);
    let memory = (resident_bytes()? - before) / ends;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = cpu_seconds()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let cpu = cpu_seconds()? - cpu;
    let peers: usize = nodes.iter().map(|(handle, _)| handle.peers().len()).sum();
    println!(
        "{count} nodes, {peers} ends: {:.3} % of a core a node, {:.0} KiB an end",
        100.0 * cpu / seconds as f64 / f64::from(count),
        memory / 1024.0
    );
    Ok(())
}

fn cpu_seconds() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // User and system time are the 14th and 15th field; the second may have spaces.
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |at: usize| fields.get(at).unwrap_or(&"").parse::<f64>();
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn resident_bytes() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no VmRSS")?.parse::<f64>()? * 1024.0)
}
