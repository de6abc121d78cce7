//! Pins that someone removed while we run are put back, so that the next controller finds all it adopts.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::Map;

use super::error::OpenError;
use super::maps::SHAPES;
use super::pins::{Pinned, inspect};
use super::{XdpPlane, sys};

impl XdpPlane {
    /// Pins again what is missing: maps (the instance record first), slot tables, the program. A missing link is made
    /// anew when its interface is attached. Another instance's pins in the place of ours are left alone.
    pub(super) fn restore_pins(&mut self) -> Result<(), OpenError> {
        let maps = SHAPES.iter().filter(|shape| !self.pins.map(shape.name).exists());
        let maps: Vec<&'static str> = maps.map(|shape| shape.name).collect();
        let tables = self.tables.keys().filter(|id| !self.pins.slots(**id).exists());
        let tables: Vec<u16> = tables.copied().collect();
        let program = !self.pins.program().exists();
        let links = !self.pins.has_links_dir();
        if maps.is_empty() && tables.is_empty() && !program && !links {
            return Ok(());
        }
        let dir = self.pins.root().to_owned();
        if let Pinned::Instance { id } | Pinned::OtherAbi { id, .. } = inspect(&dir)?
            && id != self.instance
        {
            return Err(OpenError::ForeignInstance { dir, pins: id, state: self.instance });
        }
        self.pins.create()?;
        for name in maps {
            if let Some(map) = self.ebpf.map(name).and_then(descriptor) {
                sys::pin(map, &self.pins.map(name))
                    .map_err(|error| OpenError::from_io(format!("pin map {name} again"), &error))?;
            }
        }
        for id in tables {
            if let Some(table) = self.tables.get(&id) {
                sys::pin(table.descriptor(), &self.pins.slots(id)).map_err(|error| {
                    OpenError::from_io(format!("pin the slot tables of service {id} again"), &error)
                })?;
            }
        }
        if program {
            self.pin_program()?;
        }
        tracing::warn!("somebody removed pins in {}; they are back", dir.display());
        Ok(())
    }
}

/// The descriptor of a map of one of the types that we have.
fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::LruHashMap(data)
        | Map::HashMap(data)
        | Map::DevMapHash(data)
        | Map::ArrayOfMaps(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}
