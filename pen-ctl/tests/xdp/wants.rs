//! Services, backends and operations for the tests, in few words.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::time::Duration;

use pen_ctl::dataplane::xdp::XdpPlane;
use pen_ctl::dataplane::{
    BackendAddress, BackendPath, BackendTarget, DataPlane, HealthStatus, InterfaceTarget, Mac, Member,
    Operation, Protocol, ServiceKey, ServiceSettings,
};

/// TCP service `number`: 10.0.0.100 and a port of its own.
pub(crate) fn key(number: u16) -> ServiceKey {
    ServiceKey { address: [10, 0, 0, 100].into(), port: 80 + number, protocol: Protocol::Tcp }
}

/// Usual settings.
pub(crate) fn settings() -> ServiceSettings {
    ServiceSettings {
        affinity: Default::default(),
        scheduler: Default::default(),
        tracking: Default::default(),
        tracking_timeout: Duration::from_secs(300),
        transition: Duration::from_secs(600),
        on_empty: Default::default(),
        access: Default::default(),
        rate_limit: None,
        proxy: None,
    }
}

/// Address of backend `number`.
pub(crate) fn address(number: u8) -> BackendAddress {
    [10, 0, 0, number].into()
}

/// A backend that serves.
pub(crate) fn serving(number: u8) -> BackendTarget {
    BackendTarget {
        path: Some(BackendPath {
            mac: Mac([2, 0, 0, 0, 0, number]),
            ifindex: 2,
            vlan: 0,
            inner_vlan: 0,
            local: false,
        }),
        usable: true,
        serving: true,
        health: HealthStatus::Up,
        health_since: 1_700_000_000,
        proxy: None,
    }
}

/// Members of equal weight.
pub(crate) fn members(numbers: &[u8]) -> Vec<Member> {
    numbers.iter().map(|number| Member { address: address(*number), weight: 1 }).collect()
}

/// The operations, as methods that must succeed.
pub(crate) trait Do {
    fn set_flood(&mut self, limit: u32);
    fn set_service(&mut self, key: ServiceKey);
    fn remove_service(&mut self, key: ServiceKey);
    fn set_backend(&mut self, key: ServiceKey, number: u8);
    fn remove_backend(&mut self, key: ServiceKey, number: u8);
    fn set_table(&mut self, key: ServiceKey, numbers: &[u8]);
    fn attach(&mut self, name: &str, target: &InterfaceTarget);
    fn detach(&mut self, name: &str);
}

impl Do for XdpPlane {
    fn set_flood(&mut self, limit: u32) {
        self.apply(&Operation::SetFlood(limit)).unwrap();
    }

    fn set_service(&mut self, key: ServiceKey) {
        self.apply(&Operation::SetService { key, settings: settings() }).unwrap();
    }

    fn remove_service(&mut self, key: ServiceKey) {
        self.apply(&Operation::RemoveService { key }).unwrap();
    }

    fn set_backend(&mut self, key: ServiceKey, number: u8) {
        let (address, target) = (address(number), serving(number));
        self.apply(&Operation::SetBackend { key, address, target }).unwrap();
    }

    fn remove_backend(&mut self, key: ServiceKey, number: u8) {
        self.apply(&Operation::RemoveBackend { key, address: address(number) }).unwrap();
    }

    fn set_table(&mut self, key: ServiceKey, numbers: &[u8]) {
        self.apply(&Operation::SetTable { key, members: members(numbers) }).unwrap();
    }

    fn attach(&mut self, name: &str, target: &InterfaceTarget) {
        self.apply(&Operation::Attach { name: name.to_owned(), target: target.clone() }).unwrap();
    }

    fn detach(&mut self, name: &str) {
        self.apply(&Operation::Detach { name: name.to_owned() }).unwrap();
    }
}
