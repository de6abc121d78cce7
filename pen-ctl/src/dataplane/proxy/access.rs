//! Who may use a service: an access list laid out as stretches of addresses, each let in or refused as a whole.
//!
//! Of two prefixes one holds the other or they have nothing in common. So from the lowest address to the highest the verdict
//! changes only where a prefix begins or ends, and the longest prefix that an address is in has the last word on its stretch.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::dataplane::AccessList;

/// An access list to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    v4: Stretches<Ipv4Addr>,
    v6: Stretches<Ipv6Addr>,
}

/// Where each stretch begins, and whether who is in it may; in order, the first from the lowest address.
type Stretches<A> = Vec<(A, bool)>;

/// A prefix: its first and last address, and whether who is in it may.
type Range<A> = (A, A, bool);

impl From<&AccessList> for Access {
    fn from(list: &AccessList) -> Access {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let allow = list.allow.iter().map(|net| (net, true));
        for (net, may) in allow.chain(list.deny.iter().map(|net| (net, false))) {
            match net {
                IpNet::V4(net) => v4.push((net.network(), net.broadcast(), may)),
                IpNet::V6(net) => v6.push((net.network(), net.broadcast(), may)),
            }
        }
        let others = list.allow.is_empty();
        Access {
            v4: stretches((Ipv4Addr::UNSPECIFIED, others), v4, |address| {
                u32::from(address).checked_add(1).map(Ipv4Addr::from)
            }),
            v6: stretches((Ipv6Addr::UNSPECIFIED, others), v6, |address| {
                u128::from(address).checked_add(1).map(Ipv6Addr::from)
            }),
        }
    }
}

impl Access {
    /// Whether who comes from there may.
    pub fn admits(&self, client: IpAddr) -> bool {
        match client {
            IpAddr::V4(client) => verdict(&self.v4, client),
            IpAddr::V6(client) => verdict(&self.v6, client),
        }
    }
}

fn verdict<A: Ord>(stretches: &Stretches<A>, client: A) -> bool {
    let behind = stretches.partition_point(|(begin, _)| *begin <= client);
    // The first one begins with the lowest address there is.
    behind.checked_sub(1).and_then(|index| stretches.get(index)).is_none_or(|(_, may)| *may)
}

/// Lays prefixes out. `outside` is the lowest address, and whether who is in no prefix may.
fn stretches<A: Ord + Copy>(
    outside: (A, bool),
    mut prefixes: Vec<Range<A>>,
    next: impl Fn(A) -> Option<A>,
) -> Stretches<A> {
    // Who holds another comes before it: it begins with it or sooner, and ends later.
    prefixes.sort_unstable_by_key(|(first, last, _)| (*first, std::cmp::Reverse(*last)));
    let mut laid = vec![outside];
    // Those that hold the address at hand, the longest last.
    let mut around: Vec<(A, bool)> = Vec::new();
    for (first, last, may) in prefixes {
        leave(&mut laid, &mut around, outside.1, |end| end < first, &next);
        begin(&mut laid, first, may);
        around.push((last, may));
    }
    leave(&mut laid, &mut around, outside.1, |_| true, &next);
    laid
}

/// Ends the innermost prefixes, for as long as their last addresses are `over`.
fn leave<A: Ord + Copy>(
    laid: &mut Stretches<A>,
    around: &mut Vec<(A, bool)>,
    others: bool,
    over: impl Fn(A) -> bool,
    next: impl Fn(A) -> Option<A>,
) {
    while let Some((end, _)) = around.pop_if(|(end, _)| over(*end)) {
        let may = around.last().map_or(others, |(_, may)| *may);
        if let Some(behind) = next(end) {
            begin(laid, behind, may);
        }
    }
}

/// Begins a stretch; one that begins at the same address was none.
fn begin<A: Ord + Copy>(laid: &mut Stretches<A>, first: A, may: bool) {
    if laid.last().is_some_and(|(begun, _)| *begun == first) {
        laid.pop();
    }
    if laid.last().is_none_or(|(_, before)| *before != may) {
        laid.push((first, may));
    }
}

#[cfg(test)]
mod tests;
