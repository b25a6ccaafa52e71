#!/usr/bin/env python3
"""rust-vmm's front-end, which Cloud Hypervisor has, through every request that it knows (tests/system/rust-vmm).

It is built with the crates of Debian sid, in a Debian of its own, which BULKHEAD_FULL=1 makes; an ordinary run uses that
where it is.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.process import Process
from bulkhead_test.report import case, main


def program():
    """The command line of the front-end, and where it is from."""
    if not env.FULL and not (env.CACHE / 'rust-vmm').exists():
        raise env.Skip('there is no Debian sid with rust-vmm here; BULKHEAD_FULL=1 makes it')
    root = env.prepare('rust-vmm', 1800)
    version = subprocess.run(['chroot', root, 'dpkg-query', '-f', '${Version}', '-W', 'librust-vhost-dev'], capture_output=True,
                             text=True, check=True).stdout
    # its Debian is newer than the host's: it has its own C library
    return [root / 'usr/lib64/ld-linux-x86-64.so.2', '--library-path', root / 'usr/lib/x86_64-linux-gnu',
            root / 'root/rust-vmm/target/release/rust-vmm'], version


# uses: protocol:REPLY_ACK protocol:MQ protocol:CONFIG protocol:BACKEND_REQ protocol:CONFIGURE_MEM_SLOTS
# uses: protocol:INFLIGHT_SHMFD protocol:DEVICE_STATE protocol:LOG_SHMFD net:LOG_ALL
@case('rust-vmm', 120)
def every_request(current):
    argv, version = program()
    device = Device(socket=str(current.dir / 'net0.sock'), backend='echo')
    Bulkhead(current, [device])
    front_end = Process(current, 'rust-vmm', [*argv, device.socket])
    status = front_end.wait(60)
    said = front_end.output()
    assert status == 0 and 'failed' not in said, said
    told = [line.split(' ', 1)[0] for line in said.splitlines()]
    current.note(f'rust-vmm {version}: {told.count("ok")} requests and checks; not offered: '
                 f'{", ".join(line.removeprefix("not offered ") for line in said.splitlines() if line.startswith("not offered"))}')


if __name__ == '__main__':
    main()
