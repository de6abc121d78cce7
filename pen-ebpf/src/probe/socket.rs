//! Whether this machine has a socket for a packet.
#![allow(unsafe_code, reason = "sockets are reached by pointers that the verifier checks")]

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release};
use pen_common::abi::Address;
use pen_common::probe::Question;

use crate::frame::Frame;
use crate::packet::TCP;

/// The network namespace of the interface.
const HERE: u64 = u64::MAX;
/// A TCP socket that takes connections of anybody.
const LISTENS: u32 = 10;

/// Whether a socket here talks with `peer` about this question; one that only listens does not.
#[inline(always)]
pub(crate) fn talks(frame: &Frame<'_>, question: &Question, peer: &Address) -> bool {
    let (sport, dport) = (question.port, question.own_port);
    let (from, to) = (peer.words, question.own.words);
    let mut tuple = match peer.is_v4() {
        true => {
            let ipv4 =
                bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 { saddr: from[3], daddr: to[3], sport, dport };
            bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv4 } }
        }
        false => {
            let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 { saddr: from, daddr: to, sport, dport };
            bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv6 } }
        }
    };
    match peer.is_v4() {
        true => exists(frame, question, &mut tuple, size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>()),
        false => exists(frame, question, &mut tuple, size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>()),
    }
}

#[inline(always)]
fn exists(frame: &Frame<'_>, question: &Question, tuple: &mut bpf_sock_tuple, size: usize) -> bool {
    let context = frame.context().as_ptr();
    let socket: *mut bpf_sock = match question.protocol {
        // SAFETY: the context is the one that the program was called with; `size` bytes of the tuple are set.
        TCP => unsafe { bpf_sk_lookup_tcp(context, tuple, size as u32, HERE, 0) },
        // SAFETY: the same.
        _ => unsafe { bpf_sk_lookup_udp(context, tuple, size as u32, HERE, 0) },
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the helper gave a socket, which stays until it is released.
    let state = unsafe { (*socket).state };
    // SAFETY: it is released once, and not used after.
    unsafe { bpf_sk_release(socket.cast()) };
    question.protocol != TCP || state != LISTENS
}
