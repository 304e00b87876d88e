"""What a decoder process may not do any more: the kernel's own means, without a further library. Linux only.

One after the other: no standing as root, no new privileges, no dumps; limits on memory, files, processes; then a filter
over system calls. What remains is computing, its own memory, and the two descriptors that it holds.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
from dataclasses import dataclass

NOBODY = 65_534
FILTERED, NOBODYS = 1, 2  # bits of what `enter` returns
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
ALLOW, FORBID, KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # 1 is EPERM
LOAD, EQUAL, AT_LEAST, HAS_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, THIRD_ARGUMENT_AT = 0, 4, 16 + 2 * 8  # in struct seccomp_data; the low half of the argument
PROT_EXEC = 4
X32_BIT = 0x4000_0000


@dataclass(frozen=True, slots=True)
class Machine:
    """System calls by number on one kind of processor. What is in no list fails with EPERM."""

    architecture: int
    allowed: tuple[int, ...]
    not_executable: tuple[int, ...]  # mmap and mprotect: allowed, but never with PROT_EXEC
    deadly: tuple[int, ...]  # nobody means well who calls these from a decoder


# read write close poll munmap mremap brk madvise futex exit exit_group rt_sigreturn rt_sigprocmask sched_yield getpid
# gettid recvfrom recvmsg sendto sendmsg clock_gettime clock_nanosleep getrandom ppoll sigaltstack restart_syscall
# tgkill gettimeofday; then: fork vfork clone clone3 execve execveat ptrace socket connect bind process_vm_readv
# process_vm_writev bpf
X86_64 = Machine(
    0xC000003E,
    (
        0,
        1,
        3,
        7,
        11,
        25,
        12,
        28,
        202,
        60,
        231,
        15,
        14,
        24,
        39,
        186,
        45,
        47,
        44,
        46,
        228,
        230,
        318,
        271,
        131,
        219,
        234,
        96,
    ),
    (9, 10),
    (57, 58, 56, 435, 59, 322, 101, 41, 42, 49, 310, 311, 321),
)
AARCH64 = Machine(
    0xC00000B7,
    (
        63,
        64,
        57,
        215,
        216,
        214,
        233,
        98,
        93,
        94,
        139,
        135,
        124,
        172,
        178,
        207,
        212,
        206,
        211,
        113,
        115,
        278,
        73,
        132,
        128,
        131,
        169,
    ),
    (222, 226),
    (220, 435, 221, 281, 117, 198, 203, 200, 270, 271, 280),
)
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}


def enter(memory_bytes: int) -> int:
    """Gives everything up that decoding does not need. `memory_bytes`: how much address space may still be taken.

    Returns FILTERED and NOBODYS as far as they are in force: there is no filter on processors that nobody listed or
    where the kernel has none, and root of a container without other users stays root. All else is, or OSError is
    raised.
    """
    libc, taken_bytes = ctypes.CDLL(None, use_errno=True), _address_space_bytes()
    held = NOBODYS if _leave_root() else 0
    _prctl(libc, PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which would clear it
    _prctl(libc, PR_SET_DUMPABLE, 0)
    _prctl(libc, PR_SET_NO_NEW_PRIVS, 1)
    limits = {
        resource.RLIMIT_AS: taken_bytes + memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 0,  # what is open stays open
        resource.RLIMIT_MEMLOCK: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    machine = MACHINES.get(platform.machine())
    if machine is not None and _filter_calls(libc, program(machine)):
        held |= FILTERED
    return held


def _leave_root() -> bool:
    """Becomes nobody where the server is root. Returns whether this process is no root."""
    if os.geteuid() != 0:
        return True
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False
    return True


def program(machine: Machine) -> bytes:
    """The filter, in the kernel's classic BPF: struct sock_filter after struct sock_filter."""
    steps = [
        _step(LOAD, ARCHITECTURE_AT),
        _step(EQUAL, machine.architecture, 1, 0),
        _step(RETURN, KILL),
        _step(LOAD, NUMBER_AT),
        _step(AT_LEAST, X32_BIT, 0, 1),
        _step(RETURN, KILL),
    ]
    for numbers, action in ((machine.allowed, ALLOW), (machine.deadly, KILL)):
        for number in numbers:
            steps += [_step(EQUAL, number, 0, 1), _step(RETURN, action)]
    for number in machine.not_executable:
        steps += [
            _step(EQUAL, number, 0, 4),
            _step(LOAD, THIRD_ARGUMENT_AT),
            _step(HAS_BITS, PROT_EXEC, 0, 1),
            _step(RETURN, KILL),
            _step(RETURN, ALLOW),
        ]
    return b"".join([*steps, _step(RETURN, FORBID)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _filter_calls(libc: ctypes.CDLL, filter_program: bytes) -> bool:
    text = ctypes.create_string_buffer(filter_program, len(filter_program))
    program_struct = struct.pack("=H6xQ", len(filter_program) // 8, ctypes.addressof(text))
    header = ctypes.create_string_buffer(program_struct, len(program_struct))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0) == 0)


def _prctl(libc: ctypes.CDLL, what: int, value: int) -> None:
    if libc.prctl(what, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({what}, {value}) failed")


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="utf-8") as numbers:
        return int(numbers.read().split()[0]) * resource.getpagesize()
