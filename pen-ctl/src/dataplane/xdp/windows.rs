//! Windows of slots that change owner: opened with a table, closed when they are over, ended when no memory needs them.

use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use pen_common::abi::{Directory, SLOTS, SLOTS_BOTH_HALVES, ServiceEntry, Slot, Tracked};
use pen_common::select;
use pen_common::slot::Phase;
use pen_common::track;

use super::XdpPlane;
use super::clients::{KeyParts, Snapshot, XdpClients};
use super::mapped::Mapped;
use super::sys;
use crate::dataplane::clients::Fate;

/// How slots of a service change owner now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The second of the data plane's clock.
    now: u32,
    /// Seconds that a window stays open.
    transition: u32,
    /// The last second in which a newcomer was not remembered.
    suppressed: Option<u32>,
    /// Whether memory is read only while a slot is marked: then it stays so until no memory needs it.
    lingers: bool,
}

impl Window {
    /// A slot that is now as it was `before`, once it is `owner`'s.
    pub(super) fn given(&self, before: Slot, owner: u16) -> Slot {
        self.passed(before).given_to(owner, self.now, self.transition)
    }

    /// A slot now.
    fn passed(&self, slot: Slot) -> Slot {
        let slot = slot.at(self.now, self.suppressed, self.transition);
        if self.lingers { slot } else { slot.closed() }
    }
}

impl XdpPlane {
    /// How slots of a service change owner now; `None` where nobody is remembered.
    pub(super) fn window(&self, service: &ServiceEntry) -> Result<Option<Window>, String> {
        if !track::remembers(service) {
            return Ok(None);
        }
        Ok(Some(Window {
            now: self.second()?,
            transition: service.transition,
            suppressed: self.last_suppressed()?,
            lingers: !track::remembers_all(service),
        }))
    }

    /// The second of the data plane's clock.
    pub(super) fn second(&self) -> Result<u32, String> {
        let jiffies = self.clock.now().map_err(|error| format!("ask the kernel for its clock: {error}"))?;
        let multiplier = &self.maps.directory.words()[offset_of!(Directory, clock_multiplier) / 8];
        Ok(track::second(jiffies, multiplier.load(Ordering::Acquire)))
    }

    /// Moves on the slots whose windows are over. Where a previous owner was away while newcomers were not remembered, the
    /// owner takes its place: whom it got meanwhile is its own for good.
    pub(super) fn pass_windows(&mut self) -> Result<(), String> {
        self.look_for_unusable()?;
        for entry in self.services.values() {
            let Some(table) = self.tables.get(&entry.service) else { continue };
            let marked = |cell: &&AtomicU64| is_marked(slot(cell));
            let mut marked = table.cells(entry.table_half).iter().filter(marked).peekable();
            if marked.peek().is_none() {
                continue;
            }
            let window = self.window(entry)?;
            for cell in marked {
                let before = slot(cell);
                let after = window.map_or(Slot::owned_by(before.owner), |window| {
                    let missed = self.unusable.missed(before.previous, window.suppressed);
                    window.passed(if missed { before.without_previous() } else { before })
                });
                replace(cell, before, after);
            }
        }
        Ok(())
    }
}

impl XdpClients {
    /// Ends the windows that are closing and that no memory in use needs.
    pub(super) fn end_closing(&self) -> io::Result<()> {
        let snapshot = self.snapshot()?;
        let mut closing = BTreeMap::new();
        for (id, (_, entry)) in &snapshot.services {
            let table = match sys::open_pin(&self.slots_pin(*id)) {
                Ok(pin) => Mapped::<Slot>::new(pin.as_fd(), SLOTS_BOTH_HALVES as usize)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let closing_slots = Closing::of(*entry, table);
            if closing_slots.slots.iter().any(Option::is_some) {
                closing.insert(*id, closing_slots);
            }
        }
        if closing.is_empty() {
            return Ok(());
        }
        let now = track::now(&snapshot.directory, snapshot.jiffies);
        self.each_memory(&mut |key, tracked| {
            if let Some(closing) = closing.get_mut(&key.service) {
                closing.keep_for(&snapshot, key, tracked, now);
            }
            Fate::Keep
        })?;
        closing.retain(|_, closing| closing.end());
        if closing.is_empty() {
            return Ok(());
        }
        // What is not asked any more only takes room.
        self.each_memory(&mut |key, tracked| match closing.get(&key.service) {
            Some(closing) if is_older(tracked, now) && !closing.asks(&snapshot, key) => Fate::Forget,
            _ => Fate::Keep,
        })
    }
}

/// The slots of a service that are closing.
struct Closing {
    service: ServiceEntry,
    table: Mapped<Slot>,
    /// Those that are closing and, as far as is known, needed by no memory.
    slots: Vec<Option<Slot>>,
}

impl Closing {
    fn of(service: ServiceEntry, table: Mapped<Slot>) -> Closing {
        let closing = |slot: Slot| (slot.phase() == Phase::Closing).then_some(slot);
        let slots = cells(&table, service.table_half).iter().map(|cell| closing(slot(cell))).collect();
        Closing { service, table, slots }
    }

    /// A memory that still counts and names another than the owner keeps its slot from ending.
    fn keep_for(&mut self, snapshot: &Snapshot, key: &KeyParts, tracked: Tracked, now: u32) {
        if !track::is_fresh(tracked.seen, now, self.service.transition.max(1)) {
            return;
        }
        let number = self.number(snapshot, key);
        let kept = self.slots.get_mut(number);
        if let Some(kept) = kept.filter(|kept| kept.is_some_and(|slot| slot.owner != tracked.backend)) {
            *kept = None;
        }
    }

    /// Ends the rest, but what was changed meanwhile; says whether there was any.
    fn end(&self) -> bool {
        let mut any = false;
        for (cell, slot) in self.cells().iter().zip(&self.slots) {
            if let Some(slot) = slot {
                replace(cell, *slot, slot.closed());
                any = true;
            }
        }
        any
    }

    /// Whether packets of this memory's slot ask for it.
    fn asks(&self, snapshot: &Snapshot, key: &KeyParts) -> bool {
        self.cells().get(self.number(snapshot, key)).is_none_or(|cell| is_marked(slot(cell)))
    }

    fn number(&self, snapshot: &Snapshot, key: &KeyParts) -> usize {
        select::slot_number(&snapshot.directory, &self.service, &key.client, key.ports) as usize
    }

    fn cells(&self) -> &[AtomicU64] {
        cells(&self.table, self.service.table_half)
    }
}

/// Whether a memory is from before `now`. Should its slot have changed owner since, it names the owner until then, to whom
/// its flow goes without it as well; those of flows that went elsewhere are newer.
fn is_older(tracked: Tracked, now: u32) -> bool {
    (1..u32::MAX / 2).contains(&now.wrapping_sub(tracked.seen))
}

/// The slots of one half of a table.
pub(super) fn cells(table: &Mapped<Slot>, half: u32) -> &[AtomicU64] {
    let start = (half & 1) as usize * SLOTS as usize;
    table.words().get(start..start + SLOTS as usize).unwrap_or_default()
}

/// A slot as packets find it.
pub(super) fn slot(cell: &AtomicU64) -> Slot {
    Slot::from_word(cell.load(Ordering::Acquire))
}

/// Whether a slot is changing owner.
pub(super) fn is_marked(slot: Slot) -> bool {
    slot.phase() != Phase::Unmarked
}

/// Replaces a slot unless somebody else did.
pub(super) fn replace(cell: &AtomicU64, before: Slot, after: Slot) {
    if before != after {
        // Whoever was faster knows better.
        let _ = cell.compare_exchange(before.word(), after.word(), Ordering::AcqRel, Ordering::Relaxed);
    }
}
