"""Hold one server program and end it with the test run, however that ends.

Run as a file, with the standard library only:

    python warden.py --directory D --alive F --end-signal N [--user U] -- program argument…

Detaches itself, starts the program with its output in D/log, prints the program's process id and returns. The detached
half keeps D/warden while the program lives, and takes a shared lock on F in the meantime: it gets it when the leader
of the run is gone, and then sends the end signal, after `END_TIMEOUT_S` SIGKILL.
"""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

END_TIMEOUT_S = 15.0


def start(arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    with (arguments.directory / "log").open("ab") as log:
        return subprocess.Popen(
            arguments.program,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=arguments.directory,
            start_new_session=True,
            user=arguments.user,
            extra_groups=[] if arguments.user else None,
        )


def end_with_the_run(program: subprocess.Popen[bytes], alive: Path, end_signal: int) -> None:
    with alive.open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
    program.send_signal(end_signal)
    try:
        program.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        program.kill()


def hold(arguments: argparse.Namespace, answer: int) -> None:
    """The detached half. It answers its other half once: the process id, or why there is none."""
    os.setsid()
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    try:
        program = start(arguments)
    except OSError as error:
        os.write(answer, f"{error}".encode())
        return
    mark = arguments.directory / "warden"
    mark.write_text(f"{os.getpid()}\n", encoding="utf-8")
    os.write(answer, f"{program.pid}".encode())
    os.close(answer)
    threading.Thread(
        target=end_with_the_run, args=(program, arguments.alive, arguments.end_signal), daemon=True
    ).start()
    program.wait()
    mark.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--alive", type=Path, required=True)
    parser.add_argument("--end-signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--user")
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        hold(arguments, writing)
        os._exit(0)
    os.close(writing)
    answer = os.read(reading, 4096).decode()
    sys.stdout.write(answer)
    return 0 if answer.isdigit() else 1


if __name__ == "__main__":
    sys.exit(main())
