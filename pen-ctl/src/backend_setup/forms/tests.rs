//! Each form, word for word: what is printed is what people paste.

use super::*;

fn printed(vips: &[&str], format: Format) -> String {
    let vips: Vec<IpAddr> = vips.iter().map(|vip| vip.parse().unwrap()).collect();
    text(&form(&Setup::new(&vips, LOOPBACK).unwrap(), format))
}

const BOTH: [&str; 2] = ["10.0.0.100", "2001:db8::100"];

#[test]
fn commands() {
    assert_eq!(
        printed(&BOTH, Format::Ip),
        "\
# On the backend, as root:
sysctl -w net.ipv4.conf.all.arp_ignore=1
sysctl -w net.ipv4.conf.all.arp_announce=2
ip address replace 10.0.0.100/32 dev lo
ip address replace 2001:db8::100/128 dev lo nodad preferred_lft 0
# this lasts until the next reboot; what survives it: pen-ctl backend-setup 10.0.0.100 2001:db8::100 --format networkd \
(or netplan, ifupdown)
# To take it back:
#   ip address del 10.0.0.100/32 dev lo
#   ip address del 2001:db8::100/128 dev lo
#   sysctl -w net.ipv4.conf.all.arp_ignore=0
#   sysctl -w net.ipv4.conf.all.arp_announce=0
"
    );
}

#[test]
fn systemd_networkd() {
    assert_eq!(
        printed(&BOTH, Format::Networkd),
        "\
# On the backend, as root:
cat > /etc/sysctl.d/60-pen-backend.conf <<'END'
net.ipv4.conf.all.arp_ignore = 1
net.ipv4.conf.all.arp_announce = 2
END
cat > /etc/systemd/network/10-pen-lo.network <<'END'
[Match]
Name=lo

[Address]
Address=10.0.0.100/32

[Address]
Address=2001:db8::100/128
PreferredLifetime=0
DuplicateAddressDetection=none
END
sysctl -p /etc/sysctl.d/60-pen-backend.conf
networkctl reload
# name all VIPs of this backend each time: the file takes the place of the one that is there, and a VIP that it does not \
name is taken away
# To take it back:
#   rm /etc/sysctl.d/60-pen-backend.conf
#   sysctl -w net.ipv4.conf.all.arp_ignore=0
#   sysctl -w net.ipv4.conf.all.arp_announce=0
#   rm /etc/systemd/network/10-pen-lo.network
#   networkctl reload
#   ip address del 10.0.0.100/32 dev lo
#   ip address del 2001:db8::100/128 dev lo
"
    );
}

#[test]
fn netplan_is_yaml_with_a_lifetime_of_zero() {
    assert_eq!(
        printed(&BOTH, Format::Netplan),
        "\
# On the backend, as root:
cat > /etc/sysctl.d/60-pen-backend.conf <<'END'
net.ipv4.conf.all.arp_ignore = 1
net.ipv4.conf.all.arp_announce = 2
END
cat > /etc/netplan/60-pen-backend.yaml <<'END'
network:
  version: 2
  ethernets:
    lo:
      renderer: networkd
      match:
        name: lo
      addresses:
        - 10.0.0.100/32
        - \"2001:db8::100/128\":
            lifetime: 0
END
sysctl -p /etc/sysctl.d/60-pen-backend.conf
chmod 600 /etc/netplan/60-pen-backend.yaml
netplan apply
# name all VIPs of this backend each time: the file takes the place of the one that is there, and a VIP that it does not \
name is taken away
# To take it back:
#   rm /etc/sysctl.d/60-pen-backend.conf
#   sysctl -w net.ipv4.conf.all.arp_ignore=0
#   sysctl -w net.ipv4.conf.all.arp_announce=0
#   rm /etc/netplan/60-pen-backend.yaml
#   netplan apply
#   ip address del 10.0.0.100/32 dev lo
#   ip address del 2001:db8::100/128 dev lo
"
    );
}

#[test]
fn ifupdown_needs_a_stanza_for_each_address() {
    let text = printed(&BOTH, Format::Ifupdown);
    let file = "\
cat > /etc/network/interfaces.d/pen-backend <<'END'
iface lo inet static
    address 10.0.0.100/32

iface lo inet6 static
    address 2001:db8::100/128
    dad-attempts 0
    preferred-lifetime 0
END
";
    assert!(text.contains(file), "{text}");
    for words in [
        "source /etc/network/interfaces.d/*",
        "# name all VIPs of this backend each time",
        "#   rm /etc/network/interfaces.d/pen-backend\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn freebsd_needs_no_more_than_aliases() {
    let text = printed(&BOTH, Format::Freebsd);
    for line in [
        "ifconfig_lo0_alias0=\"inet 10.0.0.100/32\"",
        "ifconfig_lo0_alias1=\"inet6 2001:db8::100 prefixlen 128\"",
        "ifconfig lo0 inet 10.0.0.100/32 alias",
        "ifconfig lo0 inet6 2001:db8::100 prefixlen 128 alias",
        "#   ifconfig lo0 inet6 2001:db8::100 -alias",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("sysctl"), "{text}");
}

#[test]
fn ipv6_alone_needs_no_sysctl_and_another_interface_must_be_there() {
    for format in [Format::Ip, Format::Networkd, Format::Netplan, Format::Ifupdown] {
        assert!(!printed(&["2001:db8::100"], format).contains("arp_"), "{format:?}");
    }
    let setup = Setup::new(&["10.0.0.100".parse().unwrap()], "dummy0").unwrap();
    let text = text(&form(&setup, Format::Ip));
    assert!(text.contains("10.0.0.100/32 dev dummy0\n") && text.contains("type dummy"), "{text}");
}
