//! What the kernel holds, read afresh: also finds what someone else changed.

use std::collections::{BTreeMap, BTreeSet};

use pen_common::abi::{Backend, DirectoryHalf, ServiceEntry, backend_flags};
use pen_common::service;

use super::interfaces::{PinnedLink, pinned_links};
use super::links::xdp_states;
use super::offload::stripping_seen;
use super::{XdpPlane, backends, directory, failure};
use crate::dataplane::{
    AttachMode, DataPlaneError, InterfaceTarget, Mac, Observed, ObservedInterface, ObservedService,
    ServiceKey, ServiceSettings,
};

impl XdpPlane {
    /// Everything, as packets find it.
    pub(super) fn look(&self) -> Result<Observed, DataPlaneError> {
        let half = self
            .maps
            .half(self.active_half())
            .ok_or_else(|| failure("read the directory", "it is shorter than it should be"))?;
        let mut of_service: BTreeMap<u16, Vec<Backend>> = BTreeMap::new();
        for backend in self.found() {
            of_service.entry(backend.service).or_default().push(backend);
        }
        let behind: BTreeSet<u32> = of_service.values().flatten().map(|backend| backend.ifindex).collect();
        let services = directory::decode(&half)
            .into_iter()
            .map(|(key, entry)| {
                let backends = of_service.remove(&entry.service).unwrap_or_default();
                (key, self.observed_service(&key, &entry, &backends))
            })
            .collect();
        let mut interfaces = self.observed_interfaces(&half)?;
        Self::add_egress_troubles(&mut interfaces, &behind);
        let flood_inserts_per_cpu = self.flood();
        Ok(Observed { seed: self.seed(), flood_inserts_per_cpu, interfaces, services })
    }

    fn observed_service(
        &self,
        key: &ServiceKey,
        entry: &ServiceEntry,
        backends: &[Backend],
    ) -> ObservedService {
        // An entry under another id than ours has none of our tables and backends.
        let ours = self.services.get(key).is_none_or(|ours| ours.service == entry.service);
        let table = self.tables.get(&entry.service).filter(|_| ours);
        let backends = backends
            .iter()
            .filter(|_| ours)
            .map(|backend| (backend.address.to_ip().into(), backends::target_of(backend)))
            .collect();
        let round = self.maps.round_checksum(entry.service, entry.table_half);
        let survey = table.map(|table| table.survey(entry.table_half));
        ObservedService {
            settings: self.observed_settings(key, entry),
            backends,
            members: table.zip(survey).and_then(|(table, survey)| table.members(survey, round)).cloned(),
            has_table: table.is_some_and(|table| table.names_anyone(entry.table_half)),
            in_transition: survey.map_or(0, |survey| survey.in_transition),
        }
    }

    /// What was asked for where the map says the same: it says less (whole seconds, `none` as `flow`, rounded rates). What
    /// is told of a list or a limit but is not in its place is none that anybody asked for.
    fn observed_settings(&self, key: &ServiceKey, entry: &ServiceEntry) -> ServiceSettings {
        let says = |settings: &&ServiceSettings| {
            key.ip().is_some_and(|address| {
                let (id, half) = (entry.service, entry.table_half);
                directory::entry_of(address, key, settings, id, half, self.ticks) == *entry
            })
        };
        let recorded = self.settings.get(key).filter(says);
        if let Some(recorded) = recorded.filter(|settings| self.is_admission_in_place(key, entry, settings)) {
            return recorded.clone();
        }
        let mut told = directory::settings_of(entry, self.ticks);
        if !self.are_limits_in_place(entry) {
            told.rate_limit = Some(directory::unknown_limits());
        }
        told
    }

    /// The backends that we put there and that are still there, those that are retired left out.
    fn found(&self) -> impl Iterator<Item = Backend> {
        self.held.iter().filter(|(_, held)| !held.retired).filter_map(|(id, held)| {
            let backend = self.maps.backends.read(usize::from(held.index))?;
            let same = (backend.service, backend.address) == *id && backend.generation == held.generation;
            let used = backend.has(backend_flags::IN_USE) && !backend.has(backend_flags::RETIRED);
            (same && used).then_some(backend)
        })
    }

    fn observed_interfaces(
        &self,
        half: &DirectoryHalf,
    ) -> Result<BTreeMap<String, ObservedInterface>, DataPlaneError> {
        let what = "look at the attached interfaces";
        let states = xdp_states().map_err(|error| failure(what, error))?;
        let links = pinned_links(&self.pins).map_err(|error| failure(what, error))?;
        let observed = |link: PinnedLink| {
            let mode = link.mode(&states);
            let in_place = states.get(&link.facts.ifindex).is_some_and(|state| state.name == link.interface);
            let target = self.observed_target(half, &link, mode);
            let (tags_stay, stripping, egress) = match mode {
                Some(_) => {
                    let (stay, trouble) = stripping_seen(&link.interface, link.facts.ifindex);
                    (stay, trouble, self.egress_seen(target.ifindex))
                }
                None => (true, None, None),
            };
            let interface = ObservedInterface {
                mode: mode.unwrap_or(target.mode),
                attached: mode.is_some() && in_place && link.facts.program == self.program_id,
                intact: tags_stay && egress.is_none(),
                troubles: stripping.into_iter().chain(egress).collect(),
                target,
            };
            (link.interface, interface)
        };
        Ok(links.into_iter().map(observed).collect())
    }

    /// What was asked for where the directory says the same, else what it says.
    fn observed_target(
        &self,
        half: &DirectoryHalf,
        link: &PinnedLink,
        mode: Option<AttachMode>,
    ) -> InterfaceTarget {
        let recorded = self.interfaces.get(&link.interface);
        let ifindex = recorded.map_or(link.facts.ifindex, |target| target.ifindex);
        let found = service::interface(half, ifindex);
        match (recorded, found) {
            (Some(target), Some(found)) if self.record_of(target) == *found => target.clone(),
            (_, Some(found)) => directory::target_of(found, mode.unwrap_or_default()),
            (_, None) => InterfaceTarget {
                ifindex,
                mac: Mac([0; 6]),
                master_mac: None,
                mode: mode.unwrap_or_default(),
                announce: false,
            },
        }
    }
}
