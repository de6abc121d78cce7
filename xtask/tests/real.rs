//! Servers of the distribution's behind pen, with clients who ask all the time, while backends are added, drained,
//! removed and killed: how many requests fail is counted, and whose they were.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

#[path = "real/dns.rs"]
mod dns;
#[path = "real/mail.rs"]
mod mail;
#[path = "real/story.rs"]
mod story;
#[path = "real/web.rs"]
mod web;
