//! Where a backend is asked: on its own address, or on the VIP at its MAC, for which a probe address stands.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tokio::sync::watch;

use crate::surroundings::{Hop, Lane};

/// The probe address of each lane that is ready, or why it cannot be had.
pub(crate) type Places = BTreeMap<Lane, Result<IpAddr, String>>;

/// Places where there are none: nobody is asked on a VIP.
pub(crate) fn nowhere() -> watch::Receiver<Places> {
    watch::channel(Places::new()).1
}

/// What somebody should know where VIPs cannot be asked.
pub(crate) fn unaskable(why: &str) -> String {
    format!(
        "health checks cannot ask VIPs: {why}; those that do not insist (way = \"dsr\") ask backends on their own addresses"
    )
}

/// A place to ask at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The backend's own address; with the reason, where it should be another.
    Own(Option<String>),
    /// The VIP, through the probe address that stands for it.
    Vip { vip: IpAddr, alias: IpAddr },
    /// None as yet, in words.
    Unknown(String),
}

/// Where one backend is asked, as that changes.
pub(super) struct Whereabouts {
    pub(super) hop: watch::Receiver<Hop>,
    pub(super) places: watch::Receiver<Places>,
}

impl Whereabouts {
    /// As it is now.
    pub(super) fn now(&mut self) -> Place {
        let hop = self.hop.borrow_and_update();
        let places = self.places.borrow_and_update();
        match &*hop {
            Hop::Own => Place::Own(None),
            Hop::Waiting(why) => Place::Unknown(why.clone()),
            Hop::Link { lane, or_own } => match places.get(lane) {
                Some(Ok(alias)) => Place::Vip { vip: lane.vip, alias: *alias },
                Some(Err(why)) if *or_own => Place::Own(Some(why.clone())),
                Some(Err(why)) => Place::Unknown(format!("its VIP cannot be asked: {why}")),
                None => Place::Unknown("the way to it is being made".into()),
            },
        }
    }

    /// Returns when it may have changed; false = it never will.
    pub(super) async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.hop.changed() => changed.is_ok(),
            changed = self.places.changed() => changed.is_ok(),
        }
    }
}
