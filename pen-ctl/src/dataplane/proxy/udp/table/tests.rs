//! The table beside a plain list that does the same slowly, and what must never happen to either.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const MOST: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// A datagram of that client in that lane.
    Datagram(u16, usize),
    /// An answer for one of the sessions there are.
    Answer(usize),
    Expire,
    Evict,
    Wait(u64),
    Forget(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u16..12, 0usize..2).prop_map(|(client, lane)| Step::Datagram(client, lane)),
        3 => (0usize..16).prop_map(Step::Answer),
        3 => Just(Step::Expire),
        1 => Just(Step::Evict),
        3 => (0u64..8).prop_map(Step::Wait),
        1 => (0u16..12).prop_map(Step::Forget),
    ]
}

fn key(client: u16, lane: usize) -> Key {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Key {
        lane,
        client: SocketAddr::new(address, client),
        local: Local { address, interface: 0 },
        named: None,
    }
}

/// What the table must do, done slowly: sessions from the least to the most recently used.
struct List {
    used: Vec<(Key, Instant)>,
    idle: [Duration; 2],
}

impl List {
    fn touch(&mut self, key: &Key, now: Instant) -> bool {
        let found = self.used.iter().position(|(other, _)| other == key);
        if let Some(found) = found {
            self.used.remove(found);
            self.used.push((*key, now));
        }
        found.is_some()
    }

    fn deadline(&self) -> Option<Instant> {
        self.used.iter().map(|(key, used)| *used + self.idle[key.lane]).min()
    }
}

proptest! {
    /// Bounded, least recently used first out, idle ones gone and no others, and nothing kept that the table no
    /// longer knows (a session owns a socket).
    #[test]
    fn table_equals_a_plain_list(steps in prop::collection::vec(step(), 1..200)) {
        let idle = [Duration::from_secs(10), Duration::from_secs(3)];
        let mut table = Table::new(MOST);
        for idle in idle {
            table.add_lane(idle);
        }
        let mut list = List { used: Vec::new(), idle };
        let socket = Rc::new(());
        let mut now = Instant::now();
        for step in steps {
            // Times differ, so that the oldest of two lanes is one and the same.
            now += Duration::from_millis(1);
            match step {
                Step::Datagram(client, lane) => {
                    let key = key(client, lane);
                    let known = list.touch(&key, now);
                    prop_assert_eq!(table.find(&key, now).is_some(), known);
                    if !known {
                        let full = list.used.len() == MOST;
                        if full {
                            list.used.remove(0);
                        }
                        list.used.push((key, now));
                        prop_assert_eq!(table.insert(key, Rc::clone(&socket), now).1.is_some(), full);
                    }
                }
                Step::Answer(which) => {
                    if let Some((key, _)) = list.used.get(which).copied() {
                        list.touch(&key, now);
                        let number = table.numbers[&key];
                        table.touch(number, now);
                    }
                }
                Step::Expire => {
                    let live = list.used.len();
                    list.used.retain(|(key, used)| *used + idle[key.lane] > now);
                    let expired = std::iter::from_fn(|| table.expire(now)).count();
                    prop_assert_eq!(expired, live - list.used.len());
                }
                Step::Evict => {
                    prop_assert_eq!(table.evict(None).is_some(), !list.used.is_empty());
                    if !list.used.is_empty() {
                        list.used.remove(0);
                    }
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Forget(port) => {
                    list.used.retain(|(key, _)| key.client.port() != port);
                    table.retain(|key, _| key.client.port() != port);
                }
            }
            prop_assert_eq!(table.len(), list.used.len());
            prop_assert_eq!(table.numbers.len(), list.used.len());
            prop_assert_eq!(Rc::strong_count(&socket), list.used.len() + 1);
            prop_assert_eq!(table.deadline(), list.deadline());
            for (key, _) in &list.used {
                let number = table.numbers[key];
                prop_assert_eq!(table.get(number).map(|(key, _)| key), Some(key));
            }
        }
    }
}

/// One that waits for its own socket is not the one to give up its socket.
#[test]
fn evicting_spares_the_one_it_is_done_for() {
    let mut table = Table::new(MOST);
    let lane = table.add_lane(Duration::from_secs(1));
    let now = Instant::now();
    let (first, _) = table.insert(key(1, lane), 1, now);
    assert_eq!(table.evict(Some(first)), None);
    let (second, _) = table.insert(key(2, lane), 2, now);
    assert_eq!(table.evict(Some(first)), Some(2));
    assert!(table.get(first).is_some());
    assert!(table.get(second).is_none());
}
