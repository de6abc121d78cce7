//! The system calls that no safe wrapper covers: ethtool, packet sockets, a program that passes all, a look into a map
//! of the kernel's, Ctrl-C.
#![allow(unsafe_code, reason = "these calls take raw structures; every other file of xtask is safe")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};

/// A switch of a network interface, as `ethtool -K` knows it (linux/ethtool.h).
#[derive(Clone, Copy, Debug)]
pub enum Offload {
    /// Checksums are left to the (here: absent) hardware.
    TransmitChecksum,
    /// The VLAN tag is kept beside the frame rather than in it.
    TransmitVlan,
}

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    value: *mut EthtoolValue,
    rest_of_union: [u8; 16],
}

const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// Whether an interface of the calling thread's network namespace takes VLAN tags off frames that it receives.
pub fn receive_vlan_offload(interface: &str) -> io::Result<bool> {
    ethtool(interface, ETHTOOL_GFLAGS, 0).map(|flags| flags & ETH_FLAG_RXVLAN != 0)
}

/// Has it do so, or not.
pub fn set_receive_vlan_offload(interface: &str, on: bool) -> io::Result<()> {
    let others = ethtool(interface, ETHTOOL_GFLAGS, 0)? & !ETH_FLAG_RXVLAN;
    ethtool(interface, ETHTOOL_SFLAGS, others | if on { ETH_FLAG_RXVLAN } else { 0 }).map(drop)
}

/// Turns an offload of `interface` (in the calling thread's network namespace) off.
pub fn disable_offload(interface: &str, offload: Offload) -> io::Result<()> {
    const ETHTOOL_STXCSUM: u32 = 0x17;
    const ETH_FLAG_TXVLAN: u32 = 1 << 7;
    match offload {
        Offload::TransmitChecksum => ethtool(interface, ETHTOOL_STXCSUM, 0).map(drop),
        Offload::TransmitVlan => {
            let flags = ethtool(interface, ETHTOOL_GFLAGS, 0)?;
            ethtool(interface, ETHTOOL_SFLAGS, flags & !ETH_FLAG_TXVLAN).map(drop)
        }
    }
}

/// Has an interface of the calling thread's network namespace gather segments that belong together (GRO), or not.
pub fn set_receive_offload(interface: &str, on: bool) -> io::Result<()> {
    const ETHTOOL_SGRO: u32 = 0x2c;
    ethtool(interface, ETHTOOL_SGRO, on.into()).map(drop)
}

/// One ethtool command that takes and gives a word.
fn ethtool(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut value = EthtoolValue { command, data };
    let mut name = [0; libc::IFNAMSIZ];
    let bytes = interface.as_bytes();
    if bytes.len() >= name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    name[..bytes.len()].copy_from_slice(bytes);
    let mut request = InterfaceRequest { name, value: &mut value, rest_of_union: [0; 16] };
    // SAFETY: SIOCETHTOOL reads an ifreq whose data pointer names an ethtool_value; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}

/// A socket that sees every frame of every interface of a network namespace.
pub struct PacketSocket(Socket);

/// Where a frame that a [`PacketSocket`] saw was.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Kernel index of the interface.
    pub interface: u32,
    /// It left through the interface (else it came in).
    pub outgoing: bool,
    /// Its length on the wire, which may be more than was copied.
    pub length: usize,
}

impl PacketSocket {
    /// Opens it in the calling thread's network namespace; it sees frames from now on.
    pub fn open() -> io::Result<Self> {
        let everything = i32::from((libc::ETH_P_ALL as u16).to_be());
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(everything)))?;
        socket.set_read_timeout(Some(std::time::Duration::from_millis(20)))?;
        let size: libc::c_int = 64 << 20;
        // SAFETY: the option's value is an int that outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const size).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(socket)) }
    }

    /// Takes the next frame, cut to `buffer`; `None` when there was none for a moment.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Seen>> {
        let mut from = MaybeUninit::<libc::sockaddr_ll>::zeroed();
        let mut from_length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: buffer and address are writable for the lengths given and outlive the call.
        let length = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_TRUNC,
                from.as_mut_ptr().cast(),
                &mut from_length,
            )
        };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        // SAFETY: sockaddr_ll is plain integers, zeroed above; any bit pattern is a value.
        let from = unsafe { from.assume_init() };
        let outgoing = from.sll_pkttype == libc::PACKET_OUTGOING;
        Ok(Some(Seen { interface: from.sll_ifindex as u32, outgoing, length }))
    }

    /// Sends one frame, Ethernet header included, out of `interface` of the calling thread's namespace.
    pub fn send(&self, interface: &str, frame: &[u8]) -> io::Result<()> {
        let index = name_to_index(&self.0, interface)?;
        let to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        // SAFETY: frame and address are readable for the lengths given and outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// How often the kernel sent a segment of this connection again.
pub fn retransmissions(socket: &impl AsRawFd) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: tcp_info is plain integers, zeroed above; any bit pattern is a value.
    Ok(unsafe { info.assume_init() }.tcpi_total_retrans)
}

/// Keeps an XDP program that passes every frame attached; dropping it detaches.
pub struct PassProgram {
    _link: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

impl PassProgram {
    /// Attaches it natively to `interface` of the calling thread's network namespace.
    ///
    /// A veth delivers what its peer sends by `XDP_TX` only if it has an XDP program of its own.
    pub fn attach(interface: &str) -> io::Result<Self> {
        const BPF_PROG_LOAD: i32 = 5;
        const BPF_LINK_CREATE: i32 = 28;
        const BPF_PROG_TYPE_XDP: u32 = 6;
        const BPF_XDP: u32 = 37;
        const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
        const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
        /// `r0 = XDP_PASS; exit`
        static INSTRUCTIONS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        let index = name_to_index(&socket, interface)?;
        let mut name = [0; 16];
        name[..8].copy_from_slice(b"lab_pass");
        let load = ProgramLoad {
            program_type: BPF_PROG_TYPE_XDP,
            instruction_count: INSTRUCTIONS.len() as u32,
            instructions: INSTRUCTIONS.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            flags: BPF_F_XDP_HAS_FRAGS,
            name,
            attach_type: BPF_XDP,
            ..ProgramLoad::default()
        };
        let program = bpf(BPF_PROG_LOAD, &load)?;
        let link = LinkCreate {
            program: program.as_raw_fd() as u32,
            interface: index,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        Ok(Self { _link: bpf(BPF_LINK_CREATE, &link)? })
    }
}

/// A bpf(2) command that yields a descriptor.
fn bpf<T>(command: i32, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of attributes, whose pointers name live statics.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *const T, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// An array map (made with `BPF_F_MMAPABLE`) in our memory, to be looked at while others write it.
pub struct MapView {
    base: NonNull<AtomicU32>,
    words: usize,
}

impl MapView {
    /// Maps the first `bytes` bytes of a map's values.
    pub fn new(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing of ours is replaced.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, read, shared, map.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        Ok(Self { base, words: bytes / size_of::<AtomicU32>() })
    }

    /// A word of 32 bits as it is now; 0 where there is none.
    pub fn word(&self, index: usize) -> u32 {
        // SAFETY: the mapping is page-aligned, has so many words and lives as long as self; it is only ever loaded from.
        let words = unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) };
        words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

impl Drop for MapView {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made; no reference outlives self.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.words * size_of::<AtomicU32>()) };
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C, SIGTERM and SIGHUP are noted rather than deadly, so that there is time to clean up.
pub fn catch_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, note_interrupt as *const () as libc::sighandler_t) };
    }
}

/// Somebody pressed Ctrl-C (or asked us to end) since [`catch_interrupts`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
