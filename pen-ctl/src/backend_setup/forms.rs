//! What a backend needs, as text for the administrator: commands to type, or files that make it survive a reboot.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{LOOPBACK, Setup, host_length};

/// In whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Commands: sysctl and ip; they last until the next reboot
    Ip,
    /// Files of systemd-networkd
    Networkd,
    /// A file of netplan
    Netplan,
    /// A file of ifupdown (/etc/network/interfaces.d)
    Ifupdown,
    /// Commands and lines of rc.conf for FreeBSD
    Freebsd,
}

/// A file and what is to be in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDocument {
    /// Where it goes.
    pub path: String,
    /// Lines to add (rc.conf), or the whole file.
    pub text: String,
}

/// What a backend needs, in one form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormDocument {
    /// In whose words.
    pub format: Format,
    /// Files to write, in this order.
    pub files: Vec<FileDocument>,
    /// Commands to type after that, as root.
    pub commands: Vec<String>,
    /// What to know about it.
    pub notes: Vec<String>,
    /// Commands that take it back.
    #[serde(default)]
    pub undo: Vec<String>,
}

/// Where the settings of IPv4 go to survive a reboot.
const SYSCTL_FILE: &str = "/etc/sysctl.d/60-pen-backend.conf";
/// The settings (ip-sysctl). The kernel takes the greater of `all` and the interface's own.
const SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.conf.all.arp_ignore", "1"), ("net.ipv4.conf.all.arp_announce", "2")];

/// Says in `format` what a backend needs to own the VIPs of `setup`.
pub fn form(setup: &Setup, format: Format) -> FormDocument {
    let mut form =
        FormDocument { format, files: Vec::new(), commands: Vec::new(), notes: Vec::new(), undo: Vec::new() };
    if setup.has_v4() && !matches!(format, Format::Ip | Format::Freebsd) {
        let lines = SYSCTLS.map(|(name, value)| format!("{name} = {value}\n"));
        form.files.push(FileDocument { path: SYSCTL_FILE.to_owned(), text: lines.concat() });
        form.commands.push(format!("sysctl -p {SYSCTL_FILE}"));
    }
    if let Some(file) = form.files.first() {
        form.undo.push(format!("rm {}", file.path));
        form.undo.extend(SYSCTLS.map(|(name, _)| format!("sysctl -w {name}=0")));
    }
    match format {
        Format::Ip => ip(setup, &mut form),
        Format::Networkd => networkd(setup, &mut form),
        Format::Netplan => netplan(setup, &mut form),
        Format::Ifupdown => ifupdown(setup, &mut form),
        Format::Freebsd => freebsd(setup, &mut form),
    }
    if matches!(format, Format::Networkd | Format::Netplan | Format::Ifupdown) {
        form.notes.push(
            "name all VIPs of this backend each time: the file takes the place of the one that is there, and a VIP that it \
             does not name is taken away"
                .to_owned(),
        );
    }
    if setup.interface != LOOPBACK && format != Format::Freebsd {
        form.notes.push(format!(
            "{0} must be there: `ip link add {0} type dummy` makes one, `ip link set {0} up` brings it up",
            setup.interface
        ));
    }
    form
}

fn ip(setup: &Setup, form: &mut FormDocument) {
    if setup.has_v4() {
        form.commands.extend(SYSCTLS.map(|(name, value)| format!("sysctl -w {name}={value}")));
    }
    form.commands.extend(setup.vips.iter().map(|vip| ip_command(*vip, &setup.interface)));
    form.undo.extend(setup.vips.iter().map(|vip| ip_undo(*vip, &setup.interface)));
    if setup.has_v4() {
        form.undo.extend(SYSCTLS.map(|(name, _)| format!("sysctl -w {name}=0")));
    }
    let vips: Vec<String> = setup.vips.iter().map(ToString::to_string).collect();
    form.notes.push(format!(
        "this lasts until the next reboot; what survives it: pen-ctl backend-setup {} --format networkd (or netplan, \
         ifupdown)",
        vips.join(" ")
    ));
}

/// A deprecated address (RFC 4862, 5.5.4) is never chosen as source of the host's own connections.
fn ip_command(vip: IpAddr, interface: &str) -> String {
    let more = if vip.is_ipv6() { " nodad preferred_lft 0" } else { "" };
    format!("ip address replace {vip}/{} dev {interface}{more}", host_length(vip))
}

fn ip_undo(vip: IpAddr, interface: &str) -> String {
    format!("ip address del {vip}/{} dev {interface}", host_length(vip))
}

/// Keys: systemd.network(5).
fn networkd(setup: &Setup, form: &mut FormDocument) {
    let mut text = format!("[Match]\nName={}\n", setup.interface);
    for vip in &setup.vips {
        text.push_str(&format!("\n[Address]\nAddress={vip}/{}\n", host_length(*vip)));
        if vip.is_ipv6() {
            text.push_str("PreferredLifetime=0\nDuplicateAddressDetection=none\n");
        }
    }
    let path = format!("/etc/systemd/network/10-pen-{}.network", setup.interface);
    form.undo.extend([format!("rm {path}"), "networkctl reload".to_owned()]);
    form.undo.extend(setup.vips.iter().map(|vip| ip_undo(*vip, &setup.interface)));
    form.files.push(FileDocument { path, text });
    form.commands.push("networkctl reload".to_owned());
}

/// Keys: netplan's YAML configuration reference.
fn netplan(setup: &Setup, form: &mut FormDocument) {
    let name = &setup.interface;
    let mut text = format!(
        "network:\n  version: 2\n  ethernets:\n    {name}:\n      renderer: networkd\n      match:\n        \
         name: {name}\n      addresses:\n"
    );
    for vip in &setup.vips {
        text.push_str(&match vip {
            IpAddr::V4(_) => format!("        - {vip}/32\n"),
            IpAddr::V6(_) => format!("        - \"{vip}/128\":\n            lifetime: 0\n"),
        });
    }
    form.files.push(FileDocument { path: "/etc/netplan/60-pen-backend.yaml".to_owned(), text });
    form.commands.push("chmod 600 /etc/netplan/60-pen-backend.yaml".to_owned());
    form.commands.push("netplan apply".to_owned());
    form.undo.extend(["rm /etc/netplan/60-pen-backend.yaml".to_owned(), "netplan apply".to_owned()]);
    form.undo.extend(setup.vips.iter().map(|vip| ip_undo(*vip, &setup.interface)));
}

/// Options: interfaces(5). Stanzas for one interface add up.
fn ifupdown(setup: &Setup, form: &mut FormDocument) {
    let stanzas = setup.vips.iter().map(|vip| match vip {
        IpAddr::V4(_) => format!("iface {} inet static\n    address {vip}/32\n", setup.interface),
        IpAddr::V6(_) => format!(
            "iface {} inet6 static\n    address {vip}/128\n    dad-attempts 0\n    preferred-lifetime 0\n",
            setup.interface
        ),
    });
    let text = stanzas.collect::<Vec<_>>().join("\n");
    form.files.push(FileDocument { path: "/etc/network/interfaces.d/pen-backend".to_owned(), text });
    form.commands.extend(setup.vips.iter().map(|vip| ip_command(*vip, &setup.interface)));
    form.undo.push("rm /etc/network/interfaces.d/pen-backend".to_owned());
    form.undo.extend(setup.vips.iter().map(|vip| ip_undo(*vip, &setup.interface)));
    form.notes.push(
        "the file is read at boot, if /etc/network/interfaces has the line `source /etc/network/interfaces.d/*`; the \
         `ip` commands do the same now"
            .to_owned(),
    );
}

/// FreeBSD answers ARP only for addresses of the interface that was asked (arp(4)), so nothing is to be held back.
fn freebsd(setup: &Setup, form: &mut FormDocument) {
    let interface = if setup.interface == LOOPBACK { "lo0" } else { &setup.interface };
    let words = |vip: &IpAddr| match vip {
        IpAddr::V4(_) => format!("inet {vip}/32"),
        IpAddr::V6(_) => format!("inet6 {vip} prefixlen 128"),
    };
    let lines = setup
        .vips
        .iter()
        .enumerate()
        .map(|(n, vip)| format!("ifconfig_{interface}_alias{n}=\"{}\"\n", words(vip)));
    form.files.push(FileDocument { path: "/etc/rc.conf".to_owned(), text: lines.collect() });
    form.commands.extend(setup.vips.iter().map(|vip| format!("ifconfig {interface} {} alias", words(vip))));
    let remove = |vip: &IpAddr| {
        let family = if vip.is_ipv4() { "inet" } else { "inet6" };
        format!("ifconfig {interface} {family} {vip} -alias")
    };
    form.undo.extend(setup.vips.iter().map(remove));
    form.notes.push(
        "FreeBSD answers ARP and neighbor solicitations only for addresses of the interface that was asked: nothing \
         else to do, as long as net.link.ether.inet.proxyall is 0 (the default)"
            .to_owned(),
    );
    form.notes.push(format!(
        "add the lines to rc.conf; if {interface} has aliases there, go on with their numbers"
    ));
}

/// As text that can be typed or piped into a shell: all that is no command is a comment. Files are shown as
/// commands that write them, so that this holds for them, too.
pub fn text(form: &FormDocument) -> String {
    let mut text = String::from("# On the backend, as root:\n");
    for file in &form.files {
        let redirect = if file.path == "/etc/rc.conf" { ">>" } else { ">" };
        text.push_str(&format!("cat {redirect} {} <<'END'\n{}END\n", file.path, file.text));
    }
    for command in &form.commands {
        text.push_str(command);
        text.push('\n');
    }
    for note in &form.notes {
        text.push_str(&format!("# {note}\n"));
    }
    text.push_str("# To take it back:\n");
    for command in &form.undo {
        text.push_str(&format!("#   {command}\n"));
    }
    text
}

#[cfg(test)]
mod tests;
