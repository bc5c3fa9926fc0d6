"""A process's BPF maps, counted from outside: bpf(2), pidfd_getfd(2)."""

import ctypes
import os
import pathlib
import platform

from .processes import Failure

BPF_MAP_GET_NEXT_KEY, BPF_OBJ_GET_INFO_BY_FD = 4, 15
BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH = 1, 9
PIDFD_OPEN, PIDFD_GETFD = 434, 438
BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)


def system_call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def entries(pid):
    """How many entries each hash map of a process has, by its name."""
    handle = system_call(PIDFD_OPEN, pid, 0)
    try:
        return dict(filter(None, (entries_of(handle, int(entry.name)) for entry in fds(pid) if is_map(entry))))
    finally:
        os.close(handle)


def fds(pid):
    return list(pathlib.Path(f"/proc/{pid}/fd").iterdir())


def is_map(entry):
    try:
        return "bpf-map" in os.readlink(entry)
    except FileNotFoundError:
        return False


def entries_of(handle, number):
    fd = system_call(PIDFD_GETFD, handle, number, 0)
    try:
        # struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags, name[16]
        info = (ctypes.c_uint32 * 32)()
        attribute = (ctypes.c_uint64 * 2)(fd | ctypes.sizeof(info) << 32, ctypes.addressof(info))
        system_call(BPF, BPF_OBJ_GET_INFO_BY_FD, ctypes.addressof(attribute), ctypes.sizeof(attribute))
        kind, _, key_size, _, most = info[:5]
        name = bytes(info)[24:40].split(b"\0")[0].decode()
        return (name, count(fd, key_size, most)) if kind in (BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH) else None
    finally:
        os.close(fd)


def count(fd, key_size, most):
    """Walks the keys. A map that changes meanwhile may be walked anew: a bound ends that."""
    key, following = (ctypes.create_string_buffer(key_size) for _ in range(2))
    attribute = (ctypes.c_uint64 * 4)(fd, 0, ctypes.addressof(following), 0)
    for number in range(2 * most):
        try:
            system_call(BPF, BPF_MAP_GET_NEXT_KEY, ctypes.addressof(attribute), ctypes.sizeof(attribute))
        except FileNotFoundError:
            return number
        ctypes.memmove(key, following, key_size)
        attribute[1] = ctypes.addressof(key)
    raise Failure("a map of the tracer has no end")
