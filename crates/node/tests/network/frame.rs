//! What the switch reads of an Ethernet frame.

const HEADER_BYTES: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const IPV6_HEADER_BYTES: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
const MDNS_PORT: u16 = 5353;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// What a firewall would tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first packet of a TCP connection.
    Call,
    /// UDP, but for multicast DNS.
    Datagram,
    /// Everything else.
    Other,
}

/// The hardware address of the machine with a number.
pub(crate) fn hardware_address(number: usize) -> [u8; 6] {
    let last = u8::try_from(number).expect("few machines");
    [2, 0, 0, 0, 0, last]
}

/// The machine that a frame is for; none when it is for all.
pub(crate) fn receiver(frame: &[u8], machines: usize) -> Option<usize> {
    (0..machines).find(|number| frame.starts_with(&hardware_address(*number)))
}

/// What is in a frame.
pub(crate) fn kind(frame: &[u8]) -> Kind {
    let Some(packet) = frame.get(HEADER_BYTES..) else {
        return Kind::Other;
    };
    let found = match [frame[12], frame[13]] {
        IPV4 => packet.first().zip(packet.get(9)).map(|(first, protocol)| {
            let header = usize::from(first & 15) * 4;
            (*protocol, header)
        }),
        IPV6 => packet.get(6).map(|next| (*next, IPV6_HEADER_BYTES)),
        _ => None,
    };
    let Some((protocol, header)) = found else {
        return Kind::Other;
    };
    let content = packet.get(header..).unwrap_or_default();
    match protocol {
        TCP if content.get(13).is_some_and(|f| f & (SYN | ACK) == SYN) => Kind::Call,
        UDP if content.get(2..4) != Some(&MDNS_PORT.to_be_bytes()) => Kind::Datagram,
        _ => Kind::Other,
    }
}

#[test]
fn calls_and_datagrams_are_told_apart() {
    let frame = |ether: [u8; 2], packet: &[u8]| [&[0; 12][..], &ether, packet].concat();
    let v4 = |protocol: u8, content: &[u8]| {
        let mut packet = [0; 24];
        (packet[0], packet[9]) = (0x46, protocol);
        frame(IPV4, &[&packet[..], content].concat())
    };
    let v6 = |protocol: u8, content: &[u8]| {
        let mut packet = [0; 40];
        packet[6] = protocol;
        frame(IPV6, &[&packet[..], content].concat())
    };
    let tcp = |flags: u8| {
        let mut segment = [0; 20];
        segment[13] = flags;
        segment
    };
    for wrap in [&v4 as &dyn Fn(u8, &[u8]) -> Vec<u8>, &v6] {
        assert_eq!(kind(&wrap(TCP, &tcp(SYN))), Kind::Call);
        assert_eq!(kind(&wrap(TCP, &tcp(SYN | ACK))), Kind::Other);
        assert_eq!(kind(&wrap(TCP, &tcp(ACK))), Kind::Other);
        assert_eq!(kind(&wrap(UDP, &[0, 9, 0, 9])), Kind::Datagram);
        assert_eq!(kind(&wrap(UDP, &[0x14, 0xe9, 0x14, 0xe9])), Kind::Other);
    }
    for length in 0..40 {
        assert_eq!(kind(&v4(TCP, &[])[..length.min(38)]), Kind::Other);
    }
    let mut to_second = v4(UDP, &[]);
    to_second[..6].copy_from_slice(&hardware_address(1));
    assert_eq!(receiver(&to_second, 3), Some(1));
    assert_eq!(receiver(&to_second, 1), None);
    assert_eq!(receiver(&[255; 60], 3), None);
}
