//! Does each backend take what comes for its VIP? It is asked as pen would hand it on: at its MAC, for the VIP and the
//! service's port, but from an address and a port of this host that nobody uses.
//!
//! A server that accepts is told at once that it was nothing (RST): the answer comes back to this host as to any
//! other, since the XDP program looks only at frames *to* a VIP, and this host's stack, which knows of no such
//! connection, could not say so itself: it has no way to a VIP.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::listening::{Content, Heard, Kind, Segment, Wire};
use super::patient::{Reach, Seat};
use super::{Finding, Patient, Verdict, or_ok, probe};
use crate::api::document::{BackendDocument, ServiceDocument};
use crate::dataplane::{HealthStatus, Mac, Protocol};
use crate::frame::{ICMP, ICMPV6, TCP, UDP};

/// How long is listened each time that those who did not answer are asked.
const ROUNDS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_millis(800)];
/// How many backends are asked at once.
const AT_ONCE: usize = 128;
/// For an every-port service: discard (RFC 863). Refused is as good as accepted then.
const ANY_PORT: u16 = 9;
/// Flags of an answer.
const SYN_ACK: u8 = 0x12;
const RST: u8 = 0x04;
/// Which of the two echo requests.
const ECHO_VIP: u16 = 1;
const ECHO_OWN: u16 = 2;

/// One backend of one service, asked.
struct Question<'a> {
    service: &'a ServiceDocument,
    backend: &'a BackendDocument,
    from: Seat,
    mac: Mac,
    to: SocketAddr,
    /// The backend's own address.
    own: IpAddr,
    source_port: u16,
    /// Tells answers apart: the first sequence number of TCP, the identifier of echo requests.
    number: u32,
    answer: Option<Answer>,
    vip_echoed: bool,
    own_echoed: bool,
    /// Keeps others from using the port meanwhile, and the kernel from complaining about answers to UDP.
    _port: Port,
}

/// A backend to ask.
struct Asked<'a> {
    service: &'a ServiceDocument,
    backend: &'a BackendDocument,
    from: Seat,
    mac: Mac,
    vip: IpAddr,
    /// The backend's own address.
    own: IpAddr,
}

enum Port {
    Tcp { _socket: Socket },
    Udp { _socket: UdpSocket },
}

/// How a backend answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Accepted,
    Refused,
    /// It wanted to forward what it should have taken.
    Forwarded,
    /// ICMP says that it is not let through.
    Rejected,
}

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    if let Err(why) = &patient.controller {
        return vec![Finding::new(
            Verdict::Skipped,
            "",
            format!("which backends there are is not known: {why}"),
        )];
    }
    let mut findings = Vec::new();
    let mut asked = Vec::new();
    let mut well = 0;
    for (service, backend) in patient.backends() {
        // A Unix socket gets no packets.
        let Some(vip) = service.vip.ip() else { continue };
        let on = || format!("backend {} of service {}", backend.address, service.name);
        match patient.reach(backend) {
            Reach::OnLink { from, mac, address: own } => {
                asked.push(Asked { service, backend, from, mac, vip, own });
            }
            Reach::Local if patient.owns(vip) => well += 1,
            Reach::Local => findings.push(
                Finding::new(Verdict::Problem, on(), format!("is this host, which has not the VIP {vip}"))
                    .fix(format!("here: pen-ctl backend-setup {vip} --apply")),
            ),
            Reach::Not(why) => {
                findings.push(Finding::new(Verdict::Skipped, on(), format!("cannot be asked: {why}")))
            }
        }
    }
    if findings.is_empty() && asked.is_empty() && well == 0 {
        return vec![Finding::new(Verdict::Skipped, "", "there are no backends that may get packets")];
    }
    let count = asked.len() + well;
    for some in asked.chunks(AT_ONCE) {
        match ask(some) {
            Ok(found) => findings.extend(found),
            Err(finding) => return vec![finding],
        }
    }
    or_ok(findings, || match count {
        0 => Finding::new(Verdict::Skipped, "", "no backend could be asked"),
        1 => Finding::new(Verdict::Ok, "1 backend", "takes what comes for its VIP"),
        _ => Finding::new(Verdict::Ok, format!("{count} backends"), "take what comes for their VIPs"),
    })
}

fn ask(asked: &[Asked<'_>]) -> Result<Vec<Finding>, Finding> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Finding::new(Verdict::Skipped, "", format!("{what}: {error}"))
    };
    let wire = Wire::open()?;
    let mut seed = [0; 4];
    getrandom::fill(&mut seed).map_err(|error| failed("no random numbers from the kernel", &error))?;
    let start = u32::from_ne_bytes(seed);
    let questions = asked.iter().zip(0u32..).map(|(asked, n)| Question::new(asked, start.wrapping_add(n)));
    let mut questions: Vec<Question<'_>> =
        questions.collect::<io::Result<_>>().map_err(|error| failed("take a port to ask from", &error))?;
    for (round, span) in ROUNDS.into_iter().enumerate() {
        for question in questions.iter().filter(|question| question.answer.is_none()) {
            question.send(&wire, round > 0);
        }
        if questions.iter().all(|question| question.answer.is_some()) {
            break;
        }
        wire.listen(span, |heard| questions.iter_mut().for_each(|question| question.hear(&heard, &wire)))
            .map_err(|error| failed("listening failed", &error))?;
    }
    Ok(questions.iter().filter_map(Question::finding).collect())
}

impl<'a> Question<'a> {
    fn new(asked: &Asked<'a>, number: u32) -> io::Result<Question<'a>> {
        let Asked { service, backend, from, mac, vip, own } = asked;
        let key = service.vip;
        let checked = service.health.check().and_then(|check| check.port);
        let port = if key.port == 0 { checked.unwrap_or(ANY_PORT) } else { key.port };
        let (port_held, source_port) = take_port(key.protocol, from.address)?;
        Ok(Question {
            service,
            backend,
            from: from.clone(),
            mac: *mac,
            to: SocketAddr::new(*vip, port),
            own: *own,
            source_port,
            number,
            answer: None,
            vip_echoed: false,
            own_echoed: false,
            _port: port_held,
        })
    }

    /// Asks; once more than that also whether the backend is there at all.
    fn send(&self, wire: &Wire, again: bool) {
        let Question { from, mac, source_port, to, number, .. } = self;
        let echo = |to: IpAddr, which: u16| probe::echo(from, *mac, to, *number as u16, which);
        match self.service.vip.protocol {
            Protocol::Tcp => wire.send(from.ifindex, &probe::syn(from, *mac, *source_port, *to, *number)),
            Protocol::Udp => {
                wire.send(from.ifindex, &probe::datagram(from, *mac, *source_port, *to));
                wire.send(from.ifindex, &echo(to.ip(), ECHO_VIP));
            }
        }
        if again {
            wire.send(from.ifindex, &echo(self.own, ECHO_OWN));
        }
    }

    fn hear(&mut self, heard: &Heard, wire: &Wire) {
        let own = SocketAddr::new(self.from.address, self.source_port);
        match &heard.content {
            Content::Tcp(segment) if self.is_answered_by(segment, own) => {
                if segment.flags & SYN_ACK == SYN_ACK {
                    let rst = probe::rst(
                        &self.from,
                        self.mac,
                        self.source_port,
                        self.to,
                        self.number.wrapping_add(1),
                    );
                    wire.send(self.from.ifindex, &rst);
                    self.answer = Some(Answer::Accepted);
                } else if segment.flags & RST != 0 {
                    self.answer = Some(Answer::Refused);
                }
            }
            Content::Udp { from, to } if *from == self.to && *to == own => {
                self.answer = Some(Answer::Accepted)
            }
            Content::EchoReply { from, identifier, sequence } if *identifier == self.number as u16 => {
                self.vip_echoed |= *from == self.to.ip() && *sequence == ECHO_VIP;
                self.own_echoed |= *from == self.own && *sequence == ECHO_OWN;
            }
            Content::Error { kind, about, protocol, quoted }
                if *about == self.to.ip() && self.is_quoted(*protocol, quoted) =>
            {
                self.answer = Some(match (kind, self.service.vip.protocol) {
                    (Kind::Port, Protocol::Udp) => Answer::Refused,
                    (Kind::HopLimit, _) => Answer::Forwarded,
                    _ => Answer::Rejected,
                });
            }
            _ => {}
        }
    }

    fn is_answered_by(&self, segment: &Segment, own: SocketAddr) -> bool {
        (segment.from, segment.to) == (self.to, own) && segment.acknowledged == self.number.wrapping_add(1)
    }

    /// Whether the first eight bytes of a packet are those of what was sent.
    fn is_quoted(&self, protocol: u8, [a, b, c, d, rest @ ..]: &[u8; 8]) -> bool {
        let ports = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let ours = ports == (self.source_port, self.to.port());
        match (protocol, self.service.vip.protocol) {
            (TCP, Protocol::Tcp) => ours && u32::from_be_bytes(*rest) == self.number,
            (UDP, Protocol::Udp) => ours,
            // The echo request to the VIP: type, code, checksum, then these two.
            (ICMP | ICMPV6, Protocol::Udp) => {
                let [e, f, g, h] = *rest;
                u16::from_be_bytes([e, f]) == self.number as u16 && u16::from_be_bytes([g, h]) == ECHO_VIP
            }
            _ => false,
        }
    }

    /// What is to be said about it, if anything.
    fn finding(&self) -> Option<Finding> {
        let Question { service, backend, to, .. } = self;
        let (vip, address, protocol) = (to.ip(), backend.address, service.vip.protocol);
        let on = format!("backend {address} of service {} ({})", service.name, self.mac);
        let set_up = format!("on {address}: pen-ctl backend-setup {vip} --apply");
        let problem = |what: String| Finding::new(Verdict::Problem, on.clone(), what);
        let firewall =
            format!("on {address}: let its firewall accept {protocol} port {} of {vip}", to.port());
        let is_there = match protocol {
            // A check that connects has proved it.
            Protocol::Tcp => self.own_echoed || backend.health.status == HealthStatus::Up,
            Protocol::Udp => self.own_echoed,
        };
        match self.answer {
            Some(Answer::Accepted) => None,
            Some(Answer::Refused) if service.vip.is_every_port() => None,
            Some(Answer::Refused) => {
                let (how, see) = match protocol {
                    Protocol::Tcp => ("TCP RST", "ss -ltn"),
                    Protocol::Udp => ("ICMP port unreachable", "ss -lun"),
                };
                let what = format!(
                    "refuses {protocol} port {} of the VIP {vip} ({how}): no server listens there",
                    to.port()
                );
                Some(problem(what).fix(format!(
                    "on {address}: have the server listen on every address, or on {vip} too (`{see}` shows where it does)"
                )))
            }
            Some(Answer::Forwarded) => {
                let what = format!(
                    "forwards packets for the VIP {vip} instead of taking them: the VIP is not on its lo"
                );
                Some(problem(what).fix(set_up))
            }
            Some(Answer::Rejected) => {
                let what = format!(
                    "rejects {protocol} port {} of the VIP {vip} by ICMP: a firewall, most likely",
                    to.port()
                );
                Some(problem(what).fix(firewall).fix(set_up))
            }
            None if self.vip_echoed => None,
            None if is_there => {
                let what = format!(
                    "is there, but silent on {protocol} port {} of the VIP {vip}: the VIP is not on its lo, or a firewall \
                     drops packets",
                    to.port()
                );
                Some(problem(what).fix(set_up).fix(format!("if the VIP is there: {firewall}")))
            }
            None => {
                let what = format!(
                    "answers nothing, neither on the VIP {vip} nor to a ping of its own address: whether it has the VIP \
                     cannot be told"
                );
                Some(
                    Finding::new(Verdict::Warning, on.clone(), what)
                        .fix("is it up? `pen-ctl status` says what its checks see"),
                )
            }
        }
    }
}

/// Takes a port of this host that nobody uses.
fn take_port(protocol: Protocol, own: IpAddr) -> io::Result<(Port, u16)> {
    match protocol {
        Protocol::Tcp => {
            let domain = if own.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            // Bound, but neither listening nor connected.
            let socket = Socket::new(domain, Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(own, 0).into())?;
            let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
            Ok((Port::Tcp { _socket: socket }, port))
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind((own, 0))?;
            let port = socket.local_addr()?.port();
            Ok((Port::Udp { _socket: socket }, port))
        }
    }
}
