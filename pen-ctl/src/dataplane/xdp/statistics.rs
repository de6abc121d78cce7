//! Frames that were lost after the verdict: drivers drop what does not fit into a ring of theirs, or what nobody at the
//! other end takes, and only their own statistics tell.
//!
//! There is no common name for it, so names are read word by word. What a driver does not count is not found, and what
//! the stack sends for an interface in generic mode is not its business: best effort.

use std::collections::BTreeMap;

use super::XdpPlane;
use super::sys::driver_statistics;

/// Ways out that XDP has, as names of statistics call them (`xdp_bad_drops` of sfc is about these, too).
const WAYS_OUT: [&str; 4] = ["tx", "xmit", "redirect", "bad"];
/// Beginnings of words for a loss.
const LOSSES: [&str; 4] = ["err", "drop", "full", "fail"];

impl XdpPlane {
    /// Frames that each interface's driver says it lost of what XDP handed it, since the driver began to count. An
    /// interface that cannot be asked is left out.
    pub(super) fn read_tx_errors(&self) -> BTreeMap<String, u64> {
        let errors = |name: &String| match driver_statistics(name) {
            Ok(statistics) => Some((name.clone(), tx_errors(&statistics))),
            Err(error) => {
                tracing::debug!(interface = name, "ask its driver for statistics: {error}");
                None
            }
        };
        self.interfaces.keys().filter_map(errors).collect()
    }
}

/// The sum of what was lost; where a driver has a total beside the numbers of its queues, the total.
fn tx_errors(statistics: &[(String, u64)]) -> u64 {
    let lost = || statistics.iter().filter(|(name, _)| is_loss(name));
    let mut by_kind: BTreeMap<String, (Option<u64>, u64)> = BTreeMap::new();
    for (name, value) in lost() {
        let kind: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
        let (total, sum) = by_kind.entry(kind.clone()).or_default();
        match kind == *name {
            true => *total = Some(*value),
            false => *sum = sum.wrapping_add(*value),
        }
    }
    by_kind.into_values().fold(0, |all, (total, sum)| all.wrapping_add(total.unwrap_or(sum)))
}

/// Whether a number of this name counts frames that XDP handed on and that were lost: it speaks of XDP, of a way out,
/// and of a loss. What a program drops on purpose (`xdp_drops`) is none.
fn is_loss(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = || {
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        words.map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()))
    };
    words().any(|word| word == "xdp")
        && words().any(|word| WAYS_OUT.contains(&word))
        && words().any(|word| LOSSES.iter().any(|loss| word.starts_with(loss)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(statistics: &[(&str, u64)]) -> u64 {
        let owned: Vec<_> = statistics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        tx_errors(&owned)
    }

    /// Names as the drivers of Linux 6.18 have them.
    #[test]
    fn losses_are_found_under_the_names_that_drivers_have_for_them() {
        for name in [
            "rx_queue_0_xdp_tx_errors",   // veth
            "tx_queue_0_xdp_xmit_errors", // veth
            "tx0_xdp_tx_drops",           // virtio_net
            "rx_xdp_tx_full",             // mlx4, mlx5
            "tx_xdp_err",                 // mlx5
            "rx_xdp_tx_errors",           // mvneta
            "rx_xdp_redirect_fail",       // mlx4
            "Rx ring  3 XDP TX drops",    // enetc
            "rx_xdp_redirect_errors[2]",  // gve
            "rx_xdp_bad_drops",           // sfc
        ] {
            assert!(is_loss(name), "{name}");
        }
        for name in [
            "rx_queue_0_xdp_drops",
            "rx_queue_0_xdp_tx",
            "rx_queue_0_drops",
            "rx_xdp_drop",
            "rx_xdp_redirect",
            "tx_errors",
            "tx_xdp_xmit",
            "Rx ring  3 XDP drops",
        ] {
            assert!(!is_loss(name), "{name}");
        }
    }

    #[test]
    fn queues_are_summed_up_unless_the_driver_did_so() {
        assert_eq!(
            sum(&[("rx_queue_0_xdp_tx_errors", 19), ("rx_queue_1_xdp_tx_errors", 2), ("peer_ifindex", 7)]),
            21
        );
        assert_eq!(
            sum(&[("rx_xdp_tx_full", 5), ("rx0_xdp_tx_full", 2), ("rx1_xdp_tx_full", 3), ("tx_xdp_err", 1)]),
            6
        );
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn a_drivers_numbers_come_with_their_names_and_an_interface_that_is_not_there_is_an_error() {
        if !crate::machine::testing::can_run() {
            return;
        }
        let net = crate::machine::testing::Net::new();
        net.in_balancer(async || {
            let statistics = driver_statistics("pen0").unwrap();
            let of =
                |wanted: &str| statistics.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
            assert_eq!(of("rx_queue_0_xdp_tx_errors"), Some(0), "{statistics:?}");
            assert!(of("peer_ifindex").is_some_and(|index| index > 0), "{statistics:?}");
            assert!(driver_statistics("lo").unwrap().is_empty());
            assert!(driver_statistics("pen9").is_err());
        });
    }
}
