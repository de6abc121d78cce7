//! An MTU of 9000: frames that fill several buffers go through pen whole, in native and in generic mode.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

use pen_ctl::dataplane::AttachMode;
use xtask::lab::address::Family;
use xtask::lab::cluster::{Cluster, Kind};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const MTU: u16 = 9000;
const BYTES: u64 = 20 << 20;

#[test]
fn jumbo_frames_arrive_whole_in_native_mode() {
    transfer(AttachMode::Native);
}

#[test]
fn jumbo_frames_arrive_whole_in_generic_mode() {
    transfer(AttachMode::Generic);
}

/// 20 MB up and down over IPv4 and IPv6; TCP's checksums tell whether all of it is what was sent.
fn transfer(mode: AttachMode) {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    cluster.lab.set_mtu(MTU).unwrap();
    cluster.configure(0, &["b1"]).unwrap();
    let pen = cluster.pen();
    let word = if mode == AttachMode::Native { "native" } else { "generic" };
    pen.ok(&format!("attach eth0 --mode {word}")).unwrap();
    let attached = pen.status().unwrap().interfaces;
    assert_eq!(attached[0].mode, mode);
    for family in Family::BOTH {
        let before = pen.status().unwrap();
        let mut connection = cluster.connect(family, 1).unwrap();
        assert_eq!(connection.upload(BYTES, || {}).unwrap(), BYTES, "{family:?}");
        assert_eq!(connection.download(BYTES, || {}).unwrap(), BYTES, "{family:?}");
        // Every byte on the wire is counted, and most came in frames that no single page holds.
        let name = xtask::lab::cluster::service_name(Kind::Web, family);
        let of = |status: &pen_ctl::api::document::StatusDocument| {
            let service = status.services.iter().find(|service| service.name == name).unwrap();
            (service.packets, service.bytes)
        };
        let (after, before) = (of(&pen.status().unwrap()), of(&before));
        assert!(after.1 - before.1 > BYTES, "{family:?}: {before:?} to {after:?}");
        assert!(after.0 - before.0 < BYTES / 3000, "{family:?}: {before:?} to {after:?}");
    }
    let passed = pen.status().unwrap().packets.passed;
    assert_eq!(passed.get("split_headers").copied().unwrap_or(0), 0);
}
