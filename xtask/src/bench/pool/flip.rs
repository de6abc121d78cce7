//! Which half of a service's slot table packets use, as they find it: read from the pinned directory.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::MapData;
use pen_common::abi::{Address, DIRECTORY_ENTRIES, Directory, DirectoryHalf, ServiceEntry, entry_kind};

use crate::bench::BenchError;
use crate::lab::sys::MapView;

/// The table of one service, from outside the controller.
pub(super) struct Table {
    directory: MapView,
    address: Address,
    port: u16,
}

impl Table {
    /// The table of a TCP service, by the pins of its data plane.
    pub(super) fn find(pins: &Path, vip: Ipv4Addr, port: u16) -> Result<Self, BenchError> {
        let what = "look into the pinned map directory";
        let map = MapData::from_pin(pins.join("maps/directory")).map_err(BenchError::of(what))?;
        let directory =
            MapView::new(map.fd().as_fd(), size_of::<Directory>()).map_err(BenchError::of(what))?;
        let table = Self { directory, address: IpAddr::from(vip).into(), port };
        match table.half() {
            Some(_) => Ok(table),
            None => Err(BenchError::of(what)(format!("there is no service {vip}:{port}/tcp"))),
        }
    }

    /// The half that packets use now; `None` where the service is not there.
    pub(super) fn half(&self) -> Option<u32> {
        let active = self.directory.word(offset_of!(Directory, active) / 4) as usize & 1;
        let entries = offset_of!(Directory, halves)
            + active * size_of::<DirectoryHalf>()
            + offset_of!(DirectoryHalf, entries);
        let entry = (0..DIRECTORY_ENTRIES)
            .map(|index| entries + index * size_of::<ServiceEntry>())
            .find(|entry| self.is_it(*entry))?;
        Some(self.directory.word((entry + offset_of!(ServiceEntry, table_half)) / 4))
    }

    fn is_it(&self, entry: usize) -> bool {
        let word = |offset: usize| self.directory.word((entry + offset) / 4);
        let [port, kind] = [offset_of!(ServiceEntry, port), offset_of!(ServiceEntry, kind)];
        let bytes = word(port).to_le_bytes();
        let address = offset_of!(ServiceEntry, address);
        bytes[kind - port] == entry_kind::SERVICE
            && bytes[..2] == self.port.to_be_bytes()
            && (0..4).all(|index| word(address + 4 * index) == self.address.words[index])
    }
}
