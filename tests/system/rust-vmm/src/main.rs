//! rust-vmm's front-end through every request that it knows: rust-vmm SOCKET
//!
//! The back-end is a network device that echoes. Prints a line for each request: "ok NAME", "not offered NAME", or
//! "failed NAME: why". A request whose protocol feature is not offered is refused by the front-end itself.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{fence, Ordering};
use std::time::{Duration, Instant};

use vhost::vhost_user::message::*;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

const SIZE: usize = 4 << 20;
const QUEUE: u16 = 64;
const HEADER: usize = 12;
const FRAME: usize = 100;
const VERSION_1: u64 = 1 << 32;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const LOG_ALL: u64 = 1 << 26;

/// Memory that is shared, at one address of the guest.
struct Memory {
    file: OwnedFd,
    at: *mut u8,
    gpa: u64,
    size: usize,
}

impl Memory {
    fn new(gpa: u64, size: usize) -> Memory {
        unsafe {
            let fd = libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0 && libc::ftruncate(fd, size as i64) == 0);
            let at = libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0);
            assert!(at != libc::MAP_FAILED);
            Memory { file: OwnedFd::from_raw_fd(fd), at: at as *mut u8, gpa, size }
        }
    }

    fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: self.gpa,
            memory_size: self.size as u64,
            userspace_addr: self.at as u64,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }

    fn put<T>(&self, offset: usize, value: T) {
        unsafe { (self.at.add(offset) as *mut T).write_volatile(value) }
    }

    fn get<T: Copy>(&self, offset: usize) -> T {
        unsafe { (self.at.add(offset) as *mut T).read_volatile() }
    }
}

/// A split ring at an offset: the table, and two pages behind it the available and the used ring.
struct Ring<'a> {
    memory: &'a Memory,
    at: usize,
    kick: EventFd,
    call: EventFd,
    err: EventFd,
}

impl Ring<'_> {
    fn new(memory: &Memory, index: usize) -> Ring<'_> {
        let event = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
        Ring { memory, at: 0x10000 * (index + 1), kick: event(), call: event(), err: event() }
    }

    fn config(&self) -> VringConfigData {
        let at = self.memory.at as u64 + self.at as u64;
        VringConfigData {
            queue_max_size: QUEUE,
            queue_size: QUEUE,
            flags: 0,
            desc_table_addr: at,
            avail_ring_addr: at + 0x1000,
            used_ring_addr: at + 0x2000,
            log_addr: None,
        }
    }

    /// The only buffer that this ring ever has.
    fn post(&self, buffer: usize, n: usize, flags: u16) {
        self.memory.put(self.at, self.memory.gpa + buffer as u64);
        self.memory.put(self.at + 8, n as u32);
        self.memory.put(self.at + 12, flags);
        self.memory.put(self.at + 0x1004, 0u16);
        fence(Ordering::SeqCst);
        self.memory.put(self.at + 0x1002, 1u16);
        fence(Ordering::SeqCst);
        self.kick.write(1).unwrap();
    }

    fn is_back(&self) -> bool {
        fence(Ordering::SeqCst);
        self.memory.get::<u16>(self.at + 0x2002) == 1
    }
}

struct Report {
    failed: bool,
}

impl Report {
    fn tell<T>(&mut self, name: &str, offered: bool, result: vhost::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                println!("ok {name}");
                Some(value)
            }
            Err(_) if !offered => {
                println!("not offered {name}");
                None
            }
            Err(why) => {
                println!("failed {name}: {why}");
                self.failed = true;
                None
            }
        }
    }

    fn check(&mut self, what: &str, holds: bool) {
        println!("{} {what}", if holds { "ok" } else { "failed" });
        self.failed |= !holds;
    }
}

fn frame_goes_round(memory: &Memory, rings: &[Ring]) -> bool {
    let (to, from) = (0x100000, 0x200000);
    for i in 0..FRAME {
        memory.put(from + HEADER + i, i as u8);
    }
    rings[0].post(to, 2048, 2);
    rings[1].post(from, HEADER + FRAME, 0);
    let end = Instant::now() + Duration::from_secs(60);
    while !(rings[0].is_back() && rings[1].is_back()) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    // an echo has the addresses exchanged
    (0..FRAME).all(|i| memory.get::<u8>(to + HEADER + i) == if i < 6 { i + 6 } else if i < 12 { i - 6 } else { i } as u8)
}

fn pipe() -> (File, OwnedFd, OwnedFd, File) {
    let mut ends: [RawFd; 4] = [0; 4];
    unsafe {
        assert!(libc::pipe2(ends[0..2].as_mut_ptr(), libc::O_CLOEXEC) == 0);
        assert!(libc::pipe2(ends[2..4].as_mut_ptr(), libc::O_CLOEXEC) == 0);
        (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]), OwnedFd::from_raw_fd(ends[2]), File::from_raw_fd(ends[3]))
    }
}

/// What is saved is loaded again.
fn state(front: &Frontend, report: &mut Report, offered: bool) {
    let (mut from, out, into, mut to) = pipe();
    let stopped = VhostTransferStatePhase::STOPPED;
    let mut image = Vec::new();
    if report.tell("SET_DEVICE_STATE_FD save", offered, front.set_device_state_fd(VhostTransferStateDirection::SAVE, stopped, out)).is_some() {
        from.read_to_end(&mut image).unwrap();
    }
    report.tell("CHECK_DEVICE_STATE save", offered, front.check_device_state());
    report.tell("SET_DEVICE_STATE_FD load", offered, front.set_device_state_fd(VhostTransferStateDirection::LOAD, stopped, into));
    if offered {
        to.write_all(&image).unwrap();
    }
    drop(to);
    report.tell("CHECK_DEVICE_STATE load", offered, front.check_device_state());
}

fn main() {
    type P = VhostUserProtocolFeatures;
    let path = std::env::args().nth(1).expect("SOCKET");
    let mut report = Report { failed: false };
    let mut front = Frontend::connect(&path, 64).unwrap();
    let memory = Memory::new(0, SIZE);
    let more = Memory::new(1 << 32, SIZE);
    let log = Memory::new(0, 1 << 18);

    report.tell("SET_OWNER", true, front.set_owner());
    let features = report.tell("GET_FEATURES", true, front.get_features()).unwrap();
    report.tell("SET_FEATURES", true, front.set_features(features & (VERSION_1 | PROTOCOL_FEATURES)));
    let offered = report.tell("GET_PROTOCOL_FEATURES", true, front.get_protocol_features()).unwrap();
    report.tell("SET_PROTOCOL_FEATURES", true, front.set_protocol_features(offered & !P::INBAND_NOTIFICATIONS));
    front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    let has = |feature| offered.contains(feature);

    report.tell("GET_QUEUE_NUM", has(P::MQ), front.get_queue_num());
    let (channel, _ours) = UnixStream::pair().unwrap();
    report.tell("SET_BACKEND_REQ_FD", has(P::BACKEND_REQ), front.set_backend_request_fd(&channel));
    report.tell("GET_MAX_MEM_SLOTS", has(P::CONFIGURE_MEM_SLOTS), front.get_max_mem_slots());
    let config = front.get_config(0, 8, VhostUserConfigFlags::WRITABLE, &[0; 8]);
    if let Some((_, bytes)) = report.tell("GET_CONFIG", has(P::CONFIG), config) {
        report.check("the configuration has an address", bytes.len() == 8 && bytes[..6] != [0; 6]);
        // nothing of a network device may be written by a driver of virtio 1
        let refused = front.set_config(0, VhostUserConfigFlags::empty(), &bytes[..6]).is_err();
        report.check("SET_CONFIG of what is read only is refused", refused);
    }
    report.tell("GET_SHMEM_CONFIG", has(P::SHMEM), front.get_shmem_config());
    let object = VhostUserSharedMsg { uuid: uuid::Uuid::from_u128(1) };
    report.tell("GET_SHARED_OBJECT", has(P::SHARED_OBJECT), front.get_shared_object(&object));
    state(&front, &mut report, has(P::DEVICE_STATE));

    let inflight = front.get_inflight_fd(&VhostUserInflight::new(0, 0, 2, QUEUE));
    if let Some((shape, file)) = report.tell("GET_INFLIGHT_FD", has(P::INFLIGHT_SHMFD), inflight) {
        report.tell("SET_INFLIGHT_FD", true, front.set_inflight_fd(&shape, file.as_raw_fd()));
    }
    report.tell("SET_MEM_TABLE", true, front.set_mem_table(&[memory.region()]));
    report.tell("ADD_MEM_REG", has(P::CONFIGURE_MEM_SLOTS), front.add_mem_region(&more.region()));
    let region = VhostUserDirtyLogRegion { mmap_size: 1 << 18, mmap_offset: 0, mmap_handle: log.file.as_raw_fd() };
    report.tell("SET_LOG_BASE", has(P::LOG_SHMFD), front.set_log_base(0, Some(region)));
    let log_event = EventFd::new(0).unwrap();
    report.tell("SET_LOG_FD", has(P::LOG_SHMFD), front.set_log_fd(log_event.as_raw_fd()));
    if features & LOG_ALL != 0 {
        report.tell("SET_FEATURES with LOG_ALL", true, front.set_features(VERSION_1 | PROTOCOL_FEATURES | LOG_ALL));
    }

    let rings = [Ring::new(&memory, 0), Ring::new(&memory, 1)];
    for (index, ring) in rings.iter().enumerate() {
        report.tell("SET_VRING_NUM", true, front.set_vring_num(index, QUEUE));
        report.tell("SET_VRING_ADDR", true, front.set_vring_addr(index, &ring.config()));
        report.tell("SET_VRING_BASE", true, front.set_vring_base(index, 0));
        report.tell("SET_VRING_CALL", true, front.set_vring_call(index, &ring.call));
        report.tell("SET_VRING_ERR", true, front.set_vring_err(index, &ring.err));
        report.tell("SET_VRING_KICK", true, front.set_vring_kick(index, &ring.kick));
        report.tell("SET_VRING_ENABLE", true, front.set_vring_enable(index, true));
    }
    report.check("a frame goes there and back", frame_goes_round(&memory, &rings));
    let page = 0x100000 / 4096;
    let marked = log.get::<u8>(page / 8) >> (page % 8) & 1 == 1;
    report.check("the page of the frame is marked in the log", marked || features & LOG_ALL == 0);
    for index in 0..2 {
        let base = report.tell("GET_VRING_BASE", true, front.get_vring_base(index));
        report.check("the ring stopped behind its buffer", base == Some(1));
    }
    report.tell("REM_MEM_REG", has(P::CONFIGURE_MEM_SLOTS), front.remove_mem_region(&more.region()));
    let _ = report.tell("POSTCOPY_ADVISE", has(P::PAGEFAULT), front.postcopy_advise());
    report.tell("POSTCOPY_LISTEN", has(P::PAGEFAULT), front.postcopy_listen());
    report.tell("POSTCOPY_END", has(P::PAGEFAULT), front.postcopy_end());
    report.tell("RESET_DEVICE", has(P::RESET_DEVICE), front.reset_device());
    report.tell("RESET_OWNER", true, front.reset_owner());
    report.tell("GET_FEATURES again", true, front.get_features());
    std::process::exit(report.failed as i32);
}
