//! Servers that die, fall silent or answer wrongly, machines and links that go and come back, with clients who ask all
//! the time: who moves, who stays, and how many requests fail is counted.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

#[path = "health/agent.rs"]
mod agent;
#[path = "health/dns.rs"]
mod dns;
#[path = "health/losses.rs"]
mod losses;
#[path = "health/mail.rs"]
mod mail;
#[path = "health/network.rs"]
mod network;
#[path = "health/scene.rs"]
mod scene;
#[path = "health/side.rs"]
mod side;
#[path = "health/web.rs"]
mod web;
#[path = "health/wrong.rs"]
mod wrong;
