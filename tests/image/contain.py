"""Turn into a program of an image's tree, as strictly contained as an orchestrator may have it, without an engine.

  unshare --mount --net python contain.py ROOT UID COMMAND...

The root is read-only, with a /proc and a /dev; the shells in it can not be run; nothing of the environment is left but
PATH; there is no network but loopback; and the user is UID, without capabilities. Whoever starts a second program
beside it uses `nsenter`. Nothing is imported but the standard library.
"""

import fcntl
import os
import socket
import struct
import subprocess
import sys

SHELLS = ("bin/sh", "usr/bin/sh", "usr/bin/dash", "usr/bin/bash")

SIOCSIFFLAGS = 0x8914  # netdevice(7)
IFF_UP = 1


def mount(*arguments: str) -> None:
    """Run mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def main() -> None:
    """Arrange it and replace this process."""
    root, user, *command = sys.argv[1:]
    mount("--make-rprivate", "/")
    mount("--bind", root, root)
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("--rbind", "/dev", f"{root}/dev")
    for shell in SHELLS:
        if os.path.isfile(f"{root}/{shell}"):
            mount("--bind", "/dev/null", os.path.realpath(f"{root}/{shell}"))
    mount("-o", "remount,bind,ro", root)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
    os.execve(command[0], command, {"PATH": "/usr/bin:/bin"})  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
