//! The committed object loads: this kernel's verifier accepts the program, and every map is as the ABI says.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

use aya::maps::{Map, MapInfo};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use pen_common::abi::{
    Backend, COUNTERS, Counter, Directory, Instance, LOOP_FILTER_WORDS, MAX_BACKENDS, MAX_SERVICES, Ring,
    Slot, TrackKeyV4, TrackKeyV6, Tracked,
};
use xtask::lab::needs;

const OBJECT: &[u8] = aya::include_bytes_aligned!("../../pen-ebpf/prebuilt/pen.o");
const PROBE_OBJECT: &[u8] = aya::include_bytes_aligned!("../../pen-ebpf/prebuilt/pen-probe.o");

/// Instructions that the verifier may look at: of a million at most (BPF_COMPLEXITY_LIMIT_INSNS), 6.18 looks at 333,209 where
/// Linux 6.1 does at 272,606 and 6.12 at 302,757.
const MOST_VERIFIED: u32 = 450_000;

fn load() -> Ebpf {
    EbpfLoader::new().load(OBJECT).unwrap()
}

#[test]
fn the_verifier_accepts_the_program() {
    if !needs::met() {
        return;
    }
    let mut ebpf = load();
    let program: &mut Xdp = ebpf.program_mut("pen_xdp").unwrap().try_into().unwrap();
    program.load().unwrap();
    let info = program.info().unwrap();
    assert!(info.gpl_compatible().unwrap());
    let verified = info.verified_instruction_count().unwrap();
    println!("{verified} instructions verified");
    assert!(verified < MOST_VERIFIED, "{verified}: too close to what Linux 6.1 allows");
}

#[test]
fn the_verifier_accepts_the_classifiers_of_health_checks() {
    if !needs::met() {
        return;
    }
    let mut ebpf = EbpfLoader::new().load(PROBE_OBJECT).unwrap();
    for name in ["pen_probe_out", "pen_probe_in"] {
        let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|error| panic!("{name}: {error:#?}"));
        let instructions = program.info().unwrap().verified_instruction_count().unwrap();
        println!("{name}: {instructions} instructions verified");
    }
}

fn info(map: &Map) -> MapInfo {
    let data = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ArrayOfMaps(data)
        | Map::DevMapHash(data) => data,
        other => panic!("{other:?}"),
    };
    data.info().unwrap()
}

#[test]
fn every_map_has_the_size_that_the_abi_says() {
    if !needs::met() {
        return;
    }
    let ebpf = load();
    let word = size_of::<u32>();
    let expected = [
        ("instance", word, size_of::<Instance>(), 1),
        ("directory", word, size_of::<Directory>(), 1),
        ("backends", word, size_of::<Backend>(), MAX_BACKENDS),
        ("slots", word, word, MAX_SERVICES),
        ("rings", word, size_of::<Ring>(), MAX_SERVICES),
        ("track_v4", size_of::<TrackKeyV4>(), size_of::<Tracked>(), 262_144),
        ("track_v6", size_of::<TrackKeyV6>(), size_of::<Tracked>(), 262_144),
        ("loop_filter", word, LOOP_FILTER_WORDS * 8, 1),
        ("backend_macs", 8, 4, MAX_BACKENDS),
        ("egress", word, 8, 64),
        ("counters", word, size_of::<Counter>(), COUNTERS),
        ("folded", word, size_of::<Counter>(), MAX_SERVICES + 1),
    ];
    for (name, key, value, entries) in expected {
        let info = info(ebpf.map(name).unwrap());
        let sizes = (info.key_size() as usize, info.value_size() as usize, info.max_entries());
        assert_eq!(sizes, (key, value, entries), "{name}");
    }
    assert_eq!(size_of::<Slot>(), 8);
}
