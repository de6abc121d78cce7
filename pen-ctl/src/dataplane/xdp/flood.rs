//! How many newcomers are remembered a second before they are chosen for by slot alone.

use super::XdpPlane;
use crate::dataplane::DataPlaneError;

impl XdpPlane {
    /// Sets how many newcomers one CPU remembers a second; 0 = no such limit.
    pub(super) fn set_flood(&mut self, limit: u32) -> Result<(), DataPlaneError> {
        self.flood_inserts_per_cpu = limit;
        Ok(())
    }

    /// How many it is.
    pub(super) fn flood(&self) -> u32 {
        self.flood_inserts_per_cpu
    }
}
