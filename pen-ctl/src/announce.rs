//! Tells links where VIPs are: gratuitous ARP, unsolicited neighbor advertisements, solicited-node groups.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::background::Background;
use crate::dataplane::Mac;
use crate::machine::netlink::Asker;
use crate::surroundings::Link;
use groups::Groups;
use packet_socket::PacketSocket;

mod frames;
pub(crate) mod groups;
pub(crate) mod packet_socket;
#[cfg(test)]
mod tests;

/// After the first announcement, the others follow so much later each: a frame may be lost, and a switch port may
/// not forward yet. RFC 5227 (section 1.1) has two, two seconds apart, RFC 4861 (section 10) three, one apart.
const REPEATS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Announces for as long as it lives.
pub(crate) struct Announcer {
    orders: mpsc::UnboundedSender<Order>,
    _task: Background,
}

struct Order {
    interface: Link,
    vips: Vec<IpAddr>,
    here: bool,
}

impl Announcer {
    /// Nothing is announced yet.
    pub(crate) fn start() -> io::Result<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let crier = Crier {
            asker: Asker::open()?,
            socket: None,
            groups: Groups::default(),
            schedule: BTreeMap::new(),
        };
        Ok(Self { orders, _task: Background::spawn(crier.run(inbox)) })
    }

    /// These VIPs are here.
    pub(crate) fn announce(&self, interface: &Link, vips: &[IpAddr]) {
        self.order(interface, vips, true);
    }

    /// These VIPs are not here any more.
    pub(crate) fn withdraw(&self, interface: &Link, vips: &[IpAddr]) {
        self.order(interface, vips, false);
    }

    fn order(&self, interface: &Link, vips: &[IpAddr], here: bool) {
        // The task ends with us only.
        let _ = self.orders.send(Order { interface: interface.clone(), vips: vips.to_vec(), here });
    }
}

/// One VIP on one interface that is still to be announced.
struct Pending {
    interface: String,
    mac: Mac,
    due: Instant,
    times_sent: usize,
}

struct Crier {
    asker: Asker,
    /// Opened when first needed: without CAP_NET_RAW requests for VIPs are answered all the same.
    socket: Option<PacketSocket>,
    groups: Groups,
    schedule: BTreeMap<(u32, IpAddr), Pending>,
}

impl Crier {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let due = self.schedule.values().map(|pending| pending.due).min();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.send_due(),
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        let Link { index, name, mac, .. } = order.interface;
        for vip in order.vips {
            if let IpAddr::V6(v6) = vip {
                let result = if order.here {
                    self.groups.join(&self.asker, index, v6).await
                } else {
                    self.groups.leave(&self.asker, index, v6).await
                };
                if let Err(error) = result {
                    let what = if order.here { "join" } else { "leave" };
                    tracing::warn!(
                        "{what} the solicited-node group of {vip} on {name}: {error}; is IPv6 enabled there?"
                    );
                    self.asker.mend();
                }
            }
            match mac.filter(|_| order.here) {
                Some(mac) => {
                    let pending =
                        Pending { interface: name.clone(), mac, due: Instant::now(), times_sent: 0 };
                    self.schedule.insert((index, vip), pending);
                }
                None => {
                    self.schedule.remove(&(index, vip));
                }
            }
        }
    }

    /// Sends what is due and puts off its repetition.
    fn send_due(&mut self) {
        if self.socket.is_none() {
            match PacketSocket::open() {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => {
                    tracing::warn!("announce VIPs: open a packet socket: {error}; that takes CAP_NET_RAW");
                    return self.schedule.clear();
                }
            }
        }
        let Some(socket) = &self.socket else { return };
        let now = Instant::now();
        self.schedule.retain(|(ifindex, vip), pending| {
            if pending.due > now {
                return true;
            }
            if let Err(error) = announce(socket, *ifindex, *vip, pending.mac)
                && pending.times_sent == 0
            {
                tracing::warn!("announce {vip} on {}: {error}", pending.interface);
            }
            let repeat = REPEATS.get(pending.times_sent);
            pending.times_sent += 1;
            pending.due = now + repeat.copied().unwrap_or_default();
            repeat.is_some()
        });
    }
}

fn announce(socket: &PacketSocket, ifindex: u32, vip: IpAddr, mac: Mac) -> io::Result<()> {
    frames::announcement(vip, mac).iter().try_for_each(|frame| socket.send(ifindex, frame))
}
