//! Seats of the balancer: an interface, pins and services for each copy of its program that is measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::{ProgramFd, ProgramInfo};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pen_ctl::dataplane::xdp::{OpenError, OpenOptions, Policy, XdpPlane};
use pen_ctl::dataplane::{
    AccessList, Affinity, AttachMode, BackendAddress, BackendPath, BackendTarget, DataPlane as _,
    HealthStatus, InterfaceTarget, Mac, Member, OnEmpty, Operation, Prefixes, Protocol, Rate, RateLimit,
    Scheduler, ServiceKey, ServiceSettings, Tracking,
};
use rustix::net::netdevice::name_to_index;
use rustix::thread::CapabilitySet;

use super::BACKENDS;
use crate::bench::cases::{self, Program};
use crate::bench::{BenchError, rights};
use crate::lab::{Host, Lab};

/// Interface of the balancer that every lab has.
const INTERFACE: &str = "eth0";

/// A copy of the balancer's program.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Seat {
    /// What rows call it.
    pub(in crate::bench) program: Program,
    /// Where it is attached: `eth0`, or a new interface whose other end, of the same name, the client has.
    pub(in crate::bench) interface: &'static str,
    /// All that the thread may do which loads and furnishes it; everything without.
    pub(in crate::bench) capabilities: Option<CapabilitySet>,
    /// These may be too few for the kernel, which is no failure then.
    pub(in crate::bench) may_be_refused: bool,
}

impl Seat {
    /// The one that every bed has.
    pub(in crate::bench) const PLAIN: Self = Self::at(INTERFACE);

    /// The balancer's program as root loads it.
    pub(in crate::bench) const fn at(interface: &'static str) -> Self {
        Self { program: Program::Pen, interface, capabilities: None, may_be_refused: false }
    }
}

/// A seat that is taken.
pub(super) struct Taken {
    pub(super) program: ProgramFd,
    pub(super) ifindex: u32,
    pub(super) plane: XdpPlane,
}

impl Taken {
    /// Makes what the seat needs, opens the data plane there and furnishes it. The calling thread is in the balancer's
    /// namespace.
    pub(super) fn take(seat: &Seat, lab: &Lab, balancer: &Host, pins: &Path) -> Result<Self, BenchError> {
        if seat.interface != INTERFACE {
            pair(lab, balancer, seat.interface)?;
        }
        let ifindex = index(seat.interface)?;
        let open = || open(pins.to_owned(), seat.interface, ifindex, Mac(balancer.mac));
        let plane = match seat.capabilities {
            Some(kept) => rights::with(kept, open),
            None => open(),
        }?;
        let program = ProgramInfo::from_pin(pins.join("progs/xdp"))
            .and_then(|info| info.fd())
            .map_err(BenchError::of("the pinned program"))?;
        Ok(Self { program, ifindex, plane })
    }
}

/// Index of an interface of the calling thread's namespace.
pub(super) fn index(interface: &str) -> Result<u32, BenchError> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(BenchError::of("open a socket"))?;
    name_to_index(&socket, interface).map_err(BenchError::of(interface))
}

/// Joins balancer and client by a pair of interfaces that are called the same at both ends.
pub(super) fn pair(lab: &Lab, balancer: &Host, name: &str) -> Result<(), BenchError> {
    let [a, b, c, d, e, f] = balancer.mac;
    let client = &lab.client.namespace;
    balancer.namespace.ip(&format!(
        "link add {name} address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} type veth peer name {name} netns {}",
        client.name()
    ))?;
    for end in [&balancer.namespace, client] {
        end.ip(&format!("link set {name} up"))?;
    }
    Ok(())
}

fn open(dir: PathBuf, interface: &str, ifindex: u32, mac: Mac) -> Result<XdpPlane, BenchError> {
    let options = OpenOptions {
        dir,
        instance: [0xbe; 16],
        tracking_clients: cases::TRACKED_CLIENTS,
        policy: Policy::Adopt,
    };
    let mut plane = XdpPlane::open(&options).map_err(|error| match error {
        OpenError::NoPrivilege { missing } => BenchError::NoPrivilege { missing },
        error => BenchError::of("open the data plane")(error),
    })?;
    for operation in furnish(interface, ifindex, mac) {
        plane.apply(&operation).map_err(BenchError::of("furnish the data plane"))?;
    }
    Ok(plane)
}

/// The services that the rows are about.
fn furnish(interface: &str, ifindex: u32, mac: Mac) -> Vec<Operation> {
    let target =
        InterfaceTarget { ifindex, mac, master_mac: None, mode: AttachMode::Native, announce: false };
    let mut operations =
        vec![Operation::SetSeed(1), Operation::Attach { name: interface.to_owned(), target }];
    let tracked = settings(Tracking::Full);
    let mut add = |address: IpAddr, protocol, settings: &ServiceSettings, vlan| {
        let key = ServiceKey { address: address.into(), port: 80, protocol };
        operations.extend(service(key, address, settings.clone(), vlan, ifindex));
    };
    for vip in cases::TRACKED {
        add(vip, Protocol::Tcp, &tracked, 0);
    }
    for vip in cases::BY_SLOT {
        add(vip, Protocol::Tcp, &settings(Tracking::Transitions), 0);
    }
    add(cases::ON_VLAN, Protocol::Tcp, &tracked, cases::VLAN);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        add(cases::FLOODED.into(), protocol, &tracked, 0);
    }
    for (vips, prefixes) in [(cases::LISTED, 100), (cases::LISTED_MANY, cases::PREFIXES)] {
        for vip in vips {
            let access = AccessList { deny: refused(vip, prefixes), ..AccessList::default() };
            add(vip, Protocol::Tcp, &ServiceSettings { access, ..tracked.clone() }, 0);
        }
    }
    let enough = Rate { per_second: 10_000_000, burst: 10_000_000 };
    let limit = RateLimit { packets: Some(enough), flows: None, prefix_v4: 8, prefix_v6: 64 };
    let limited = ServiceSettings { rate_limit: Some(limit), ..tracked };
    add(cases::LIMITED.into(), Protocol::Tcp, &limited, 0);
    operations
}

/// So many prefixes of the VIP's family, spread over all addresses but those of clients: /24s or /48s.
fn refused(vip: IpAddr, count: u32) -> Prefixes {
    // An odd number times each is another each.
    let spread = (0_u32..).map(|number| number.wrapping_mul(0x9e37_79b1));
    let elsewhere = spread.filter(|address| address >> 17 != u32::from(cases::CLIENT_V4) >> 17);
    let prefix = |address: u32| match vip {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::new_assert(address.into(), 24)),
        IpAddr::V6(_) => {
            // All global addresses begin with these three bits (RFC 3587, 3); the clients here are local ones.
            let bits = 1 << 125 | u128::from(address) << 80;
            IpNet::V6(Ipv6Net::new_assert(bits.into(), 48))
        }
    };
    elsewhere.take(count as usize).map(prefix).collect()
}

fn settings(tracking: Tracking) -> ServiceSettings {
    ServiceSettings {
        affinity: Affinity::Client,
        scheduler: Scheduler::Maglev,
        tracking,
        tracking_timeout: Duration::ZERO,
        transition: Duration::from_secs(600),
        on_empty: OnEmpty::Drop,
        access: AccessList::default(),
        rate_limit: None,
        proxy: None,
    }
}

fn service(
    key: ServiceKey,
    address: IpAddr,
    settings: ServiceSettings,
    vlan: u16,
    ifindex: u32,
) -> Vec<Operation> {
    let backends: Vec<BackendAddress> =
        (1..=BACKENDS).map(|number| backend(address, number).into()).collect();
    let mut operations = vec![Operation::SetService { key, settings }];
    for (number, &address) in (1..).zip(&backends) {
        let mac = Mac([2, 0, 0, 0, 1, number]);
        let path = BackendPath { mac, ifindex, vlan, inner_vlan: 0, local: false };
        let target = BackendTarget {
            path: Some(path),
            usable: true,
            serving: true,
            health: HealthStatus::Up,
            health_since: 0,
            proxy: None,
        };
        operations.push(Operation::SetBackend { key, address, target });
    }
    let members = backends.iter().map(|&address| Member { address, weight: 1 }).collect();
    operations.push(Operation::SetTable { key, members });
    operations
}

/// The address of a backend of the same family as the VIP.
fn backend(vip: IpAddr, number: u8) -> IpAddr {
    match vip {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, number).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)).into(),
    }
}
