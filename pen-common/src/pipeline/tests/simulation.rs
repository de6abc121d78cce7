//! A million flows through a pool that keeps changing: nobody is sent to another backend but those whose own died.
//!
//! Flows, packets and frames are real, and so are the pipeline, its tables and the rules of slots; time and the controller
//! are played: a second is a step.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::abi::backend_flags::{HEALTH_KNOWN, HEALTH_UP, IN_USE, SERVING, USABLE};
use crate::abi::{
    Address, Backend, Interface, NO_BACKEND, SLOTS, ServiceEntry, Slot, Tracked, entry_kind, interface_flags,
    service_flags,
};
use crate::host::HostKey;
use crate::parse::Ports;
use crate::slot::Phase;
use crate::{maglev, select, track};

const BACKENDS: u16 = 100;
/// Seconds that a window stays open.
const TRANSITION: u32 = 60;
/// Seconds from a flow's first packet to its last: less than a window.
const LONGEST: u64 = 50;
/// From one look of the controller at its windows to the next, in seconds.
const LOOK: u64 = 5;
/// The service's port.
const PORT: u16 = 80;
const UP: u64 = IN_USE | HEALTH_KNOWN | HEALTH_UP | USABLE | SERVING;

/// What a backend is asked to be, and whether it lives.
#[derive(Clone, Copy)]
struct Member {
    drains: bool,
    dead: bool,
    weight: u16,
    /// How often it died so far.
    deaths: u32,
}

/// A flow under way.
struct Flow {
    client: u32,
    port: u16,
    backend: u16,
    /// Deaths of that backend when the flow came to it.
    deaths: u32,
    /// Packets that are left, the next one last: in which second.
    packets: Vec<u64>,
}

struct World {
    tables: HostTables,
    members: Vec<Member>,
    protocol: u8,
    second: u64,
    dice: Random,
    frame: Frame,
}

fn address(number: u16) -> Address {
    Ipv4Addr::new(10, 1, (number >> 8) as u8, number as u8).into()
}

impl World {
    fn new(protocol: u8, flags: u16, seed: u64) -> World {
        let mut tables = HostTables::default();
        tables.directory.seed = seed;
        let vip = ServiceEntry { address: VIP4.into(), kind: entry_kind::VIP, ..ServiceEntry::default() };
        let service = ServiceEntry {
            port: PORT.to_be(),
            protocol,
            kind: entry_kind::SERVICE,
            flags,
            transition: TRANSITION,
            ..vip
        };
        let interface = Interface {
            word: crate::mac::word(OWN_MAC) | interface_flags::ANNOUNCE,
            master_mac: crate::mac::word(OWN_MAC),
            ifindex: INGRESS,
            reserved: 0,
        };
        tables.set_directory(&[vip, service], &[interface]).unwrap();
        for number in 0..BACKENDS {
            let mac = [2, 0, 0, 9, (number >> 8) as u8, number as u8];
            let word = crate::mac::word(mac) | UP;
            tables.add_backend(Backend { word, ifindex: INGRESS, ..Backend::default() });
        }
        tables.slots.insert((0, 0), vec![Slot::EMPTY; SLOTS as usize]);
        let members =
            vec![Member { drains: false, dead: false, weight: 1, deaths: 0 }; usize::from(BACKENDS)];
        let segment = if protocol == TCP { frames::tcp(1, PORT, b"") } else { frames::udp(1, PORT, b"q") };
        let frame = link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, protocol, &[], 0, &segment));
        let mut world =
            World { tables, members, protocol, second: 0, dice: Random::new(seed), frame: Frame(frame) };
        world.share();
        world
    }

    /// A number below that, by chance.
    fn below(&mut self, bound: u64) -> u64 {
        self.dice.below(bound as usize) as u64
    }

    fn now(&self) -> u32 {
        track::now(&self.tables.directory, self.tables.jiffies.get())
    }

    /// As the controller does after each change: a table of who serves, given slot by slot.
    fn share(&mut self) {
        let serving: Vec<u16> = (0..BACKENDS).filter(|one| self.serves(*one)).collect();
        let members: Vec<_> = serving
            .iter()
            .map(|one| maglev::Member {
                address: address(*one),
                weight: self.members[usize::from(*one)].weight,
            })
            .collect();
        let mut table = vec![0; SLOTS as usize];
        let mut turns = vec![maglev::Turn::default(); members.len()];
        maglev::build(self.tables.directory.seed, &members, &mut table, &mut turns);
        let now = self.now();
        for (slot, place) in self.slots().iter_mut().zip(table) {
            let owner = serving.get(usize::from(place)).copied().unwrap_or(NO_BACKEND);
            *slot = slot.at(now, None, TRANSITION).given_to(owner, now, TRANSITION);
        }
        for (backend, member) in self.tables.backends.iter_mut().zip(&self.members) {
            let keeps = if member.dead { 0 } else { USABLE };
            let gets = if member.dead || member.drains { 0 } else { SERVING };
            backend.word = backend.word & !(USABLE | SERVING) | keeps | gets;
        }
    }

    fn serves(&self, number: u16) -> bool {
        let member = self.members[usize::from(number)];
        !member.drains && !member.dead
    }

    fn slots(&mut self) -> &mut Vec<Slot> {
        self.tables.slots.get_mut(&(0, 0)).unwrap()
    }

    /// As the controller does now and then: moves phases on, ends those that no memory needs, and forgets what is not asked
    /// any more.
    fn look(&mut self) {
        let now = self.now();
        self.slots().iter_mut().for_each(|slot| *slot = slot.at(now, None, TRANSITION));
        let lives = |_: &HostKey, tracked: &mut Tracked| track::is_fresh(tracked.seen, now, TRANSITION);
        self.tables.tracked.get_mut().retain(lives);
        let service = self.service();
        if track::remembers_all(&service) {
            self.slots().iter_mut().for_each(|slot| *slot = slot.closed());
            return;
        }
        let directory = self.tables.directory.clone();
        let number = |key: &HostKey| {
            let HostKey::V4(key) = key else { unreachable!() };
            let ports = Ports { source: key.client_port, destination: key.service_port };
            select::slot_number(&directory, &service, &Address::v4(key.client), ports) as usize
        };
        let mut needed = vec![false; SLOTS as usize];
        for (key, tracked) in self.tables.tracked.borrow().iter() {
            needed[number(key)] |= self.tables.slots[&(0, 0)][number(key)].owner != tracked.backend;
        }
        for (slot, needed) in self.slots().iter_mut().zip(needed) {
            if !needed {
                *slot = slot.closed();
            }
        }
        let slots = &self.tables.slots[&(0, 0)];
        let asked = |key: &HostKey, _: &mut Tracked| slots[number(key)].phase() != Phase::Unmarked;
        self.tables.tracked.borrow_mut().retain(asked);
    }

    fn service(&self) -> ServiceEntry {
        let entries = self.tables.directory.halves[0].entries;
        entries.into_iter().find(|entry| entry.kind == entry_kind::SERVICE).unwrap()
    }

    /// Where a packet of a flow goes.
    fn send(&mut self, client: u32, port: u16, begins: bool) -> u16 {
        let (ip, transport) = (14, 34);
        self.frame.0[ip + 12..ip + 16].copy_from_slice(&client.to_be_bytes());
        self.frame.0[transport..transport + 2].copy_from_slice(&port.to_be_bytes());
        if self.protocol == TCP {
            self.frame.0[transport + 13] = if begins { 0x02 } else { 0x10 };
        }
        self.frame.0[..6].copy_from_slice(&OWN_MAC);
        self.frame.0[6..12].copy_from_slice(&CLIENT_MAC);
        match self.tables.run(&mut self.frame, INGRESS) {
            Verdict::Forwarded { backend, .. } => backend,
            other => panic!("{other:?}"),
        }
    }

    /// A drain, the end of one, or another weight; at most a third drains.
    fn change_gracefully(&mut self) {
        let one = self.below(u64::from(BACKENDS)) as usize;
        let draining = self.members.iter().filter(|member| member.drains).count();
        let weight = 1 + self.below(5) as u16;
        match self.below(3) {
            0 => self.members[one].weight = weight,
            _ if self.members[one].drains => self.members[one].drains = false,
            _ if draining < usize::from(BACKENDS) / 3 => self.members[one].drains = true,
            _ => {}
        }
        self.share();
    }

    fn kill(&mut self) -> usize {
        let one = self.below(u64::from(BACKENDS)) as usize;
        if !self.members[one].dead {
            self.members[one].dead = true;
            self.members[one].deaths += 1;
            self.share();
        }
        one
    }
}

/// What a simulation came to.
#[derive(Debug, Default)]
struct Came {
    flows: u64,
    packets: u64,
    /// Flows whose backend died.
    died: u64,
    /// Packets that went elsewhere though their backend lived.
    misrouted: u64,
    /// The largest share of flows that were remembered at a moment, and the share of slots in transition then.
    peak: (f64, f64),
}

/// So many flows begin in each of so many seconds.
fn simulate(mut world: World, seconds: u64, each: u64, changes: u64, deaths: u64) -> Came {
    let mut came = Came::default();
    let mut due: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut flows: HashMap<u64, Flow> = HashMap::new();
    let mut revivals: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for second in 0..seconds + LONGEST + 1 {
        world.second = second;
        world.tables.pass_seconds(1);
        for _ in 0..if world.below(seconds) < changes { 1 + world.below(2) } else { 0 } {
            world.change_gracefully();
        }
        if world.below(seconds) < deaths {
            let (dead, back) = (world.kill(), second + 1 + world.below(100));
            revivals.entry(back).or_default().push(dead);
        }
        for one in revivals.remove(&second).unwrap_or_default() {
            world.members[one].dead = false;
            world.share();
        }
        if second % LOOK == 0 {
            compare(&world, &flows, &mut came);
            world.look();
        }
        for number in due.remove(&second).unwrap_or_default() {
            let Some(mut flow) = flows.remove(&number) else { continue };
            came.packets += 1;
            let backend = world.send(flow.client, flow.port, false);
            if world.members[usize::from(flow.backend)].deaths != flow.deaths {
                came.died += 1;
                continue;
            }
            came.misrouted += u64::from(backend != flow.backend);
            if let Some(next) = flow.packets.pop() {
                due.entry(next).or_default().push(number);
                flows.insert(number, flow);
            }
        }
        for _ in 0..if second < seconds { each } else { 0 } {
            begin(&mut world, &mut came, &mut flows, &mut due);
        }
    }
    came
}

fn begin(
    world: &mut World,
    came: &mut Came,
    flows: &mut HashMap<u64, Flow>,
    due: &mut BTreeMap<u64, Vec<u64>>,
) {
    let number = came.flows;
    came.flows += 1;
    // Ports are used again, by other flows of the same clients, some of them in a later window.
    let (client, port) = (0x0b00_0000 + (number % 40_009) as u32, 1024 + (number / 40_009 % 7) as u16);
    let backend = world.send(client, port, true);
    came.packets += 1;
    let mut packets: Vec<u64> = (0..3).map(|_| world.second + 1 + world.below(LONGEST - 1)).collect();
    packets.sort_unstable_by(|one, other| other.cmp(one));
    let next = packets.pop().unwrap();
    due.entry(next).or_default().push(number);
    let deaths = world.members[usize::from(backend)].deaths;
    flows.insert(number, Flow { client, port, backend, deaths, packets });
}

/// Compares how many flows are remembered with how many slots are changing owner.
fn compare(world: &World, flows: &HashMap<u64, Flow>, came: &mut Came) {
    let tracked = world.tables.tracked.borrow();
    let remembered = flows.values().filter(|flow| {
        tracked.contains_key(&HostKey::V4(crate::abi::TrackKeyV4 {
            client: u32::from_ne_bytes(flow.client.to_be_bytes()),
            client_port: flow.port.to_be(),
            service_port: PORT.to_be(),
            service: 0,
            reserved: 0,
        }))
    });
    let slots = &world.tables.slots[&(0, 0)];
    let marked = slots.iter().filter(|slot| slot.phase() != Phase::Unmarked).count();
    if !flows.is_empty() {
        let share = remembered.count() as f64 / flows.len() as f64;
        if share > came.peak.0 {
            came.peak = (share, marked as f64 / slots.len() as f64);
        }
    }
}

#[test]
fn of_a_million_flows_only_those_of_dead_backends_move_and_only_those_in_transition_are_remembered() {
    let world = World::new(TCP, service_flags::TRACK_TRANSITIONS, 0x5eed);
    let came = simulate(world, 2_000, 500, 200, 20);
    assert_eq!((came.flows, came.misrouted), (1_000_000, 0), "{came:?}");
    let (remembered, marked) = came.peak;
    assert!(came.died > 0 && remembered > 0.0 && remembered <= marked + 0.005, "{came:?}");
}

#[test]
fn datagrams_of_a_flow_that_goes_on_stay_together_whatever_changes() {
    for flags in [service_flags::TRACK_TRANSITIONS, service_flags::TRACK_FULL] {
        let world = World::new(UDP, flags | service_flags::AFFINITY_FLOW, 0xda7a);
        let came = simulate(world, 1_000, 100, 100, 10);
        assert_eq!((came.flows, came.misrouted), (100_000, 0), "{came:?}");
        assert!(came.died > 0, "{came:?}");
    }
}

#[test]
fn clients_that_are_remembered_as_a_whole_stay_whatever_changes() {
    let came = simulate(World::new(TCP, service_flags::TRACK_FULL, 0xf111), 1_000, 100, 100, 10);
    assert_eq!((came.flows, came.misrouted), (100_000, 0), "{came:?}");
}
