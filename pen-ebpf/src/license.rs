//! The licence section: helpers reserved to GPL programs work only where it names one.
#![allow(
    unsafe_code,
    reason = "naming a symbol and its section could clash with another; this is the only one"
)]

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
