//! The entry points: questions on their way out, and what comes in about them.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use pen_common::abi::Address;
use pen_common::probe::{self, Asked, Lane, Question};

use crate::frame::Frame;
use crate::packet::{ICMP, Icmp, Packet, Ports, TCP, UDP};
use crate::{memory, socket};

/// What goes to a probe address and is no question ends here: nobody has that address. All else others may look at, and
/// it goes on.
#[classifier]
fn pen_probe_out(context: TcContext) -> i32 {
    let frame = Frame::outgoing(&context);
    let Some((alias, lane)) = lead(&frame) else { return TC_ACT_UNSPEC };
    match ask(&frame, alias, &lane) {
        Some(()) => TC_ACT_UNSPEC,
        None => TC_ACT_SHOT,
    }
}

/// Whatever became of the frame, others may look at it, and it goes on.
#[classifier]
fn pen_probe_in(context: TcContext) -> i32 {
    let _ = Frame::incoming(&context).and_then(|frame| hear(&frame));
    TC_ACT_UNSPEC
}

/// The probe address that a frame goes to, and where it leads.
#[inline(always)]
fn lead(frame: &Frame<'_>) -> Option<(Address, Lane)> {
    let alias = Packet::destination(frame)?;
    if !probe::is_alias(&alias) {
        return None;
    }
    Some((alias, memory::lane(&alias)?))
}

/// A packet to a probe address goes to the VIP at the backend's MAC. Those of others that the balancer is a router for
/// are no questions, nor are parts of packets.
#[inline(always)]
fn ask(frame: &Frame<'_>, alias: Address, lane: &Lane) -> Option<()> {
    let packet = Packet::of(frame)?;
    if !frame.is_our_own() || !packet.is_whole(frame)? {
        return None;
    }
    let Ports { source, destination } = packet.ports(frame)?;
    if packet.protocol == ICMP && packet.icmp(frame)? != Icmp::Request {
        return None;
    }
    let question = Question {
        vip: lane.vip,
        own: packet.source,
        mac: lane.mac,
        protocol: packet.protocol,
        reserved: 0,
        ifindex: frame.ifindex(),
        own_port: source,
        port: destination,
    };
    memory::remember(&question, alias);
    packet.put_one_hop(frame)?;
    packet.put_destination(frame, &lane.vip)?;
    frame.put(0, lane.mac)
}

/// What a VIP says about a question came from the probe address.
#[inline(always)]
fn hear(frame: &Frame<'_>) -> Option<()> {
    let packet = Packet::of(frame)?;
    match packet.protocol {
        TCP | UDP => {}
        ICMP => match packet.icmp(frame)? {
            Icmp::Reply => {}
            Icmp::Error => return hear_error(frame, &packet),
            Icmp::Request => return None,
        },
        _ => return None,
    }
    let Ports { source, destination } = packet.ports(frame)?;
    // An identifier is the same both ways, and stands where the source port does.
    let ports = if packet.protocol == ICMP { (source, 0) } else { (destination, source) };
    let question = about(frame, packet.protocol, (packet.source, packet.destination), ports)?;
    let asked = counts(frame, &question)?;
    packet.put_source(frame, &asked.alias)
}

/// An error quotes the question as it went out.
#[inline(always)]
fn hear_error(frame: &Frame<'_>, packet: &Packet) -> Option<()> {
    let quoted = packet.quoted(frame)?;
    let Ports { source, destination } = quoted.ports(frame)?;
    let question = about(frame, quoted.protocol, (quoted.destination, quoted.source), (source, destination))?;
    let asked = counts(frame, &question)?;
    quoted.put_destination(frame, &asked.alias)?;
    if packet.source == question.vip {
        packet.put_source(frame, &asked.alias)?;
    }
    Some(())
}

/// The question that a packet from that frame's sender would be about.
#[inline(always)]
fn about(
    frame: &Frame<'_>,
    protocol: u8,
    (vip, own): (Address, Address),
    (own_port, port): (u16, u16),
) -> Option<Question> {
    let mac = frame.sender()?;
    Some(Question { vip, own, mac, protocol, reserved: 0, ifindex: frame.ifindex(), own_port, port })
}

/// What is remembered of a question, if that answer is to it: a socket waits for it, or it comes just too late and no
/// socket talks with the VIP itself.
#[inline(always)]
fn counts(frame: &Frame<'_>, question: &Question) -> Option<Asked> {
    let asked = memory::asked(question)?;
    let counts = question.protocol == ICMP
        || socket::talks(frame, question, &asked.alias)
        || !memory::is_old(&asked) && !socket::talks(frame, question, &question.vip);
    counts.then_some(asked)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
